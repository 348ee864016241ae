"""prepare, prepare_qat, convert and quantize_dynamic, with torch.ao's signatures and rules."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from fastmnist.ao.custom_configs import (
    checked_mapping,
    convert_config,
    nothing_given,
    prepare_config,
)
from fastmnist.ao.custom_configs import (
    get_default_custom_config_dict as get_default_custom_config_dict,
)
from fastmnist.ao.executing import (
    LATER,
    convert_planned,
    drop_qconfigs,
    planned,
    prepare_planned,
    replaced,
    warn_of_nothing,
)
from fastmnist.ao.left_out import left_out_of
from fastmnist.ao.observer import PlaceholderObserver
from fastmnist.ao.plans import Plan, dynamic_plan_of, embedding_plan_of
from fastmnist.ao.qconfig import (
    QConfig,
    float16_dynamic_qconfig,
    float_qparams_weight_only_qconfig,
    float_qparams_weight_only_qconfig_4bit,
    per_channel_dynamic_qconfig,
)
from fastmnist.ao.rules import EMBEDDINGS, candidates, eager_qconfigs, float_type
from fastmnist.ao.rules import propagate_qconfig_ as propagate_qconfig_
from fastmnist.ao.stubs import add_quant_dequant as add_quant_dequant
from fastmnist.quantization.converting import convert as fastmnist_convert
from fastmnist.quantization.prepared import prepared_layers
from fastmnist.rewriting.changes import LEFT, Change, record
from fastmnist.rewriting.copies import check_module, plain_copy

_INT8 = (nn.Linear, nn.LSTM, nn.GRU, nn.LSTMCell, nn.RNNCell, nn.GRUCell)
_bfloat16_qconfig = QConfig(
    PlaceholderObserver.with_args(dtype=torch.bfloat16, is_dynamic=True),
    PlaceholderObserver.with_args(dtype=torch.bfloat16),
)
# By name, as torch's quantized dtypes go away: the qconfig, and the types without a spec.
_BY_DTYPE: dict[str, tuple[QConfig, tuple[type[nn.Module], ...]]] = {
    "torch.qint8": (per_channel_dynamic_qconfig, _INT8),
    "torch.int8": (per_channel_dynamic_qconfig, _INT8),
    "torch.float16": (float16_dynamic_qconfig, _INT8),
    "torch.bfloat16": (_bfloat16_qconfig, (nn.Linear, nn.LSTM, nn.GRU)),
    "torch.quint8": (float_qparams_weight_only_qconfig, EMBEDDINGS),
    "torch.quint4x2": (float_qparams_weight_only_qconfig_4bit, (nn.EmbeddingBag,)),
}


def quantize_dynamic(
    model: Any,
    qconfig_spec: Any = None,
    dtype: Any = None,
    mapping: Any = None,
    inplace: bool = False,
) -> nn.Module:
    """``torch.ao.quantization.quantize_dynamic``, with the same signature and rules.

    Parameters
    ----------
    model : torch.nn.Module
    qconfig_spec : set of types or names, or dict with such keys, optional
        Which layers: ``{nn.Linear, nn.LSTM}``, names of layers, or types or names of modules that
        contain them. A dict maps each to its qconfig, or to None to skip it. A name takes
        precedence over a type, and either over the setting of the enclosing module; a module's own
        ``qconfig`` attribute, None included, overrides all. Types without a dynamic form are
        skipped; ``fm.changes`` lists them. None: every Linear, LSTM, GRU and cell, or the layers
        that `dtype` applies to.
    dtype : torch.dtype, optional
        For layers without a qconfig. ``torch.qint8`` or ``torch.int8`` (the default): int8 weights,
        one scale per output, and activations quantized per row. ``torch.float16``: weights are
        stored in float16, everything else is float32. ``torch.bfloat16``: weights and products.
        ``torch.quint8``, ``torch.quint4x2``: rows of Embedding and EmbeddingBag.
    mapping : dict, optional
        A mapping such as ``get_default_dynamic_quant_module_mappings()``; types not in it are
        skipped.
    inplace : bool
        Change `model` itself instead of a copy, and return it.

    Returns
    -------
    torch.nn.Module
        In eval mode, on the CPU. A model with nothing to quantize is returned unchanged, with a
        warning.

    Raises
    ------
    TypeError, ValueError
        If a dtype, name or qconfig does not exist, or does not suit a layer.

    Examples
    --------
    >>> import fastmnist as fm, torch
    >>> q = fm.quantize_dynamic(fm.NeuralNetwork(), {torch.nn.Linear}, dtype=torch.qint8)
    """
    own, only = check_module(model), checked_mapping(mapping)
    spec = _checked_spec(own, qconfig_spec, dtype)
    qconfigs = eager_qconfigs(own, spec)
    plans: dict[str, Plan] = {}
    for name, layer in candidates(own).items():
        qconfig, kind = qconfigs.get(name), float_type(layer)
        if qconfig is None or (only is not None and kind not in only):
            continue
        of_kind = embedding_plan_of if kind in EMBEDDINGS else dynamic_plan_of
        plan = of_kind(qconfig, name)
        if plan is not None:
            plans[name] = plan
    result = _replaced(own, plans, inplace=inplace)
    types = tuple(k for k in spec if isinstance(k, type) and k not in (*_INT8, *EMBEDDINGS, nn.RNN))
    record(
        result,
        [
            Change(name, LEFT, why=f"{type(module).__name__} has no dynamic form")
            for name, module in result.named_modules()
            if type(module) in types and not [*module.children()]
        ],
    )
    drop_qconfigs(result)
    return result


def _checked_spec(model: nn.Module, spec: Any, dtype: Any) -> dict[Any, Any]:
    """By name or type: the qconfig, or None."""
    key = "torch.qint8" if dtype is None else str(dtype)
    if key not in _BY_DTYPE:
        raise ValueError(f"dtype: expected one of {', '.join(_BY_DTYPE)}, got {dtype}")
    qconfig, types = _BY_DTYPE[key]
    if spec is None:
        return dict.fromkeys(types, qconfig)
    if isinstance(spec, str | type) or not isinstance(spec, Iterable):
        raise TypeError(f"qconfig_spec: expected a set such as {{nn.Linear}}, got {spec!r}")
    given: dict[Any, Any] = dict(spec) if isinstance(spec, dict) else dict.fromkeys(spec, qconfig)
    known = {name for name, _ in model.named_modules(remove_duplicate=False)}
    for entry in given:
        if isinstance(entry, str) and entry not in known:
            raise ValueError(f"qconfig_spec: expected names of the model's modules, got '{entry}'")
        if not isinstance(entry, str | type):
            raise TypeError(
                f"qconfig_spec: expected types of modules, such as nn.Linear, or names, got "
                f"{entry!r}"
            )
    return given


def prepare(
    model: Any,
    inplace: bool = False,
    allow_list: Any = None,
    observer_non_leaf_module_list: Any = None,
    prepare_custom_config_dict: Any = None,
) -> nn.Module:
    """``torch.ao.quantization.prepare``: see :func:`fastmnist.prepare`.

    Layers follow their own ``qconfig``, or that of the nearest enclosing module that has one; None
    leaves them in float. The activation observer watches a layer's input, and provides the layer's
    scale and zero point. Layers whose qconfig is dynamic, float16 or for embeddings are noted, for
    :func:`convert`. A model without any is returned unchanged, with a warning.

    Parameters
    ----------
    model : torch.nn.Module
    inplace : bool
    allow_list : set of types, optional
        Layers of other types are left in float.
    observer_non_leaf_module_list : None
    prepare_custom_config_dict : dict, optional
        Supported: ``non_traceable_module_name``, ``non_traceable_module_class``,
        ``preserved_attributes``.

    Raises
    ------
    TypeError, ValueError
        As for :func:`fastmnist.prepare`; for an invalid qconfig, or one that does not suit a layer;
        for unsupported arguments.
    """
    own = check_module(model)
    nothing_given(observer_non_leaf_module_list=observer_non_leaf_module_list)
    config = prepare_config(prepare_custom_config_dict, "prepare_custom_config_dict")
    plans = planned(own, eager_qconfigs(own, None, config), allow_list)
    result = prepare_planned(own, plans, inplace=inplace)
    propagate_qconfig_(result, None, config)
    return result


def prepare_qat(model: Any, mapping: Any = None, inplace: bool = False) -> nn.Module:
    """``torch.ao.quantization.prepare_qat``: see :func:`fastmnist.prepare_qat`.

    Parameters
    ----------
    model : torch.nn.Module
    mapping : dict, optional
        A mapping such as ``get_default_qat_module_mappings()``; types not in it are left in float.
        ``get_embedding_qat_module_mappings()`` includes embeddings.
    inplace : bool

    Raises
    ------
    TypeError, ValueError
        As for :func:`fastmnist.prepare_qat`; for an invalid qconfig, or one that does not suit a
        layer.
    """
    own, only = check_module(model), checked_mapping(mapping)
    plans = planned(own, eager_qconfigs(own), only, training=True)
    # As in torch: only a mapping that has them makes embeddings simulate.
    rows = only is not None and bool({*EMBEDDINGS} & only)
    result = prepare_planned(own, plans, inplace=inplace, training=True, rows=rows)
    propagate_qconfig_(result)
    return result


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

    Layers that never saw data are converted with a warning, and refuse calls until an int8
    state_dict is loaded into them.

    Parameters
    ----------
    module : torch.nn.Module
        The result of :func:`prepare` or :func:`prepare_qat`.
    mapping : dict, optional
        A mapping such as ``get_default_static_quant_module_mappings()``; types not in it stay in
        float.
    inplace, remove_qconfig : bool
    is_reference, use_precomputed_fake_quant : False
    convert_custom_config_dict : dict, optional
        Only ``preserved_attributes`` is supported; they are always kept.

    Raises
    ------
    ValueError
        If `module` has layers whose qconfig is static, but was never prepared (torch.ao returns it
        unchanged); for unsupported arguments.
    """
    nothing_given(is_reference=is_reference, use_precomputed_fake_quant=use_precomputed_fake_quant)
    convert_config(convert_custom_config_dict, "convert_custom_config_dict")
    own, only = check_module(module), checked_mapping(mapping)
    if LATER not in vars(own) and not prepared_layers(own):
        return _converted_unprepared(own, only, inplace=inplace, remove_qconfig=remove_qconfig)
    types = {name: float_type(layer) for name, layer in own.named_modules()}
    return convert_planned(
        own,
        lambda name: only is None or types[name] in only,
        inplace=inplace,
        remove_qconfig=remove_qconfig,
    )


