"""Clustering: weights that share few values, found by exact k-means in one dimension."""
