"""Data sets of handwritten digits, in memory as uint8."""

from fastmnist.datasets.bundle import Data, Split
from fastmnist.datasets.errors import DatasetError, DatasetFallbackWarning, DatasetWarning
from fastmnist.datasets.loading import load_dataset

__all__ = [
    "Data",
    "DatasetError",
    "DatasetFallbackWarning",
    "DatasetWarning",
    "Split",
    "load_dataset",
]
