"""What follows what in a model: its forward traced by torch.fx, and the questions asked of it.

Tracing runs the *instance's* forward once on symbols, on a copy that is thrown away: what forward
keeps or counts meanwhile is gone with it. Where that fails (control flow on values, ``*args``), the
transforms go layer by layer instead.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx, nn

from fastmnist.layers.linear import is_known_linear
from fastmnist.layers.registry import kind_of
from fastmnist.rewriting.copies import throwaway_copy
from fastmnist.rewriting.hooks import has_hooks
from fastmnist.rewriting.masks import make_permanent
from fastmnist.rewriting.steps import CONSTANT, KEPT, Kind, Step, kind_of_step, steps_of
from fastmnist.rewriting.swapping import swap


class CallsOthers(ValueError):
    """A forward calls layers that its model does not hold: a copy would go on to call them."""


class _Tracer(fx.Tracer):
    """Goes into containers and users' classes, never into layers."""

    def path_of_module(self, mod: nn.Module) -> str:
        try:
            return super().path_of_module(mod)
        except NameError:
            if id(mod) in _held_by(self.root):
                raise
            raise CallsOthers(
                "model: expected a forward that calls the model's own layers, got one that reaches "
                f"a {type(mod).__name__} past them (through a registry, a weak reference or a "
                "closure), and would go on to call the original's: reach layers through self"
            ) from None

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if has_hooks(m):
            return True  # they see real values only, and nothing is moved across them
        if isinstance(m, nn.Sequential):
            return False
        kind = kind_of(m)
        ours = (kind is not None and not kind.in_parts) or is_known_linear(m)
        return ours or super().is_leaf_module(m, module_qualified_name)


@dataclass(frozen=True)
class Graph:
    """The traced steps of `root`, whose modules they name.

    Attributes
    ----------
    root : torch.nn.Module
    steps : tuple of Step
        In the order of execution.
    calls, names : Counter
        By ``id`` of a module: how often it is called, and how many names it has.
    read : frozenset
        Of modules whose weights forward reads itself, instead of calling them only.
    """

    root: nn.Module
    steps: tuple[Step, ...]
    calls: Counter[int]
    names: Counter[int]
    read: frozenset[int]

    @classmethod
    def of(cls, root: nn.Module) -> tuple[Graph | None, str]:
        """Trace `root` as it is at inference; ``(None, reason)`` where it cannot be traced."""
        traces = Traces.of(root)
        return traces.graph, traces.why_not

    @classmethod
    def _read(cls, root: nn.Module, graph: fx.Graph) -> Graph:
        modules = dict(root.named_modules(remove_duplicate=False))
        called = [n for n in graph.nodes if n.op == "call_module"]
        calls = Counter(id(modules[str(n.target)]) for n in called)
        names = Counter(id(module) for module in modules.values())
        owners = {str(n.target).rpartition(".")[0] for n in graph.nodes if n.op == "get_attr"}
        # Of a model that is one layer, forward is the layer's own.
        read = frozenset(id(modules[path]) for path in owners if path in modules)
        read -= {id(root)} if kind_of(root) is not None or is_known_linear(root) else set()
        return cls(root, tuple(steps_of(graph, root)), calls, names, read)

    def chain(self) -> tuple[list[Step], str]:
        """The steps between input and output, if each reads but the one before; else why not."""
        inputs = [step for step in self.steps if step.kind is Kind.INPUT and step.users]
        if len(inputs) != 1:
            return [], f"expected one input, got {len(inputs)}"
        at, chain = inputs[0], list[Step]()
        while True:
            users = [user for user in at.users if user.kind is not Kind.SIZES]
            if len(users) != 1:
                return [], (
                    f"expected a chain of layers, but the value of '{at.node.name}' is used "
                    f"{len(users)} times"
                )
            if users[0].kind is Kind.OUTPUT:
                whole = users[0].node.args[0] is at.node
                return (chain, "") if whole else ([], "expected one output, a tensor")
            at = users[0]
            chain.append(at)

    def is_private(self, step: Step) -> bool:
        """Whether the step's module is only called, and only here, has one name and no hooks."""
        module = step.module
        return (
            module is not None
            and self.calls[id(module)] == 1
            and self.names[id(module)] == 1
            and id(module) not in self.read
            and not has_hooks(module)
            and len(step.node.args) == 1
            and not step.node.kwargs
        )

    def replace(self, step: Step, module: nn.Module) -> None:
        """Put another module in the place of the one that the step calls, in the root too."""
        module.train(self.root.training)
        swap(self.root, step.path, module)
        self.calls[id(module)] = self.names[id(module)] = 1
        step.module, step.clamp = module, None
        step.kind = kind_of_step(step.node, module)

    def is_input(self, step: Step, *, first: bool = False) -> bool:
        """Whether the step's argument is an input of the model's (its first), at most flattened."""
        before = step.inputs[0] if step.inputs else None
        while before is not None and before.kind is not Kind.INPUT:
            if before.is_watched or before.kind not in _KEEPS_VALUES:
                return False
            before = before.inputs[0]
        if first:
            return before is next(s for s in self.steps if s.kind is Kind.INPUT)
        return before is not None

    def next_layer(
        self, step: Step, *, past_dropouts: bool = True, anywhere: bool = False
    ) -> Step | None:
        """The sole consumer in the same container, past Identity and (at inference) Dropouts.

        With `anywhere`, in another one, too.
        """
        passed = {Kind.PASS, Kind.DROPOUT} if past_dropouts else {Kind.PASS}
        user = _sole_user(step)
        while user is not None and user.module is not None and not user.is_watched:
            if user.kind not in passed:
                break
            user = _sole_user(user)
        # What lies in another container can be entered, or left, between the two.
        return user if user is not None and (anywhere or user.owner == step.owner) else None


