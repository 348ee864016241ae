"""prepare_qat of a quantized model whose layers end in activations: the same model still."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import fastmnist as fm

X = torch.randn(64, 8, generator=torch.Generator().manual_seed(4))
ACTIVATIONS = [
    nn.GELU(), nn.GELU("tanh"), nn.ELU(0.5), nn.SELU(), nn.LeakyReLU(0.3), nn.PReLU(init=0.6),
    nn.SiLU(), nn.Mish(), nn.Hardswish(), nn.Hardsigmoid(), nn.Sigmoid(), nn.Tanh(),
    nn.Softplus(2, 3), nn.LogSigmoid(), nn.Softsign(),
]  # fmt: skip


@pytest.mark.parametrize("act", ACTIVATIONS, ids=str)
@pytest.mark.parametrize("config", [fm.Static(X), fm.Dynamic()], ids=["static", "dynamic"])
def test_outputs_and_gradients_are_those_of_the_float_model(
    act: nn.Module, config: fm.Static | fm.Dynamic
) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), act, nn.Linear(16, 4)).eval()
    quantized = fm.quantize(model, config)
    prepared = fm.prepare_qat(quantized, fm.QAT()).train()
    x, same = X.clone().requires_grad_(), X.clone().requires_grad_()
    got, want = prepared(x), model(same)
    assert (got - want).abs().max() < 0.03 * want.abs().max()
    got.square().mean().backward()
    want.square().mean().backward()
    assert x.grad is not None
    assert same.grad is not None
    assert (x.grad - same.grad).norm() < 0.1 * same.grad.norm()
    converted = fm.convert(prepared.eval())
    with torch.no_grad():
        assert (converted(X) - want).abs().max() < 0.03 * want.abs().max()
        assert torch.equal(fm.compile(converted)(X), converted(X))
