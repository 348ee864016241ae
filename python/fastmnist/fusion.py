"""Fuse Linear, BatchNorm1d and ReLU into one layer; drop what does nothing at inference."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx, nn

from fastmnist.applied import DROPPED, Change, record
from fastmnist.calls import Identity
from fastmnist.canonical import NO_CLAMP, compose
from fastmnist.copies import bake, has_hooks, plain_copy
from fastmnist.graph import DROPOUTS, Clamp, Graph, function_clamp, is_linear, module_clamp
from fastmnist.modules import FusedLinear


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

    Examples
    --------
    >>> import fastmnist as fm
    >>> fm.fuse(fm.NeuralNetwork()).linear1
    FusedLinear(in_features=784, out_features=96, bias=True, activation=ReLU)
    """
    fused = plain_copy(model)
    done = fuse_in_place(fused)
    record(fused, done)
    return fused


def fuse_in_place(root: nn.Module) -> list[Change]:
    """Fuse a plain copy (:func:`~fastmnist.copies.plain_copy`); return what was done."""
    bake(root)
    graph, _ = Graph.of(root)
    if graph is None:
        return []
    done: list[Change] = []
    with torch.no_grad():
        for node in graph.nodes:
            module = graph.module(node)
            if isinstance(module, nn.BatchNorm1d):
                done += _fold_into_next(graph, node)
            elif is_linear(module) and graph.is_private(node):
                done += _fuse_linear(graph, node)
        done += _drop_dropouts(graph)
    return done


def _fuse_linear(graph: Graph, node: fx.Node) -> list[Change]:
    """Absorb what follows one Linear: BatchNorm1d, then activations."""
    name = str(node.target)
    done: list[Change] = []
    clamp: Clamp = NO_CLAMP
    at = node
    while (user := graph.next_layer(at)) is not None:
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
            _replace(graph, node, clamp)
            return done
        elif (
            clamp == NO_CLAMP
            and isinstance(linear, nn.Linear)
            and isinstance(module, nn.BatchNorm1d)
            and graph.is_private(user)
            and _foldable(module, linear.out_features)
        ):
            _fold_before(graph, node, module)
            graph.replace(user, Identity())
        else:
            break
        done.append(Change(name, f"fused with {user.target}"))
        at = user
    if clamp != NO_CLAMP:
        _replace(graph, node, clamp)
    return done


def _replace(graph: Graph, node: fx.Node, clamp: Clamp) -> FusedLinear:
    linear = graph.module(node)
    assert isinstance(linear, nn.Linear)
    if isinstance(linear, FusedLinear):
        linear.clamp = compose(linear.clamp, clamp)
        return linear
    fused = FusedLinear.of(linear, clamp)
    graph.replace(node, fused)
    return fused


def _foldable(norm: nn.BatchNorm1d, features: int) -> bool:
    return norm.num_features == features and norm.running_mean is not None


def _affine(norm: nn.BatchNorm1d) -> tuple[torch.Tensor, torch.Tensor]:
    """Gain and shift of a BatchNorm in eval mode, float64: ``y = x * gain + shift``."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    gain = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        gain = gain * norm.weight.double()
    shift = -norm.running_mean.double() * gain
    if norm.bias is not None:
        shift = shift + norm.bias.double()
    return gain, shift


def _fold_before(graph: Graph, node: fx.Node, norm: nn.BatchNorm1d) -> None:
    """BatchNorm after the Linear: scale its rows."""
    fused = _replace(graph, node, NO_CLAMP)
    gain, shift = _affine(norm)
    fused.weight = nn.Parameter((fused.weight.double() * gain[:, None]).float())
    fused.bias = nn.Parameter((fused.bias.double() * gain + shift).float())


def _fold_into_next(graph: Graph, node: fx.Node) -> list[Change]:
    """BatchNorm at the input or past an activation: scale the columns of the Linear after it."""
    norm = graph.module(node)
    assert isinstance(norm, nn.BatchNorm1d)
    user = graph.next_layer(node)
    linear = graph.module(user)
    if user is None or not isinstance(linear, nn.Linear) or not is_linear(linear):
        return []
    if not (graph.is_private(node) and graph.is_private(user)):
        return []
    if not _foldable(norm, linear.in_features):
        return []
    gain, shift = _affine(norm)
    fused = _replace(graph, user, NO_CLAMP)
    weight = fused.weight.double()
    fused.weight = nn.Parameter((weight * gain).float())
    fused.bias = nn.Parameter((fused.bias.double() + weight @ shift).float())
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
