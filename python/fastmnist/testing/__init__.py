"""Checks that guard quantized and pruned models, to call alone or as a pytest suite.

Alone, in any test::

    from fastmnist.testing import assert_accuracy_drop, assert_sqnr

    def test_int8():
        assert_accuracy_drop(quantized, model, data, max=0.2)      # points

As a suite, with one test per variant and check: override two fixtures in the project's
``conftest.py`` (the others are compared with the first variant), and run it::

    @pytest.fixture(scope="session")
    def fastmnist_data():
        return fm.load_dataset("mnist")

    @pytest.fixture(scope="session")
    def fastmnist_variants(fastmnist_data):
        return {"original": model, "int8": fm.quantize(model, fm.Static(fastmnist_data))}

    $ python -m pytest --pyargs fastmnist.testing

or without a conftest: ``python -m pytest --pyargs fastmnist.testing --variants=pkg.mod:fn
--data=mnist``. The fixtures ``fastmnist_limits``, ``fastmnist_metric`` and ``fastmnist_batch_fn``
set the rest: see :mod:`fastmnist.testing.plugin`. Default limits are the same in both.
"""

from __future__ import annotations

from fastmnist.testing.baseline import assert_no_worse
from fastmnist.testing.checks import (
    assert_accuracy_drop,
    assert_agreement,
    assert_bit_equal,
    assert_faster,
    assert_max_error,
    assert_r2,
    assert_smaller,
    assert_sqnr,
)
from fastmnist.testing.latencies import assert_latency
from fastmnist.testing.recipes import assert_recipe_holds

__all__ = [
    "assert_accuracy_drop",
    "assert_agreement",
    "assert_bit_equal",
    "assert_faster",
    "assert_latency",
    "assert_max_error",
    "assert_no_worse",
    "assert_r2",
    "assert_recipe_holds",
    "assert_smaller",
    "assert_sqnr",
]
