"""Observers: what they keep, what each rule makes of it, and how it holds against outliers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from models import mlp
from torch import nn

import fastmnist as fm
from fastmnist.measuring.sqnr import sqnr
from fastmnist.ranges.observer import InputObserver
from fastmnist.ranges.rules import RULES, Rule, rule_of

X = torch.randn(512, 12, generator=torch.Generator().manual_seed(0))


def observer(rule, *batches):
    made = InputObserver(batches[0].shape[-1], rule_of(rule))
    for batch in batches:
        made.watch(batch, None)
    return made


def test_min_max_covers_all_and_does_not_depend_on_batches():
    lo, hi = observer("minmax", X).range()
    assert (lo, hi) == (float(X.min()), float(X.max()))
    assert observer("minmax", *X.split(100)).range() == (lo, hi)


def test_moving_average_is_one():
    batches = X.split(128)
    lo = hi = None
    for batch in batches:
        a, b = float(batch.min()), float(batch.max())
        lo, hi = (a, b) if lo is None else (lo + 0.25 * (a - lo), hi + 0.25 * (b - hi))
    got = observer(fm.MovingAverage(0.25), *batches).range()
    assert got == pytest.approx((lo, hi), rel=1e-6)


@pytest.mark.parametrize("scale", [1e-20, 1e-3, 1.0, 1e5, 1e30])
@pytest.mark.parametrize("share", [90, 99, 99.9, 100])
def test_percentiles_are_those_of_the_values(scale, share):
    values = torch.cat((X.reshape(-1), torch.zeros(300))) * scale
    lo, hi = observer(fm.Percentile(share), values[:, None]).range()
    expected = np.percentile(values.double().numpy(), [100 - share, share])
    # A bin is 3 % wide; positions inside it are interpolated.
    np.testing.assert_allclose([lo, hi], expected, rtol=0.03)
    assert (lo, hi) == observer(fm.Percentile(share), *values[:, None].split(100)).range()


@pytest.mark.parametrize("rule", ["histogram", "mse", "percentile"])
def test_without_tails_nothing_much_is_clipped(rule):
    flat = torch.linspace(-1, 3, 10_000)[:, None]
    lo, hi = observer(rule, flat).range()
    assert -1.001 <= lo <= -0.95
    assert 2.9 <= hi <= 3.001


@pytest.mark.parametrize("rule", RULES)
def test_ranges_of_what_is_not_spread(rule):
    assert observer(rule, torch.zeros(5, 3)).range() == (0, 0)
    lo, hi = observer(rule, torch.full((5, 3), 7.0)).range()
    assert lo in (0, 7)
    assert hi == pytest.approx(7, rel=0.04)
    assert observer(rule, torch.full((5, 3), -1e-39)).range()[1] <= 0
    lo, hi = observer(rule, torch.tensor([[3e38, -3e38]])).range()
    assert np.isfinite([lo, hi]).all()


def brute_force(values, lo, hi):
    """Squared error of the codes of [lo, hi], value by value."""
    lo, hi = np.minimum(lo, 0), np.maximum(hi, 0)
    step = (hi - lo) / 255
    codes = np.clip(np.rint((values - lo) / step), 0, 255)
    return np.square(lo + codes * step - values)[values != 0].sum()


@pytest.mark.parametrize("seed", range(5))
def test_mse_is_near_the_best_that_there_is(seed):
    generator = np.random.default_rng(seed)
    values = generator.standard_t(3, 20_000).astype(np.float32)
    if seed % 2:
        values = np.maximum(values, 0)
    lo, hi = observer("mse", torch.from_numpy(values)[:, None]).range()
    found = brute_force(values.astype(np.float64), lo, hi)
    shares = np.linspace(0.05, 1, 40)
    best = min(
        brute_force(values.astype(np.float64), values.min() * a, values.max() * b)
        for a in shares
        for b in shares
    )
    assert found <= 1.1 * best
    widest = brute_force(values.astype(np.float64), values.min(), values.max())
    histogram = brute_force(
        values.astype(np.float64), *observer("histogram", torch.from_numpy(values)[:, None]).range()
    )
    assert found <= histogram * 1.02
    assert histogram <= widest * 1.02


def test_it_is_all_state():
    seen = observer("mse", X)
    other = InputObserver(12, rule_of("mse"))
    other.load_state_dict(seen.state_dict())
    assert other.range() == seen.range()
    assert other.started
    assert seen.half().column_lo.dtype == torch.float32


def test_not_finite_values_are_left_out():
    dirty = X.clone()
    dirty[3, 4], dirty[5, 6], dirty[7, 8] = torch.inf, -torch.inf, torch.nan
    finite = dirty[dirty.isfinite()]
    assert observer("minmax", dirty).range() == (float(finite.min()), float(finite.max()))
    assert int(observer("mse", dirty).counts.sum()) == finite.numel()
    assert observer("minmax", torch.full((2, 2), torch.nan)).range() == (0, 0)


@pytest.mark.parametrize("name", ["minmax", "min-max", "MinMax", "min_max"])
def test_names_as_people_write_them(name):
    assert rule_of(name) == fm.MinMax()
    assert rule_of("MovingAverage") == rule_of("moving-average") == fm.MovingAverage()


class Twice(Rule):
    """Somebody's own."""

    def range(self, seen):
        return 2 * seen.lo, 2 * seen.hi


