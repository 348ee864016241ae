"""torch.ao dynamic and static int8, with the ceremony that its guides teach."""

from __future__ import annotations

import warnings
from functools import partial

import torch
from torch import nn
from torch.ao import quantization as ao

from benchmarks.peers.description import U8, Call, Case, Network
from benchmarks.peers.torch_eager import chain, float_rows


class _Stubbed(nn.Module):
    def __init__(self, net: nn.Sequential) -> None:
        super().__init__()
        self.quant, self.dequant = ao.QuantStub(), ao.DeQuantStub()
        self.net = net

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dequant(self.net(self.quant(x)))


def cases(network: Network) -> list[Case]:
    """Build both."""
    engine = "x86" if "x86" in torch.backends.quantized.supported_engines else "fbgemm"
    torch.backends.quantized.engine = engine
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dynamic = ao.quantize_dynamic(chain(network), {nn.Linear}, dtype=torch.qint8)
        static = _Stubbed(chain(network)).eval()
        pairs = [
            [f"net.{i}", f"net.{i + 1}"]
            for i, module in enumerate(static.net[1:])
            if isinstance(module, nn.ReLU)
        ]
        ao.fuse_modules(static, pairs, inplace=True)
        static.qconfig = ao.get_default_qconfig(engine)
        ao.prepare(static, inplace=True)
        static(float_rows(network.calibration))
        ao.convert(static, inplace=True)
    return [
        Case(f"torch.ao {kind} int8", "torch.ao", "float32", partial(_prepare, model))
        for kind, model in (("dynamic", dynamic), ("static", static))
    ]


def _prepare(model: nn.Module, pixels: U8) -> Call:
    return partial(model, float_rows(pixels))
