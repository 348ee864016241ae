"""Hooks of quantized models: they run, see what they saw, and may change it."""

from __future__ import annotations

from models import Nested, X, make
from torch import nn

import fastmnist as fm


def test_hooks_still_run_and_see_what_they_saw():
    model = make(Nested)
    seen = {}

    def note(name):
        def hook(module, args, kwargs=None, y=None):
            seen.setdefault(name, []).append([type(a).__name__ for a in args])

        return hook

    model.body["first"].register_forward_hook(lambda m, a, y: note("container")(m, a))
    model.body["first"][0].register_forward_pre_hook(note("pre"))
    model.heads[0][1].register_forward_hook(lambda m, a, k, y: note("kw")(m, a), with_kwargs=True)
    model.heads[0][1].register_forward_pre_hook(
        lambda m, a, k: note("pre kw")(m, a), with_kwargs=True
    )
    model.register_forward_hook(lambda m, a, y: note("root")(m, a))
    expected = model.eval()(X).detach()
    seen.clear()
    q = fm.quantize(model, fm.Dynamic())
    assert not seen  # tracing does not run them on symbols
    assert (q(X) - expected).abs().max() < 0.05
    assert set(seen) == {"container", "pre", "kw", "pre kw", "root"}
    assert all(calls == [["Tensor"]] for calls in seen.values())
    seen.clear()
    q = fm.quantize(model, fm.Static(X))
    assert all(a == ["Tensor"] for calls in seen.values() for a in calls)
    assert (q(X) - expected).abs().max() < 0.05


def test_a_hook_that_changes_values_is_honoured():
    model = make(lambda: nn.Sequential(nn.Sequential(nn.Linear(12, 8), nn.ReLU()), nn.Linear(8, 4)))
    model[0].register_forward_hook(lambda m, a, y: y * 3 - 1)
    q = fm.quantize(model, fm.Static(X))
    assert (q(X) - model(X)).detach().abs().max() < 0.1
