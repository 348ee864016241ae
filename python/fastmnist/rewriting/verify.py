"""A result against its original: the same steps, and nearly the same outputs.

Two looks, as far as there is something to look at. The *graphs*: but for the layers that were
replaced, both forwards call the same things in the same order; a forward that asks what its layers
are (``type(layer) is nn.Linear``) does not. The *outputs*: where there are rows, both run on them
side by side, on copies that are thrown away.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn

from fastmnist.data.batch import Batch, tree_map
from fastmnist.layers.linear import is_known_linear
from fastmnist.layers.registry import kind_of
from fastmnist.measuring.sqnr import sqnr
from fastmnist.rewriting.copies import throwaway_copy
from fastmnist.rewriting.graph import Graph

MOST_ROWS = 64  # of calibration or other data that are run side by side


@dataclass
class Rows:
    """Rows that a model takes.

    Attributes
    ----------
    args, kwargs
        Its arguments.
    name : str
        Of the argument that they come from, for errors.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)
    name: str = "example"

    @classmethod
    def of(cls, example: Any) -> Rows:
        """Read an `example` argument: a tensor or array, a tuple of arguments, or keywords."""
        if isinstance(example, Rows):
            return example
        if isinstance(example, Mapping):
            return cls((), {str(key): value for key, value in example.items()})
        return cls(tuple(example) if isinstance(example, tuple | list) else (example,))

    @classmethod
    def first_of(cls, batch: Batch, name: str) -> Rows:
        """The first rows of a batch."""

        def cut(tensor: Tensor) -> Tensor:
            whole = tensor.ndim and len(tensor) == batch.size
            return tensor[:MOST_ROWS].clone() if whole else tensor

        args, kwargs = tree_map(cut, (batch.args, batch.kwargs))
        return cls(args, kwargs, name)


def check_same_steps(before: Graph, result: nn.Module) -> None:
    """Raise ValueError where the result's forward does other things than the original's."""
    if is_known_linear(before.root) or kind_of(before.root) is not None:
        return  # of a single layer, forward is the layer's own
    after, why_not = Graph.of(result)
    if after is None:
        raise _differs(f"could be traced, and no longer can ({why_not})")
    pairs = zip(_calls(before), _calls(after), strict=False)
    for (was, name), (now, other) in pairs:
        if was != now:
            raise _differs(f"calls '{name}', and now '{other}'")
    if len(before.steps) != len(after.steps):
        raise _differs(f"makes {len(before.steps)} steps, and now {len(after.steps)}")


def _differs(what: str) -> ValueError:
    return ValueError(
        f"model: expected a forward that does the same with the layers put into it, got one that "
        f"asks what its layers are (as type(layer) is nn.Linear does): where it {what}; let "
        "isinstance(layer, nn.Linear) decide, or leave such layers as they are with exclude="
    )


def _calls(graph: Graph) -> list[tuple[tuple[Any, ...], str]]:
    """What is called on what. Numbers among the arguments may be other ones: sizes, types."""
    position = {step.node: i for i, step in enumerate(graph.steps)}

    def place(node: fx.Node) -> int:
        return position[node]

    calls = []
    for step in graph.steps:
        inputs = tuple(place(node) for node in step.node.all_input_nodes)
        # A masked weight is a value that is computed, and has another name.
        target = "" if step.node.op == "get_attr" else str(step.node.target)
        calls.append(((step.node.op, target, inputs), step.name))
    return calls


