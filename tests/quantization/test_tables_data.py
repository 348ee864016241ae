"""Tables with raw columns: a scale of its own for each, where one for all would crush them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import fastmnist as fm

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", ["breast_cancer", "wine"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_raw_table_columns(name, seed):
    from sklearn import datasets

    table = getattr(datasets, f"load_{name}")()
    x = torch.tensor(table.data, dtype=torch.float32)
    y = torch.tensor(table.target)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    x, y = x[order], y[order]
    n = int(0.7 * len(x))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.BatchNorm1d(x.shape[1]),
            nn.Linear(x.shape[1], 32),
            nn.ReLU(),
            nn.Linear(32, len(table.target_names)),
        )
    fm.train(model, (x[:n], y[:n]), epochs=25, seed=seed, batch_size=64)
    q = fm.quantize(model, fm.Static(calibration=(x[:n], y[:n])))
    assert abs(fm.evaluate(q, (x, y)) - fm.evaluate(model, (x, y))) <= 0.01
    net = fm.compile(q)
    assert torch.equal(net(x), q(x))
    assert np.array_equal(net(x.double().numpy()), q(x).numpy())
    with pytest.raises(ValueError, match="uint8"):
        q(x.to(torch.uint8))
    with torch.no_grad():
        assert (q(x) - model.eval()(x)).abs().max() < 1


def test_unscaled_columns_without_a_batchnorm():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 4, generator=generator) * torch.tensor([1e-3, 1.0, 1e3, 1e5])
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    with torch.no_grad():
        model[0].weight /= torch.tensor([1e-3, 1.0, 1e3, 1e5])
        expected = model(x)
    error = (fm.quantize(model, fm.Static(x, per_feature=True))(x) - expected).abs().max()
    assert error < 0.05
    assert (fm.quantize(model, fm.Static(x))(x) - expected).abs().max() > 4 * error


def test_a_constant_column():
    x = torch.randn(100, 3, generator=torch.Generator().manual_seed(0))
    x[:, 1] = 7
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2)).eval()
    q = fm.quantize(model, fm.Static(x))
    with torch.no_grad():
        assert (q(x) - model(x)).abs().max() < 0.05
    assert torch.equal(fm.compile(q)(x), q(x))


def test_constant_columns_of_a_real_table():
    """Of the digits' 64 columns several never change, and a BatchNorm magnifies them 300 times."""
    from sklearn.datasets import load_digits

    x = torch.tensor(load_digits().data, dtype=torch.float32)
    y = torch.tensor(load_digits().target)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.BatchNorm1d(64), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    fm.train(model, (x[:500], y[:500]), epochs=15, seed=0)
    assert (x[:500].amin(0) == x[:500].amax(0)).sum() >= 3
    q = fm.quantize(model, fm.Static((x[:500], y[:500])))
    for rows in ((x[:500], y[:500]), (x, y)):
        assert abs(fm.evaluate(q, rows) - fm.evaluate(model, rows)) <= 0.01
    assert torch.equal(fm.compile(q)(x), q(x))
