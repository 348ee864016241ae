"""Forwards that ask what their layers are, found by reading their code.

A trace shows whether such a question is answered otherwise by the layers put in. Where a forward
cannot be traced, and there are no rows to run, its code is all that is left to look at.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any

from torch import nn

_QUESTIONS = {"type", "isinstance", "issubclass", "__class__"}
_MARKS = {"weight", "bias", "in_features", "out_features"}  # what hasattr is asked for
_OURS = ("torch.", "fastmnist.")


def check_asks_nothing(model: nn.Module, *, only_names: bool = False) -> None:
    """Raise ValueError, naming the forward, if it asks what a layer is.

    For its class, its weight's type, whether it has a weight; with `only_names` only whether a
    weight is a parameter, and is called so. Only what can be seen is found: the forwards of the
    model's classes and instances, and the functions that they call by name.
    """
    for path, module in model.named_modules():
        for function in _forwards(module):
            for code, scope in _reached(function, type(module)):
                if _asks_for_names(code, scope) or (not only_names and _asks(code, scope)):
                    where = f" of '{path}'" if path else ""
                    raise ValueError(
                        f"model: the forward{where} ({type(module).__name__}) asks what its layers "
                        f"are (in {code.co_name}), which other layers may answer otherwise, and "
                        "no trace can tell: give example= (rows, for fm.quantize, fm.fuse or "
                        "fm.prune), so that original and result can be run side by side"
                    )


def _forwards(module: nn.Module) -> Iterator[types.FunctionType]:
    own = vars(module).get("forward")
    found = [own if own is not None else getattr(type(module), "forward", None)]
    for function in found:
        function = getattr(function, "__func__", function)
        if isinstance(function, types.FunctionType) and not _is_library(function):
            yield function


def _is_library(function: types.FunctionType) -> bool:
    return str(function.__module__).startswith(_OURS)


def _reached(
    function: types.FunctionType, cls: type
) -> Iterator[tuple[types.CodeType, dict[str, Any]]]:
    """The code of a function, and of what it calls: methods of the class, functions beside it."""
    waiting, seen = [function], {id(function)}
    while waiting:
        now = waiting.pop()
        scope = now.__globals__
        for code in _codes(now.__code__):
            yield code, scope
            for name in code.co_names:
                called = getattr(cls, name, None) or scope.get(name)
                called = getattr(called, "__func__", called)
                if not isinstance(called, types.FunctionType) or id(called) in seen:
                    continue
                seen.add(id(called))
                waiting += [] if _is_library(called) else [called]


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def _asks(code: types.CodeType, scope: dict[str, Any]) -> bool:
    names = {*code.co_names}
    if names & _QUESTIONS and any(_is_class(name, nn.Module, scope) for name in names):
        return True
    if names & {"weight", "bias"} and names & {"dtype", "requires_grad", "is_leaf"}:
        return True
    return "hasattr" in names and bool(_MARKS & _texts(code))


def _asks_for_names(code: types.CodeType, scope: dict[str, Any]) -> bool:
    """A masked weight is computed, and the parameter behind it has another name."""
    names = {*code.co_names}
    if names & _QUESTIONS and any(_is_class(name, nn.Parameter, scope) for name in names):
        return True
    return bool(names & {"named_parameters", "state_dict", "_parameters"} and _MARKS & _texts(code))


def _texts(code: types.CodeType) -> set[str]:
    return {constant for constant in code.co_consts if isinstance(constant, str)}


def _is_class(name: str, kind: type, scope: dict[str, Any]) -> bool:
    found = scope.get(name, getattr(nn, name, None))
    return isinstance(found, type) and issubclass(found, kind)
