"""fastmnist: PyTorch networks of Linear layers, small and fast on a CPU.

::

    data      load_dataset, NeuralNetwork, train, evaluate, summary
    smaller   fuse, quantize (Static, Dynamic, Half), quantize_dynamic, prune (L1Unstructured,
              RandomUnstructured, Structured, CustomMask), unprune
    by steps  prepare, prepare_qat (QAT), convert, fuse_modules
    look      changes, sensitivity, sparsity, compare, variants
    run       compile (one native call), save, load, cpu_info, set_num_threads
    others    fastmnist.ao (torch.ao's names), fastmnist.testing (pytest), fastmnist.runtime
              (without torch)

Names are imported when they are first used, so that ``import fastmnist.runtime`` works, and stays
quick, where torch is not installed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# name -> module that defines it. No module may share a name with what it exports: importing
# the module would hide the function.
_EXPORTS = {
    "CompiledModel": "compiled",
    "Constant": "pruning",
    "Cubic": "pruning",
    "CustomMask": "pruning",
    "Data": "datasets",
    "DatasetFallbackWarning": "datasets",
    "Dynamic": "configs",
    "Half": "configs",
    "Histogram": "range_rules",
    "L1Unstructured": "pruning",
    "MSE": "range_rules",
    "MinMax": "range_rules",
    "MovingAverage": "range_rules",
    "NeuralNetwork": "network",
    "Percentile": "range_rules",
    "QAT": "configs",
    "RandomUnstructured": "pruning",
    "Report": "comparison",
    "Sensitivity": "sensitivities",
    "Sparsity": "pruning",
    "Split": "datasets",
    "Static": "configs",
    "Structured": "pruning",
    "changes": "applied",
    "compare": "comparison",
    "compile": "compilation",
    "convert": "preparation",
    "cpu_info": "cpu",
    "evaluate": "training",
    "fuse": "fusion",
    "fuse_modules": "explicit_fusion",
    "load": "files",
    "load_dataset": "datasets",
    "num_threads": "cpu",
    "prepare": "preparation",
    "prepare_qat": "preparation",
    "prune": "pruning",
    "quantize": "quantization",
    "quantize_dynamic": "quantization",
    "save": "files",
    "sensitivity": "sensitivities",
    "set_num_threads": "cpu",
    "sparsity": "pruning",
    "summary": "layer_table",
    "train": "training",
    "unprune": "pruning",
    "variants": "lineup",
}

# Found as attributes too, without an import of their own.
_SUBPACKAGES = ("ao", "runtime", "testing")

__all__ = ["__version__", *sorted(_EXPORTS)]

if TYPE_CHECKING:
    from fastmnist.applied import changes as changes
    from fastmnist.comparison import Report as Report
    from fastmnist.comparison import compare as compare
    from fastmnist.compilation import compile as compile
    from fastmnist.compiled import CompiledModel as CompiledModel
    from fastmnist.configs import QAT as QAT
    from fastmnist.configs import Dynamic as Dynamic
    from fastmnist.configs import Half as Half
    from fastmnist.configs import Static as Static
    from fastmnist.cpu import cpu_info as cpu_info
    from fastmnist.cpu import num_threads as num_threads
    from fastmnist.cpu import set_num_threads as set_num_threads
    from fastmnist.datasets import Data as Data
    from fastmnist.datasets import DatasetFallbackWarning as DatasetFallbackWarning
    from fastmnist.datasets import Split as Split
    from fastmnist.datasets import load_dataset as load_dataset
    from fastmnist.explicit_fusion import fuse_modules as fuse_modules
    from fastmnist.files import load as load
    from fastmnist.files import save as save
    from fastmnist.fusion import fuse as fuse
    from fastmnist.layer_table import summary as summary
    from fastmnist.lineup import variants as variants
    from fastmnist.network import NeuralNetwork as NeuralNetwork
    from fastmnist.preparation import convert as convert
    from fastmnist.preparation import prepare as prepare
    from fastmnist.preparation import prepare_qat as prepare_qat
    from fastmnist.pruning import Constant as Constant
    from fastmnist.pruning import Cubic as Cubic
    from fastmnist.pruning import CustomMask as CustomMask
    from fastmnist.pruning import L1Unstructured as L1Unstructured
    from fastmnist.pruning import RandomUnstructured as RandomUnstructured
    from fastmnist.pruning import Sparsity as Sparsity
    from fastmnist.pruning import Structured as Structured
    from fastmnist.pruning import prune as prune
    from fastmnist.pruning import sparsity as sparsity
    from fastmnist.pruning import unprune as unprune
    from fastmnist.quantization import quantize as quantize
    from fastmnist.quantization import quantize_dynamic as quantize_dynamic
    from fastmnist.range_rules import MSE as MSE
    from fastmnist.range_rules import Histogram as Histogram
    from fastmnist.range_rules import MinMax as MinMax
    from fastmnist.range_rules import MovingAverage as MovingAverage
    from fastmnist.range_rules import Percentile as Percentile
    from fastmnist.sensitivities import Sensitivity as Sensitivity
    from fastmnist.sensitivities import sensitivity as sensitivity
    from fastmnist.training import evaluate as evaluate
    from fastmnist.training import train as train


def __getattr__(name: str) -> Any:
    if name in _SUBPACKAGES:
        return importlib.import_module(f"fastmnist.{name}")
    if name not in _EXPORTS:
        raise AttributeError(f"module 'fastmnist' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"fastmnist.{_EXPORTS[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
