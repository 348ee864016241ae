"""Random models through every transform, saved, loaded, pickled, copied: right, or refused.

A hundred models by default; ``--models 3000 --first-model 100`` runs others. A failing test names
the model's number: ``python -m pytest tests/differential -k "model[17]"``.
"""

from __future__ import annotations

import pytest
from random_models import draw
from right_or_refused import Checks, Refusals

REFUSED = Refusals()
SEEN: list[int] = []


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "number" in metafunc.fixturenames:
        first = metafunc.config.getoption("--first-model")
        count = metafunc.config.getoption("--models")
        metafunc.parametrize("number", range(first, first + count))


def test_model(number: int) -> None:
    Checks(draw(number), REFUSED).all()
    SEEN.append(number)


def few_of(names: tuple[str, ...]) -> list[str]:
    """The same with weights of few bits."""
    return [f"{name}, 4 bits" for name in names]


@pytest.mark.skipif("len(SEEN) < 50", reason="says something of many models only")
def test_refusals_are_the_exception() -> None:
    share = {what: count / len(SEEN) for what, count in REFUSED.items()}
    int8 = ("Dynamic", "Static", "prepare", "QAT")
    for what in ("fuse", *int8, *few_of(int8), "Half", "prune", "factorize"):
        assert share.get(what, 0.0) < 0.15, share
    compiled = ("compile", "compile, static", "compile, dynamic")
    quantized = (f"compile({what})" for what in (*int8, *few_of(int8)))
    for what in (*compiled, *quantized):
        assert share.get(what, 0.0) < 0.10, share
    # One output, of which 3 distinct weights are many.
    for what in ("cluster by layer", "cluster by channel"):
        assert share.get(what, 0.0) < 0.3, share
