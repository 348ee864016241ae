"""Neurons removed for good: a layer, what normalizes it and what reads it become smaller."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn

from fastmnist.pruning.flow import Flow, follow, why_shared
from fastmnist.pruning.masks import AmountNow
from fastmnist.pruning.methods import Structured
from fastmnist.pruning.shrinking import move_constants, shrink
from fastmnist.pruning.targets import Target, check_prunable
from fastmnist.rewriting.changes import SHRUNK, Change
from fastmnist.rewriting.graph import Graph
from fastmnist.rewriting.steps import Kind
from fastmnist.training.finetuning import check_finite


class NeuronPruner:
    """Removes neurons of some layers, in one step or several.

    Every step ranks the neurons that are left by their weights as they are then; the widths to
    reach come from the widths before the first step.
    """

    def __init__(
        self,
        root: nn.Module,
        method: Structured,
        targets: list[Target],
        norms_apart: Collection[str] = (),
    ) -> None:
        self._root, self._method, self._norms_apart = root, method, norms_apart
        traced, why_not = Graph.of(root)
        if traced is None:
            raise ValueError(
                f"model: expected a forward that torch.fx can trace, got one that it cannot "
                f"({why_not}): Structured has to know what reads a layer's neurons; use "
                "L1Unstructured"
            )
        self._graph = traced
        followed = ((target, self._follow(target)) for target in targets)
        self._flows = [(target, flow) for target, flow in followed if flow is not None]
        if not self._flows:
            raise ValueError(
                "model: expected a Linear layer before the output layer, whose neurons are never "
                "removed, got none: use L1Unstructured"
            )
        self._widths = [flow.layer.out_features for _, flow in self._flows]
        # By name of a reader: which of its first columns no longer count.
        self._dropped: dict[str, list[Tensor]] = {}
        self._left = [torch.arange(width) for width in self._widths]
        for _, flow in self._flows:
            for reader, _ in flow.readers:
                check_prunable(self._name(reader), reader)
        if all(
            method.kept(width, target.amount) == width
            for (target, _), width in zip(self._flows, self._widths, strict=True)
        ):
            raise ValueError(
                f"method: expected an amount that removes neurons, got {method.amount}, which "
                f"removes none when widths {self._widths} are rounded to multiples of "
                f"{method.multiple_of}: use a smaller multiple_of"
            )

    def _name(self, module: nn.Module) -> str:
        names: dict[int, str] = {id(m): name for name, m in self._root.named_modules()}
        return names[id(module)]

    def _follow(self, target: Target) -> Flow | None:
        """Follow a layer's neurons; None for an output layer that nobody named."""
        if self._root is target.layer:
            calls = []
        else:
            calls = [
                step
                for step in self._graph.steps
                if step.module is target.layer and step.kind is Kind.LINEAR
            ]
        if not calls and self._root is not target.layer:
            raise _blocked(target, "it is not called as a plain torch.nn.Linear in forward")
        flows = [follow(self._graph, call) for call in calls]
        if not flows or any(flow.is_output for flow in flows):
            if target.explicit:
                raise ValueError(
                    f"include, amounts: expected layers before the output, got '{target.name}', "
                    "an output layer: its neurons are the model's outputs, which stay"
                )
            return None
        if why_not := why_shared(self._graph, calls[0]):
            raise _blocked(target, f"it {why_not}")
        if flows[0].norms and target.name in self._norms_apart:
            raise _blocked(
                target,
                "what it gives goes into a BatchNorm1d that normalizes another dimension of these "
                "rows",
            )
        if flows[0].blocked:
            raise _blocked(target, f"what it gives {flows[0].blocked}")
        return flows[0]

    def step(self, now: AmountNow) -> None:
        """Remove what this step asks for."""
        modes = [(module, module.training) for module in self._root.modules()]
        self._root.eval()  # a neuron's constant is that of inference
        try:
            with torch.no_grad():
                # Rank all before removing any: the result must not depend on the layers' order.
                ranks = [self._norms(flow) for _, flow in self._flows]
                for i, norms in enumerate(ranks):
                    target, flow = self._flows[i]
                    kept = self._method.kept(self._widths[i], now(target.amount))
                    if kept < len(norms):
                        self._shrink(i, flow, norms, kept)
        finally:
            for module, mode in modes:
                module.training = mode

    def _norms(self, flow: Flow) -> Tensor:
        norms: Tensor = torch.linalg.vector_norm(flow.layer.weight, ord=self._method.n, dim=1)
        return norms

    def _shrink(self, i: int, flow: Flow, norms: Tensor, kept: int) -> None:
        keep = torch.zeros(len(norms), dtype=torch.bool)
        keep[torch.topk(norms, kept).indices] = True
        moved = move_constants(flow, (norms == 0) & ~keep)
        rows = keep.nonzero().flatten()
        for reader, _ in flow.readers:
            gone = ~keep & ~moved[reader] if reader in moved else ~keep
            self._dropped.setdefault(self._name(reader), []).append(self._left[i][gone])
        self._left[i] = self._left[i][rows]
        shrink(flow, rows, self._flows[i][0].name)

    def blind(self, original: nn.Module) -> nn.Module:
        """Make a copy of the model before deaf to the neurons that were removed since."""
        with torch.no_grad():
            for name, columns in self._dropped.items():
                original.get_submodule(name).weight[:, torch.cat(columns)] = 0  # type: ignore[operator]
        return original

    def check_kept(self, root: nn.Module) -> None:
        """Raise RuntimeError if training replaced layers."""
        there = {id(module) for module in root.modules()}
        for target, flow in self._flows:
            if not {id(flow.layer), *(id(reader) for reader, _ in flow.readers)} <= there:
                raise RuntimeError(
                    f"finetune: expected to find '{target.name}' and the layers that read it as "
                    "they were, got others; finetune must train the model that it is given in place"
                )
            check_finite(target.name, flow.layer)

    def changes(self) -> list[Change]:
        """What became of each layer."""
        return [
            Change(target.name, SHRUNK, width, flow.layer.out_features)
            for (target, flow), width in zip(self._flows, self._widths, strict=True)
            if flow.layer.out_features < width
        ]


def _blocked(target: Target, why: str) -> ValueError:
    return ValueError(
        f"model: expected neurons that can be followed to the Linear layers that read them, got "
        f"'{target.name}': {why}; leave it whole with exclude=['{target.name}'], or use "
        "L1Unstructured"
    )