@dataclass(frozen=True)
class Traces:
    """Each way that a forward may go: with its optional arguments, and without them.

    Attributes
    ----------
    ways : dict of str to Graph
        "with", and "without" where there are such arguments; only those that can be traced.
    graph : Graph or None
        What holds both ways; transforms read that.
    why_not : str
        Why there is none.
    """

    ways: dict[str, Graph]
    graph: Graph | None
    why_not: str

    @classmethod
    def of(cls, root: nn.Module) -> Traces:
        """Trace `root` as it is at inference."""
        traced: dict[str, fx.Graph] = {}
        why_not = ""
        defaults = _defaults(root)
        for name, arguments in {"with": {}, **({"without": defaults} if defaults else {})}.items():
            try:
                traced[name] = _trace(root, arguments)
            except CallsOthers:
                raise
            except Exception as error:
                first_line = (str(error).strip().splitlines() or [""])[0]
                why_not = why_not or f"{type(error).__name__}: {first_line}"
        if "with" in traced and defaults:
            # Symbols are never None: what forward does without these arguments is another graph.
            same = "without" in traced and _calls(traced["with"]) == _calls(traced["without"])
            why_not = "" if same else f"forward does other things without {' and '.join(defaults)}"
        ways = {name: Graph._read(root, graph) for name, graph in traced.items()}
        return cls(ways, None if why_not else ways["with"], why_not)

    @property
    def read(self) -> frozenset[int]:
        """By ``id``, modules whose weights forward reads itself on one of its ways."""
        return frozenset().union(*(graph.read for graph in self.ways.values()))


_KEEPS_VALUES = {Kind.FLATTEN, Kind.ROWS, Kind.PASS, Kind.DROPOUT}


def _sole_user(step: Step) -> Step | None:
    if len(step.users) != 1 or step.is_kept or step.users[0].kind is Kind.OUTPUT:
        return None
    return step.users[0]


def _trace(root: nn.Module, arguments: dict[str, Any]) -> fx.Graph:
    copied = throwaway_copy(root).eval()
    make_permanent(copied)  # a masked weight is no parameter, and would be read as a constant
    own = copied.__dict__.pop("forward", None)
    tracer = _Tracer()
    if own is not None:
        # fx traces a method of the class: so let this be one, of a class of this one instance. Not
        # in the place of the class's own forward, which this one may call.
        cls, tracer.traced_func_name = type(copied), "forward_of_the_instance"
        named = {tracer.traced_func_name: _as_method(own, copied)}
        copied.__class__ = type(cls.__name__, (cls,), named)
    graph = tracer.trace(copied, concrete_args=arguments or None)
    for node in _kept_nodes(copied):
        node.meta[KEPT] = True
    for node in graph.nodes:
        if node.op == "get_attr" and str(node.target).startswith("_tensor_constant"):
            node.meta[CONSTANT] = getattr(copied, str(node.target), None)
    return graph


def _as_method(forward: Any, owner: nn.Module) -> Any:
    """A forward of an instance's own as a function of `self`, with the same arguments by name."""
    if isinstance(forward, types.MethodType) and forward.__self__ is owner:
        return forward.__func__
    names = ", ".join(inspect.signature(forward).parameters)
    scope = {"forward": forward}
    exec(f"def method(self, {names}): return forward({names})", scope)
    return scope["method"]


def _held_by(root: nn.Module) -> set[int]:
    """By ``id``, modules that are somewhere in the model's attributes."""
    waiting: list[Any] = [vars(module) for module in root.modules()]
    seen: set[int] = set()
    while waiting:
        value = waiting.pop()
        if id(value) in seen or isinstance(value, Tensor | type):
            continue
        seen.add(id(value))
        if isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list | tuple | set | deque):
            waiting += value
        elif isinstance(value, functools.partial):
            waiting += [value.func, value.args, value.keywords]
        elif isinstance(value, types.MethodType):
            waiting.append(value.__self__)
        elif hasattr(value, "__dict__") and not isinstance(value, types.FunctionType):
            waiting.append(vars(value))
    return seen


def _kept_nodes(root: nn.Module) -> Iterator[fx.Node]:
    """Values that forward keeps in attributes: somebody reads them later."""
    waiting: list[Any] = [value for module in root.modules() for value in vars(module).values()]
    seen: set[int] = set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, fx.Proxy):
            yield value.node
        elif isinstance(value, list | tuple | set | dict) and id(value) not in seen:
            seen.add(id(value))
            waiting += [*value.values()] if isinstance(value, dict) else value


def _defaults(root: nn.Module) -> dict[str, Any]:
    parameters = inspect.signature(root.forward).parameters
    return {n: p.default for n, p in parameters.items() if p.default is not inspect.Parameter.empty}


def _calls(graph: fx.Graph) -> list[tuple[str, str]]:
    """What is called, in order; not fx's own checks that an argument has its default."""
    calls = [n for n in graph.nodes if n.op.startswith("call_")]
    checks = [n for n in calls if "assert" in str(getattr(n.target, "__name__", n.target))]
    checked = {argument for n in checks for argument in n.all_input_nodes}
    return [
        (n.op, str(n.target))
        for n in calls
        if n not in checks and not (n in checked and set(n.users) <= set(checks))
    ]
