"""Convolutions and Linear layers with their BatchNorm folded in, one at a time."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from fastmnist.ao.left_out import left_out_of


def fuse_conv_bn(is_qat: bool, conv: Any, bn: Any) -> nn.Module:
    """Return the convolution with the following norm folded in; both in eval mode.

    Raises
    ------
    ValueError
        If `is_qat`, or in training mode.
    """
    _check(is_qat, conv, bn)
    fused: nn.Module = fuse_conv_bn_eval(conv, bn)
    return fused


def fuse_conv_bn_relu(is_qat: bool, conv: Any, bn: Any, relu: Any) -> nn.Module:
    """Return the same, followed by the activation."""
    _check(is_qat, conv, bn)
    return nn.Sequential(fuse_conv_bn_eval(conv, bn), relu).eval()


def fuse_convtranspose_bn(is_qat: bool, convt: Any, bn: Any) -> nn.Module:
    """Return the transposed convolution with the following norm folded in."""
    _check(is_qat, convt, bn)
    fused: nn.Module = fuse_conv_bn_eval(convt, bn, transpose=True)
    return fused


def fuse_linear_bn(is_qat: bool, linear: Any, bn: Any) -> nn.Module:
    """Return the Linear with the following norm folded in."""
    _check(is_qat, linear, bn)
    fused: nn.Module = fuse_linear_bn_eval(linear, bn)
    return fused


def _check(is_qat: bool, layer: nn.Module, norm: nn.Module) -> None:
    if is_qat or layer.training or norm.training:
        raise ValueError(
            "is_qat: expected False, and modules in eval mode: fastmnist.ao.fuse_modules takes "
            "those that train, and knows where they are"
        )


__getattr__ = left_out_of(__name__)
