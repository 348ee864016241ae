"""prune: which layers, by name, pattern and type."""

from __future__ import annotations

import pytest
import torch
from models import Nested, assert_unchanged, mlp, snapshot
from torch import nn

import fastmnist as fm

HALF = fm.L1Unstructured(0.5)
FIRST, LAST = "body.first.0", "heads.0.1"


def touched(**what):
    pruned = fm.prune(Nested(), HALF, **what)
    return {name for name, share in fm.sparsity(pruned).layers.items() if share}


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ({}, {FIRST, LAST}),
        ({"include": FIRST}, {FIRST}),
        ({"include": [FIRST, LAST]}, {FIRST, LAST}),
        ({"include": (name for name in [LAST])}, {LAST}),
        ({"include": "body"}, {FIRST}),
        ({"include": "body.*"}, {FIRST}),
        ({"include": "*.1"}, {LAST}),
        ({"include": "head?.0"}, {LAST}),
        ({"include": nn.Linear}, {FIRST, LAST}),
        ({"include": nn.ModuleDict}, {FIRST}),
        ({"include": [nn.ModuleDict, LAST]}, {FIRST, LAST}),
        ({"include": Nested}, {FIRST, LAST}),
        ({"exclude": LAST}, {FIRST}),
        ({"exclude": "body"}, {LAST}),
        ({"exclude": {nn.ModuleList}}, {FIRST}),
        ({"include": nn.Linear, "exclude": "heads.*"}, {FIRST}),
        ({"amounts": {FIRST: 0}}, {LAST}),
        ({"include": FIRST, "amounts": {FIRST: 0.3}}, {FIRST}),
        ({"exclude": []}, {FIRST, LAST}),
    ],
)
def test_which(what, expected):
    assert touched(**what) == expected


SHARE = r"amounts\['body.first.0'\]: expected a "
VALID = r"expected one of the model's Linear layers, 'body.first.0', 'heads.0.1', got '{}'"


@pytest.mark.parametrize(
    ("what", "error", "match"),
    [
        ({"include": "linear9"}, ValueError, "include: " + VALID.format("linear9")),
        ({"include": "linear*"}, ValueError, "include: " + VALID.format(r"linear\*")),
        ({"exclude": [FIRST, "nope"]}, ValueError, "exclude: " + VALID.format("nope")),
        ({"exclude": "body.first.1"}, ValueError, "exclude: .*got 'body.first.1'"),
        ({"include": nn.Conv2d}, ValueError, "include: .*is, or is in, got Conv2d$"),
        ({"amounts": {"nope": 0.5}}, ValueError, "amounts: " + VALID.format("nope")),
        ({"amounts": {"body": 0.5}}, ValueError, "amounts: " + VALID.format("body")),
        ({"amounts": {FIRST: 1.5}}, ValueError, SHARE + r"share from 0 to 1, got 1\.5$"),
        ({"amounts": {FIRST: -0.5}}, ValueError, SHARE + r"share from 0 to 1, got -0\.5$"),
        ({"amounts": {FIRST: "1"}}, TypeError, SHARE + "float from 0 to 1, got str$"),
        ({"amounts": [0.5]}, TypeError, "amounts: expected a mapping such as .*, got list$"),
        ({"include": 5}, TypeError, "include: expected names, patterns or types .*, got 5$"),
        ({"include": [None]}, TypeError, "include: expected names, patterns .*, got None$"),
        ({"include": int}, TypeError, "include: expected names, .*, got <class 'int'>$"),
        ({"exclude": nn.Linear}, ValueError, "expected to leave a layer to prune, got none left"),
        ({"include": []}, ValueError, "expected to leave a layer to prune, got none left"),
        ({"exclude": FIRST, "amounts": {FIRST: 0.5}}, ValueError, "leave, got 'body.first.0'$"),
        ({"amounts": {FIRST: 0, LAST: 0}}, ValueError, "got 0, which removes none$"),
    ],
)
def test_what_does_not_fit(what, error, match):
    model = Nested()
    before = snapshot(model)
    for method in (HALF, fm.Structured(0.5, multiple_of=1)):
        with pytest.raises(error, match=match):
            fm.prune(model, method, **what)
    assert_unchanged(model, before)


@pytest.mark.parametrize("what", [{"include": "0"}, {"exclude": "0"}, {"amounts": {"0": 0.5}}])
def test_masks_name_their_layers(what):
    with pytest.raises(ValueError, match="expected none of them together with masks"):
        fm.prune(mlp(), {"0": torch.zeros(33, 12)}, **what)


def test_many_names_are_not_all_listed():
    model = nn.Sequential(*(nn.Linear(2, 2) for _ in range(30)))
    with pytest.raises(ValueError, match=r"'19', …, got 'x'$"):
        fm.prune(model, HALF, include="x")
