"""Timing code that runs in processes of its own: another commit's kernels, or two at once."""
