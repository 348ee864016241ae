"""Which reading of uint8 pixels fits a model."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fastmnist as fm
from fastmnist.data import Data
from fastmnist.measuring.readings import doubt_about_pixels
from fastmnist.pixels import PixelNormalization

READINGS = {
    "0..255": PixelNormalization.of_range("0..255"),
    "0..1": PixelNormalization(),
    "0.5": PixelNormalization.of(0.5, 0.5),
    "0.1307": PixelNormalization.of(0.1307, 0.3081),
}


def trained(digits: Data, reading: str, tail: nn.Module | None = None) -> nn.Module:
    """A network trained on the digits under a reading, with `tail` put after it."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10))
    rows, labels = READINGS[reading].to_float(digits.train.images), digits.train.labels
    optimizer = torch.optim.Adam(model.parameters(), 1e-3 if reading == "0..255" else 1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        F.cross_entropy(model(rows), labels).backward()
        optimizer.step()
    return (model if tail is None else nn.Sequential(model, tail)).eval()


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("tail", [None, nn.Softmax(1), nn.LogSoftmax(1)])
def test_training_on_0_to_255_is_noticed(digits: Data, labelled: bool, tail) -> None:
    labels = digits.test.labels if labelled else None
    said = doubt_about_pixels(trained(digits, "0..255", tail), digits.test.images, labels)
    assert said is not None
    assert 'pixels="0..255"' in said
    assert "std=" in said


@pytest.mark.parametrize(
    ("reading", "named"), [("0.5", "mean=0.5"), ("0.1307", "mean=0.1307"), ("0..255", "0..255")]
)
def test_labels_tell_which_other_reading_it_is(reading: str, named: str) -> None:
    rows = torch.arange(256, dtype=torch.uint8)[torch.randperm(256)][:, None]
    # What is right depends on where 0, or half of the range for the raw pixels, lies.
    middle = 127.5 if reading == "0..255" else 0.0

    def by_size(x: Tensor) -> Tensor:
        return torch.cat([middle - x, x - middle], dim=1)

    labels = by_size(READINGS[reading].to_float(rows)).argmax(1)
    said = doubt_about_pixels(by_size, rows, labels)
    assert said is not None
    assert f"with {named}" in said or f'with pixels="{named}' in said
    assert "it is 100%" in said


@pytest.mark.parametrize("labelled", [True, False])
def test_the_usual_reading_is_not_doubted(digits: Data, labelled: bool) -> None:
    labels = digits.test.labels if labelled else None
    assert doubt_about_pixels(trained(digits, "0..1"), digits.test.images, labels) is None


def test_an_untrained_model_is_not_doubted(digits: Data) -> None:
    for seed in range(5):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Flatten(), nn.Linear(784, 96), nn.ReLU(), nn.Linear(96, 10))
        assert doubt_about_pixels(model, digits.test.images, None) is None


OTHER_OUTPUTS = {
    "one number": lambda x: x.flatten(1).sum(1, keepdim=True),
    "images": lambda x: x,
    "a tuple": lambda x: (x.flatten(1), x),
    "integers": lambda x: x.flatten(1).long(),
    "NaN": lambda x: x.flatten(1) * float("nan"),
}


@pytest.mark.parametrize("run", OTHER_OUTPUTS.values(), ids=OTHER_OUTPUTS)
def test_what_is_no_classifier_is_not_doubted(run, digits: Data) -> None:
    assert doubt_about_pixels(run, digits.test.images, digits.test.labels) is None


def test_few_rows_say_nothing(digits: Data) -> None:
    model = trained(digits, "0..255")
    assert doubt_about_pixels(model, digits.test.images[:31], digits.test.labels[:31]) is None


def test_a_good_model_is_run_once(digits: Data) -> None:
    calls: list[Tensor] = []
    model = trained(digits, "0..1")

    def run(x: Tensor) -> Tensor:
        calls.append(x)
        return model(x)

    assert (
        doubt_about_pixels(run, digits.test.images, model(digits.test.images / 255).argmax(1))
        is None
    )
    assert len(calls) == 1


def regression(digits: Data, reading: str, steps: int = 150) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 1))
    rows, values = READINGS[reading].to_float(digits.train.images), digits.train.labels.float()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3 if reading == "0..255" else 1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        F.mse_loss(model(rows)[:, 0], values).backward()
        optimizer.step()
    return model.eval()


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_values_tell_the_readings_apart(digits: Data, shape) -> None:
    model, pixels = regression(digits, "0..255"), digits.test.images
    values = digits.test.labels.double().reshape(shape)
    said = doubt_about_pixels(model, pixels, values)
    assert said is not None
    assert 'pixels="0..255"' in said
    assert "0% of the targets" in said
    with pytest.warns(UserWarning, match=r"uint8 rows are read as p/255.*R²"):
        fm.evaluate(model, (pixels, values), metric="r2")
    with pytest.warns(UserWarning, match=r"uint8 rows are read as p/255.*R²"):
        fm.quantize(model, fm.Static((pixels, values)))


def test_values_of_ordinary_models_tell_nothing(digits: Data) -> None:
    values = digits.test.labels.float()
    for reading in ("0..1", "0.1307", "0..255"):
        for scaled in (values, values / 9, -values, values * 1e3):
            assert (
                doubt_about_pixels(regression(digits, reading, 0), digits.test.images, scaled)
                is None
            )
    model = regression(digits, "0..1")
    assert doubt_about_pixels(model, digits.test.images, values) is None
    assert doubt_about_pixels(model, digits.test.images, (values > 4).float()) is None
