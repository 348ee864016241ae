"""``torch.ao.quantization.quantize_fx``: the same steps, a mapping in place of qconfigs."""

from __future__ import annotations

from typing import Any

from torch import nn

from fastmnist.ao.qconfig import QConfigMapping, config_of
from fastmnist.ao.steps import AnyConfig, ByLayer, convert, for_training, prepare_by_layer
from fastmnist.fusion.fusing import fuse
from fastmnist.quantization.configs import QAT
from fastmnist.quantization.preparing import prepare_model
from fastmnist.rewriting.copies import check_module


def fuse_fx(model: Any, fuse_custom_config: Any = None, backend_config: Any = None) -> nn.Module:
    """``fuse_fx``: see :func:`fastmnist.fuse`."""
    return fuse(model)


def prepare_fx(
    model: Any,
    qconfig_mapping: Any,
    example_inputs: Any = None,
    prepare_custom_config: Any = None,
    _equalization_config: Any = None,
    backend_config: Any = None,
) -> nn.Module:
    """``prepare_fx``: see :func:`fastmnist.prepare`; the model keeps its class.

    Raises
    ------
    TypeError, ValueError
        As :func:`fastmnist.ao.prepare`; also for a mapping that is none.
    """
    root = check_module(model)
    return prepare_by_layer(root, _by_layer(root, qconfig_mapping, training=False))


def prepare_qat_fx(
    model: Any,
    qconfig_mapping: Any,
    example_inputs: Any = None,
    prepare_custom_config: Any = None,
    backend_config: Any = None,
) -> nn.Module:
    """``prepare_qat_fx``: see :func:`fastmnist.prepare_qat`; the model keeps its class.

    Raises
    ------
    TypeError, ValueError
        As :func:`fastmnist.ao.prepare_qat`; also for a mapping that is none.
    """
    root = check_module(model)
    own = for_training(_by_layer(root, qconfig_mapping, training=True))
    return prepare_model(root, QAT(), own=own)


def convert_fx(
    graph_module: Any,
    convert_custom_config: Any = None,
    _remove_qconfig: bool = True,
    qconfig_mapping: Any = None,
    backend_config: Any = None,
) -> nn.Module:
    """``convert_fx``: see :func:`fastmnist.convert`."""
    return convert(graph_module)


def _by_layer(root: nn.Module, mapping: Any, training: bool) -> ByLayer:
    if isinstance(mapping, dict):  # torch.ao's older form
        made = QConfigMapping().set_global(mapping.get(""))
        for name, qconfig in mapping.get("module_name", ()):
            made.set_module_name(name, qconfig)
        for kind, qconfig in mapping.get("object_type", ()):
            made.set_object_type(kind, qconfig)
        mapping = made
    elif not isinstance(mapping, QConfigMapping) and hasattr(mapping, "module_name_qconfigs"):
        made = QConfigMapping().set_global(mapping.global_qconfig)  # torch.ao's own
        made.object_type_qconfigs.update(mapping.object_type_qconfigs)
        made.module_name_qconfigs.update(mapping.module_name_qconfigs)
        made.module_name_regex_qconfigs.update(mapping.module_name_regex_qconfigs)
        mapping = made
    if not isinstance(mapping, QConfigMapping):
        raise TypeError(
            f"qconfig_mapping: expected a QConfigMapping, got {type(mapping).__name__}: for "
            "example get_default_qconfig_mapping('x86')"
        )

    def own(name: str) -> AnyConfig | None:
        qconfig = mapping.qconfig_of(name, root.get_submodule(name))
        return None if qconfig is None else config_of(qconfig, training)

    return own
