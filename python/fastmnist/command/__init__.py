"""What the command line is given, found and read: models, data, weights, and words for errors."""
