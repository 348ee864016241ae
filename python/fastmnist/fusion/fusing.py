"""Fuse Linear, BatchNorm1d and ReLU into one layer; drop what does nothing at inference."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from fastmnist.int8.network import NO_CLAMP, compose
from fastmnist.layers.batchnorm import (
    LEAST_BY_ROW,
    decibels_by_row,
    fold_after,
    fold_before,
    is_foldable,
    zeros_for,
)
from fastmnist.layers.fused import FusedLinear
from fastmnist.layers.linear import is_known_linear
from fastmnist.layers.own_forward import has_own_forward
from fastmnist.layers.quiet import Identity
from fastmnist.rewriting.changes import DROPPED, FUSED, Change
from fastmnist.rewriting.graph import Graph
from fastmnist.rewriting.hooks import has_hooks
from fastmnist.rewriting.masks import make_permanent
from fastmnist.rewriting.mentions import run_in_several_places
from fastmnist.rewriting.selection import Names, check_not_prepared, named_layers
from fastmnist.rewriting.steps import DROPOUTS, Clamp, Kind, Step
from fastmnist.rewriting.swapping import swap
from fastmnist.rewriting.transform import Transform, transformed

FLOOR = 80.0  # dB: what rounding float32 in another order costs, with much room


def fuse(
    model: Any,
    *,
    include: Names = None,
    exclude: Names = None,
    inplace: bool = False,
    example: Any = None,
    check: float | None = None,
) -> nn.Module:
    """Return a copy with every Linear(+BatchNorm1d)(+activation) fused into one float layer.

    Activations that clamp (ReLU, ReLU6, Hardtanh) become the layer's bounds, functional ones too; a
    BatchNorm1d folds into the Linear before it or, after an activation or at the input, into the
    Linear after it; Dropout is removed. The Linear keeps its path and now outputs the value after
    the activation; ``Identity`` replaces the others. Modules with a hook, or with a second consumer
    of their output, stay separate. A model with nothing to fuse is returned as a plain copy.

    Parameters
    ----------
    model : torch.nn.Module
        Any model; everything but chains of such layers stays unchanged. BatchNorm1d is assumed to
        normalize features, ``[N, features]``.
    include, exclude : str, type, or sequence of them
        Which Linear layers: by name, glob pattern or type, of the layer or of a module that
        contains it. Default: all.
    inplace : bool
        Change `model` itself, and return it: float32 on the CPU, in eval mode.
    example : tensor, tuple of arguments, or dict of keywords, optional
        Rows to run the model on: the outputs of original and result are compared.
    check : float, optional
        Minimum signal-to-noise ratio, in dB, of the result's outputs on `example`; a lower one is
        an error. Default: warn below 80.

    Returns
    -------
    torch.nn.Module
        Of the same class, float32 on the CPU, in eval mode. `model` is left unchanged.

    Raises
    ------
    TypeError
        If `model` is not a module or cannot be deep-copied.
    ValueError
        If it is prepared for quantization, and thus already fused; if its forward behaves
        differently with fused layers; or if `check` fails.

    Examples
    --------
    >>> import fastmnist as fm
    >>> fm.fuse(fm.NeuralNetwork()).linear1
    FusedLinear(in_features=784, out_features=96, bias=True, activation=ReLU)
    """
    how = _Fusion()
    return transformed(
        model,
        how,
        include=include,
        exclude=exclude,
        inplace=inplace,
        example=example,
        check=check,
    )


def fuse_closed(model: Any, example: Any = None) -> nn.Module:
    """As :func:`fuse`, but for a result that is entered at its beginning only, as what is compiled:
    what lies in different containers is joined, too."""
    how = _Fusion()
    how.is_closed = True
    return transformed(model, how, example=example)


class _Fusion(Transform):
    """What :func:`fuse` does."""

    floor = FLOOR
    is_closed = False

    def find(self, root: nn.Module) -> dict[str, nn.Module]:
        check_not_prepared(root)
        make_permanent(root)
        return {name: m for name, m in named_layers(root) if is_known_linear(m)}

    def apply(
        self, root: nn.Module, names: Collection[str], why: str
    ) -> tuple[nn.Module, list[Change]]:
        done = fuse_in_place(
            root, only=names, anywhere=self.is_closed, norms_apart=self.norms_apart
        )
        return root, done


def fuse_in_place(
    root: nn.Module,
    *,
    live: bool = False,
    only: Collection[str] | None = None,
    anywhere: bool = False,
    norms_apart: Collection[str] = (),
    by_row: Collection[str] | None = (),
) -> list[Change]:
    """Fuse a model itself, and return what was done.

    With `live` the model stays trainable, with the same parameters: a BatchNorm1d moves into the
    FusedLinear instead of being folded, masks stay, and so do dropouts. `only` names the Linear
    layers that may take anything in; None stands for all. `anywhere` joins what lies in different
    containers, too: right for a model that has one way in and one way out. `norms_apart` names
    the layers that no norm goes into, as rows have shown that it normalizes another dimension.
    `by_row` names layers, None for all, that will have one scale a row: a norm that levels the
    columns of the model's input for them stays before them, where that matters or may come to.
    """
    make_permanent(root, keep_masks=live)
    for fused in [*root.modules()] if not live else ():
        if isinstance(fused, FusedLinear):
            fused.fold_norms()
    graph, _ = Graph.of(root)
    if graph is None:
        return []
    if not anywhere:  # with a single entry point, only forward runs it
        graph = replace(graph, read=graph.read | run_in_several_places(root))
    done: list[Change] = []
    with torch.no_grad():
        for step in graph.steps:
            if step.kind is Kind.NORM:
                if not _levels_rows(graph, step, by_row, live):
                    done += _fold_into_next(graph, step, live, only, anywhere, norms_apart)
            elif step.kind is Kind.LINEAR and graph.is_private(step) and _may(step, only):
                done += _fuse_linear(graph, step, live, anywhere, norms_apart)
        if not live:
            done += _drop_dropouts(graph)
    return done


def _may(step: Step, only: Collection[str] | None) -> bool:
    return only is None or step.path in only


def _levels_rows(graph: Graph, step: Step, by_row: Collection[str] | None, live: bool) -> bool:
    """Whether a norm makes columns alike for a layer that has one scale a row."""
    user = graph.next_layer(step, past_dropouts=True, anywhere=True)
    if user is None or not graph.is_input(step):
        return False
    if by_row is not None and user.path not in by_row:
        return False
    norm, linear = step.module, user.module
    if live or not (isinstance(norm, nn.BatchNorm1d) and is_known_linear(linear)):
        return True
    foldable = is_foldable(norm, linear.in_features)
    return foldable and decibels_by_row(norm, linear.weight) < LEAST_BY_ROW


def _fuse_linear(
    graph: Graph, step: Step, live: bool, anywhere: bool, norms_apart: Collection[str]
) -> list[Change]:
    """Absorb what follows one Linear: BatchNorm1d, then activations."""
    done: list[Change] = []
    layer = step.module
    # The last operation of a layer that is already fused: nothing folds past it.
    clamp: Clamp = layer.clamp if isinstance(layer, FusedLinear) else NO_CLAMP
    at = step

    def next_layer(at: Step) -> Step | None:
        return graph.next_layer(at, past_dropouts=not live, anywhere=anywhere)

    while (user := next_layer(at)) is not None:
        linear, module = step.module, user.module
        if user.clamp is not None and graph.is_private(user):
            clamp = compose(clamp, user.clamp)
            graph.replace(user, Identity())
        elif user.clamp is not None and not user.is_watched:
            # The function stays in forward (or the module is shared): applying it twice changes
            # nothing, and nothing beyond it can be absorbed.
            _fused(step, compose(clamp, user.clamp))
            return [*done, Change(step.path, FUSED, after="a functional activation")]
        elif (
            clamp == NO_CLAMP
            and step.path not in norms_apart
            and isinstance(module, nn.BatchNorm1d)
            and user.kind is Kind.NORM
            and graph.is_private(user)
            and is_known_linear(linear)
            and is_foldable(module, linear.out_features)
            and not (isinstance(linear, FusedLinear) and linear.norm_after is not None)
        ):
            graph.replace(user, Identity())  # first: the layer may keep the norm, as its own
            _take_norm_after(_takes_norm(step), module, live)
        else:
            break
        done.append(Change(step.path, FUSED, after=str(user.node.target)))
        at = user
    if clamp != NO_CLAMP:
        _fused(step, clamp)
    return done


def _fused(step: Step, clamp: Clamp) -> FusedLinear:
    linear = step.module
    assert is_known_linear(linear)
    if isinstance(linear, FusedLinear):
        linear.clamp = compose(linear.clamp, clamp)
        return linear
    return FusedLinear.of(linear, clamp)


def _takes_norm(step: Step) -> FusedLinear:
    """A Linear that a BatchNorm1d goes into; from then on it refuses what is no row of features."""
    fused = _fused(step, NO_CLAMP)
    fused.follows_norm, fused.name = True, step.path
    return fused


def _give_bias(fused: FusedLinear) -> None:
    if fused.bias is None:
        fused.bias = nn.Parameter(zeros_for(fused.weight))


def _take_norm_after(fused: FusedLinear, norm: nn.BatchNorm1d, live: bool) -> None:
    """BatchNorm after the Linear: it scales the rows."""
    if live:
        fused.norm_after = norm
        return
    _give_bias(fused)
    weight, bias = fold_after(fused.weight, fused.bias, norm)
    fused.weight, fused.bias = nn.Parameter(weight), nn.Parameter(bias)


def _fold_into_next(
    graph: Graph,
    step: Step,
    live: bool,
    only: Collection[str] | None,
    anywhere: bool,
    norms_apart: Collection[str],
) -> list[Change]:
    """BatchNorm at the input or past an activation: it scales columns of the Linear after it."""
    norm = step.module
    user = graph.next_layer(step, past_dropouts=not live, anywhere=anywhere)
    if user is None or user.kind is not Kind.LINEAR or not _may(user, only):
        return []
    linear = user.module
    assert isinstance(norm, nn.BatchNorm1d)
    assert is_known_linear(linear)
    if not (graph.is_private(step) and graph.is_private(user)) or user.path in norms_apart:
        return []
    if not is_foldable(norm, linear.in_features):
        return []
    if live and isinstance(linear, FusedLinear) and linear.norm_before is not None:
        return []
    graph.replace(step, Identity())
    fused = _takes_norm(user)
    if live:
        fused.norm_before = norm
    else:
        _give_bias(fused)
        weight, bias = fold_before(fused.weight, fused.bias, norm)
        fused.weight, fused.bias = nn.Parameter(weight), nn.Parameter(bias)
    fused.columns_differ = graph.is_input(step)
    return [Change(user.path, FUSED, after=str(step.node.target))]


def _drop_dropouts(graph: Graph) -> list[Change]:
    """Only those that forward is seen to call: it may read the attributes of others."""
    done = []
    for name, module in [*graph.root.named_modules(remove_duplicate=False)]:
        called = graph.calls[id(module)] > 0 and id(module) not in graph.read
        is_plain = type(module) in DROPOUTS and not has_own_forward(module)
        if is_plain and called and not has_hooks(module):
            swap(graph.root, name, Identity().eval())
            done.append(Change(name, DROPPED))
    return done
