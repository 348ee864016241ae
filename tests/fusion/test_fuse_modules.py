"""fuse_modules: named sequences, with torch.ao's signature."""

from __future__ import annotations

import copy

import pytest
import torch
from models import quality, randomize, same
from torch import nn
from torch.nn.utils import prune as torch_prune

import fastmnist as fm
from fastmnist.layers.fused import FusedLinear

X = torch.randn(50, 12, generator=torch.Generator().manual_seed(0))


def model():
    return randomize(
        nn.Sequential(
            nn.Linear(12, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4), nn.Hardtanh()
        )
    ).eval()


def test_fused_in_eval_mode():
    original = model()
    fused = fm.fuse_modules(original, [["0", "1", "2"], ["3", "4"]])
    kinds = "FusedLinear Identity Identity FusedLinear Identity"
    assert [type(m).__name__ for m in fused] == kinds.split()
    with torch.no_grad():
        assert torch.allclose(fused(X), original(X), atol=1e-6)
    assert isinstance(original[1], nn.BatchNorm1d)
    assert [c.layer for c in fm.changes(fused)] == ["0", "0", "3"]
    q = fm.quantize(fused, fm.Static(X))
    assert same(q(X), fm.quantize(original, fm.Static(X))(X))


def test_fused_in_training_mode_trains_on():
    original = model().train()
    fused = fm.fuse_modules(original, ["0", "1", "2"])
    assert isinstance(fused[0], FusedLinear)
    assert isinstance(fused[0].norm_after, nn.BatchNorm1d)
    with torch.no_grad():
        assert torch.allclose(fused(X), copy.deepcopy(original)(X), atol=1e-6)
    again = fm.prepare_qat(fused)
    again(X).sum().backward()
    assert same(again.eval()(X), fm.convert(again)(X))
    assert same(
        fm.quantize(fused, fm.Static(X))(X),
        fm.quantize(fused.eval(), fm.Static(X))(X),
    )


def test_masks_are_folded_in():
    original = model()
    torch_prune.l1_unstructured(original[0], "weight", 0.5)
    fused = fm.fuse_modules(original, ["0", "1", "2"])
    with torch.no_grad():
        assert torch.allclose(fused(X), original(X), atol=1e-6)
    assert float((fused[0].weight == 0).float().mean()) == 0.5


@pytest.mark.parametrize(
    ("groups", "error", "message"),
    [
        ([["0", "nope"]], ValueError, "names of the model's modules, got 'nope'"),
        ([["0", "3"]], ValueError, "got .*Linear [+] Linear"),
        ([["2", "0"]], ValueError, "expected Linear or Conv"),
        ([["0"]], ValueError, "expected Linear or Conv"),
        ([["0", "2", "4"]], ValueError, "expected Linear or Conv"),
        ("0", TypeError, "expected lists of names"),
        (3, TypeError, "expected lists of names"),
        ([["0", 2]], TypeError, "expected a list of names"),
        ([["3", "1"]], ValueError, "running statistics of 4 features, got 16"),
    ],
)
def test_errors_change_nothing(groups, error, message):
    original = model()
    before = str(original)
    with pytest.raises(error, match=message):
        fm.fuse_modules(original, groups, inplace=True)
    assert str(original) == before
    with pytest.raises(ValueError, match="fuser_func: expected None"):
        fm.fuse_modules(original, [["0", "1"]], fuser_func=len)


def test_nothing_to_fuse():
    assert str(fm.fuse_modules(model(), [])) == str(model())


def test_a_norm_before_a_fused_layer_without_bias():
    model = randomize(nn.Sequential(nn.BatchNorm1d(12), nn.Linear(12, 8, bias=False), nn.ReLU()))
    fused = fm.fuse_modules(model.eval(), [["1", "2"]])
    assert quality(model, fm.quantize(fused, fm.Static(X)), X) > 25


def test_hooks_of_the_first_and_the_last_module_run_at_the_fused_one():
    original, seen = model(), []
    plain = copy.deepcopy(original)
    original[0].register_forward_pre_hook(lambda _, args: seen.append(("before", args[0].shape)))
    original[2].register_forward_hook(lambda _, args, y: seen.append(("after", y.min().item())))
    fused = fm.fuse_modules(original, [["0", "1", "2"]])
    assert not fused[2]._forward_hooks
    with torch.no_grad():
        assert torch.allclose(fused(X), plain(X), atol=1e-6)
    assert seen == [("before", X.shape), ("after", 0.0)]
    q = fm.quantize(fused, fm.Static(X))
    seen.clear()
    q(X)
    assert [when for when, _ in seen] == ["before", "after"]


@pytest.mark.parametrize(
    ("at", "hook"),
    [
        (0, lambda m: m.register_forward_hook(lambda *_: None)),
        (1, lambda m: m.register_forward_hook(lambda *_: None)),
        (1, lambda m: m.register_forward_pre_hook(lambda *_: None)),
        (2, lambda m: m.register_forward_pre_hook(lambda *_: None)),
        (2, lambda m: m.register_full_backward_hook(lambda *_: None)),
    ],
)
def test_other_hooks_are_not_fused_away(at, hook):
    original = model()
    hook(original[at])
    with pytest.raises(ValueError, match=f"expected hooks only before .* got one on '{at}'"):
        fm.fuse_modules(original, [["0", "1", "2"]])


@pytest.mark.parametrize(
    "kind", ["Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d"]
)
def test_convolutions_and_their_norms(kind):
    d = int(kind[-2])
    layer, norm = getattr(nn, kind)(2, 3, 3), getattr(nn, f"BatchNorm{d}d")(3)
    original = randomize(nn.Sequential(layer, norm, nn.ReLU(), getattr(nn, f"BatchNorm{d}d")(3)))
    with torch.no_grad():
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    seen = []
    original[1].register_forward_hook(lambda _, args, y: seen.append(y))
    original.add_module("4", nn.ReLU())
    fused = fm.fuse_modules(original, [["0", "1"], ["3", "4"]], fuse_custom_config_dict={})
    x = torch.randn(2, 2, *[6] * d)
    with torch.no_grad():
        assert torch.allclose(fused(x), original(x), atol=1e-5)
    assert len(seen) == 2
    assert torch.allclose(*seen, atol=1e-5)
    with pytest.raises(ValueError, match="fuse_custom_config_dict: expected None or nothing"):
        fm.fuse_modules(original, [["0", "1"]], fuse_custom_config_dict={"additional": {1: 2}})


class Order(nn.Module):
    """Its modules stand in one order, and are called in others."""

    def __init__(self, how) -> None:
        super().__init__()
        self.a, self.r, self.b, self.how = nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), how

    def forward(self, x):
        return self.how(self, x)


@pytest.mark.parametrize(
    "how",
    [
        lambda m, x: m.b(m.r(m.a(x)) + m.a(x)),
        lambda m, x: (lambda h: m.b(m.r(h)) + h)(m.a(x)),
        lambda m, x: m.b(m.a(m.r(x))),
        lambda m, x: m.r(m.b(m.r(m.a(x)))),
    ],
)
def test_modules_that_do_not_follow_each_other_are_refused(how):
    with pytest.raises(ValueError, match="expected 'r' alone to read what 'a' gives"):
        fm.fuse_modules(Order(how).eval(), [["a", "r"]])
