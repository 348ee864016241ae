"""Stubs and their wrapper: they quantize in torch.ao, and do nothing here."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from fastmnist.layers.quiet import DeQuantStub as DeQuantStub
from fastmnist.layers.quiet import QuantStub as QuantStub
from fastmnist.rewriting.copies import check_module


class QuantWrapper(nn.Module):
    """``torch.ao.quantization.QuantWrapper``: the module between two stubs."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.quant, self.dequant = QuantStub(), DeQuantStub()
        self.module = module
        qconfig = getattr(module, "qconfig", None)
        if qconfig is not None:
            self.qconfig = qconfig
        self.train(module.training)

    def forward(self, X: Tensor) -> Tensor:
        y: Tensor = self.dequant(self.module(self.quant(X)))
        return y


def add_quant_dequant(module: Any) -> nn.Module:
    """``torch.ao.quantization.add_quant_dequant``: wrap the leaves that have a qconfig, in place.

    Not needed here. A module that is itself such a leaf is returned in a new wrapper.
    """
    own = check_module(module)
    if not [*own.children()] and getattr(own, "qconfig", None):
        return QuantWrapper(own)
    for name, child in [*own.named_children()]:
        own._modules[name] = add_quant_dequant(child)
    return own
