"""One way to transform: the same arguments mean the same everywhere."""

from __future__ import annotations

import pytest
import torch
from models import assert_unchanged, mlp, snapshot
from torch import nn

import fastmnist as fm
from fastmnist.rewriting.transform import Transform, applies, transform_of

GENERATOR = torch.Generator().manual_seed(5)
X = torch.randn(64, 12, generator=GENERATOR)
Y = torch.randint(0, 5, (64,), generator=GENERATOR)

VERBS = {
    "fuse": fm.fuse,
    "static": lambda m, **o: fm.quantize(m, fm.Static(X), **o),
    "dynamic": lambda m, **o: fm.quantize(m, fm.Dynamic(), **o),
    "half": lambda m, **o: fm.quantize(m, fm.Half(), **o),
    "prepare": fm.prepare,
    "prepare_qat": fm.prepare_qat,
    "prune": lambda m, **o: fm.prune(m, fm.L1Unstructured(0.5), **o),
}


def touched(result) -> set[str]:
    """Which of the three layers are no longer what they were."""
    before = mlp()
    return {
        name
        for name in ("0", "3", "5")
        if type(result.get_submodule(name)) is not type(before.get_submodule(name))
        or hasattr(result.get_submodule(name), "weight_mask")
    }


@pytest.mark.parametrize("verb", VERBS)
def test_include_and_exclude(verb):
    every = {"0", "3"} if verb == "fuse" else {"0", "3", "5"}  # the last has nothing to fuse with
    for options, expected in (
        ({}, every),
        ({"include": "0"}, {"0"}),
        ({"include": iter(["0", "3"])}, {"0", "3"}),
        ({"exclude": (name for name in ("3",))}, every - {"3"}),
        ({"include": nn.Linear, "exclude": "[05]"}, {"3"}),
    ):
        result = VERBS[verb](mlp(), **options)
        # Fusing happens before anything else: those become FusedLinear in any case.
        fused = {"0", "3"} if verb not in ("fuse", "prune") else set()
        assert touched(result) - fused == expected - fused
        kinds = {c.layer for c in fm.changes(result) if c.kind not in ("fused", "dropped", "left")}
        assert kinds == (set() if verb.startswith(("fuse", "prepare")) else expected)
    for options, match in (
        ({"include": "nothing"}, "include: expected one of the model's .* got 'nothing'"),
        ({"exclude": nn.Linear}, "include, exclude: expected to leave a layer"),
        ({"include": 7}, "include: expected names, patterns or types"),
    ):
        with pytest.raises((TypeError, ValueError), match=match):
            VERBS[verb](mlp(), **options)


@pytest.mark.parametrize("verb", VERBS)
def test_in_place_is_the_same_object_with_the_same_answers(verb):
    model = mlp()
    before = snapshot(model)
    parameters = {name: (id(p), p.requires_grad) for name, p in model.named_parameters()}
    copied = VERBS[verb](model)
    assert_unchanged(model, before)
    after = {name: (id(p), p.requires_grad) for name, p in model.named_parameters()}
    assert after == parameters
    kept = model[1] if verb == "prune" else None
    result = VERBS[verb](model, inplace=True)
    assert result is model
    assert kept is None or model[1] is kept
    assert str(result) == str(copied)
    with torch.no_grad():
        assert torch.equal(result.eval()(X), copied.eval()(X))
    assert [str(c) for c in fm.changes(result)] == [str(c) for c in fm.changes(copied)]


@pytest.mark.parametrize("verb", VERBS)
def test_an_error_leaves_the_model_as_it_was(verb):
    model = mlp()
    before = snapshot(model)
    for options in ({"include": "nothing"}, {"example": torch.zeros(2, 3)}):
        with pytest.raises(ValueError, match=r"include|example|calibration"):
            VERBS[verb](model, inplace=True, **options)
        assert_unchanged(model, before)


def test_max_drop_means_the_same():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 5))
    fm.train(model, (X, Y), epochs=40, lr=1e-2, seed=0)
    for make in (
        lambda **o: fm.quantize(model, fm.Static(X), **o),
        lambda **o: fm.prune(model, fm.L1Unstructured(0.95), **o),
    ):
        result = make(max_drop=100.0, data=(X, Y))
        assert {c.layer for c in fm.changes(result) if c.kind != "fused"} == {"0", "2"}
        with pytest.raises(ValueError, match="expected beside max_drop= alone"):
            make(data=(X, Y))
        with pytest.raises(ValueError, match="data: expected data with targets"):
            fm.prune(model, fm.L1Unstructured(0.5), max_drop=1.0)
    pruned = fm.prune(model, fm.L1Unstructured(0.9), max_drop=60.0, data=(X, Y))
    assert float(fm.evaluate(model, (X, Y)) - fm.evaluate(pruned, (X, Y))) <= 0.6
    with pytest.raises(ValueError, match="max_drop: expected a loss of at most 0"):
        fm.prune(model, fm.L1Unstructured(1.0), max_drop=0.0, data=(X, Y))


def test_configurations_name_their_transform():
    for config in (
        fm.Static(X), fm.Dynamic(), fm.Half(), fm.QAT(), fm.L1Unstructured(0.5),
        fm.RandomUnstructured(0.5), fm.Structured(0.5), fm.CustomMask({"0": torch.ones(33, 12)}),
    ):  # fmt: skip
        assert isinstance(transform_of(config), Transform)
    with pytest.raises(TypeError, match=r"config: expected one of .*Dynamic.*got int"):
        transform_of(3)

    class Mine:
        pass

    made = object()
    applies(Mine)(lambda config: made)
    assert transform_of(Mine()) is made


# ---- models that are int8 already ----------------------------------------------------------------


def test_models_that_are_int8_already():
    q = fm.quantize(mlp(), fm.Static(X))
    expected = q(X)
    assert torch.equal(fm.fuse(q)(X), expected)  # nothing to fuse: the same model
    for verb in ("static", "dynamic", "half", "prepare"):
        with pytest.raises(ValueError, match=r"quantized already: fm.prepare_qat"):
            VERBS[verb](q)
    with pytest.raises(ValueError, match="prune before quantizing"):
        VERBS["prune"](q)
    again = fm.prepare_qat(q).train()
    again(X)
    assert torch.allclose(fm.convert(again)(X), expected, atol=0.05)


def test_models_that_are_int8_in_part():
    part = fm.quantize(mlp(), fm.Static(X), include="0")
    first = {key: value.clone() for key, value in part[0].state_dict().items()}
    reference = mlp().eval()(X).detach()
    for verb in ("dynamic", "static", "half"):
        both = VERBS[verb](part)
        assert all(torch.equal(both[0].state_dict()[key], value) for key, value in first.items())
        assert (both(X) - reference).abs().max() < 0.06
        assert {c.layer for c in fm.changes(both) if "int8" in c.kind or "16" in c.kind} >= {
            "3",
            "5",
        }
    assert torch.equal(fm.fuse(part)(X), part(X))
    pruned = VERBS["prune"](part)
    assert torch.equal(pruned[0].weight_int8, part[0].weight_int8)
    assert fm.sparsity(pruned).layers["3"] == pytest.approx(0.5, abs=0.01)
    with pytest.raises(ValueError, match=r"Linear layers, .*, got '0'"):
        fm.prune(part, fm.L1Unstructured(0.5), include="0")
