"""Data sets of handwritten digits, in memory as uint8."""

from fastmnist.data.bundle import Data, Split
from fastmnist.data.centring import centred
from fastmnist.data.errors import DatasetError, DatasetFallbackWarning, DatasetWarning
from fastmnist.data.loading import load_dataset

__all__ = [
    "Data",
    "DatasetError",
    "DatasetFallbackWarning",
    "DatasetWarning",
    "Split",
    "centred",
    "load_dataset",
]
