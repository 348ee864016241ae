"""Activations as names and parameters: what is said of them, saved, and refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fastmnist.int8.activation import NAMES, Activation, celu, elu, selu


def test_titles() -> None:
    assert Activation("gelu").title == "GELU"
    assert Activation("leaky_relu", (0.1, 0, 0)).title == "LeakyReLU(0.1)"
    assert [a.title for a in (elu(), elu(0.5), celu(2), selu())] == [
        "ELU(1)", "ELU(0.5)", "CELU(2)", "SELU",
    ]  # fmt: skip
    assert Activation("softplus", (1, 20, 0)).title == "Softplus"
    assert Activation("softplus", (2, 20, 0)).title == "Softplus(2, 20)"


@pytest.mark.parametrize(
    "activation",
    [elu(0.3), celu(0.7), selu(), Activation("leaky_relu", (0.01, 0, 0)), Activation("mish")],
    ids=lambda a: a.title,
)
def test_json_brings_it_back(activation: Activation) -> None:
    text = json.dumps(activation.to_json())
    assert Activation.from_json(json.loads(text)) == activation


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("relu", (0, 0, 0), "name: expected one of leaky_relu, elu"),
        ("elu", (1, 1), "parameters: expected three finite numbers for elu, got 2"),
        ("elu", (1, float("nan"), 1), "parameters: expected three finite numbers for elu, got nan"),
        ("elu", (1, 1e39, 1), "parameters: expected numbers that float32 holds"),
        ("elu", (1, 1, 0), "parameters: expected a positive factor of elu's argument"),
        ("softplus", (1e-60, 20, 0), "parameters: expected a beta of softplus other than 0"),
        ("gelu", (1, 0, 0), "parameters: expected zeros behind the 0 of gelu"),
        ("leaky_relu", (True, 0, 0), "parameters: expected three finite numbers"),
    ],
)
def test_what_is_refused(name: str, parameters: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Activation(name, parameters)


@pytest.mark.parametrize(
    "value",
    [
        None, [], "gelu", {}, {"name": 3}, {"name": "relu"}, {"name": "gelu", "parameters": [1]},
        {"name": "elu"}, {"name": "elu", "parameters": [1, "x", 1]}, {"name": "gelu", "more": 1},
        {"name": "leaky_relu", "parameters": 1}, {"name": "leaky_relu", "parameters": [None]},
        {"name": "leaky_relu", "parameters": [float("inf")]},
    ],
    ids=str,
)  # fmt: skip
def test_json_is_not_trusted(value: Any) -> None:
    with pytest.raises(ValueError, match="expected"):
        Activation.from_json(value)


def test_names_are_in_the_order_of_numbers() -> None:
    defaults = {"softplus": (1, 20, 0), "elu": (1, 1, 1)}
    numbers = [Activation(name, defaults.get(name, (0, 0, 0))).number for name in NAMES]
    assert numbers == list(range(1, len(NAMES) + 1))
