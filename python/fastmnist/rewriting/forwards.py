"""Functions of an instance's own: ``model.forward = …``, other attributes, and hooks.

A copy of a model must call its own layers. A bound method of the model, a ``functools.partial`` of
one, or an object with methods is bound to the copy when it is copied; what ``torch.compile``
wrapped is unwrapped; a function that holds the original's layers (in a closure, a default, a
global) can't be told to call the copy's, and is refused.
"""

from __future__ import annotations

import copy
import dis
import functools
import itertools
import types
import weakref
from collections import deque
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

# Where torch.compile keeps the function that it wrapped.
_WRAPPED = ("_torchdynamo_orig_callable", "_torchdynamo_inline")
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")
_CACHED = type(functools.lru_cache(len))
_DEPTH = 8  # of containers in attributes that are looked through
_MOST = 2000  # objects that a function may lead to: a trainer leads to thousands


def unwrapped(function: Any) -> Any:
    """The callable that ``torch.compile`` wrapped, or `function` itself."""
    while isinstance(function, types.FunctionType):
        inner = next((found for name in _WRAPPED if (found := getattr(function, name, None))), None)
        if inner is None or not callable(inner):
            return function
        function = inner
    return function


def is_compiler(module: nn.Module) -> bool:
    """Whether it is what ``torch.compile`` makes of a module (by name: dynamo imports slowly)."""
    return type(module).__name__ == "OptimizedModule" and "_orig_mod" in module._modules


def check_functions(model: nn.Module) -> None:
    """Raise ValueError, naming the function that holds layers that a copy would not call."""
    modules = dict(model.named_modules())
    inside = {id(module) for module in modules.values()}
    inside |= {id(p) for m in modules.values() for p in m._parameters.values() if p is not None}
    for path, module in modules.items():
        # Of what torch.compile wrapped, copies hold what it wrapped.
        if isinstance(module, torch.jit.ScriptModule) or is_compiler(module):
            continue
        for name, value in vars(module).items():
            if name.startswith("_") and name not in _HOOKS:
                continue
            held = next(iter(_held(value, inside, _DEPTH)), None)
            if held is not None:
                raise ValueError(_refusal(path, name, held))


def _refusal(path: str, name: str, held: str) -> str:
    of = f" of '{path}'" if path else ""
    go_on = f"holds the model's own {held}, and would go on to call the original's"
    if name == "forward":
        return (
            f"model: the forward{of} was replaced by a function that {go_on}: define it in the "
            "class, or set model.forward = types.MethodType(forward, model) with a forward(self, "
            "...) that reads its layers from self"
        )
    if name in _HOOKS:
        return (
            f"model: a hook{of} is a function that {go_on}: reach the layer through the module "
            "that the hook is given, or remove the hook"
        )
    return (
        f"model: the attribute '{name}'{of} is a function that {go_on}: make it a method that "
        "reads its layers from self"
    )


def bind_forwards(model: nn.Module, copied: nn.Module, memo: dict[int, Any]) -> None:
    """Give each module of the copy its own forward, bound to the copy and unwrapped."""
    for module, other in zip(model.modules(), copied.modules(), strict=True):
        of_class = getattr(type(module), "forward", None)
        if "forward" not in vars(module) and unwrapped(of_class) is not of_class:
            # Compiled for the class: traced and called as it was written.
            other.__dict__["forward"] = types.MethodType(unwrapped(of_class), other)
        elif (
            "forward" in vars(module)
            and not isinstance(module, torch.jit.ScriptModule)
            and not is_compiler(module)
        ):
            forward = copy.deepcopy(unwrapped(vars(module)["forward"]), memo)
            del other.__dict__["forward"]
            if not _is_of_its_class(forward, other):
                other.__dict__["forward"] = forward


def _is_of_its_class(forward: Any, module: nn.Module) -> bool:
    bound = isinstance(forward, types.MethodType) and forward.__self__ is module
    return bound and forward.__func__ is getattr(type(module), "forward", None)


