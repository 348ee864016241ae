"""What goes wrong with data sets."""

from __future__ import annotations


class DatasetError(ValueError):
    """A data set was not found, could not be fetched, or is not what its name says."""


class DatasetFallbackWarning(UserWarning):
    """MNIST was not available, so scikit-learn's digits were used instead."""


class DatasetWarning(UserWarning):
    """A file of a data set was passed over, or could not be kept in the cache."""
