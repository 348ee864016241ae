"""``torch.ao.quantization.quantize_fx``: the same steps, a mapping in place of qconfigs.

Nothing becomes a GraphModule: the model keeps its class. Only rules that count calls
(``set_module_name_object_type_order``) need a traceable model.
"""

from __future__ import annotations

from typing import Any, NoReturn

from torch import nn

from fastmnist.ao.custom_configs import convert_config, fuse_config, nothing_given, prepare_config
from fastmnist.ao.executing import LATER, convert_planned, planned, prepare_planned
from fastmnist.ao.qconfig_mapping import QConfigMapping
from fastmnist.ao.quantize import convert
from fastmnist.ao.rules import mapped_qconfigs
from fastmnist.fusion.fusing import fuse
from fastmnist.quantization.prepared import prepared_layers
from fastmnist.rewriting.copies import check_module


def fuse_fx(model: Any, fuse_custom_config: Any = None, backend_config: Any = None) -> nn.Module:
    """``fuse_fx``: see :func:`fastmnist.fuse`.

    Raises
    ------
    TypeError, ValueError
        As for :func:`fastmnist.fuse`; for unsupported configurations.
    """
    fuse_config(fuse_custom_config)
    nothing_given(backend_config=backend_config)
    return fuse(model)


def prepare_fx(
    model: Any,
    qconfig_mapping: Any,
    example_inputs: Any = None,
    prepare_custom_config: Any = None,
    _equalization_config: Any = None,
    backend_config: Any = None,
) -> nn.Module:
    """``prepare_fx``: see :func:`fastmnist.ao.prepare`; the model keeps its class.

    Parameters
    ----------
    model : torch.nn.Module
    qconfig_mapping : QConfigMapping or dict
        Ours or torch.ao's own.
    example_inputs
        Not needed.
    prepare_custom_config : PrepareCustomConfig or dict, optional
        Supported: ``non_traceable_module_name``, ``non_traceable_module_class`` (their contents
        stay in float), ``preserved_attributes``.
    _equalization_config, backend_config : None

    Raises
    ------
    TypeError, ValueError
        As for :func:`fastmnist.ao.prepare`; also for an invalid mapping.
    """
    nothing_given(_equalization_config=_equalization_config, backend_config=backend_config)
    return _prepared(model, qconfig_mapping, prepare_custom_config, training=False)


def prepare_qat_fx(
    model: Any,
    qconfig_mapping: Any,
    example_inputs: Any = None,
    prepare_custom_config: Any = None,
    backend_config: Any = None,
) -> nn.Module:
    """``prepare_qat_fx``: see :func:`fastmnist.ao.prepare_qat`; the model keeps its class.

    Parameters
    ----------
    model, qconfig_mapping, example_inputs, prepare_custom_config, backend_config
        As for :func:`prepare_fx`.

    Raises
    ------
    TypeError, ValueError
        As for :func:`fastmnist.ao.prepare_qat`; also for an invalid mapping.
    """
    nothing_given(backend_config=backend_config)
    return _prepared(model, qconfig_mapping, prepare_custom_config, training=True)


def _prepared(model: Any, mapping: Any, custom_config: Any, *, training: bool) -> nn.Module:
    root, config = check_module(model), prepare_config(custom_config)
    names, types = (config.get(f"non_traceable_module_{what}") or () for what in ("name", "class"))
    qconfigs = mapped_qconfigs(root, QConfigMapping.of(mapping), names, types)
    plans = planned(root, qconfigs, training=training)
    return prepare_planned(root, plans, inplace=False, training=training, rows=training)


def convert_fx(
    graph_module: Any,
    convert_custom_config: Any = None,
    _remove_qconfig: bool = True,
    qconfig_mapping: Any = None,
    backend_config: Any = None,
) -> nn.Module:
    """``convert_fx``: see :func:`fastmnist.ao.convert`.

    Parameters
    ----------
    graph_module : torch.nn.Module
        The result of :func:`prepare_fx` or :func:`prepare_qat_fx`.
    convert_custom_config : ConvertCustomConfig or dict, optional
    _remove_qconfig : bool
    qconfig_mapping : QConfigMapping or dict, optional
        Layers mapped to None stay in float, although they were prepared.
    backend_config : None

    Raises
    ------
    TypeError, ValueError
        As for :func:`fastmnist.ao.convert`.
    """
    convert_config(convert_custom_config)
    nothing_given(backend_config=backend_config)
    own = check_module(graph_module)
    if qconfig_mapping is None or not (LATER in vars(own) or prepared_layers(own)):
        return convert(own, remove_qconfig=_remove_qconfig)
    qconfigs = mapped_qconfigs(own, QConfigMapping.of(qconfig_mapping))
    return convert_planned(
        own,
        lambda name: qconfigs.get(name) is not None,
        inplace=False,
        remove_qconfig=_remove_qconfig,
    )


def convert_to_reference_fx(*args: Any, **kwargs: Any) -> NoReturn:
    """Raise NotImplementedError: there are no reference modules."""
    raise NotImplementedError(
        "convert_to_reference_fx: there are no reference modules here: convert_fx gives int8 layers"
    )
