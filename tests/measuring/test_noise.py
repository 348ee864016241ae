"""What is noise, told on times that are made up: no test here times anything."""

from __future__ import annotations

import numpy as np
import pytest

from fastmnist.measuring import noise
from fastmnist.measuring.noise import Noise, differs, noise_of_ratio, worst_of
from fastmnist.measuring.timing import summarized


def drawn(seed: int, rounds: int, scatter: float, factor: float = 1.0) -> tuple:
    """Times of two variants in a machine whose speed wanders, the same for both in a round."""
    generator = np.random.default_rng(seed)
    speed = np.exp(np.cumsum(generator.normal(0, 0.05, rounds)))
    own = np.exp(generator.normal(0, scatter, (2, rounds)))
    # Now and then something else takes the CPU.
    own *= np.where(generator.random((2, rounds)) < 0.05, 4.0, 1.0)
    return 10e3 * speed * own[0], 10e3 * speed * own[1] / factor


def said(first: np.ndarray, own: np.ndarray) -> bool:
    ratio = float(np.median(first) / np.median(own))
    least = float(first.min() / own.min())
    return differs(ratio, noise_of_ratio(first, own, ratio, least, 1.0))


@pytest.mark.parametrize("scatter", [0.001, 0.02, 0.2])
@pytest.mark.parametrize("rounds", [5, 9, 25])
def test_the_same_twice_is_no_difference(rounds: int, scatter: float) -> None:
    """A run has three batch sizes: 49 of 50 runs without an error take 0.7 % of each at most."""
    wrong = sum(said(*drawn(seed, rounds, scatter)) for seed in range(1000))
    assert wrong <= 7


@pytest.mark.parametrize(("factor", "scatter"), [(1.2, 0.02), (0.8, 0.02), (2.0, 0.2), (0.4, 0.2)])
def test_a_real_difference_is_found(factor: float, scatter: float) -> None:
    found = sum(said(*drawn(seed, 25, scatter, factor)) for seed in range(300))
    assert found >= 280


def test_a_steady_difference_below_the_floor_is_none() -> None:
    """Two copies of one model lie in other places of memory, and differ for ever."""
    steady = np.full(25, 1000.0)
    assert not said(steady, steady / (1 + noise.FLOOR - 0.005))
    assert said(steady, steady / (1 + noise.FLOOR + 0.005))


def test_few_rounds_tell_large_differences_only() -> None:
    for rounds in (1, 2, 3):
        times = np.full(rounds, 1000.0) * np.linspace(1, 1.3, rounds)
        assert said(times, times / 20)
    assert not said(np.array([1000.0]), np.array([500.0]))


def test_medians_that_a_busy_machine_shifted_are_no_difference() -> None:
    """The least times say that nothing differs, whatever the others were."""
    first, own = np.array([1000.0, 1010.0]), np.array([980.0, 9000.0])
    assert not said(first, own)


def test_a_coarse_clock_is_noise() -> None:
    first, own = np.full(25, 400.0), np.full(25, 440.0)
    assert noise_of_ratio(first, own, tick=40.0) > 0.1
    assert noise_of_ratio(first, own, tick=1.0) == noise.FLOOR


def test_no_ratio_is_no_difference() -> None:
    assert not differs(float("nan"), 0.05)
    assert not differs(0.0, 0.05)
    assert [differs(ratio, 0.05) for ratio in (1.06, 1 / 1.06)] == [True, True]
    assert [differs(ratio, 0.05) for ratio in (1.04, 1 / 1.04)] == [False, False]


def test_the_verdict_says_why() -> None:
    assert Noise(1.9, 0.1).verdict == "quiet"
    assert "a CPU for 40%" in Noise(0.4, 0.1).verdict
    assert "interrupted it 120 times a second" in Noise(1.0, 0.1, 120).verdict
    assert "differ by 80%" in Noise(1.0, 0.8).verdict
    assert worst_of([Noise(1.0, 0.8), Noise(0.5, 0.1, 3)]) == Noise(0.5, 0.8, 3)


class Quiet:
    """Instead of what looks at the machine."""

    def noise(self, unsteady: float) -> Noise:
        return Noise(1.0, unsteady)


def test_a_ratio_is_that_of_the_times_told() -> None:
    times = np.random.default_rng(0).uniform(1000, 3000, (3, 9, 8))
    found = summarized(times, Quiet())
    assert (found[0].ratio, found[0].spread, found[0].quotient, found[0].doubt) == (1, 0, 1, 0)
    medians = np.median(times, axis=2)
    for timing, own in zip(found, medians, strict=True):
        assert timing.quotient == found[0].p50 / timing.p50
        assert timing.ratio == pytest.approx(np.median(medians[0] / own))
        assert timing.p50 <= timing.p90 <= timing.p99
        assert timing.rounds == 9
        assert timing.noise is found[0].noise


def test_time_that_runs_out_ends_the_rounds() -> None:
    from fastmnist.measuring.timing import time_interleaved

    made = []
    found = time_interleaved(
        [[lambda: made.append(1)]], rounds=50, calls_per_round=2, what="a list", seconds=0.0
    )
    assert found[0].rounds == 1
    assert len(made) == 4  # a round of warming up, and the one that is always there
