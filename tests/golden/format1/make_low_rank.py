"""Made the low-rank files of this folder, once, as ``make.py`` made others. Not run any more."""

from __future__ import annotations

import sys

import torch
from make import HERE, X, residual
from nets import mlp, seeded
from safetensors.torch import save_file
from torch import nn

import fastmnist as fm


def low_rank(model: nn.Module, **options) -> nn.Module:
    return fm.factorize(model, fm.LowRank(ratio=0.7), X, **options)


KINDS = {
    "chain-low-rank-float": lambda: low_rank(mlp()),
    "chain-low-rank-static": lambda: fm.quantize(low_rank(mlp()), fm.Static(X)),
    "chain-low-rank-dynamic": lambda: fm.quantize(low_rank(mlp()), fm.Dynamic()),
    "module-low-rank-float": lambda: low_rank(residual()),
    "module-low-rank-static": lambda: fm.quantize(
        low_rank(residual(), exclude="last"), fm.Static(X)
    ),
    "pruned-low-rank-float": lambda: fm.prune(low_rank(mlp()), fm.L1Unstructured(0.5)),
    "root-low-rank-float": lambda: low_rank(seeded(lambda: nn.Linear(12, 9))),
    "root-low-rank-static": lambda: fm.quantize(
        low_rank(seeded(lambda: nn.Linear(12, 9))), fm.Static(X)
    ),
}


def main() -> None:
    for kind, make in KINDS.items():
        model = make()
        fm.save(HERE / f"{kind}.safetensors", model)
        with torch.no_grad():
            kept = {"rows": X, "outputs": model(X).clone()}
        save_file(kept, HERE / f"{kind}.rows.safetensors")


if __name__ == "__main__":
    sys.exit(main())
