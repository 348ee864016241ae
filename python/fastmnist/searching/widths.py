"""A model's hidden widths, and a narrower one of the same class."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from fastmnist.layers.linear import is_float_linear
from fastmnist.pruning import Structured, prune
from fastmnist.pruning.flow import follow
from fastmnist.rewriting.copies import plain_copy
from fastmnist.rewriting.graph import Graph
from fastmnist.rewriting.steps import Kind


def hidden_widths(model: nn.Module) -> dict[str, int]:
    """How many neurons each hidden layer has whose number can be changed, in their order.

    Empty where the forward cannot be traced, or the neurons of no layer can be followed.
    """
    copied = plain_copy(model)
    graph, _ = Graph.of(copied)
    if graph is None:
        return {}
    names = {id(module): name for name, module in copied.named_modules()}
    calls: dict[int, int] = {}
    for step in graph.steps:
        calls[id(step.module)] = calls.get(id(step.module), 0) + 1
    found: dict[str, int] = {}
    for step in graph.steps:
        layer = step.module
        if step.kind is not Kind.LINEAR or not is_float_linear(layer) or calls[id(layer)] > 1:
            continue
        flow = follow(graph, step)
        if names.get(id(layer)) and not flow.is_output and not flow.blocked and flow.readers:
            found[names[id(layer)]] = layer.out_features
    return found


def narrowed(model: nn.Module, widths: Sequence[int], seed: int) -> nn.Module:
    """A model of the same class with these hidden widths, and new weights.

    Raises
    ------
    ValueError
        If the number of widths is another than that of the hidden layers, or one is wider.
    """
    now = hidden_widths(model)
    have = ", ".join(f"{name} ({width})" for name, width in now.items()) or "none"
    if len(widths) != len(now):
        raise ValueError(
            f"recipe: expected {len(now)} widths for distill(…), one for each hidden layer whose "
            f"neurons can be followed: {have}; got {len(widths)}"
        )
    for (name, width), wanted in zip(now.items(), widths, strict=True):
        if wanted > width:
            raise ValueError(
                f"recipe: expected at most {width} neurons of '{name}' in distill(…), as many as "
                f"it has, got {wanted}"
            )
    shares = {
        name: (width - wanted) / width
        for (name, width), wanted in zip(now.items(), widths, strict=True)
        if wanted < width
    }
    student = plain_copy(model)
    if shares:
        student = prune(student, Structured(0.5, multiple_of=1), include=[*shares], amounts=shares)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in student.modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset) and module is not student:
                reset()
    return student