def check_outputs(
    original: nn.Module,
    result: nn.Module,
    rows: Rows,
    *,
    must_be_called: Collection[str],
    floor: float,
    is_error: bool,
    worst_layer: Callable[[], str],
) -> None:
    """Run both on the same rows; raise, or warn, where they are too far apart.

    Parameters
    ----------
    original : torch.nn.Module
        What the result is held against, float32 on the CPU, in eval mode; it is run itself.
    must_be_called : names
        Layers of the result that the rows have to reach.
    floor : float
        Least signal-to-noise ratio of the outputs, in dB.
    is_error : bool
        Whether less is an error; else a warning.
    worst_layer : callable
        Says which layer disturbs most, for the message.
    """
    want, _ = _run(original, rows, ())
    got, called = _run(throwaway_copy(result).eval(), rows, must_be_called)
    never = [name for name in must_be_called if name not in called]
    if never:
        raise ValueError(
            f"{rows.name}: layer '{never[0]}' was never called on these rows: give rows that reach "
            f"it, call the layer instead of reading its weight, or leave it in float with "
            f"exclude=['{never[0]}']"
        )
    if [*map(_shape, want)] != [*map(_shape, got)]:
        raise ValueError(
            f"model: expected outputs of shapes {[*map(_shape, want)]}, as the original gives, got "
            f"{[*map(_shape, got)]}: report this model, and leave layers as they are with exclude="
        )
    decibels = _similarity(want, got)
    if decibels >= floor:
        return
    text = (
        f"outputs differ more than expected: {decibels:.1f} dB between signal and noise on "
        f"{rows.name}, expected at least {floor:g}: {worst_layer()}"
    )
    if is_error:
        raise ValueError(f"check: {text}")
    warnings.warn(text, UserWarning, stacklevel=6)


def _run(model: nn.Module, rows: Rows, watched: Collection[str]) -> tuple[list[Tensor], set[str]]:
    """Outputs, and which of the watched layers ran."""
    called: set[str] = set()
    handles = [
        model.get_submodule(name).register_forward_hook(
            lambda module, args, output, name=name: called.add(name)
        )
        for name in watched
    ]
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # a forward that draws numbers draws the same ones
            outputs = model(*tree_map(Tensor.clone, rows.args), **rows.kwargs)
    except (RuntimeError, TypeError, IndexError) as error:
        shapes = ", ".join(_described(a) for a in (*rows.args, *rows.kwargs.values()))
        raise ValueError(
            f"{rows.name}: expected rows that the model takes, got {shapes}: {error}"
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    found: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    tree_map(note, outputs)
    return found, called


def _described(value: Any) -> str:
    return f"{value.dtype} {[*value.shape]}" if hasattr(value, "shape") else type(value).__name__


def _shape(tensor: Tensor) -> list[int]:
    return [*tensor.shape]


def _similarity(want: list[Tensor], got: list[Tensor]) -> float:
    """dB over all outputs that are floats; infinite where nothing can be said."""
    pairs = [
        (a.detach().double().flatten(), b.detach().double().flatten())
        for a, b in zip(want, got, strict=True)
        if a.is_floating_point() and b.is_floating_point()
    ]
    if not pairs:
        return math.inf
    one, other = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    usable = torch.isfinite(one)
    one, other = one[usable], other[usable]
    if not one.numel() or float(one.square().sum()) == 0:
        return math.inf
    return sqnr(one, other)


def worst_of(reference: nn.Module, result: nn.Module, rows: Rows, names: Collection[str]) -> str:
    """In words, which of the layers gives values furthest from those of the reference's.

    `reference` is a float model with the same values at the same paths (a fused one).
    """
    outputs: list[dict[str, Tensor]] = []
    for model in (reference, throwaway_copy(result).eval()):
        seen: dict[str, Tensor] = {}
        handles = [
            model.get_submodule(name).register_forward_hook(
                lambda m, args, y, name=name, seen=seen: seen.setdefault(name, y)
            )
            for name in names
        ]
        with torch.no_grad():
            model(*rows.args, **rows.kwargs)
        for handle in handles:
            handle.remove()
        outputs.append(seen)
    shared = [n for n in outputs[0] if n in outputs[1] and isinstance(outputs[0][n], Tensor)]
    if not shared:
        return "no layer could be told apart; leave some as they are with exclude="
    quality = {n: _similarity([outputs[0][n]], [outputs[1][n]]) for n in shared}
    name = min(quality, key=lambda n: quality[n])
    return (
        f"layer '{name}' is furthest off, {quality[name]:.1f} dB: leave it as it is with "
        f"exclude=['{name}'], or calibrate on rows like these"
    )
