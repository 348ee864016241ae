"""``torch.ao.quantization``'s own ceremony, on fastmnist's kernels: change one import.

``import fastmnist.ao as tq`` in place of ``import torch.ao.quantization as tq``. Stubs do nothing,
a qconfig picks the observer and per-channel weights, ``inplace=`` works, and eval mode is not
insisted on. What a qconfig says of bits, schemes and ``reduce_range`` is accepted and not needed:
weights are int8, symmetric; activations uint8 between Linear layers; all else stays in float.

None of it is *needed*: :func:`fastmnist.quantize`, :func:`fastmnist.prepare_qat` and
:func:`fastmnist.convert` do the same without stubs and qconfigs.
"""

from __future__ import annotations

from fastmnist.ao.functional import FloatFunctional
from fastmnist.ao.observer import (
    FakeQuantize,
    FusedMovingAvgObsFakeQuantize,
    HistogramObserver,
    MinMaxObserver,
    MovingAverageMinMaxObserver,
    MovingAveragePerChannelMinMaxObserver,
    NoopObserver,
    ObserverName,
    PerChannelMinMaxObserver,
    PlaceholderObserver,
    default_fake_quant,
    default_histogram_observer,
    default_observer,
    default_per_channel_weight_fake_quant,
    default_per_channel_weight_observer,
    default_weight_fake_quant,
    default_weight_observer,
)
from fastmnist.ao.qconfig import (
    QConfig,
    QConfigMapping,
    default_dynamic_qconfig,
    default_per_channel_qconfig,
    default_qat_qconfig,
    default_qconfig,
    float16_dynamic_qconfig,
    get_default_qat_qconfig,
    get_default_qat_qconfig_mapping,
    get_default_qconfig,
    get_default_qconfig_mapping,
    per_channel_dynamic_qconfig,
)
from fastmnist.ao.steps import (
    QuantWrapper,
    add_quant_dequant,
    convert,
    disable_fake_quant,
    disable_observer,
    enable_fake_quant,
    enable_observer,
    prepare,
    prepare_qat,
    propagate_qconfig_,
    quantize,
    quantize_qat,
)
from fastmnist.fusion.by_name import fuse_modules
from fastmnist.fusion.by_name import fuse_modules as fuse_modules_qat
from fastmnist.layers.quiet import DeQuantStub, QuantStub
from fastmnist.quantization.dynamic import quantize_dynamic

# What torch.ao's names for the classes above are.
ObserverBase, FakeQuantizeBase = ObserverName, FakeQuantize

__all__ = [
    "DeQuantStub",
    "FakeQuantize",
    "FakeQuantizeBase",
    "FloatFunctional",
    "FusedMovingAvgObsFakeQuantize",
    "HistogramObserver",
    "MinMaxObserver",
    "MovingAverageMinMaxObserver",
    "MovingAveragePerChannelMinMaxObserver",
    "NoopObserver",
    "ObserverBase",
    "PerChannelMinMaxObserver",
    "PlaceholderObserver",
    "QConfig",
    "QConfigMapping",
    "QuantStub",
    "QuantWrapper",
    "add_quant_dequant",
    "convert",
    "default_dynamic_qconfig",
    "default_fake_quant",
    "default_histogram_observer",
    "default_observer",
    "default_per_channel_qconfig",
    "default_per_channel_weight_fake_quant",
    "default_per_channel_weight_observer",
    "default_qat_qconfig",
    "default_qconfig",
    "default_weight_fake_quant",
    "default_weight_observer",
    "disable_fake_quant",
    "disable_observer",
    "enable_fake_quant",
    "enable_observer",
    "float16_dynamic_qconfig",
    "fuse_modules",
    "fuse_modules_qat",
    "get_default_qat_qconfig",
    "get_default_qat_qconfig_mapping",
    "get_default_qconfig",
    "get_default_qconfig_mapping",
    "per_channel_dynamic_qconfig",
    "prepare",
    "prepare_qat",
    "propagate_qconfig_",
    "quantize",
    "quantize_dynamic",
    "quantize_qat",
]
