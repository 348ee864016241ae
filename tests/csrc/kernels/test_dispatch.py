"""The ladder of instruction sets, and the environment variable that caps it."""

from __future__ import annotations

import pytest
from processes import python

from fastmnist import _core

NAMES = ["amx_int8", "avx512_vnni", "avx2", "scalar"]
RUNNABLE = {
    rung["isa"]
    for rung in _core.cpu_info()["ladder"]
    if not rung["why_not"] or rung["why_not"].startswith("capped")
}


def test_ladder() -> None:
    info = _core.cpu_info()
    assert [rung["isa"] for rung in info["ladder"]] == NAMES
    assert [rung["isa"] for rung in info["ladder"] if rung["taken"]] == [info["isa"]]
    assert "scalar" in RUNNABLE
    assert info["model"]
    assert info["threads"] >= 1


@pytest.mark.parametrize("isa", NAMES)
def test_isa_of_the_environment(isa: str) -> None:
    code = "from fastmnist import _core; i = _core.cpu_info(); print(i['isa']); print(i['ladder'])"
    done = python(code, FASTMNIST_ISA=isa)
    assert done.returncode == 0, done.stderr
    taken, ladder = done.stdout.splitlines()
    expected = next(name for name in NAMES[NAMES.index(isa) :] if name in RUNNABLE)
    assert taken == expected
    for better in NAMES[: NAMES.index(isa)]:
        if better in RUNNABLE:
            assert f"capped by FASTMNIST_ISA={isa}" in ladder


def test_empty_value_is_no_cap() -> None:
    code = "from fastmnist import _core; print(_core.cpu_info()['isa'])"
    best = next(name for name in NAMES if name in RUNNABLE)
    assert python(code, FASTMNIST_ISA="").stdout.strip() == best


@pytest.mark.parametrize("value", ["nonsense", "AVX2", "avx2 ", "avx512"])
@pytest.mark.parametrize(
    "call",
    [
        "_core.cpu_info()",
        "_core.set_isa('scalar')",
        "_core.row_range(np.zeros(3, np.float32))",
    ],
)
def test_unknown_value_raises(value: str, call: str) -> None:
    code = (
        "import numpy as np\n"
        "from fastmnist import _core\n"
        f"try: {call}\n"
        "except ValueError as error: print(error)"
    )
    done = python(code, FASTMNIST_ISA=value)
    assert done.stdout.strip() == (
        f"FASTMNIST_ISA: expected one of amx_int8, avx512_vnni, avx2, scalar, got '{value}'"
    ), done.stderr


def test_a_model_raises_too() -> None:
    code = (
        "import numpy as np\n"
        "from fastmnist import _core\n"
        "one = np.ones(1, np.float32)\n"
        "layer = _core.Layer(np.ones((1, 2), np.int8), one, None, 0, 1, 1, 0)\n"
        "model = _core.Model(_core.pack([layer], 'static', forms=[[]]))\n"
        "try: model(np.zeros((1, 2), np.float32))\n"
        "except ValueError as error: print(error)"
    )
    assert "FASTMNIST_ISA: expected one of" in python(code, FASTMNIST_ISA="sse").stdout


def test_set_isa(isa: str) -> None:
    assert _core.cpu_info()["isa"] == isa
    assert _core.set_isa("scalar") == isa
    assert _core.set_isa(isa) == "scalar"


@pytest.mark.parametrize("name", ["nonsense", "", "AVX2"])
def test_set_isa_refuses(name: str) -> None:
    before = _core.cpu_info()["isa"]
    with pytest.raises(
        ValueError, match="isa: expected one of amx_int8, avx512_vnni, avx2, scalar, got"
    ):
        _core.set_isa(name)
    assert _core.cpu_info()["isa"] == before


def test_sets_that_cannot_run_are_refused() -> None:
    for name in NAMES:
        if name not in RUNNABLE:
            with pytest.raises(ValueError, match="an instruction set that this machine runs"):
                _core.set_isa(name)
