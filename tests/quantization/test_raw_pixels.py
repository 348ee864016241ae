"""Models trained on ``images.float()``, 0…255: ``pixels="0..255"``."""

from __future__ import annotations

import warnings

import pytest
import torch
from models import make
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import fastmnist as fm
from fastmnist.measuring.sqnr import sqnr

PIXELS = torch.randint(0, 256, (64, 30), generator=torch.Generator().manual_seed(2)).byte()
FLOATS = PIXELS.float()


def network() -> nn.Module:
    model = nn.Sequential(nn.Linear(30, 24), nn.ReLU(), nn.Linear(24, 5))
    with torch.no_grad():
        model[0].bias.mul_(100)  # sized for inputs of up to 255
    return model.eval()


def aware(rows: torch.Tensor) -> nn.Module:
    prepared = fm.prepare_qat(make(network), fm.QAT(pixels="0..255")).train()
    prepared(rows.float())
    return fm.convert(prepared)


WAYS = {
    "Static, uint8": lambda: fm.quantize(make(network), fm.Static(PIXELS, pixels="0..255")),
    "Static, floats": lambda: fm.quantize(make(network), fm.Static(FLOATS, pixels="0..255")),
    "Dynamic": lambda: fm.quantize(make(network), fm.Dynamic(pixels="0..255")),
    "QAT": lambda: aware(PIXELS),
    "compile, uint8": lambda: fm.compile(make(network), PIXELS, pixels="0..255"),
    "compile, dynamic": lambda: fm.compile(make(network), dynamic=True, pixels="0..255"),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_uint8_rows_and_their_floats_give_the_same(way, tmp_path) -> None:
    q, want = way(), make(network)(FLOATS).detach()
    of_pixels, of_floats = (torch.as_tensor(q(rows)) for rows in (PIXELS, FLOATS))
    assert sqnr(want, of_pixels) > 25
    assert torch.equal(of_pixels, of_floats)
    fm.save(tmp_path / "a.safetensors", q)
    loaded = fm.load(tmp_path / "a.safetensors")
    assert torch.equal(torch.as_tensor(loaded(PIXELS)), of_pixels)


def test_pixels_codes_are_the_pixels_themselves() -> None:
    q = fm.quantize(make(network), fm.Static(PIXELS, pixels="0..255"))
    assert torch.all(q[0].input_multiplier == 1)
    assert torch.all(q[0].input_offset == 0)


BOTH = {
    "Static": lambda: fm.quantize(network(), fm.Static(PIXELS, std=0.5, pixels="0..255")),
    "Dynamic": lambda: fm.quantize(network(), fm.Dynamic(std=0.5, pixels="0..255")),
    "QAT": lambda: fm.prepare_qat(network(), fm.QAT(mean=0.5, pixels="0..255")),
    "compile": lambda: fm.compile(network(), PIXELS, mean=0.5, pixels="0..255"),
}


@pytest.mark.parametrize("ask", BOTH.values(), ids=BOTH)
def test_pixels_or_mean_and_std_but_not_both(ask) -> None:
    with pytest.raises(ValueError, match="pixels: expected pixels= or mean= and std=, got both"):
        ask()


def test_the_error_for_uint8_names_it() -> None:
    q = fm.quantize(make(network), fm.Static(FLOATS + 0.5))
    with pytest.raises(ValueError, match=r'pixels="0\.\.255"'):
        q(PIXELS)


def trained_on_raw(digits) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10))
    rows, labels = digits.train.images.float(), digits.train.labels
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(rows), labels).backward()
        optimizer.step()
    return model.eval()


MISREAD = {
    "Static": lambda model, x, y: fm.quantize(model, fm.Static(x)),
    "Static, labelled": lambda model, x, y: fm.quantize(model, fm.Static((x, y))),
    "DataLoader": lambda model, x, y: fm.quantize(
        model, fm.Static(DataLoader(TensorDataset(x, y), batch_size=50))
    ),
    "compile": lambda model, x, y: fm.compile(model, x),
    "evaluate": lambda model, x, y: fm.evaluate(model, (x, y)),
    "compare": lambda model, x, y: fm.compare({"original": model}, (x, y), rounds=1),
}


@pytest.mark.parametrize("way", MISREAD.values(), ids=MISREAD)
def test_reading_them_as_0_to_1_is_noticed(way, digits) -> None:
    model = trained_on_raw(digits)
    with pytest.warns(UserWarning, match=r'uint8 rows are read as p/255.*pixels="0..255".*std='):
        way(model, digits.test.images, digits.test.labels)


TOLD = {
    "Static": lambda model, x, y: fm.quantize(model, fm.Static(x, pixels="0..255")),
    "floats": lambda model, x, y: fm.quantize(model, fm.Static(x.float())),
    "evaluate": lambda model, x, y: fm.evaluate(model, (x.float(), y)),
}


@pytest.mark.parametrize("way", TOLD.values(), ids=TOLD)
def test_what_is_told_is_not_doubted(way, digits) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        way(trained_on_raw(digits), digits.test.images, digits.test.labels)


def test_looking_leaves_the_calibration_as_it_was(digits) -> None:
    """What is run to compare readings is not observed."""
    model, x = trained_on_raw(digits), digits.test.images
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        doubted = fm.quantize(model, fm.Static(x))
    told = fm.quantize(model, fm.Static(x, pixels="0..1"))
    state = told.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in doubted.state_dict().items())


def test_a_bundle_that_says_nothing_is_no_word_on_pixels(digits) -> None:
    with pytest.warns(UserWarning, match='pixels="0..255"'):
        fm.evaluate(trained_on_raw(digits), digits)
