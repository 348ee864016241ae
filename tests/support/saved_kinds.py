"""One model of every kind that can be saved, for the tests of files."""

from __future__ import annotations

import torch
from graph_models import Block
from models import Functional, randomize
from torch import nn

import fastmnist as fm

X = torch.randn(30, 12, generator=torch.Generator().manual_seed(6))
PIXELS = torch.randint(0, 256, (30, 12), generator=torch.Generator().manual_seed(7)).to(torch.uint8)


def mlp():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 4))


def table():
    return randomize(nn.Sequential(nn.BatchNorm1d(12), *mlp(), nn.BatchNorm1d(4)))


def graph():
    """A residual block with LayerNorm and GELU, and a clamp and a function at the end."""
    with torch.random.fork_rng():
        torch.manual_seed(2)
        layers = nn.Linear(12, 16), Block(16), nn.Linear(16, 4), nn.Hardtanh(), nn.Sigmoid()
        return nn.Sequential(*layers).eval()


KINDS = {
    "float": lambda: mlp().eval(),
    "batchnorm": table,
    "not affine": lambda: randomize(nn.Sequential(nn.BatchNorm1d(12, affine=False), *mlp())),
    "fused": lambda: fm.fuse(mlp()),
    "fused table": lambda: fm.fuse(table()),
    "pruned": lambda: fm.prune(mlp(), fm.L1Unstructured(0.5)),
    "clustered": lambda: fm.cluster(fm.prune(mlp(), fm.L1Unstructured(0.3)), fm.Clusters(6)),
    "clustered by channel": lambda: fm.cluster(mlp(), fm.Clusters(5, scope="channel")),
    "clustered static": lambda: fm.quantize(fm.cluster(mlp(), fm.Clusters(6)), fm.Static(X)),
    "four bits": lambda: fm.quantize(mlp(), fm.Static(X, weight_bits={"0": 4, "*": 3})),
    "low rank": lambda: fm.factorize(mlp(), fm.LowRank(ratio=0.7)),
    "low rank static": lambda: fm.quantize(
        fm.factorize(mlp(), fm.LowRank(ratio=0.7)), fm.Static(X)
    ),
    "static": lambda: fm.quantize(mlp(), fm.Static(X)),
    "affine": lambda: fm.quantize(table(), fm.Static(X)),
    "pixels": lambda: fm.quantize(mlp(), fm.Static(PIXELS, mean=0.3, std=0.4)),
    "dynamic": lambda: fm.quantize(mlp(), fm.Dynamic(mean=0.3, std=0.4)),
    "compiled static": lambda: fm.compile(mlp(), X),
    "compiled affine": lambda: fm.compile(table(), X),
    "compiled pixels": lambda: fm.compile(mlp(), PIXELS),
    "compiled dynamic": lambda: fm.compile(mlp(), dynamic=True, mean=0.1, std=0.2),
    "compiled graph": lambda: fm.compile(fm.quantize(graph(), fm.Static(X), exclude="2")),
    "compiled float": lambda: fm.compile(graph()),
    "functional": lambda: Functional().eval(),
    "functional static": lambda: fm.quantize(Functional(), fm.Static(X)),
    "root": lambda: fm.quantize(nn.Linear(12, 3), fm.Static(X)),
    "root float": lambda: nn.Linear(12, 3),
    "half weights": lambda: fm.quantize_dynamic(mlp(), {nn.Linear}, dtype=torch.float16),
    "partly": lambda: fm.quantize_dynamic(mlp(), {"0"}),
    "hardtanh": lambda: nn.Sequential(nn.Linear(12, 4), nn.Hardtanh(-0.2, 0.5), nn.ReLU6()),
}
