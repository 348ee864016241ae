"""sensitivity and max_drop: which layer costs what, and leaving the worst in float."""

from __future__ import annotations

import pytest
import torch
from models import mlp
from torch import nn

import fastmnist as fm
from fastmnist.layers.quantized import QuantizedLinear
from fastmnist.measuring.sqnr import sqnr


def fragile():
    """A layer whose input has one value that dwarfs all that matters: int8 cannot hold both."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 16), nn.Linear(16, 4))
        x = torch.randn(400, 8)
    with torch.no_grad():
        # Neuron 0 gives a million for every row, which layer 2 ignores: its codes are all the same.
        model[0].weight[0] = 0
        model[0].bias[0] = 1e6
        model[2].weight[:, 0] = 0
        model[3].bias -= model(x).mean(0)
        y = model(x).argmax(1)
    return model, x, y


def test_table_and_order():
    model, x, y = fragile()
    table = fm.sensitivity(model, (x, y), rounds=2)
    assert next(row.layer for row in table) == "2"
    assert {row.layer for row in table} == {"0", "2", "3"}
    assert table["2"].sqnr < table["0"].sqnr
    assert table["2"].difference < -0.05
    assert table["0"].difference > -0.05
    assert table.accuracy == 1.0
    text = str(table)
    assert "SQNR dB" in text
    assert "8 → 32" in text
    assert "<table>" in table._repr_html_()
    frame = table.to_frame()
    assert next(iter(frame.index)) == "2"
    assert (frame.time > 0).all()
    with pytest.raises(KeyError, match="got 'x'"):
        table["x"]
    alone = fm.quantize(model, fm.Static((x, y)), include="2")
    with torch.no_grad():
        assert table["2"].sqnr == pytest.approx(sqnr(model(x), alone(x)), abs=1e-3)


@pytest.mark.parametrize("config", ["dynamic", "half"])
def test_other_configurations(config):
    model, x, y = fragile()
    chosen = fm.Dynamic() if config == "dynamic" else fm.Half()
    table = fm.sensitivity(model, (x, y), chosen, exclude="0", rounds=1)
    assert {row.layer for row in table} == {"2", "3"}


def test_max_drop_leaves_the_worst_layer_in_float():
    model, x, y = fragile()
    everything = fm.quantize(model, fm.Static((x, y)))
    assert float(fm.evaluate(everything, (x, y))) < 0.95
    q = fm.quantize(model, fm.Static((x, y)), max_drop=3)
    assert isinstance(q[2], nn.Linear)
    assert isinstance(q[0], QuantizedLinear)
    assert float(fm.evaluate(q, (x, y))) >= 0.97
    assert [c.layer for c in fm.changes(q) if "left in float" in c.what] == ["2"]
    easy = fm.quantize(model, fm.Static((x, y)), max_drop=100)
    assert not [c for c in fm.changes(easy) if "left in float" in c.what]


def test_max_drop_that_cannot_be_had():
    model, x, y = fragile()
    off = lambda outputs, target: (outputs - model(x)).abs().max()  # noqa: E731
    options = {"max_drop": 0, "metric": off, "data": (x, y)}
    with pytest.raises(ValueError, match=r"max_drop: expected a loss of at most 0, got"):
        fm.quantize(model, fm.Static((x, y)), **options, greater_is_better=False)
    with pytest.raises(ValueError, match="greater_is_better=True or False"):
        fm.quantize(model, fm.Static((x, y)), **options)


def test_dynamic_with_data_and_metric():
    model, x, y = fragile()
    q = fm.quantize(model, fm.Dynamic(), max_drop=5, data=(x, y))
    assert float(fm.evaluate(q, (x, y))) >= 0.95


def test_errors():
    model, x, y = fragile()

    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = model

        def forward(self, x):
            return self.body(x), x

    with pytest.raises(TypeError, match="outputs: expected a tensor or array, got tuple"):
        fm.sensitivity(Pair(), (x, y), metric=lambda out, _: float(out[0].mean()), rounds=1)
    with pytest.raises(ValueError, match="rounds: expected an integer of at least 1"):
        fm.sensitivity(model, (x, y), rounds=0)
    with pytest.raises(TypeError, match="config"):
        fm.sensitivity(model, (x, y), 3)
    with pytest.raises(ValueError, match="target"):
        fm.sensitivity(model, x)
    with pytest.raises(TypeError, match="max_drop: expected a number"):
        fm.quantize(model, fm.Static((x, y)), max_drop="1")


X = torch.randn(96, 12, generator=torch.Generator().manual_seed(3))


def test_batches_of_another_form_with_max_drop():
    class Batches:
        def __iter__(self):
            return ({"x": x, "y": (x[:, 0] > 0).long()} for x in X.split(8))

    rows = Batches()
    read = lambda b: ((b["x"],), {}, b["y"])  # noqa: E731
    q = fm.quantize(mlp(), fm.Static(rows, batch_fn=read), max_drop=100)
    assert any(isinstance(m, QuantizedLinear) for m in q.modules())
    assert len(fm.sensitivity(mlp(), rows, batch_fn=read, rounds=1)) == 3
