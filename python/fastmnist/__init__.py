"""fastmnist: PyTorch networks of Linear layers, small and fast on a CPU.

::

    data      load_dataset, NeuralNetwork, LeNet300, train, Affine, Elastic, evaluate, summary,
              Metric
    smaller   fuse, quantize (Static, Dynamic, Half), quantize_dynamic, prune (L1Unstructured,
              RandomUnstructured, Structured, CustomMask), unprune, cluster (Clusters), uncluster,
              factorize (LowRank)
    taught    distill (Distillation), teacher
    by steps  prepare, prepare_qat (QAT), convert, fuse_modules
    decide    optimize (Recipe, Student, Finetune, Fuse), search
    look      changes, sensitivity, sparsity, compare (Report, ReportDiff), variants, latency,
              confusion, disagreements, show_weights, size
    run       compile (one native call), save, load, cpu_info, set_num_threads
    others    fastmnist.ao (torch.ao's names), fastmnist.testing (pytest), fastmnist.runtime
              (without torch)

Names are imported when they are first used, so that ``import fastmnist.runtime`` works, and stays
quick, where torch is not installed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from fastmnist._version import __version__

# name -> module that defines it. No package may have the name of an export: importing the package
# would hide the function. So packages are nouns: fm.quantize lives in quantization/.
_EXPORTS = {
    "Affine": "data.augmentation",
    "Clusters": "clustering.configs",
    "CompiledModel": "runtime.compiled",
    "Confusion": "comparison.confusion",
    "Constant": "pruning",
    "Cubic": "pruning",
    "CustomMask": "pruning",
    "Data": "data",
    "DatasetFallbackWarning": "data",
    "Disagreements": "comparison.disagreements",
    "Distillation": "distillation.config",
    "Dynamic": "quantization.configs",
    "Elastic": "data.augmentation",
    "Finetune": "searching.words",
    "Fuse": "searching.words",
    "Half": "quantization.configs",
    "Histogram": "ranges.rules",
    "L1Unstructured": "pruning",
    "Latency": "measuring.latency",
    "LeNet300": "network",
    "LowRank": "factorization.config",
    "MSE": "ranges.rules",
    "Metric": "measuring.metrics",
    "MinMax": "ranges.rules",
    "MovingAverage": "ranges.rules",
    "NeuralNetwork": "network",
    "Percentile": "ranges.rules",
    "QAT": "quantization.configs",
    "RandomUnstructured": "pruning",
    "Recipe": "searching.recipe",
    "Report": "comparison.report",
    "ReportDiff": "comparison.diff",
    "Search": "searching.result",
    "Sensitivity": "quantization.sensitivity",
    "Sparsity": "pruning",
    "Split": "data",
    "Static": "quantization.configs",
    "Structured": "pruning",
    "Student": "searching.words",
    "changes": "rewriting.changes",
    "cluster": "clustering.clusterer",
    "compare": "comparison.comparing",
    "compile": "compilation.compiling",
    "confusion": "comparison.confusion",
    "convert": "quantization.converting",
    "cpu_info": "runtime.cpu",
    "disagreements": "comparison.disagreements",
    "distill": "distillation.distilling",
    "evaluate": "measuring.evaluation",
    "factorize": "factorization.factorizing",
    "fuse": "fusion.fusing",
    "fuse_modules": "fusion.by_name",
    "latency": "measuring.latency",
    "load": "saving.save_load",
    "load_dataset": "data",
    "num_threads": "runtime.cpu",
    "optimize": "searching.optimizing",
    "prepare": "quantization.preparing",
    "prepare_qat": "quantization.preparing",
    "prune": "pruning",
    "quantize": "quantization.quantizing",
    "quantize_dynamic": "ao",
    "save": "saving.save_load",
    "search": "searching.searching",
    "sensitivity": "quantization.sensitivity",
    "set_num_threads": "runtime.cpu",
    "show_weights": "comparison.histograms",
    "size": "saving.save_load",
    "sparsity": "pruning",
    "summary": "measuring.summary",
    "teacher": "distillation.wide",
    "train": "training.loop",
    "uncluster": "clustering.clusterer",
    "unprune": "pruning",
    "variants": "comparison.variants",
}

# Found as attributes too, without an import of their own.
_SUBPACKAGES = ("ao", "runtime", "testing")

__all__ = ["__version__", *sorted(_EXPORTS)]

if TYPE_CHECKING:
    from fastmnist.ao import quantize_dynamic as quantize_dynamic
    from fastmnist.clustering.clusterer import cluster as cluster
    from fastmnist.clustering.clusterer import uncluster as uncluster
    from fastmnist.clustering.configs import Clusters as Clusters
    from fastmnist.comparison.comparing import compare as compare
    from fastmnist.comparison.confusion import Confusion as Confusion
    from fastmnist.comparison.confusion import confusion as confusion
    from fastmnist.comparison.diff import ReportDiff as ReportDiff
    from fastmnist.comparison.disagreements import Disagreements as Disagreements
    from fastmnist.comparison.disagreements import disagreements as disagreements
    from fastmnist.comparison.histograms import show_weights as show_weights
    from fastmnist.comparison.report import Report as Report
    from fastmnist.comparison.variants import variants as variants
    from fastmnist.compilation.compiling import compile as compile
    from fastmnist.data import Data as Data
    from fastmnist.data import DatasetFallbackWarning as DatasetFallbackWarning
    from fastmnist.data import Split as Split
    from fastmnist.data import load_dataset as load_dataset
    from fastmnist.data.augmentation import Affine as Affine
    from fastmnist.data.augmentation import Elastic as Elastic
    from fastmnist.distillation.config import Distillation as Distillation
    from fastmnist.distillation.distilling import distill as distill
    from fastmnist.distillation.wide import teacher as teacher
    from fastmnist.factorization.config import LowRank as LowRank
    from fastmnist.factorization.factorizing import factorize as factorize
    from fastmnist.fusion.by_name import fuse_modules as fuse_modules
    from fastmnist.fusion.fusing import fuse as fuse
    from fastmnist.measuring.evaluation import evaluate as evaluate
    from fastmnist.measuring.latency import Latency as Latency
    from fastmnist.measuring.latency import latency as latency
    from fastmnist.measuring.metrics import Metric as Metric
    from fastmnist.measuring.summary import summary as summary
    from fastmnist.network import LeNet300 as LeNet300
    from fastmnist.network import NeuralNetwork as NeuralNetwork
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
    from fastmnist.quantization.configs import QAT as QAT
    from fastmnist.quantization.configs import Dynamic as Dynamic
    from fastmnist.quantization.configs import Half as Half
    from fastmnist.quantization.configs import Static as Static
    from fastmnist.quantization.converting import convert as convert
    from fastmnist.quantization.preparing import prepare as prepare
    from fastmnist.quantization.preparing import prepare_qat as prepare_qat
    from fastmnist.quantization.quantizing import quantize as quantize
    from fastmnist.quantization.sensitivity import Sensitivity as Sensitivity
    from fastmnist.quantization.sensitivity import sensitivity as sensitivity
    from fastmnist.ranges.rules import MSE as MSE
    from fastmnist.ranges.rules import Histogram as Histogram
    from fastmnist.ranges.rules import MinMax as MinMax
    from fastmnist.ranges.rules import MovingAverage as MovingAverage
    from fastmnist.ranges.rules import Percentile as Percentile
    from fastmnist.rewriting.changes import changes as changes
    from fastmnist.runtime.compiled import CompiledModel as CompiledModel
    from fastmnist.runtime.cpu import cpu_info as cpu_info
    from fastmnist.runtime.cpu import num_threads as num_threads
    from fastmnist.runtime.cpu import set_num_threads as set_num_threads
    from fastmnist.saving.save_load import load as load
    from fastmnist.saving.save_load import save as save
    from fastmnist.saving.save_load import size as size
    from fastmnist.searching.optimizing import optimize as optimize
    from fastmnist.searching.recipe import Recipe as Recipe
    from fastmnist.searching.result import Search as Search
    from fastmnist.searching.searching import search as search
    from fastmnist.searching.words import Finetune as Finetune
    from fastmnist.searching.words import Fuse as Fuse
    from fastmnist.searching.words import Student as Student
    from fastmnist.training.loop import train as train


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
