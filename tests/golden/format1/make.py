"""Made the files of this folder, once, with fastmnist of commit 24f06f5. Not run any more.

Each ``<kind>.safetensors`` is what ``fm.save`` wrote then; ``<kind>.rows.safetensors`` holds the
rows and what the model answered: ``rows`` and ``outputs``, and for models that take pixels
``pixels`` (uint8) and ``pixel_outputs``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from nets import Functional, Narrow, Recurrent, Residual, mlp, seeded, table
from safetensors.torch import save_file
from torch import nn

import fastmnist as fm

HERE = Path(__file__).parent
X = torch.randn(24, 12, generator=torch.Generator().manual_seed(6))
LONG = torch.randn(24, 36, generator=torch.Generator().manual_seed(8))
PIXELS = torch.randint(0, 256, (24, 12), generator=torch.Generator().manual_seed(7)).to(torch.uint8)


def trained_aware(config):
    prepared = fm.prepare_qat(mlp(), config).train()
    optimizer = torch.optim.SGD(prepared.parameters(), 0.05)
    for _ in range(8):
        optimizer.zero_grad()
        prepared(X).square().mean().backward()
        optimizer.step()
    return fm.convert(prepared)


def residual():
    return seeded(Residual)


KINDS = {
    "chain-float": lambda: mlp().eval(),
    "chain-fused": lambda: fm.fuse(mlp()),
    "chain-fused-table": lambda: fm.fuse(table()),
    "chain-static": lambda: fm.quantize(mlp(), fm.Static(X)),
    "chain-static-no-bias": lambda: fm.quantize(seeded(Functional), fm.Static(X)),
    "chain-static-per-tensor": lambda: fm.quantize(mlp(), fm.Static(X, per_channel=False)),
    "chain-partly": lambda: fm.quantize_dynamic(mlp(), {"0"}),
    "chain-pixels": lambda: fm.quantize(mlp(), fm.Static(PIXELS, mean=0.3, std=0.4)),
    "chain-plain-pixels": lambda: fm.quantize(mlp(), fm.Static(PIXELS)),
    "chain-pixels-3-channels": lambda: fm.quantize(
        mlp(), fm.Static(PIXELS, mean=(0.1, 0.2, 0.3), std=(0.2, 0.3, 0.4))
    ),
    "chain-affine": lambda: fm.quantize(table(), fm.Static(X)),
    "chain-dynamic": lambda: fm.quantize(mlp(), fm.Dynamic()),
    "chain-dynamic-pixels": lambda: fm.quantize(mlp(), fm.Dynamic(mean=0.3, std=0.4)),
    "root-static": lambda: fm.quantize(seeded(lambda: nn.Linear(12, 3)), fm.Static(X)),
    "root-float": lambda: seeded(lambda: nn.Linear(12, 3)),
    "module-static": lambda: fm.quantize(residual(), fm.Static(X)),
    "module-dynamic": lambda: fm.quantize(residual(), fm.Dynamic()),
    "module-float": lambda: residual().eval(),
    "module-partly": lambda: fm.quantize(residual(), fm.Static(X), exclude="second"),
    "pruned-float": lambda: fm.prune(mlp(), fm.L1Unstructured(0.8)),
    "pruned-static": lambda: fm.quantize(fm.prune(mlp(), fm.L1Unstructured(0.8)), fm.Static(X)),
    "structured": lambda: fm.prune(mlp(), fm.Structured(0.5, multiple_of=4)),
    "structured-module": lambda: fm.prune(
        seeded(Narrow).eval(), fm.Structured(0.5, multiple_of=4), include="a"
    ),
    "structured-module-static": lambda: fm.quantize(
        fm.prune(seeded(Narrow).eval(), fm.Structured(0.5, multiple_of=4), include="a"),
        fm.Static(X),
    ),
    "structured-static": lambda: fm.quantize(
        fm.prune(mlp(), fm.Structured(0.5, multiple_of=4)), fm.Static(X)
    ),
    "half-bfloat16": lambda: fm.quantize(mlp(), fm.Half()),
    "half-float16": lambda: fm.quantize(mlp(), fm.Half(torch.float16)),
    "half-recurrent": lambda: fm.quantize(seeded(Recurrent), fm.Half()),
    "recurrent-lstm": lambda: fm.quantize_dynamic(seeded(Recurrent)),
    "recurrent-gru": lambda: fm.quantize_dynamic(seeded(lambda: Recurrent(nn.GRU))),
    "qat": lambda: trained_aware(fm.QAT()),
    "qat-per-feature": lambda: trained_aware(fm.QAT(per_feature=True)),
    "compiled-static": lambda: fm.compile(mlp(), X),
    "compiled-affine": lambda: fm.compile(table(), X),
    "compiled-pixels": lambda: fm.compile(mlp(), PIXELS),
    "compiled-dynamic": lambda: fm.compile(mlp(), dynamic=True, mean=0.1, std=0.2),
    "compiled-pruned": lambda: fm.compile(fm.prune(mlp(), fm.L1Unstructured(0.8)), X),
    "hardtanh": lambda: fm.quantize(
        nn.Sequential(seeded(lambda: nn.Linear(12, 4)), nn.Hardtanh(-0.2, 0.5)), fm.Static(X)
    ),
}


def main() -> None:
    for kind, make in KINDS.items():
        model = make()
        fm.save(HERE / f"{kind}.safetensors", model)
        rows = LONG if "recurrent" in kind else X
        with torch.no_grad():
            kept = {"rows": rows, "outputs": torch.as_tensor(model(rows)).clone()}
            if "pixels" in kind or kind == "compiled-dynamic":
                kept |= {"pixels": PIXELS, "pixel_outputs": torch.as_tensor(model(PIXELS)).clone()}
        save_file(kept, HERE / f"{kind}.rows.safetensors")
    several = {"original": mlp().eval(), "int8": fm.quantize(mlp(), fm.Static(X))}
    fm.save(HERE / "several.safetensors", several)
    rows = {"rows": X, "original": several["original"](X).detach(), "int8": several["int8"](X)}
    save_file(rows, HERE / "several.rows.safetensors")


if __name__ == "__main__":
    sys.exit(main())
