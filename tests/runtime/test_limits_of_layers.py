"""Shares of a limit: never above 100 %, whatever probes told on a busy machine."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn

import fastmnist as fm
from fastmnist.int8.network import QuantizedLayer
from fastmnist.runtime.limits import Limits
from fastmnist.runtime.planning import ROWS


@dataclass(frozen=True)
class Kernel:
    """As the native one looks."""

    loop: str = ""
    form: str = "dense"
    is_sparse: bool = False


def layer(outputs: int, inputs: int, zeros: float | None = None) -> QuantizedLayer:
    seen = None if zeros is None else np.full(inputs, round(51 * zeros), np.uint8)
    ones, weight = np.ones(outputs, np.float32), np.ones((outputs, inputs), np.int8)
    return QuantizedLayer("one", weight, ones, ones, input_zeros=seen)


def limits() -> Limits:
    reads = {"l1": 200e9, "l2": 100e9, "l3": 20e9}
    return Limits(1e12, reads, {"l1": 48e3, "l2": 2e6, "l3": 30e6})


def test_weights_are_read_from_the_level_that_holds_them() -> None:
    known = limits()
    levels = [known.work(layer(n, n), 0.0, 1, Kernel()).level for n in (100, 1000, 4000)]
    assert levels == ["l1", "l2", "l3"]
    small = known.work(layer(100, 100), 0.0, 1, Kernel())
    assert known.least(small) == pytest.approx(10_000 / 200e9 * 1e6)
    many = known.work(layer(100, 100), 0.0, 96, Kernel())
    assert known.least(many) == pytest.approx(96 * 10_000 / 1e12 * 1e6)


def test_what_is_left_out_does_not_count() -> None:
    known, one = limits(), layer(100, 100, zeros=1 / 3)
    whole = known.work(one, 0.75, 1, Kernel())
    assert (whole.products, whole.bytes, whole.is_whole) == (10_000, 10_000, True)
    live = known.work(one, 0.75, 1, Kernel(loop="live"))
    assert live.products == pytest.approx(6_667, abs=1)
    assert not live.is_whole
    sparse = known.work(one, 0.75, 1, Kernel(is_sparse=True, form="sparse"))
    assert (sparse.products, sparse.bytes) == (2_500, 2_500 + 1_250)
    assert known.work(one, 0.0, 1, Kernel(form="nibbles")).bytes == 5_000


def test_a_kernel_faster_than_the_probes_raises_the_limit() -> None:
    """Of every size and level; a kernel that leaves work out says nothing of the machine."""
    for n in (100, 1000, 4000):
        known, one = limits(), layer(n, n)
        times = [{Kernel(): known.least(known.work(one, 0.0, r, Kernel())) / 3} for r in ROWS]
        known.learn(one, 0.0, times)
        for rows, found in zip(ROWS, times, strict=True):
            share = known.least(known.work(one, 0.0, rows, Kernel())) / found[Kernel()]
            assert 0.3 < share <= 1 + 1e-9
    known = limits()
    known.learn(layer(100, 100), 0.0, [{Kernel(loop="live"): 1e-6}] * len(ROWS))
    assert known == limits()


def test_a_nearer_level_is_no_slower() -> None:
    known = limits()
    known.learn(layer(4000, 4000), 0.0, [{Kernel(): 16e6 / 500e9 * 1e6}] + [{}] * (len(ROWS) - 1))
    assert known.reads == pytest.approx({"l1": 500e9, "l2": 500e9, "l3": 500e9})
    assert replace(known, products=0) != limits()


def test_a_narrow_terminal_has_the_key_columns_together() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(90, 30), nn.ReLU(), nn.Linear(30, 5))
    table = fm.compile(model, dynamic=True, plan="fixed").explain(rows=(1, 2000))
    stream = io.StringIO()
    Console(file=stream, width=80, color_system=None).print(table)
    lines = stream.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    heads = [line.split() for line in lines if line.startswith("layer ")]
    assert heads[0][:5] == ["layer", "shape", "rows", "kernel", "tile"]
    assert heads[0][5] == "µs"
    assert any(line.startswith("total") for line in lines)
