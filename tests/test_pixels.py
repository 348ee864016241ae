"""What a uint8 pixel stands for."""

from __future__ import annotations

import copy
import math
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from fastmnist.pixels import PixelNormalization, model_pixels, set_model_pixels

ALL = torch.arange(256, dtype=torch.uint8)


def torchvision(pixels: torch.Tensor, mean: tuple[float, ...], std: tuple[float, ...]):
    """ToTensor and Normalize as torchvision's source has them, on [N, C, H, W]."""
    x = pixels.to(torch.float32).div(255)
    m = torch.as_tensor(mean, dtype=torch.float32).view(-1, 1, 1)
    s = torch.as_tensor(std, dtype=torch.float32).view(-1, 1, 1)
    return x.sub(m).div(s)


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (0.1307, 0.3081), (0.5, 0.5), (-3.1, 1e-3)])
def test_equals_torchvision_bit_for_bit_in_torch_and_numpy(mean, std):
    px = PixelNormalization.of(mean, std)
    images = ALL.view(1, 1, 16, 16)
    expected = torchvision(images, (mean,), (std,))
    assert torch.equal(px.to_float(images), expected)
    array = px.to_float(images.numpy())
    assert isinstance(array, np.ndarray)
    assert array.dtype == np.float32
    assert np.array_equal(array, expected.numpy())


def test_channels_lie_in_dimension_one_and_flattened_rows_agree():
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    px = PixelNormalization.of(mean, std)
    images = torch.randint(0, 256, (5, 3, 4, 4), dtype=torch.uint8)
    expected = torchvision(images, mean, std)
    assert torch.equal(px.to_float(images), expected)
    assert torch.equal(px.to_float(images.flatten(1)), expected.flatten(1))
    assert np.array_equal(px.to_float(images.numpy()), expected.numpy())
    assert np.array_equal(px.to_float(images.flatten(1).numpy()), expected.flatten(1).numpy())


def test_does_not_change_its_input():
    pixels = ALL.clone()
    PixelNormalization.of(0.5, 0.5).to_float(pixels)
    assert torch.equal(pixels, ALL)


def test_per_feature():
    mean, std = PixelNormalization.of((0.1, 0.2), (1, 2)).per_feature(6)
    assert mean.dtype == std.dtype == np.float64
    assert mean.tolist() == [0.1] * 3 + [0.2] * 3
    assert std.tolist() == [1.0] * 3 + [2.0] * 3
    for features in (0, 5):
        with pytest.raises(ValueError, match="features"):
            PixelNormalization.of((0.1, 0.2), 1).per_feature(features)


def test_accepts_numbers_of_every_library():
    expected = PixelNormalization((0.5,), (0.25,))
    for mean, std in [
        (0.5, 0.25),
        ((0.5,), [0.25]),
        (np.float32(0.5), np.array(0.25)),
        (torch.tensor([0.5]), torch.tensor(0.25)),
    ]:
        assert PixelNormalization.of(mean, std) == expected
    assert PixelNormalization.of((0.1, 0.2), 1).std == (1.0, 1.0)
    assert PixelNormalization.of().is_identity
    assert not expected.is_identity
    assert pickle.loads(pickle.dumps(expected)) == expected
    assert hash(expected)


@pytest.mark.parametrize(
    ("mean", "std", "error", "match"),
    [
        (0, 0, ValueError, "std"),
        (0, -1, ValueError, "std"),
        (0, 1e-60, ValueError, "std"),
        (0, math.nan, ValueError, "std"),
        (math.inf, 1, ValueError, "mean"),
        (1e300, 1, ValueError, "mean"),
        ((0, 0), (1, 1, 1), ValueError, "length"),
        ((0,), (1, 1), ValueError, "length"),
        ((), 1, ValueError, "mean"),
        ("0.5", 1, TypeError, "mean"),
        (0, None, TypeError, "std"),
        (True, 1, TypeError, "mean"),
        (((0.5,),), 1, TypeError, "mean"),
    ],
)
def test_refuses(mean, std, error, match):
    with pytest.raises(error, match=match):
        PixelNormalization.of(mean, std)


def test_to_float_refuses():
    px = PixelNormalization.of((0.1, 0.2, 0.3), 1)
    for wrong in (torch.zeros(3), np.zeros(3), [1, 2]):
        with pytest.raises(TypeError, match="uint8"):
            px.to_float(wrong)
    for shape in ((2, 1, 4, 4), (2, 4), (3,)):
        with pytest.raises(ValueError, match="3 channels"):
            px.to_float(torch.zeros(shape, dtype=torch.uint8))


def test_model_keeps_it_as_plain_tuples():
    px = PixelNormalization.of(0.1307, 0.3081)
    model = nn.Sequential(nn.Linear(2, 2))
    assert model_pixels(model) is None
    set_model_pixels(nn.DataParallel(model), px)
    assert model.fastmnist_pixels == ((0.1307,), (0.3081,))
    assert model_pixels(copy.deepcopy(model)) == model_pixels(nn.DataParallel(model)) == px
    assert model_pixels(pickle.loads(pickle.dumps(model))) == px
    set_model_pixels(model, None)
    assert model_pixels(model) is None
    with pytest.raises(TypeError, match="px"):
        set_model_pixels(model, (0.1, 0.2))


def test_needs_no_torch():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from fastmnist.pixels import PixelNormalization as P\n"
        "import numpy as np; print(P.of(0.5, 0.5).to_float(np.uint8([255])))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[1.]", done.stderr


def test_raw_pixels_stand_for_themselves_exactly():
    raw = PixelNormalization.of_range("0..255")
    pixels = np.arange(256, dtype=np.uint8)[:, None]
    assert np.array_equal(raw.to_float(pixels), pixels.astype(np.float32))
    assert torch.equal(raw.to_float(torch.from_numpy(pixels)), torch.from_numpy(pixels).float())
    assert raw.is_raw
    assert not PixelNormalization().is_raw
    assert raw.formula == "p"


@pytest.mark.parametrize(
    ("text", "mean", "std"), [("0..1", 0.0, 1.0), ("-1..1", 0.5, 0.5), ("0..255", 0.0, 1 / 255)]
)
def test_ranges_of_pixels(text, mean, std):
    assert PixelNormalization.of_range(text) == PixelNormalization.of(mean, std)


@pytest.mark.parametrize("text", ["", "0-255", "255..0", "0..0", "a..b", "0..inf", "0..1..2"])
def test_what_is_no_range_of_pixels(text):
    with pytest.raises(ValueError, match=r'pixels: expected the range.*"0..255"'):
        PixelNormalization.of_range(text)
    with pytest.raises(TypeError, match="pixels: expected text"):
        PixelNormalization.of_range(255)
