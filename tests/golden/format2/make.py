"""Makes the files of this folder; a kind is made once, and its files stay as they are.

``python make.py KIND`` writes ``<kind>.safetensors``, as ``fm.save`` does, and
``<kind>.rows.safetensors`` with the rows and what the model answered, as in ``format1/``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from nets import Skip
from safetensors.torch import save_file
from torch import nn

import fastmnist as fm

HERE = Path(__file__).parent
X = torch.randn(12, 36, generator=torch.Generator().manual_seed(6))
PIXELS = torch.randint(0, 256, (12, 36), generator=torch.Generator().manual_seed(7)).to(torch.uint8)


def few_values(zeros: float) -> nn.Module:
    """36-20-3, its first layer of 15 values, as 4-bit weights have, on images 6 x 6."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(36, 20), nn.ReLU(), nn.Linear(20, 3))
        codes = torch.randint(-7, 8, (20, 36))
        codes[torch.rand(20, 36) < zeros] = 0
        codes[:, 0] = 7
    model[0].weight.data = codes / 70
    model[0].bias.data = model[0].bias.data.bfloat16().float()
    return model


def skip() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(2)
        return Skip().eval()


KINDS = {
    "indexed-static": (False, lambda: fm.quantize(few_values(0.0), fm.Static(X))),
    "clustered-float": (False, lambda: fm.cluster(few_values(0.5), fm.Clusters(9, "channel"))),
    "clustered-static": (
        False,
        lambda: fm.quantize(fm.cluster(few_values(0.5), fm.Clusters(15)), fm.Static(X)),
    ),
    "compressed-clustered": (True, lambda: fm.cluster(few_values(0.6), fm.Clusters(12))),
    "four-bits-dynamic": (False, lambda: fm.quantize(few_values(0.1), fm.Dynamic(weight_bits=4))),
    "compressed-static": (True, lambda: fm.quantize(few_values(0.8), fm.Static(X))),
    "compressed-float": (True, lambda: fm.prune(few_values(0.0), fm.L1Unstructured(0.7))),
    "compressed-pixels": (
        True,
        lambda: fm.compile(
            fm.quantize(few_values(0.5), fm.Static(PIXELS, mean=0.3, std=0.4, per_channel=False))
        ),
    ),
    # With checksums, features and numbers that are aligned.
    "checked-static": (False, lambda: fm.quantize(few_values(0.0), fm.Static(X))),
    "checked-pixels": (False, lambda: fm.compile(few_values(0.6), PIXELS, mean=0.3, std=0.4)),
    "checked-float": (False, lambda: fm.prune(few_values(0.0), fm.L1Unstructured(0.7))),
    # Graphs, of compiled models and beside modules that are no chains.
    "graph-mixed": (False, lambda: fm.compile(fm.quantize(skip(), fm.Static(X), exclude="gate"))),
    "graph-float": (False, lambda: fm.compile(skip())),
    "compressed-graph": (True, lambda: fm.compile(fm.quantize(skip(), fm.Dynamic()))),
    "program-static": (False, lambda: fm.quantize(skip(), fm.Static(X))),
    "program-float": (False, skip),
    "compressed-program": (True, lambda: fm.quantize(skip(), fm.Static(X, weight_bits=4))),
    "compressed-dynamic": (True, lambda: fm.compile(few_values(0.5), dynamic=True)),
}


def main(kinds: list[str]) -> None:
    for kind in kinds:
        compress, make = KINDS[kind]
        model = make()
        fm.save(HERE / f"{kind}.safetensors", model, compress=compress)
        with torch.no_grad():
            kept = {"rows": X, "outputs": torch.as_tensor(model(X)).clone()}
            if "pixels" in kind:
                kept |= {"pixels": PIXELS, "pixel_outputs": torch.as_tensor(model(PIXELS)).clone()}
        save_file(kept, HERE / f"{kind}.rows.safetensors")


if __name__ == "__main__":
    main(sys.argv[1:])
