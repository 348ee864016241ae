"""Random rules about random nested models: the layers that torch.ao quantizes, and no others."""

from __future__ import annotations

import copy
import random

import pytest
import torch
from beside_torch import QUIET, quantized
from torch import nn

import fastmnist.ao as tq
from fastmnist.ao import quantize_fx as tfx

ao = pytest.importorskip("torch.ao.quantization")
afx = pytest.importorskip("torch.ao.quantization.quantize_fx")
pytestmark = [
    *QUIET,
    pytest.mark.filterwarnings("ignore:None of the submodule", "ignore:model. expected a layer"),
    pytest.mark.filterwarnings("ignore:QConfig must specify", "ignore:torch.quantize_per_tensor"),
]
X = torch.randn(16, 4, generator=torch.Generator().manual_seed(0))
SEEDS = 12


class Block(nn.Module):
    """A container of its own class."""

    def __init__(self, parts):
        super().__init__()
        for i, part in enumerate(parts):
            self.add_module(f"{'abcdef'[i]}{i}", part)

    def forward(self, x):
        for part in self.children():
            x = part(x)
        return x


def random_model(draw, depth=0):
    parts = []
    for _ in range(draw.randint(1, 3)):
        nests = depth < 2 and draw.random() < 0.4
        parts.append(random_model(draw, depth + 1) if nests else nn.Linear(4, 4))
        if draw.random() < 0.3:
            parts.append(nn.Tanh())
    return nn.Sequential(*parts) if draw.random() < 0.5 else Block(parts)


def mapped(draw, lib, model, names):
    """FX mode, by all five kinds of rules."""

    def qconfig():
        return draw.choice([None, lib.default_qconfig, lib.default_dynamic_qconfig])

    mapping = lib.QConfigMapping()
    if draw.random() < 0.7:
        mapping.set_global(qconfig())
    for _ in range(draw.randint(0, 2)):
        mapping.set_object_type(draw.choice([nn.Linear, nn.Tanh, nn.Sequential]), qconfig())
    for _ in range(draw.randint(0, 2)):
        pattern = draw.choice(["a.*", ".*0", "0", "b1", r".*\.1", "[ab]"])
        mapping.set_module_name_regex(pattern, qconfig())
    for _ in range(draw.randint(0, 2)):
        mapping.set_module_name(draw.choice(names), qconfig())
    for _ in range(draw.randint(0, 2)):
        where, index = draw.choice(["", *names]), draw.randint(0, 2)
        mapping.set_module_name_object_type_order(where, nn.Linear, index, qconfig())
    fx = tfx if lib is tq else afx
    prepared = fx.prepare_fx(model, mapping, (X,))
    prepared(X)
    return fx.convert_fx(prepared)


def attributed(draw, lib, model, names):
    """Eager mode, by attributes and propagate_qconfig_."""

    def qconfig():
        return draw.choice([None, lib.default_qconfig])

    for _ in range(draw.randint(0, 3)):
        model.get_submodule(draw.choice(["", *names])).qconfig = qconfig()
    if draw.random() < 0.5:
        keys = ["", *names, nn.Linear, nn.Sequential]
        lib.propagate_qconfig_(model, {draw.choice(keys): qconfig() for _ in range(2)})
    prepared = lib.prepare(model)
    if lib is tq:
        prepared(X)  # torch's layers, which stubs would lead to, convert unseen
    return lib.convert(prepared)


def specified(draw, lib, model, names):
    """quantize_dynamic, by attributes and a spec."""

    def qconfig():
        choices = [None, lib.default_dynamic_qconfig, lib.float16_dynamic_qconfig]
        return draw.choice(choices)

    for _ in range(draw.randint(0, 1)):
        model.get_submodule(draw.choice(names)).qconfig = qconfig()
    keys = ["", *names, nn.Linear, nn.Sequential, Block]
    return lib.quantize_dynamic(model, {draw.choice(keys): qconfig() for _ in range(3)})


@pytest.mark.filterwarnings("ignore:must run observer before")
@pytest.mark.parametrize("how", [mapped, attributed, specified])
@pytest.mark.parametrize("seed", range(SEEDS))
def test_the_same_layers(how, seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = random_model(random.Random(seed)).eval()
    names = [name for name, _ in model.named_modules() if name]
    found = [
        quantized(how(random.Random(seed + 1), lib, copy.deepcopy(model), names), lib)
        for lib in (ao, tq)
    ]
    assert found[0] == found[1]
