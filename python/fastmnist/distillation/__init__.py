"""Distillation: train a small network on what a large one says, and make the large one."""
