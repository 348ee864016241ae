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

from fastmnist.data.batch import Batch, as_input, tree_map
from fastmnist.display.callers import callers_level
from fastmnist.layers.linear import is_known_linear
from fastmnist.layers.registry import kind_of
from fastmnist.measuring.sqnr import sqnr
from fastmnist.pixels import PixelNormalization
from fastmnist.rewriting.copies import throwaway_copy
from fastmnist.rewriting.graph import Graph, Traces
from fastmnist.rewriting.steps import CONSTANT

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
    def of(cls, example: Any, pixels: PixelNormalization | None) -> Rows:
        """Read an `example` argument: a tensor or array, a tuple of arguments, or keywords."""
        example = as_input(example, pixels)
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


def check_same_steps(
    before: Mapping[str, Graph], result: nn.Module, *, sizes_change: bool = False
) -> None:
    """Raise ValueError where the result's forward does other things than the original's.

    `before` are the ways of the original. With `sizes_change`, integers among the arguments may
    differ.
    """
    after = Traces.of(result).ways if before else {}
    for name, was in before.items():
        if is_known_linear(was.root) or kind_of(was.root) is not None:
            return  # of a single layer, forward is the layer's own
        if name not in after:
            raise _differs("could be traced, and no longer can")
        _check_way(was, after[name], sizes_change)


def _check_way(before: Graph, after: Graph, sizes_change: bool) -> None:
    pairs = zip(_calls(before, sizes_change), _calls(after, sizes_change), strict=False)
    for (was, name), (now, other) in pairs:
        if was != now:
            what = f"calls '{name}', and now '{other}'"
            raise _differs(what if name != other else f"calls '{name}' with {was[2]}, now {now[2]}")
    was_many, now_many = (len(_calls(graph, sizes_change)) for graph in (before, after))
    if was_many != now_many:
        raise _differs(f"makes {was_many} steps, and now {now_many}")


def traces_are_alike(model: nn.Module) -> bool:
    """Whether forward does the same each time: some draw lots (layer drop), or read the clock."""
    first, second = Traces.of(model).ways, Traces.of(model).ways
    return all(
        name not in second or _calls(graph, False) == _calls(second[name], False)
        for name, graph in first.items()
    )


def _differs(what: str) -> ValueError:
    return ValueError(
        f"model: expected a forward that does the same with the layers put into it, got one that "
        f"asks what its layers are (as type(layer) is nn.Linear does): where it {what}; let "
        "isinstance(layer, nn.Linear) decide, or leave such layers as they are with exclude="
    )


