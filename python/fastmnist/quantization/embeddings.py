"""Weight-only quantization of Embedding and EmbeddingBag, as a transform."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import nn

from fastmnist.layers.embedding import QuantizedEmbedding, QuantizedEmbeddingBag
from fastmnist.rewriting.changes import LEFT, Change
from fastmnist.rewriting.graph import Graph
from fastmnist.rewriting.masks import make_permanent
from fastmnist.rewriting.selection import named_layers
from fastmnist.rewriting.swapping import freeze, put
from fastmnist.rewriting.transform import Transform


class WeightOnlyEmbeddings(Transform):
    """Rows as codes of 8 or 4 bits; what is looked up is float, as before.

    Parameters
    ----------
    bits : {8, 4}
    """

    def __init__(self, bits: int) -> None:
        self._bits = bits

    def find(self, root: nn.Module) -> dict[str, nn.Module]:
        make_permanent(root)
        return {name: m for name, m in named_layers(root) if _is_known(m)}

    def apply(
        self, root: nn.Module, names: Collection[str], why: str
    ) -> tuple[nn.Module, list[Change]]:
        make_permanent(root)
        graph, why_not = Graph.of(root)
        done = []
        for name in names:
            layer = root.get_submodule(name)
            if layer.max_norm is not None:
                done.append(Change(name, LEFT, why="max_norm changes its weight at every call"))
                continue
            if graph is not None and id(layer) in graph.read:
                done.append(Change(name, LEFT, why="forward reads its weight itself"))
                continue
            made: nn.Module
            if isinstance(layer, nn.EmbeddingBag):
                made = QuantizedEmbeddingBag.of(layer, name, self._bits)
            else:
                assert isinstance(layer, nn.Embedding)
                made = QuantizedEmbedding.of(layer, name, self._bits)
            root = put(root, name, made)
            done.append(Change(name, f"int{self._bits} weights", why=why_not))
        return freeze(root), done


def _is_known(module: nn.Module) -> bool:
    """Whether it is one of torch's own, with weights in float."""
    kinds = (nn.Embedding, nn.EmbeddingBag)
    return (
        type(module) in kinds
        and "forward" not in vars(module)
        and isinstance(module.weight, torch.Tensor)
    )
