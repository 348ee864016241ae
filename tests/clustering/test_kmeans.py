"""k-means in one dimension, held against trying all, and against plain steps of Lloyd's."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmnist.clustering.kmeans import kmeans


def error(values: npt.NDArray[np.float32], n: int, most: int = 1024) -> float:
    centroids, indices = kmeans(values, n, most)
    assert centroids.dtype == np.float32
    assert len(centroids) <= n
    assert (np.diff(centroids) > 0).all()
    assert indices.min() >= 0
    # Each value has its nearest centroid.
    distance = np.abs(values[:, None].astype(np.float64) - centroids)
    own = np.take_along_axis(distance, indices[:, None], 1)[:, 0]
    assert (own <= distance.min(axis=1) + 1e-6 * np.abs(values).max()).all()
    return float((own**2).sum())


def least(values: npt.NDArray[np.float32], n: int) -> float:
    """The least error of all ways to cut the sorted values."""
    ordered = np.sort(values).astype(np.float64)
    cuts = itertools.combinations(range(1, len(ordered)), min(n, len(ordered)) - 1)
    parts = (np.split(ordered, cut) for cut in cuts)
    return min(sum(float(((p - p.mean()) ** 2).sum()) for p in ways) for ways in parts)


@given(
    st.lists(st.integers(-20, 20), min_size=1, max_size=9),
    st.integers(1, 5),
    st.sampled_from([1.0, 1e-3, 1e4]),
)
def test_few_values_have_the_least_error(numbers: list[int], n: int, scale: float) -> None:
    values = np.array(numbers, np.float32) * np.float32(scale)
    assert error(values, n) == pytest.approx(least(values, n), rel=1e-4, abs=1e-6 * scale**2)


def test_values_that_are_few_enough_stay() -> None:
    values = np.array([3, -1, 3, 0.5, -1], np.float32)
    centroids, indices = kmeans(values, 3)
    assert np.array_equal(centroids[indices], values)
    assert len(kmeans(values, 200)[0]) == 3


@pytest.mark.parametrize("n", [2, 5, 16, 64, 255])
@pytest.mark.parametrize("draw", ["normal", "laplace", "uniform", "clumps"])
def test_many_values(n: int, draw: str) -> None:
    rng = np.random.default_rng(n)
    if draw == "clumps":
        values = (rng.integers(-30, 31, 20_000) + 1e-3 * rng.normal(size=20_000)) / 100
    else:
        values = getattr(rng, draw)(size=20_000) * 0.05
    values = values.astype(np.float32)
    whole, alone = error(values, n), error(values, n, most=0)
    assert len(kmeans(values, n)[0]) == n
    assert whole <= alone * (1 + 1e-9)  # two starts are not worse than the linear one
    assert whole <= plain_lloyd(values, n) * 1.02


def plain_lloyd(values: npt.NDArray[np.float32], n: int) -> float:
    """By the book, with distances; empty clusters stay where they are."""
    centroids = np.linspace(values.min(), values.max(), n)
    ordered = values.astype(np.float64)
    for _ in range(200):
        nearest = np.abs(ordered[:, None] - centroids).argmin(axis=1)
        count = np.bincount(nearest, minlength=n)
        sums = np.bincount(nearest, ordered, minlength=n)
        moved = np.where(count > 0, sums / np.maximum(count, 1), centroids)
        if np.allclose(moved, centroids, atol=1e-12):
            break
        centroids = moved
    return float(((ordered - centroids[nearest]) ** 2).sum())


def test_it_does_not_matter_where_the_values_lie() -> None:
    values = np.random.default_rng(0).normal(size=3000).astype(np.float32)
    shifted = error(values + np.float32(64), 8)
    assert shifted == pytest.approx(error(values, 8), rel=1e-3)
