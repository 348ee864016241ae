"""What goes wrong with data sets."""

from __future__ import annotations


class DatasetError(ValueError):
    """A data set was not found, could not be fetched, or is not what its name says."""


class DatasetFallbackWarning(UserWarning):
    """MNIST could not be had, and scikit-learn's digits were taken in its place."""


class DatasetWarning(UserWarning):
    """A file of a data set was passed over, or could not be kept in the cache."""