def _held(value: Any, inside: set[int], depth: int) -> Iterator[str]:
    """What functions in an attribute hold of the model; what is no function is copied with it."""
    if isinstance(value, types.FunctionType):
        inner = unwrapped(value)
        yield from _inside(value, inside) if inner is value else _held(inner, inside, depth)
    elif isinstance(value, functools.partial):
        yield from _held(value.func, inside, depth)
        yield from _layers([*value.args, *value.keywords.values()], inside)
    elif isinstance(value, types.MethodType):
        yield from _held(value.__func__, inside, depth)
        if not isinstance(value.__self__, nn.Module):
            yield from _layers(value.__self__, inside)
    elif depth and isinstance(value, list | tuple | set | dict):
        parts = [*value.values()] if isinstance(value, dict) else value
        for part in itertools.islice(parts, _MOST):
            yield from _held(part, inside, depth - 1)
    elif depth and isinstance(value, _CACHED):
        yield from _held(value.__wrapped__, inside, depth - 1)


def _layers(value: Any, inside: set[int]) -> Iterator[str]:
    """Layers themselves among arguments: a copy has them, but nobody puts others in their place."""
    for part in _reached(value, inside, past_modules=False):
        is_layer = not isinstance(part, nn.Module) or not [*part.children()]
        if id(part) in inside and is_layer:
            yield _named(part)


def _inside(value: Any, inside: set[int]) -> Iterator[str]:
    """What a function, or anything in it, reaches of the model."""
    return (_named(part) for part in _reached(value, inside) if id(part) in inside)


def _named(part: Any) -> str:
    return "parameter" if isinstance(part, torch.Tensor) else f"layer ({type(part).__name__})"


def _reached(value: Any, inside: set[int], *, past_modules: bool = True) -> Iterator[Any]:
    """Everything that can be reached, nearest first, each once, and not without end."""
    waiting, seen = deque([value]), {id(value)}
    while waiting and len(seen) < _MOST:
        part = waiting.popleft()
        yield part
        if isinstance(part, nn.Module) and (id(part) in inside or not past_modules):
            continue
        for inner in _parts(part):
            if id(inner) not in seen:
                seen.add(id(inner))
                waiting.append(inner)


def _parts(value: Any) -> list[Any]:
    if isinstance(value, types.FunctionType):
        inner = unwrapped(value)
        if inner is not value:
            return [inner]
        cells = [cell.cell_contents for cell in value.__closure__ or () if _is_filled(cell)]
        names = _names(value.__code__)
        named = [value.__globals__[name] for name in names if name in value.__globals__]
        # Of modules and classes only what is looked up by name; else all of torch is searched.
        named = [part for part in named if not isinstance(part, types.ModuleType | type)]
        defaults = [*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
        return [*cells, *defaults, *named]
    if isinstance(value, nn.Module):
        return [*value.children(), *value.parameters(recurse=False)]
    if isinstance(value, types.MethodType):
        return [value.__self__, value.__func__]
    if isinstance(value, functools.partial):
        return [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, weakref.ref):
        return [value()]
    if isinstance(value, list | tuple | set):
        return [*value]
    if isinstance(value, dict):
        return [*value.values()]
    wrapped = [value.__wrapped__] if isinstance(value, _CACHED) else []
    own = vars(value) if hasattr(value, "__dict__") and not isinstance(value, type) else {}
    return [*wrapped, *own.values()]


def _names(code: types.CodeType) -> set[str]:
    """Global names that a function's code looks up, and those of functions inside it."""
    nested = [part for part in code.co_consts if isinstance(part, types.CodeType)]
    loads = [i.argval for i in dis.get_instructions(code) if i.opname.startswith("LOAD_GLOBAL")]
    return {*map(str, loads)}.union(*map(_names, nested))


def _is_filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True
