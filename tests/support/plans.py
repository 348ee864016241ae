"""For tests of plans: a small model whose layers may go by any kernel, and what is remembered."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import nn

import fastmnist as fm
from fastmnist import _core
from fastmnist.runtime.compiled import CompiledModel
from fastmnist.runtime.packing import pack


def model(*widths: int) -> nn.Module:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for i, (k, n) in enumerate(pairwise(widths)):
        layers += [nn.Linear(k, n), nn.ReLU()][: 2 if i < len(widths) - 2 else 1]
    return nn.Sequential(*layers)


PIXELS = np.random.default_rng(0).integers(0, 256, (700, 90), dtype=np.uint8)


def compiled(plan: str | None = None) -> CompiledModel:
    return fm.compile(model(90, 150, 70, 10), calibration=PIXELS[:64], plan=plan)


def entries(memory: Path) -> dict[str, list[int]]:
    """Read what the file holds of this machine."""
    first, *lines = memory.read_text(encoding="utf-8").splitlines()
    assert first == "fastmnist measurements 2"
    found: dict[str, list[int]] = {}
    machine = ""
    for line in lines:
        key, value = line.split("\t")
        if key == "machine":
            machine = value
        elif machine == _core.machine_name():
            found[key] = [int(number) for number in value.split(" ")]
    return found


def has_choice() -> bool:
    return len(_core.layer_kernels(pack(compiled("fixed").network), 0, 96)) > 1
