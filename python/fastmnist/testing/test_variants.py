"""The comparison suite: ``pytest --pyargs fastmnist.testing`` runs each check on each variant.

If the project's conftest.py is not where pytest starts, import these tests into one of your own
files: ``from fastmnist.testing.test_variants import *``.
"""

from __future__ import annotations

from typing import Any

import pytest

from fastmnist.testing import checks
from fastmnist.testing.baseline import assert_no_worse
from fastmnist.testing.plugin import Suite

__all__ = [
    "test_accuracy_drop",
    "test_agreement",
    "test_bit_equal",
    "test_faster",
    "test_max_error",
    "test_no_worse",
    "test_r2",
    "test_smaller",
    "test_sqnr",
]


def _limit(suite: Suite, check: str, variant: str) -> Any:
    limit = suite.limit(check, variant)
    if limit is None or limit is False:
        pytest.skip(f"no limit for {check}")
    return limit


def _compared(suite: Suite, variant: str) -> tuple[Any, Any, Any]:
    return suite.variants[variant], suite.reference, suite.data


def test_accuracy_drop(fastmnist_suite: Suite, fastmnist_variant: str) -> None:
    limit = _limit(fastmnist_suite, "accuracy_drop", fastmnist_variant)
    variant, reference, data = _compared(fastmnist_suite, fastmnist_variant)
    metric, batch_fn = fastmnist_suite.metric, fastmnist_suite.batch_fn
    checks.assert_accuracy_drop(
        variant, reference, data, max=limit, metric=metric, batch_fn=batch_fn
    )


def test_agreement(fastmnist_suite: Suite, fastmnist_variant: str) -> None:
    limit = _limit(fastmnist_suite, "agreement", fastmnist_variant)
    if fastmnist_suite.is_regression:
        pytest.skip("no classes: limits for a regression are r2 and max_error")
    variant, reference, data = _compared(fastmnist_suite, fastmnist_variant)
    checks.assert_agreement(variant, reference, data, min=limit, batch_fn=fastmnist_suite.batch_fn)


def test_r2(fastmnist_suite: Suite, fastmnist_variant: str) -> None:
    limit = _limit(fastmnist_suite, "r2", fastmnist_variant)
    variant, reference, data = _compared(fastmnist_suite, fastmnist_variant)
    checks.assert_r2(variant, reference, data, min=limit, batch_fn=fastmnist_suite.batch_fn)


def test_max_error(fastmnist_suite: Suite, fastmnist_variant: str) -> None:
    limit = _limit(fastmnist_suite, "max_error", fastmnist_variant)
    variant, reference, data = _compared(fastmnist_suite, fastmnist_variant)
    checks.assert_max_error(variant, reference, data, max=limit, batch_fn=fastmnist_suite.batch_fn)


def test_sqnr(fastmnist_suite: Suite, fastmnist_variant: str) -> None:
    limit = _limit(fastmnist_suite, "sqnr", fastmnist_variant)
    variant, reference, data = _compared(fastmnist_suite, fastmnist_variant)
    checks.assert_sqnr(variant, reference, data, min_db=limit, batch_fn=fastmnist_suite.batch_fn)


def test_smaller(fastmnist_suite: Suite, fastmnist_variant: str) -> None:
    limit = _limit(fastmnist_suite, "smaller", fastmnist_variant)
    variant, reference, _ = _compared(fastmnist_suite, fastmnist_variant)
    checks.assert_smaller(variant, reference, ratio=limit)


def test_faster(fastmnist_suite: Suite, fastmnist_variant: str) -> None:
    limit = _limit(fastmnist_suite, "faster", fastmnist_variant)
    variant, reference, data = _compared(fastmnist_suite, fastmnist_variant)
    checks.assert_faster(variant, reference, data, ratio=limit, batch_fn=fastmnist_suite.batch_fn)


def test_bit_equal(fastmnist_suite: Suite, fastmnist_variant: str) -> None:
    from fastmnist.compilation.compiling import compile as compile_model
    from fastmnist.layers.linear import is_int8_linear
    from fastmnist.runtime.compiled import CompiledModel

    _limit(fastmnist_suite, "bit_equal", fastmnist_variant)
    model = fastmnist_suite.variants[fastmnist_variant]
    data, batch_fn = fastmnist_suite.data, fastmnist_suite.batch_fn
    if isinstance(model, CompiledModel):

        def row_by_row(x: Any) -> Any:
            import torch

            return torch.cat([model(row[None]) for row in x])

        checks.assert_bit_equal(row_by_row, model, data, batch_fn=batch_fn)
        return
    parts: Any = getattr(model, "modules", list)()
    if not any(is_int8_linear(part) for part in parts):
        pytest.skip("no int8 layers of fastmnist's")
    try:
        compiled = compile_model(model)
    except (TypeError, ValueError) as error:
        pytest.skip(f"does not compile: {error}")
    checks.assert_bit_equal(compiled, model, data, batch_fn=batch_fn)


def test_no_worse(fastmnist_suite: Suite, pytestconfig: pytest.Config) -> None:
    baseline = pytestconfig.getoption("fastmnist_baseline")
    if not baseline:
        pytest.skip("no --baseline=FILE")
    from fastmnist.comparison.comparing import compare

    report = compare(
        fastmnist_suite.variants,
        fastmnist_suite.data,
        rounds=3,
        metric=fastmnist_suite.metric,
        batch_fn=fastmnist_suite.batch_fn,
    )
    if pytestconfig.getoption("fastmnist_update_baseline"):
        report.to_json(baseline)
        return
    limit = fastmnist_suite.limit("no_worse")
    if limit is None:
        pytest.skip("no limit for no_worse")
    assert_no_worse(report, baseline, points=limit)
