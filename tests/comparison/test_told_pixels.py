"""uint8 rows of a model that was trained on 0 to 255: told for one call, or remembered."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

import fastmnist as fm

PIXELS = torch.randint(0, 256, (96, 12), dtype=torch.uint8, generator=torch.manual_seed(0))


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 4)).eval()
    with torch.no_grad():
        model[0].bias.mul_(100)  # sized for inputs of up to 255
        model[2].bias.sub_(model(PIXELS.float()).mean(0))  # so that every class occurs
    return model


@pytest.fixture(scope="module")
def data(model):
    with torch.no_grad():
        return PIXELS, model(PIXELS.float()).argmax(1)


RAW = ({"pixels": "0..255"}, {"std": 1 / 255}, {"mean": 0.0, "std": 1 / 255})


@pytest.mark.parametrize("told", RAW)
def test_evaluate_is_told_for_the_call(told, model, data):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fm.evaluate(model, data, **told) == 1
    wrong = fm.quantize(model, fm.Dynamic(mean=0.5, std=0.5))  # given for the call counts more
    assert fm.evaluate(wrong, data, **told) > 0.8 > fm.evaluate(wrong, data)


def test_compare_is_told_for_the_call(model, data):
    report = fm.compare({"original": model, "fused": fm.fuse(model)}, data, rounds=1, **RAW[0])
    assert [row.accuracy for row in report] == [1, 1]


@pytest.mark.parametrize("told", RAW)
def test_variants_know_what_they_were_told(told, model, data):
    made = fm.variants(model, data, **told)
    report = fm.compare(made, data, rounds=1)
    rows = {row.name: row.accuracy for row in report}
    assert rows["original"] == 1
    for name in ("dynamic int8", "static int8", "compiled (uint8 rows)", "compiled (float32 rows)"):
        assert rows[name] > 0.9
    with torch.no_grad():
        assert torch.equal(made["static int8"](PIXELS), made["static int8"](PIXELS.float()))


def test_what_contradicts_itself_is_refused(model, data):
    for call in (fm.evaluate, fm.variants):
        with pytest.raises(ValueError, match="pixels= or mean="):
            call(model, data, pixels="0..255", mean=0.5)
    with pytest.raises(ValueError, match="pixels= or mean="):
        fm.compare({"m": model}, data, pixels="0..255", mean=0.5)
    with pytest.raises(ValueError, match="raw: expected False"):
        fm.evaluate(model, data, pixels="0..255", raw=True)
