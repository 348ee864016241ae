"""What a uint8 pixel means is decided in one place, by one order."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

import fastmnist as fm
from fastmnist.data import Split
from fastmnist.data.meaning import meaning_of, pixels_of
from fastmnist.pixels import PixelNormalization, set_model_pixels

GIVEN, TRAINED = PixelNormalization.of(0.1, 0.2), PixelNormalization.of(0.3, 0.4)
UINT8 = torch.zeros(4, 12, dtype=torch.uint8)
FLOATS = torch.zeros(4, 12)


@pytest.fixture
def model():
    net = nn.Linear(12, 2)
    set_model_pixels(net, TRAINED)
    return net


def test_the_order(model, digits):
    carried = digits.pixels
    for data, models, given, pixels, source in (
        (digits, (model,), GIVEN, GIVEN, "given"),
        (digits, (model,), None, carried, "data"),
        (DataLoader(digits.test), (model,), None, carried, "data"),
        (UINT8, (nn.Linear(12, 2), model), None, TRAINED, "model"),
        (FLOATS, (model,), None, TRAINED, "model"),
        (UINT8, (), None, PixelNormalization(), "rows"),
        (FLOATS, (len,), None, None, ""),
    ):
        meaning = meaning_of(data, *models, given=given)
        assert (meaning.pixels, meaning.source) == (pixels, source)


def test_what_is_certain(model):
    assert meaning_of(UINT8, model).known_pixels == TRAINED
    assert meaning_of(FLOATS, model).known_pixels is None  # floats are checked
    assert meaning_of(FLOATS, model, given=GIVEN).known_pixels == GIVEN


def test_compiled_models_know_theirs():
    net = fm.compile(nn.Linear(12, 2), dynamic=True, mean=0.1, std=0.2)
    assert pixels_of(net) == GIVEN
    assert meaning_of(FLOATS, net).source == "model"


def test_a_bundle_of_0_to_1_says_so_by_default_only():
    images, labels = torch.zeros(4, 1, 2, 2, dtype=torch.uint8), torch.arange(4)
    model, knows = torch.nn.Linear(4, 2), torch.nn.Linear(4, 2)
    set_model_pixels(knows, PixelNormalization())
    default, told = Split(images, labels), Split(images, labels, mean=0.5, std=0.5)
    assert not meaning_of(default, model).is_told
    assert meaning_of(default, knows).is_told
    assert meaning_of(told, model).is_told
    assert meaning_of(default, model, given=PixelNormalization()).is_told
