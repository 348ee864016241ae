"""Every variant of a model on the same rows: accuracy, speed, size."""