def _converted_unprepared(
    model: nn.Module, only: Any, *, inplace: bool, remove_qconfig: bool
) -> nn.Module:
    """What needs no preparing: layers whose qconfig is dynamic, float16 or of embeddings."""
    plans = planned(model, eager_qconfigs(model), only)
    if any(plan.kind == "static" for plan in plans.values()):
        return fastmnist_convert(model, inplace=inplace)  # which says what is wrong
    result = _replaced(model, plans, inplace=inplace)
    if remove_qconfig:
        drop_qconfigs(result)
    return result


def _replaced(model: nn.Module, plans: dict[str, Plan], *, inplace: bool) -> nn.Module:
    if plans:
        return replaced(model, plans, inplace=inplace)
    warn_of_nothing()
    return model.cpu().float().eval() if inplace else plain_copy(model)


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
    return convert(prepared, mapping, inplace=True)


def quantize_qat(
    model: Any, run_fn: Callable[..., Any], run_args: Any, inplace: bool = False
) -> nn.Module:
    """``torch.ao.quantization.quantize_qat``: the same with :func:`prepare_qat`."""
    prepared = prepare_qat(model, inplace=inplace).train()
    run_fn(prepared, *run_args)
    return convert(prepared, inplace=True)


__getattr__ = left_out_of(__name__)