def _calls(graph: Graph, sizes_change: bool) -> list[tuple[tuple[Any, ...], str]]:
    """What is called, and with what; a layer in two parts counts as the one that it stands for."""
    whole = [step for step in graph.steps if not step.is_first_part]
    position = {step.node: f"step {i}" for i, step in enumerate(whole)}
    for step in graph.steps:
        if step.is_first_part:  # what the second part reads is what the first one does
            position[step.node] = position[step.inputs[0].node]

    def plain(value: Any) -> Any:
        """An argument as something that can be compared."""
        if isinstance(value, fx.Node):
            return position[value]
        if isinstance(value, list | tuple):
            return [plain(part) for part in value]
        if isinstance(value, dict):
            return {str(key): plain(part) for key, part in value.items()}
        if isinstance(value, slice):
            return [plain(part) for part in (value.start, value.stop, value.step)]
        if isinstance(value, bool | float | str | None):
            return repr(value)
        if isinstance(value, int) and not sizes_change:
            return repr(value)
        return type(value).__name__  # a dtype or device may be that of other parameters

    calls = []
    for step in whole:
        node = step.node
        # A masked weight is a value that is computed, and has another name.
        target = "" if node.op == "get_attr" else str(node.target)
        target = target if step.whole is None else step.whole
        constant = node.meta.get(CONSTANT)
        known = (
            [constant.tolist()] if isinstance(constant, Tensor) and constant.numel() < 64 else []
        )
        called = (node.op, target, [plain(node.args), plain(node.kwargs), *known])
        calls.append((called, step.name))
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
) -> bool:
    """Run both on the same rows; raise, or warn, where they are too far apart.

    Returns whether there was anything to compare.

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
    got, seen = _run(throwaway_copy(result).eval(), rows, must_be_called)
    never = [name for name in must_be_called if name not in seen]
    if never:
        raise ValueError(
            f"{rows.name}: expected rows that reach every layer, got some on which '{never[0]}' "
            "was never called: give rows that reach it, call the layer instead of reading its "
            f"weight, or leave it in float with exclude=['{never[0]}']"
        )
    if [*map(_shape, want)] != [*map(_shape, got)]:
        raise ValueError(
            f"model: expected outputs of shapes {[*map(_shape, want)]}, as the original gives, got "
            f"{[*map(_shape, got)]}: report this model, and leave layers as they are with exclude="
        )
    decibels = _similarity(want, got)
    if decibels is None or decibels >= floor:
        return decibels is not None
    text = (
        f"outputs differ more than expected: {decibels:.1f} dB between signal and noise on "
        f"{rows.name}, expected at least {floor:g}: {worst_layer()}"
    )
    if is_error:
        raise ValueError(f"check: {text}")
    warnings.warn(text, UserWarning, stacklevel=callers_level())
    return True


def _run(
    model: nn.Module, rows: Rows, watched: Collection[str]
) -> tuple[list[Tensor], dict[str, Any]]:
    """Outputs, and what each of the watched layers gave when it first ran."""
    seen: dict[str, Any] = {}

    def note_first(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            seen.setdefault(name, output)

        return hook

    handles = [
        model.get_submodule(name).register_forward_hook(note_first(name)) for name in watched
    ]
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # a forward that draws numbers draws the same ones
            args, kwargs = tree_map(Tensor.clone, (rows.args, rows.kwargs))
            outputs = model(*args, **kwargs)
    except (RuntimeError, TypeError, AttributeError, LookupError) as error:
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
    return found, seen


def _described(value: Any) -> str:
    return f"{value.dtype} {[*value.shape]}" if hasattr(value, "shape") else type(value).__name__


def _shape(tensor: Tensor) -> list[int]:
    return [*tensor.shape]


def _similarity(want: list[Tensor], got: list[Tensor]) -> float | None:
    """dB over all outputs that are floats; None where nothing can be said."""
    pairs = [
        (a.detach().double().flatten(), b.detach().double().flatten())
        for a, b in zip(want, got, strict=True)
        if a.is_floating_point() and b.is_floating_point() and not (a.is_nested or b.is_nested)
    ]
    if not pairs:
        return None
    one, other = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    usable = torch.isfinite(one)
    one, other = one[usable], other[usable]
    if not one.numel() or float(one.square().sum()) == 0:
        return None if one.numel() == 0 or float(other.square().sum()) == 0 else -math.inf
    return sqnr(one, other)


def worst_of(reference: nn.Module, result: nn.Module, rows: Rows, names: Collection[str]) -> str:
    """In words, which of the layers gives values furthest from those of the reference's.

    `reference` is a float model with the same values at the same paths (a fused one).
    """
    _, want = _run(reference, rows, names)
    _, got = _run(throwaway_copy(result).eval(), rows, names)
    shared = [n for n in want if n in got and isinstance(want[n], Tensor)]
    if not shared:
        return "no layer could be told apart; leave some as they are with exclude="
    similar = {n: _similarity([want[n]], [got[n]]) for n in shared}
    quality = {n: math.inf if s is None else s for n, s in similar.items()}
    name = min(quality, key=lambda n: quality[n])
    return (
        f"layer '{name}' is furthest off, {quality[name]:.1f} dB: leave it as it is with "
        f"exclude=['{name}'], or calibrate on rows like these"
    )
