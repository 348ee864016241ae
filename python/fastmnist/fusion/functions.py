"""Activations beyond clamps put into the int8 layers before them; what stands apart runs natively.

A private activation module behind a private int8 layer becomes part of the layer, as ReLU does.
What cannot be part of one (behind an addition, say), and norms that cannot be folded, become
modules that run the same kernels as a compiled network (:mod:`fastmnist.layers.native`). Functions
that forward calls by itself stay torch's.
"""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from fastmnist.layers.functions import activation_of
from fastmnist.layers.native import make_native
from fastmnist.layers.quantized import QuantizedLinear
from fastmnist.layers.quiet import Identity
from fastmnist.rewriting.changes import FUSED, Change
from fastmnist.rewriting.graph import Graph
from fastmnist.rewriting.hooks import has_hooks
from fastmnist.rewriting.mentions import run_in_several_places
from fastmnist.rewriting.steps import Kind


def fuse_functions(root: nn.Module, *, anywhere: bool = False) -> list[Change]:
    """Change a quantized model itself; with `anywhere` across containers, too."""
    graph, _ = Graph.of(root)
    if graph is None or not any(step.kind is Kind.INT8 for step in graph.steps):
        return []
    whole = graph
    if not anywhere:
        graph = replace(graph, read=graph.read | run_in_several_places(root))
    done: list[Change] = []
    for step in graph.steps:
        if step.kind is not Kind.INT8 or not graph.is_private(step):
            continue
        user = graph.next_layer(step, past_dropouts=True, anywhere=anywhere)
        layer = step.module
        assert isinstance(layer, QuantizedLinear)
        function = activation_of(user.module) if user is not None else None
        if user is None or function is None or layer.function is not None:
            continue
        if graph.is_private(user):
            layer.take_function(function)
            path = user.path
            graph.replace(user, Identity())
            done.append(Change(step.path, FUSED, after=path))
    run_natively(whole)
    return done


def run_natively(graph: Graph) -> None:
    """Let activations and norms that a forward calls run our kernels, where those serve."""
    for step in graph.steps:
        if step.module is not None and not has_hooks(step.module):
            make_native(step.module)