def test_rules_of_ones_own():
    q = fm.quantize(mlp(), fm.Static(X, observer=Twice()))
    usual = fm.quantize(mlp(), fm.Static(X))
    own, other = (m.get_submodule("0").input_scale for m in (q, usual))
    assert float(own) == pytest.approx(2 * float(other))


@pytest.mark.parametrize(
    ("made", "error", "message"),
    [
        (lambda: fm.Percentile(50), ValueError, "percentile: expected more than 50"),
        (lambda: fm.Percentile(101), ValueError, "percentile: expected 50 to 100, got 101"),
        (lambda: fm.Percentile("99"), TypeError, "percentile: expected a number, got str"),
        (lambda: fm.MovingAverage(0), ValueError, "momentum: expected more than 0"),
        (lambda: fm.MovingAverage(True), TypeError, "momentum: expected a number"),
        (lambda: rule_of("best"), ValueError, "observer: expected one of minmax, .*got 'best'"),
        (lambda: rule_of(3), TypeError, "observer: expected a name"),
        (
            lambda: fm.quantize(mlp(), fm.Static(X, observer="most")),
            ValueError,
            "observer: .*'most'",
        ),
        (lambda: fm.prepare_qat(mlp(), fm.QAT(observer=None)), TypeError, "observer: .*NoneType"),
    ],
)
def test_bad_rules(made, error, message):
    with pytest.raises(error, match=message):
        made()


# ---- a random MLP of 4 layers, 1,024 wide ---------------------------------------------------


@pytest.fixture(scope="module")
def wide():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [layer for _ in range(4) for layer in (nn.Linear(1024, 1024), nn.ReLU())]
        model = nn.Sequential(*layers[:-1])
        return model, torch.randn(512, 1024), torch.randn(512, 1024)


def with_outliers(x, seed):
    """1 in 1,000 values times 50."""
    generator = torch.Generator().manual_seed(seed)
    return torch.where(torch.rand(x.shape, generator=generator) < 1e-3, x * 50, x)


def quality(model, calibration, test, **options):
    with torch.no_grad():
        q = fm.quantize(model, fm.Static(calibration, **options))
        return sqnr(model(test), q(test))


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["minmax", "moving_average", "histogram", "mse"])
def test_quality_is_30_db(wide, rule):
    model, calibration, test = wide
    per_channel = quality(model, calibration, test, observer=rule)
    assert per_channel >= 30
    assert per_channel >= quality(model, calibration, test, observer=rule, per_channel=False)


@pytest.mark.slow
def test_outliers_in_calibration_alone(wide):
    model, calibration, test = wide
    dirty = with_outliers(calibration, 1)
    widest = quality(model, dirty, test, observer="minmax")
    assert quality(model, dirty, test, observer=fm.Percentile(99.9)) >= widest + 6
    assert quality(model, dirty, test, observer="mse") >= widest + 2


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2, 3, 4])
def test_outliers_in_both(wide, seed):
    model, calibration, test = wide
    dirty, also = with_outliers(calibration, 1), with_outliers(test, seed)
    assert quality(model, dirty, also, observer="mse") >= quality(model, dirty, also)


class Bad(Rule):
    """Gives back what it was made with."""

    def range(self, seen):
        return self.answer


@pytest.mark.parametrize(
    ("answer", "error"),
    [(None, TypeError), ((1,), TypeError), ((1, -1), ValueError), ((0, math.inf), ValueError)],
)
def test_rules_that_answer_nonsense(answer, error):
    rule = Bad()
    object.__setattr__(rule, "answer", answer)
    with pytest.raises(error, match=r"observer: expected Bad\.range to return"):
        fm.quantize(mlp(), fm.Static(X, observer=rule))
