"""prepare, prepare_qat, convert and what goes with them, with torch.ao's signatures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor, nn

from fastmnist.ao.qconfig import config_of, get_default_qat_qconfig, get_default_qconfig
from fastmnist.layers.quiet import DeQuantStub, QuantStub
from fastmnist.layers.recurrent import RECURRENT
from fastmnist.layers.simulated import SimulatedLinear
from fastmnist.quantization.configs import QAT, Dynamic, Half, Static
from fastmnist.quantization.converting import convert as fastmnist_convert
from fastmnist.quantization.dynamic import quantize_dynamic
from fastmnist.quantization.preparing import prepare_model
from fastmnist.rewriting.copies import check_module, plain_copy

AnyConfig: TypeAlias = Static | QAT | Dynamic | Half
ByLayer: TypeAlias = Callable[[str], AnyConfig | None]
_DYNAMIC = "fastmnist_dynamic_layers"


def prepare(
    model: Any,
    inplace: bool = False,
    allow_list: Any = None,
    observer_non_leaf_module_list: Any = None,
    prepare_custom_config_dict: Any = None,
) -> nn.Module:
    """``torch.ao.quantization.prepare``: see :func:`fastmnist.prepare`.

    Layers follow the ``qconfig`` of their own, or of the next module around them that has one; None
    leaves them in float. A model without any gets torch.ao's default.

    Raises
    ------
    TypeError, ValueError
        As :func:`fastmnist.prepare`; also for a qconfig that is none, or dynamic.
    """
    own = check_module(model)
    return prepare_by_layer(own, _by_layer(own, training=False), inplace=inplace)


def prepare_qat(model: Any, mapping: Any = None, inplace: bool = False) -> nn.Module:
    """``torch.ao.quantization.prepare_qat``: see :func:`fastmnist.prepare_qat`.

    Raises
    ------
    TypeError, ValueError
        As :func:`fastmnist.prepare_qat`; also for a qconfig that is none.
    """
    own = check_module(model)
    by_layer = for_training(_by_layer(own, training=True))
    return prepare_model(own, QAT(), own=by_layer, inplace=inplace)


def convert(
    module: Any,
    mapping: Any = None,
    inplace: bool = False,
    remove_qconfig: bool = True,
    is_reference: bool = False,
    convert_custom_config_dict: Any = None,
    use_precomputed_fake_quant: bool = False,
) -> nn.Module:
    """``torch.ao.quantization.convert``: see :func:`fastmnist.convert`.

    Raises
    ------
    ValueError
        If `module` was never prepared (torch.ao returns it as it is), or saw no data.
    """
    if is_reference:
        raise ValueError("is_reference: expected False: there are no reference modules")
    noted = getattr(check_module(module), _DYNAMIC, None)
    if noted is not None:
        names, dtype = noted
        converted = quantize_dynamic(module, {*names}, dtype, inplace=inplace)
        object.__delattr__(converted, _DYNAMIC)
    else:
        converted = fastmnist_convert(module, inplace=inplace)
    if remove_qconfig:
        for part in converted.modules():
            part.__dict__.pop("qconfig", None)
    return converted


def quantize(
    model: Any,
    run_fn: Callable[..., Any],
    run_args: Any,
    mapping: Any = None,
    inplace: bool = False,
) -> nn.Module:
    """``torch.ao.quantization.quantize``: prepare, ``run_fn(model, *run_args)``, convert."""
    prepared = prepare(model, inplace=inplace)
    run_fn(prepared, *run_args)
    return convert(prepared, inplace=True)


def quantize_qat(
    model: Any, run_fn: Callable[..., Any], run_args: Any, inplace: bool = False
) -> nn.Module:
    """``torch.ao.quantization.quantize_qat``: the same with :func:`prepare_qat`."""
    prepared = prepare_qat(model, inplace=inplace).train()
    run_fn(prepared, *run_args)
    return convert(prepared, inplace=True)


def propagate_qconfig_(
    module: Any, qconfig_dict: Any = None, prepare_custom_config_dict: Any = None
) -> None:
    """``torch.ao.quantization.propagate_qconfig_``: nothing to do, layers look for themselves."""


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
    """``torch.ao.quantization.add_quant_dequant``: nothing is needed around a layer."""
    return check_module(module)


def disable_observer(module: nn.Module) -> None:
    """For ``model.apply``: ranges stay as they are."""
    if isinstance(module, SimulatedLinear):
        module.observing = False


def enable_observer(module: nn.Module) -> None:
    """For ``model.apply``: ranges follow what layers are given."""
    if isinstance(module, SimulatedLinear):
        module.observing = True


def disable_fake_quant(module: nn.Module) -> None:
    """For ``model.apply``: layers compute in float, and observe."""
    if isinstance(module, SimulatedLinear):
        module.simulating = False


def enable_fake_quant(module: nn.Module) -> None:
    """For ``model.apply``: layers simulate int8 again."""
    if isinstance(module, SimulatedLinear):
        module.simulating = True


def prepare_by_layer(model: nn.Module, own: ByLayer, *, inplace: bool = False) -> nn.Module:
    """Prepare a model, each layer as `own` says: all static, or all dynamic.

    Raises
    ------
    ValueError
        If some layers are to be static and some dynamic.
    """
    candidates = {n: m for n, m in model.named_modules() if type(m) in (nn.Linear, *RECURRENT)}
    chosen = {name: config for name in candidates if (config := own(name)) is not None}
    dynamic = {n: c for n, c in chosen.items() if isinstance(c, Dynamic | Half)}
    if not dynamic:
        by_layer = lambda name: cast("Static | None", own(name))  # noqa: E731
        return prepare_model(model, Static(), own=by_layer, inplace=inplace)
    kinds = {type(config) for config in chosen.values()}
    if len(kinds) > 1:
        raise ValueError(
            "qconfig: expected all layers to be static, or all dynamic, got both: quantize the "
            "dynamic ones first, with quantize_dynamic(model, {'name'})"
        )
    # Nothing is observed: convert finds here which layers it is to take.
    dtype = torch.int8 if kinds == {Dynamic} else torch.float16
    root = model.cpu().float().eval() if inplace else plain_copy(model)
    object.__setattr__(root, _DYNAMIC, ([*dynamic], dtype))
    return root


def for_training(own: ByLayer) -> Callable[[str], QAT | None]:
    """The same, where only configurations of training can come."""
    return lambda name: cast("QAT | None", own(name))


def _by_layer(root: nn.Module, training: bool) -> ByLayer:
    """The configuration of each layer, read from the qconfigs of the model's modules."""
    default = config_of(get_default_qat_qconfig() if training else get_default_qconfig(), training)
    holds_any = any("qconfig" in vars(module) for module in root.modules())

    def own(name: str) -> AnyConfig | None:
        if not holds_any:
            return default
        parts = name.split(".") if name else []
        for i in range(len(parts), -1, -1):
            module = root.get_submodule(".".join(parts[:i]))
            if "qconfig" in vars(module):
                qconfig = vars(module)["qconfig"]
                return None if qconfig is None else config_of(qconfig, training)
        return None

    return own
