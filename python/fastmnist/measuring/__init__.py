"""How good, how close, how fast and how big a model is."""
