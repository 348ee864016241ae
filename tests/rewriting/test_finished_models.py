"""Models that torch.jit or torch.export finished: refused, with what to do instead."""

from __future__ import annotations

import pytest
import torch
from models import X, make
from torch import fx, nn

import fastmnist as fm


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 4)).eval()


FINISHED = {
    "script": lambda model: torch.jit.script(model),
    "trace": lambda model: torch.jit.trace(model, X),
    "freeze": lambda model: torch.jit.freeze(torch.jit.script(model)),
    "export": lambda model: torch.export.export(model, (X,)).module(),
}
TRANSFORMS = {
    "fuse": fm.fuse,
    "Dynamic": lambda model: fm.quantize(model, fm.Dynamic()),
    "Half": lambda model: fm.quantize(model, fm.Half()),
    "prepare": fm.prepare,
    "prepare_qat": fm.prepare_qat,
    "prune": lambda model: fm.prune(model, fm.L1Unstructured(0.5)),
    "Structured": lambda model: fm.prune(model, fm.Structured(0.5)),
    "compile": lambda model: fm.compile(model, X),
    "quantize_dynamic": lambda model: fm.quantize_dynamic(model, {nn.Linear}),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*isinstance.treespec.:FutureWarning")
@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
@pytest.mark.parametrize("finish", FINISHED.values(), ids=FINISHED)
def test_a_finished_model_is_refused_with_what_to_do(finish, transform) -> None:
    finished = finish(make(network))
    with pytest.raises(ValueError, match=r"torch\.(jit|export).*pass the model from before"):
        transform(finished)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_scripted_part_stays_what_it_is() -> None:
    model = nn.Sequential(nn.Linear(12, 16), torch.jit.script(nn.ReLU()), nn.Linear(16, 4)).eval()
    q = fm.quantize(model, fm.Static(X))
    assert isinstance(q[1], torch.jit.ScriptModule)
    assert (model(X) - q(X)).abs().max() < 0.1


def test_an_fx_graph_with_its_layers_is_a_model_like_others() -> None:
    model = make(network)
    q = fm.quantize(fx.symbolic_trace(model), fm.Static(X))
    assert torch.equal(q(X), fm.quantize(model, fm.Static(X))(X))
