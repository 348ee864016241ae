"""The probe of the core's limits: that it gives figures, never which."""

from __future__ import annotations

import math

import pytest

from fastmnist import _core

RATES = ("products_per_second", "random_products_per_second", "float_products_per_second")


@pytest.mark.slow
def test_limits(isa: str) -> None:
    limits = _core.measure_limits(isa)
    assert limits["isa"] == isa
    for name in RATES:
        assert math.isfinite(limits[name])
        assert limits[name] > 0
    for level in ("l1", "l2", "l3", "memory"):
        assert math.isfinite(limits[level]["bytes_per_second"])
        assert limits[level]["bytes_per_second"] > 0
        assert limits[level]["buffer_bytes"] > 0


def test_measuring_changes_nothing() -> None:
    before = _core.cpu_info()["isa"]
    _core.measure_limits("scalar")
    assert _core.cpu_info()["isa"] == before


@pytest.mark.parametrize("name", ["", "nonsense", "AVX2"])
def test_unknown_sets_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="isa: expected one of amx_int8, avx512_vnni, avx2, scal"):
        _core.measure_limits(name)


def test_sets_that_cannot_run_are_refused() -> None:
    for rung in _core.cpu_info()["ladder"]:
        if rung["why_not"] and not rung["why_not"].startswith("capped"):
            with pytest.raises(ValueError, match="an instruction set that this machine runs"):
                _core.measure_limits(rung["isa"])
