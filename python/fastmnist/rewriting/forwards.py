"""Forwards of an instance's own: ``model.forward = …``, wrapped by torch or by the user.

A copy of a model must call its own layers. A bound method of the model, or a ``functools.partial``
of one, is bound to the copy when it is copied; what ``torch.compile`` wrapped is unwrapped; a
function that holds the original's layers (a closure, a default, a global) can't be told to call the
copy's, and is refused.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

# Where torch.compile keeps the function that it wrapped.
_WRAPPED = ("_torchdynamo_orig_callable", "_torchdynamo_inline")
_DEPTH = 8  # of containers and closures that are looked through


def unwrapped(function: Any) -> Any:
    """The callable that ``torch.compile`` wrapped, or `function` itself."""
    while True:
        inner = next((found for name in _WRAPPED if (found := _own(function, name))), None)
        if inner is None or not callable(inner):
            return function
        function = inner


def _own(function: Any, name: str) -> Any:
    return getattr(function, name, None) if isinstance(function, types.FunctionType) else None


def own_forwards(model: nn.Module) -> dict[int, Any]:
    """For each module whose instance has a forward of its own, what stands behind it.

    Raises
    ------
    ValueError
        Naming the module whose forward holds layers of the model that a copy would not call.
    """
    modules = dict(model.named_modules())
    inside = {id(module) for module in modules.values()}
    inside |= {id(t) for m in modules.values() for t in (*m._parameters.values(),) if t is not None}
    found: dict[int, Any] = {}
    for name, module in modules.items():
        if "forward" not in vars(module):
            continue
        forward = unwrapped(vars(module)["forward"])
        held = next(iter(_held(forward, inside)), None)
        if held is not None:
            where = f"of '{name}' " if name else ""
            raise ValueError(
                f"model: the forward {where}was replaced by a function that holds the model's own "
                f"{held}, and would go on to call the original's: define it in the class, or set "
                "model.forward = types.MethodType(forward, model) with a forward(self, ...) that "
                "reads its layers from self"
            )
        found[id(module)] = forward
    return found


def rebind(model: nn.Module, copied: nn.Module, forwards: dict[int, Any]) -> None:
    """Give each module of the copy its own forward, as deepcopy bound it or unwrapped."""
    pairs = zip(model.modules(), copied.modules(), strict=True)
    partner = {id(module): other for module, other in pairs}
    for module in model.modules():
        if id(module) in forwards:
            other = partner[id(module)]
            forward = _bound_to(forwards[id(module)], partner)
            del other.__dict__["forward"]
            if not _is_of_its_class(forward, other):
                other.__dict__["forward"] = forward


def _is_of_its_class(forward: Any, module: nn.Module) -> bool:
    method = getattr(type(module), "forward", None)
    bound = isinstance(forward, types.MethodType) and forward.__self__ is module
    return bound and forward.__func__ is method


def _bound_to(forward: Any, partner: dict[int, nn.Module]) -> Any:
    if isinstance(forward, types.MethodType):
        return types.MethodType(
            forward.__func__, partner.get(id(forward.__self__), forward.__self__)
        )
    if isinstance(forward, functools.partial):
        args = [partner.get(id(value), value) for value in forward.args]
        keywords = {key: partner.get(id(v), v) for key, v in forward.keywords.items()}
        return functools.partial(_bound_to(forward.func, partner), *args, **keywords)
    return forward


def _held(forward: Any, inside: set[int]) -> Iterator[str]:
    """What a replaced forward holds of the model, past what can be bound to a copy."""
    while isinstance(forward, functools.partial | types.MethodType):
        if isinstance(forward, functools.partial):
            for value in (*forward.args, *forward.keywords.values()):
                if id(value) not in inside:  # a module itself is exchanged for its partner
                    yield from _inside(value, inside, _DEPTH)
            forward = unwrapped(forward.func)
        else:
            if id(forward.__self__) not in inside:
                yield from _inside(forward.__self__, inside, _DEPTH)
            forward = forward.__func__
    yield from _inside(forward, inside, _DEPTH)


def _inside(value: Any, inside: set[int], depth: int) -> Iterator[str]:
    if depth == 0:
        return
    if id(value) in inside:
        yield "parameter" if isinstance(value, torch.Tensor) else f"layer ({type(value).__name__})"
    elif isinstance(value, nn.Module):
        parts = (*value.modules(), *value.parameters())
        yield from (f"layer ({type(part).__name__})" for part in parts if id(part) in inside)
    elif isinstance(value, types.MethodType):
        yield from _inside(value.__self__, inside, depth - 1)
        yield from _inside(value.__func__, inside, depth - 1)
    elif isinstance(value, functools.partial):
        for part in (value.func, *value.args, *value.keywords.values()):
            yield from _inside(part, inside, depth - 1)
    elif isinstance(value, types.FunctionType):
        inner = unwrapped(value)
        if inner is not value:
            yield from _inside(inner, inside, depth - 1)
            return
        cells = [c.cell_contents for c in value.__closure__ or () if _is_filled(c)]
        named = [value.__globals__[n] for n in value.__code__.co_names if n in value.__globals__]
        defaults = [*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
        for part in (*cells, *defaults, *named):
            yield from _inside(part, inside, depth - 1)
    elif isinstance(value, list | tuple | set):
        for part in value:
            yield from _inside(part, inside, depth - 1)
    elif isinstance(value, dict):
        for part in [*value.values()]:
            yield from _inside(part, inside, depth - 1)


def _is_filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True
