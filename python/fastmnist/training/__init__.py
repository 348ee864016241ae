"""The training loop, and its record."""
