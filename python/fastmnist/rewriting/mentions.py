"""Which modules a model's classes run in more than one place of their code.

A trace shows one way through a model, that of its forward. A value head, an ``embed()``, a branch
not taken now may run the same layer in another way: what is run in one place can be joined with
what follows it there, what is run in two has to stay what it is.
"""

from __future__ import annotations

import dis
import inspect
import types
from collections import Counter
from collections.abc import Iterator

from torch import nn

from fastmnist.layers.registry import kind_of

_LIBRARIES = ("torch.", "fastmnist.")
# Parts of the names of functions that make a model rather than run it.
_MAKERS = ("init", "reset", "repr")
_ATTRIBUTES = ("LOAD_ATTR", "LOAD_METHOD")


def run_in_several_places(root: nn.Module) -> frozenset[int]:
    """By ``id``, the modules that the code of the model's classes runs in more than one place.

    ``self.fc(x)`` and ``self.body.fc.forward(x)`` run the layer, or hand it on; ``self.fc.weight``
    does not. What is reached by numbers (``self.layers[0]``) counts for its container alone.
    """
    places: Counter[int] = Counter()
    for owner in root.modules():
        for function in _functions(owner):
            for names in _chains(function):
                module, left = _followed(owner, names)
                if module is not owner and left in ([], ["forward"]):
                    places[id(module)] += 1
    several = {module for module, count in places.items() if count > 1}
    for module in root.modules():  # the parts of a layer are where it is
        kind = kind_of(module)
        if kind is not None and kind.in_parts and id(module) in several:
            several |= {id(part) for part in module.children()}
    return frozenset(several)


def _functions(module: nn.Module) -> Iterator[types.FunctionType]:
    """The functions of a user's class, and a forward of the instance's own."""
    members = {"forward": vars(module)["forward"]} if "forward" in vars(module) else {}
    for cls in type(module).__mro__:
        if not f"{cls.__module__}.".startswith(_LIBRARIES):
            members = {**vars(cls), **members}  # what is overridden does not run
    seen: set[int] = set()
    for name, member in members.items():
        if any(word in name for word in _MAKERS) or id(member) in seen:
            continue
        seen.add(id(member))  # one function may have two names
        function = getattr(member, "fget", None) or getattr(member, "__func__", None) or member
        function = inspect.unwrap(function) if callable(function) else function
        is_users = not str(getattr(function, "__module__", "")).startswith(_LIBRARIES)
        if isinstance(function, types.FunctionType) and is_users:
            yield function


def _chains(function: types.FunctionType) -> Iterator[list[str]]:
    """Names that follow ``self`` in a function's code: ``self.body.fc`` gives body, fc."""
    if not function.__code__.co_varnames:
        return
    itself = function.__code__.co_varnames[0]
    for code in _codes(function.__code__):
        names: list[str] | None = None
        for step in [*dis.get_instructions(code), None]:
            if step is not None and names is not None and step.opname in _ATTRIBUTES:
                names.append(str(step.argval))
                continue
            if names:
                yield names
            loaded = None if step is None or not step.opname.startswith("LOAD") else step.argval
            last = loaded[-1] if isinstance(loaded, tuple) and loaded else loaded
            names = [] if last == itself else None


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def _followed(owner: nn.Module, names: list[str]) -> tuple[nn.Module, list[str]]:
    """The module that a chain of names leads to, and what is left of the names."""
    module = owner
    for i, name in enumerate(names):
        inner = module._modules.get(name)
        if inner is None:
            return module, names[i:]
        module = inner
    return module, []
