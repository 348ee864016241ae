"""How often a layer's inputs are zero is seen when calibrating, travels, and is measured with."""

from __future__ import annotations

import copy
import io
import json
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import nn

import fastmnist as fm
from fastmnist import _core
from fastmnist.files.records import zeros_to_json
from fastmnist.int8.network import ZEROS_OF, QuantizedNetwork
from fastmnist.layers.quantized import QuantizedLinear
from fastmnist.ranges.observer import InputObserver
from fastmnist.ranges.rules import rule_of
from fastmnist.runtime.packing import pack

ROWS, SIZE = 300, 10


def pixels() -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Images with ink in the middle, none in two columns, and much in one."""
    rng = np.random.default_rng(0)
    share = np.abs(np.linspace(-1, 1, SIZE * SIZE))
    images = rng.integers(1, 256, (ROWS, SIZE * SIZE), dtype=np.uint8)
    images[rng.random(images.shape) < share] = 0
    images[:, 7] = 200
    images[:, [0, 3]] = 0
    return images


def float_model() -> nn.Sequential:
    torch.manual_seed(0)
    hidden = (nn.Linear(SIZE * SIZE, 40), nn.ReLU(), nn.Linear(40, 24), nn.ReLU())
    return nn.Sequential(*hidden, nn.Linear(24, 5)).eval()


def quantized(config: Any = None) -> Any:
    return fm.quantize(float_model(), config or fm.Static(calibration=pixels()))


def zeros_of(network: QuantizedNetwork) -> list[Any]:
    return [layer.input_zeros for layer in network.layers]


def same(a: list[Any], b: list[Any]) -> bool:
    return all(x is not None and np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("mean_std", [(0.0, 1.0), (0.13, 0.31)])
def test_zeros_are_counted_right(mean_std: tuple[float, float]) -> None:
    """Of pixels by their codes; of what follows a ReLU by its values, on the average."""
    images = pixels()
    mean, std = mean_std
    int8 = fm.quantize(float_model(), fm.Static(calibration=images, mean=mean, std=std))
    first, second, third = zeros_of(fm.compile(int8, plan="fixed").network)
    assert np.array_equal(first, np.rint(ZEROS_OF * (images == 0).mean(axis=0)))
    assert first[7] == 0
    assert first[0] == first[3] == ZEROS_OF
    model = float_model()
    x = (torch.from_numpy(images).float() / 255 - mean) / std
    with torch.no_grad():
        hidden = model[:2](x)
        later = model[:4](x)
    for zeros, values in ((second, hidden), (third, later)):
        lowest = values == values.amin(dim=0)
        share = float((lowest.double().mean(dim=0) * (values.amin(dim=0) == 0)).mean())
        assert {*zeros.tolist()} == {round(ZEROS_OF * share)}


def test_what_is_no_zero_is_not_recorded() -> None:
    """A code of 0 with a zero point stands for the smallest value; dynamic rows have any."""
    rows = np.random.default_rng(1).normal(size=(64, SIZE * SIZE)).astype(np.float32)
    static = fm.compile(float_model(), calibration=rows, plan="fixed")
    dynamic = fm.compile(float_model(), dynamic=True, plan="fixed")
    assert [zeros is None for zeros in zeros_of(static.network)] == [True, False, False]
    assert zeros_of(dynamic.network) == [None] * 3


def test_prepare_and_convert_see_them_too() -> None:
    """Also of table columns, whose zeros are codes of their smallest value."""
    images = torch.from_numpy(pixels()).float() / 255
    prepared = fm.prepare(float_model(), fm.Static(per_feature=True))
    for batch in images.split(64):
        prepared(batch)
    first = zeros_of(fm.compile(fm.convert(prepared), plan="fixed").network)[0]
    lowest = (images == images.amin(dim=0)).double().mean(dim=0)
    assert np.array_equal(first, np.rint(ZEROS_OF * lowest.numpy()))
    assert (first[[0, 3, 7]] == ZEROS_OF).all()


def test_the_order_of_the_batches_makes_no_difference() -> None:
    rng = np.random.default_rng(2)
    rows = rng.integers(-2, 3, (200, 9)).astype(np.float32)
    rows[:, 4] = np.arange(200, 0, -1)  # a new smallest value every time
    expected = (rows == rows.min(axis=0)).mean(axis=0)
    for batches in ([200], [1] * 200, [7, 100, 93]):
        observer = InputObserver(9, rule_of("minmax"))
        for batch in torch.from_numpy(rows).split(batches):
            observer.watch(batch, None)
        lowest, share = observer.lowest()
        assert np.array_equal(lowest, rows.min(axis=0))
        assert share is not None
        assert np.allclose(share, expected, rtol=0, atol=1e-12)


def test_it_is_in_no_state_dict() -> None:
    prepared = fm.prepare(float_model(), fm.Static())
    assert not [key for key in prepared.state_dict() if "lowest" in key]
    assert not [key for key in quantized().state_dict() if "zeros" in key]


def test_a_loaded_observer_forgets() -> None:
    observer = InputObserver(3, rule_of("minmax"))
    observer.watch(torch.zeros(4, 3), None)
    observer.load_state_dict(observer.state_dict())
    assert observer.lowest()[1] is None
    observer.watch(torch.tensor([[0.0, 1, 2], [0, 0, 0]]), None)
    share = observer.lowest()[1]
    assert share is not None
    assert share.tolist() == [1, 0.5, 0.5]


def test_it_travels(tmp_path: Path) -> None:
    int8 = quantized()
    net = fm.compile(int8, plan="fixed")
    expected = zeros_of(net.network)
    saved = io.BytesIO()
    torch.save(int8, saved)
    saved.seek(0)
    fm.save(tmp_path / "module.safetensors", int8)
    fm.save(tmp_path / "compiled.safetensors", net)
    modules = [
        copy.deepcopy(int8),
        pickle.loads(pickle.dumps(int8)),
        torch.load(saved, weights_only=False),
        fm.load(tmp_path / "module.safetensors"),
    ]
    networks = [fm.compile(module, plan="fixed").network for module in modules]
    compiled = [
        copy.deepcopy(net),
        pickle.loads(pickle.dumps(net)),
        fm.load(tmp_path / "compiled.safetensors"),
    ]
    for network in (*networks, *(model.network for model in compiled)):
        assert same(expected, zeros_of(network))
    images = pixels()
    for model in compiled:
        assert (model(images) == net(images)).all()


def test_older_pickles_and_files_know_nothing(tmp_path: Path) -> None:
    int8 = quantized()
    state = int8[0].__getstate__()
    del state["input_zeros"]
    older = QuantizedLinear.__new__(QuantizedLinear)
    older.__setstate__(state)
    assert older.input_zeros is None
    images = torch.from_numpy(pixels())
    with torch.no_grad():
        assert torch.equal(older(images), int8[0](images))
    for layer in int8:
        if isinstance(layer, QuantizedLinear):
            layer.input_zeros = None
    fm.save(tmp_path / "older.safetensors", int8)
    with safe_open(tmp_path / "older.safetensors", "pt") as file:
        assert "input_zeros" not in json.dumps(file.metadata())
    loaded = fm.load(tmp_path / "older.safetensors")
    assert zeros_of(fm.compile(loaded, plan="fixed").network) == [None] * 3


@pytest.mark.parametrize(
    "damage", ["", "A", "!" * 100, "A101", "A99", "100A", "A-1B101", "A999999", "é100", 5]
)
def test_a_damaged_field_is_refused(damage: Any) -> None:
    layer = quantized()[0]
    arrays = {key: value.numpy() for key, value in layer.state_dict().items()}
    with pytest.raises(ValueError, match="input_zeros"):
        QuantizedLinear.rebuild({**layer.describe(), "input_zeros": damage}, "", arrays)


def test_the_field_is_short_and_tells_all() -> None:
    zeros = np.array([51] * 28 + [24, 51, 51, 51, 0, 1], np.uint8)
    assert zeros_to_json(zeros) == {"input_zeros": "z28Yz3AB"}
    layer = quantized()[0]
    text = layer.describe()["input_zeros"]
    assert len(text) < SIZE * SIZE + 20
    assert zeros_to_json(layer.input_zeros) == {"input_zeros": text}


def test_no_answer_depends_on_it(isa: str) -> None:
    network = fm.compile(quantized(), plan="fixed").network
    images = pixels()
    bare = QuantizedNetwork(
        tuple(copy.copy(layer) for layer in network.layers), network.kind, network.multiplier,
        network.offset, network.pixels,
    )  # fmt: skip
    for layer in bare.layers:
        object.__setattr__(layer, "input_zeros", None)
    assert pack(bare).size < pack(network).size
    with_zeros, without = fm.CompiledModel(network, "measured"), fm.CompiledModel(bare, "fixed")
    for rows in (1, 3, 40, ROWS):
        assert (with_zeros(images[:rows]) == without(images[:rows])).all()


def test_the_bench_draws_rows_like_those_of_calibration() -> None:
    network = fm.compile(quantized(), plan="fixed").network
    packed = pack(network)
    for i, zeros in enumerate(zeros_of(network)):
        codes = _core.bench_codes(packed, i, 4000)
        drawn = (codes == 0).mean(axis=0)
        assert np.abs(drawn - zeros / ZEROS_OF).max() < 0.05
        assert (drawn[zeros == ZEROS_OF] == 1).all()
        assert (drawn[zeros == 0] == 0).all()
        assert len(np.unique(codes[codes > 0])) == 255 or (zeros == ZEROS_OF).all()
    ink = _core.bench_codes(packed, 0, 4000)[:, 30:70] > 0
    pairs, independent = ink.reshape(4000, 20, 2).any(axis=2), 1 - (1 - ink.mean(axis=0)) ** 2
    assert pairs.mean() < independent.mean() - 0.05  # neighbours are ink together


def test_the_bench_draws_half_zeros_where_nothing_is_known() -> None:
    packed = pack(fm.compile(float_model(), dynamic=True, plan="fixed").network)
    for i in range(3):
        assert (_core.bench_codes(packed, i, 2000) == 0).mean() == pytest.approx(0.5, abs=0.02)


def test_times_are_remembered_by_the_share(memory: Path) -> None:
    if len(_core.linear_kernels()) == 1:
        pytest.skip("this instruction set has one kernel")
    network = fm.compile(quantized(), plan="measured").network
    share = zeros_of(network)[0].mean() / ZEROS_OF
    text = memory.read_text(encoding="utf-8")
    assert re.search(
        rf"layer 100x40 codes( \w+ \d+%)* zeros {round(10 * share) * 10}% pixels\t", text
    )
    assert f"blocks {network.kind} pixels 100x40 codes zeros" in text
