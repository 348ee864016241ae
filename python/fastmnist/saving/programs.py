"""What a module that is no chain of layers computes, in its file: for programs without Python.

A chain's description says all that a program needs. Of any other module that :func:`compile` can
read, the file gets the graph too, under keys that no state_dict has, so that it answers outside of
Python as well. Numbers are not stored twice: the field "same" says which are the module's own.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from torch import nn

from fastmnist.compilation.compiling import graph_of
from fastmnist.files.graph_records import graph_arrays, graph_to_json
from fastmnist.files.records import Arrays

PREFIX = ".graph."  # names of modules are not empty


def program_of(model: nn.Module, arrays: Arrays) -> tuple[dict[str, Any], Arrays]:
    """Fields of a description, and arrays beside the module's own; nothing where there is none.

    Parameters
    ----------
    model : nn.Module
        As it is saved.
    arrays : dict of str to array
        Its own tensors.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            graph = graph_of(model)
    except Exception:  # a forward is anybody's code; the module itself is saved anyway
        return {}, {}
    more: Arrays = {}
    same: dict[str, str] = {}
    for key, array in graph_arrays(graph, PREFIX).items():
        own = next((name for name, given in arrays.items() if _are_same(given, array)), None)
        if own is None:
            more[key] = array
        else:
            same[key] = own
    return {"graph": graph_to_json(graph), "same": same}, more


def without_program(arrays: Arrays) -> Arrays:
    """A module's own tensors."""
    return {key: array for key, array in arrays.items() if not key.startswith(PREFIX)}


def _are_same(one: Any, other: Any) -> bool:
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    return bool(np.array_equal(_bits(one), _bits(other)))


def _bits(array: Any) -> Any:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)
