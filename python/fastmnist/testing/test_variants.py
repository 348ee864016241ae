"""The comparison suite: ``pytest --pyargs fastmnist.testing`` runs each check on each variant.

A project whose conftest.py is not where pytest starts imports these tests into one of its own
files: ``from fastmnist.testing.test_variants import *``.
"""

from __future__ import annotations

from typing import Any

import pytest

from fastmnist.testing import checks
from fastmnist.testing.plugin import Suite

__all__ = [
    "test_accuracy_drop",
    "test_agreement",
    "test_bit_equal",
    "test_faster",
    "test_no_worse",
    "test_smaller",
    "test_sqnr",
]


def _limit(suite: Suite, check: str, variant: str) -> Any:
    limit = suite.limit(check, variant)
    if limit is None or limit is False:
        pytest.skip(f"no limit for {check}")
    return limit


def test_accuracy_drop(fastmnist_suite: Suite, fastmnist_variant: str) -> None:
    limit = _limit(fastmnist_suite, "accuracy_drop", fastmnist_variant)
    model = fastmnist_suite.variants[fastmnist_variant]
    checks.assert_accuracy_drop(model, fastmnist_suite.reference, fastmnist_suite.data, max=limit)


def test_agreement(fastmnist_suite: Suite, fastmnist_variant: str) -> None:
    limit = _limit(fastmnist_suite, "agreement", fastmnist_variant)
    model = fastmnist_suite.variants[fastmnist_variant]
    checks.assert_agreement(model, fastmnist_suite.reference, fastmnist_suite.data, min=limit)


def test_sqnr(fastmnist_suite: Suite, fastmnist_variant: str) -> None:
    limit = _limit(fastmnist_suite, "sqnr", fastmnist_variant)
    model = fastmnist_suite.variants[fastmnist_variant]
    checks.assert_sqnr(model, fastmnist_suite.reference, fastmnist_suite.data, min_db=limit)


def test_smaller(fastmnist_suite: Suite, fastmnist_variant: str) -> None:
    limit = _limit(fastmnist_suite, "smaller", fastmnist_variant)
    model = fastmnist_suite.variants[fastmnist_variant]
    # Names of layers that were fused or dropped take some bytes more.
    checks.assert_smaller(model, fastmnist_suite.reference, ratio=limit * 0.99)


def test_faster(fastmnist_suite: Suite, fastmnist_variant: str) -> None:
    limit = _limit(fastmnist_suite, "faster", fastmnist_variant)
    model = fastmnist_suite.variants[fastmnist_variant]
    checks.assert_faster(model, fastmnist_suite.reference, fastmnist_suite.data, ratio=limit)


def test_bit_equal(fastmnist_suite: Suite, fastmnist_variant: str) -> None:
    from fastmnist.compilation.compiling import compile as compile_model
    from fastmnist.layers.linear import is_int8_linear
    from fastmnist.runtime.compiled import CompiledModel

    _limit(fastmnist_suite, "bit_equal", fastmnist_variant)
    model = fastmnist_suite.variants[fastmnist_variant]
    if isinstance(model, CompiledModel):

        def row_by_row(x: Any) -> Any:
            import torch

            return torch.cat([model(row[None]) for row in x])

        checks.assert_bit_equal(row_by_row, model, fastmnist_suite.data)
        return
    parts: Any = getattr(model, "modules", list)()
    if not any(is_int8_linear(part) for part in parts):
        pytest.skip("no int8 layers of fastmnist's")
    try:
        compiled = compile_model(model)
    except (TypeError, ValueError) as error:
        pytest.skip(f"does not compile: {error}")
    checks.assert_bit_equal(compiled, model, fastmnist_suite.data)


def test_no_worse(fastmnist_suite: Suite, pytestconfig: pytest.Config) -> None:
    baseline = pytestconfig.getoption("fastmnist_baseline")
    if not baseline:
        pytest.skip("no --baseline=FILE")
    from fastmnist.comparison.comparing import compare

    report = compare(fastmnist_suite.variants, fastmnist_suite.data, rounds=3)
    if pytestconfig.getoption("fastmnist_update_baseline"):
        report.to_json(baseline)
        return
    checks.assert_no_worse(report, baseline)
