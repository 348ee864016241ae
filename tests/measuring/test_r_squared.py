"""R² batch by batch, against scikit-learn's over all rows."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import r2_score

from fastmnist.measuring.r_squared import RSquared


def r_squared(outputs, targets, size):
    found = RSquared()
    for start in range(0, len(targets), size):
        found.add(outputs[start : start + size], targets[start : start + size])
    return found.value()


@pytest.mark.parametrize("size", [1, 7, 100])
def test_as_scikit_learn_over_all_rows(size):
    random = np.random.default_rng(0)
    targets = random.normal(size=(100, 5)) * [1, 1e-3, 1e3, 0, 0] + [0, 1e4, -1e3, 2, 3]
    outputs = targets + random.normal(size=(100, 5)) * [0.5, 1e-3, 10, 0, 1]
    assert r_squared(outputs, targets, size) == pytest.approx(r2_score(targets, outputs), rel=1e-6)
    for column in range(5):
        one = outputs[:, column : column + 1], targets[:, column : column + 1]
        assert r_squared(*one, size) == pytest.approx(r2_score(one[1], one[0]), rel=1e-6)


def test_what_it_cannot_tell():
    with pytest.raises(ValueError, match="two rows or more, got 1"):
        r_squared(np.ones((1, 1)), np.ones((1, 1)), 1)
    for wrong in (np.nan, np.inf):
        assert np.isnan(r_squared(np.array([[1.0], [wrong]]), np.array([[1.0], [2.0]]), 1))
