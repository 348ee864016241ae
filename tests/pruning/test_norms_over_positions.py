"""Structured pruning beside a BatchNorm1d, which over [N, C, L] normalizes another dimension."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from models import make, randomize
from torch import nn

import fastmnist as fm

ROWS = torch.randn(6, 32, generator=torch.Generator().manual_seed(1))
POSITIONS = torch.randn(6, 32, 32, generator=torch.Generator().manual_seed(2))


def network() -> nn.Module:
    return randomize(
        nn.Sequential(nn.Linear(32, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 4))
    ).eval()


def test_rows_of_another_shape_are_refused_wherever_the_model_goes(tmp_path) -> None:
    pruned = fm.prune(make(network), fm.Structured(0.5))
    assert pruned(ROWS).shape == (6, 4)
    assert repr(pruned[1]).startswith("BatchNorm1d(16")
    fm.save(tmp_path / "a.safetensors", pruned)
    for model in (
        pruned,
        copy.deepcopy(pruned),
        pickle.loads(pickle.dumps(pruned)),
        fm.load(tmp_path / "a.safetensors"),
        fm.load(tmp_path / "a.safetensors", into=make(network)),
    ):
        assert torch.equal(model(ROWS), pruned(ROWS))
        with pytest.raises(ValueError, match=r"layer '0': expected rows .*BatchNorm1d.*exclude="):
            model(POSITIONS)


@pytest.mark.parametrize("how", ["example", "finetune"])
def test_where_rows_show_it_the_layer_is_named(how: str) -> None:
    given = POSITIONS if how == "example" else lambda model: model(POSITIONS)
    with pytest.raises(ValueError, match=r"'0': what it gives goes into a BatchNorm1d"):
        fm.prune(make(network), fm.Structured(0.5), **{how: given})


def test_rows_that_fit_prune_and_fuse_and_quantize() -> None:
    pruned = fm.prune(make(network), fm.Structured(0.5), example=ROWS)
    assert pruned[1].num_features == 16
    fused = fm.fuse(pruned)
    assert type(fused[1]) is not type(pruned[1])
    assert torch.allclose(fused(ROWS), pruned(ROWS), atol=1e-5)
    again = fm.prune(pruned, fm.Structured(0.5, multiple_of=1), example=ROWS)
    assert again[1].num_features == again[0].out_features == 8


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_is_left_can_be_scripted() -> None:
    pruned = fm.prune(make(network), fm.Structured(0.5))
    assert torch.allclose(torch.jit.script(pruned)(ROWS), pruned(ROWS))
