"""Fuse Linear, BatchNorm1d and ReLU into one layer; drop what does nothing at inference."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx, nn

from fastmnist.int8.network import NO_CLAMP, compose
from fastmnist.layers.batchnorm import fold_after, fold_before, is_foldable, zeros_for
from fastmnist.layers.fused import FusedLinear
from fastmnist.layers.quiet import Identity
from fastmnist.layers.simulated import SimulatedLinear
from fastmnist.rewriting.changes import DROPPED, Change, record
from fastmnist.rewriting.copies import plain_copy
from fastmnist.rewriting.graph import (
    DROPOUTS,
    Clamp,
    Graph,
    function_clamp,
    is_linear,
    module_clamp,
)
from fastmnist.rewriting.hooks import has_hooks
from fastmnist.rewriting.masks import bake


def fuse(model: Any) -> nn.Module:
    """Return a copy with every Linear(+BatchNorm1d)(+activation) as one float layer.

    Activations that are clamps (ReLU, ReLU6, Hardtanh) become the layer's bounds, functional ones
    too; a BatchNorm1d folds into the Linear before it or, past an activation or at the input,
    into the Linear after it; Dropout disappears. The first layer keeps its name, ``Identity``
    takes the others'. A model with nothing to fuse comes back as a plain copy.

    Parameters
    ----------
    model : torch.nn.Module
        Any model; what is no chain of such layers stays as it is. BatchNorm1d is taken to
        normalize features, ``[N, features]``.

    Returns
    -------
    torch.nn.Module
        Of the same class, float32 on the CPU, in eval mode. `model` is left as it was.

    Raises
    ------
    TypeError
        If `model` is no module or cannot be deep-copied.
    ValueError
        If it is prepared for quantization, and fused already.

    Examples
    --------
    >>> import fastmnist as fm
    >>> fm.fuse(fm.NeuralNetwork()).linear1
    FusedLinear(in_features=784, out_features=96, bias=True, activation=ReLU)
    """
    fused = plain_copy(model)
    if any(isinstance(module, SimulatedLinear) for module in fused.modules()):
        raise ValueError(
            "model: expected a float model, got one that is prepared: fm.convert finishes it"
        )
    done = fuse_in_place(fused)
    record(fused, done)
    return fused


def fuse_in_place(root: nn.Module, *, live: bool = False) -> list[Change]:
    """Fuse a model itself, and return what was done.

    With `live` the model stays trainable, with the same parameters: a BatchNorm1d moves into the
    FusedLinear instead of being folded, masks stay, and so do dropouts.
    """
    bake(root, keep_masks=live)
    for fused in [*root.modules()] if not live else ():
        if isinstance(fused, FusedLinear):
            fused.fold_norms()
    graph, _ = Graph.of(root)
    if graph is None:
        return []
    done: list[Change] = []
    with torch.no_grad():
        for node in graph.nodes:
            module = graph.module(node)
            if isinstance(module, nn.BatchNorm1d):
                done += _fold_into_next(graph, node, live)
            elif is_linear(module) and graph.is_private(node):
                done += _fuse_linear(graph, node, live)
        if not live:
            done += _drop_dropouts(graph)
    return done


def _fuse_linear(graph: Graph, node: fx.Node, live: bool) -> list[Change]:
    """Absorb what follows one Linear: BatchNorm1d, then activations."""
    name = str(node.target)
    done: list[Change] = []
    layer = graph.module(node)
    # What a layer that is fused already does last: nothing folds past that.
    clamp: Clamp = layer.clamp if isinstance(layer, FusedLinear) else NO_CLAMP
    at = node
    while (user := graph.next_layer(at, past_dropouts=not live)) is not None:
        linear = graph.module(node)
        module = graph.module(user)
        bounds = module_clamp(module)
        if bounds is not None and graph.is_private(user):
            clamp = compose(clamp, bounds)
            graph.replace(user, Identity())
        elif function_clamp(user) is not None or (bounds is not None and not _hooked(module)):
            # The function stays in forward (or the module is shared): applying it twice changes
            # nothing, and nothing beyond it can be absorbed.
            bounds = bounds or function_clamp(user)
            assert bounds is not None
            clamp = compose(clamp, bounds)
            done.append(Change(name, "fused with a functional activation"))
            _fused(graph, node, clamp, live)
            return done
        elif (
            clamp == NO_CLAMP
            and isinstance(linear, nn.Linear)
            and isinstance(module, nn.BatchNorm1d)
            and graph.is_private(user)
            and is_foldable(module, linear.out_features)
            and not (isinstance(linear, FusedLinear) and linear.norm_after is not None)
        ):
            _take_norm_after(_fused(graph, node, NO_CLAMP, live), module, live)
            graph.replace(user, Identity())
        else:
            break
        done.append(Change(name, f"fused with {user.target}"))
        at = user
    if clamp != NO_CLAMP:
        _fused(graph, node, clamp, live)
    return done


def _fused(graph: Graph, node: fx.Node, clamp: Clamp, live: bool) -> FusedLinear:
    linear = graph.module(node)
    assert isinstance(linear, nn.Linear)
    if isinstance(linear, FusedLinear):
        linear.clamp = compose(linear.clamp, clamp)
        fused = linear
    else:
        fused = FusedLinear.of(linear, clamp)
    if not live and fused.bias is None:
        fused.bias = nn.Parameter(zeros_for(fused.weight))
    return fused


def _take_norm_after(fused: FusedLinear, norm: nn.BatchNorm1d, live: bool) -> None:
    """BatchNorm after the Linear: it scales the rows."""
    fused.follows_norm = True
    if live:
        fused.norm_after = norm
        return
    weight, bias = fold_after(fused.weight, fused.bias, norm)
    fused.weight, fused.bias = nn.Parameter(weight), nn.Parameter(bias)


def _fold_into_next(graph: Graph, node: fx.Node, live: bool) -> list[Change]:
    """BatchNorm at the input or past an activation: it scales columns of the Linear after it."""
    norm = graph.module(node)
    assert isinstance(norm, nn.BatchNorm1d)
    user = graph.next_layer(node, past_dropouts=not live)
    linear = graph.module(user)
    if user is None or not isinstance(linear, nn.Linear) or not is_linear(linear):
        return []
    if not (graph.is_private(node) and graph.is_private(user)):
        return []
    if not is_foldable(norm, linear.in_features):
        return []
    fused = _fused(graph, user, NO_CLAMP, live)
    fused.follows_norm = True
    if live:
        if fused.norm_before is not None:
            return []
        fused.norm_before = norm
    else:
        weight, bias = fold_before(fused.weight, fused.bias, norm)
        fused.weight, fused.bias = nn.Parameter(weight), nn.Parameter(bias)
    fused.columns_differ = graph.is_input(node)
    graph.replace(node, Identity())
    return [Change(str(user.target), f"fused with {node.target}")]


def _drop_dropouts(graph: Graph) -> list[Change]:
    """Only those that forward is seen to call: it may read the attributes of others."""
    done = []
    for name, module in [*graph.root.named_modules(remove_duplicate=False)]:
        called = graph.calls[id(module)] > 0 and id(module) not in graph.read
        if type(module) in DROPOUTS and called and not has_hooks(module):
            graph.root.set_submodule(name, Identity().eval())
            done.append(Change(name, DROPPED))
    return done


def _hooked(module: nn.Module | None) -> bool:
    return module is not None and has_hooks(module)
