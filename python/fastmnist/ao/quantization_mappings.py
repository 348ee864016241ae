"""Which type of module becomes which, under the names of torch.ao's functions.

``prepare_qat``, ``convert`` and ``quantize_dynamic`` take such a mapping: types that it lacks stay
in float.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from torch import nn

from fastmnist.ao.left_out import left_out_of
from fastmnist.ao.stubs import DeQuantStub, QuantStub
from fastmnist.layers.cells import CELLS, QuantizedCell
from fastmnist.layers.embedding import QuantizedEmbedding, QuantizedEmbeddingBag
from fastmnist.layers.quantized import QuantizedLinear
from fastmnist.layers.recurrent import RECURRENT, QuantizedRecurrent
from fastmnist.layers.simulated import SimulatedLinear
from fastmnist.layers.simulated_embedding import SimulatedEmbedding, SimulatedEmbeddingBag

Types = dict[Any, Any]

_EMBEDDINGS: Types = {
    nn.Embedding: QuantizedEmbedding,
    nn.EmbeddingBag: QuantizedEmbeddingBag,
}
DEFAULT_STATIC_QUANT_MODULE_MAPPINGS: Types = {
    QuantStub: QuantStub,
    DeQuantStub: DeQuantStub,
    nn.Linear: QuantizedLinear,
    **_EMBEDDINGS,
}
DEFAULT_QAT_MODULE_MAPPINGS: Types = {nn.Linear: SimulatedLinear}
DEFAULT_DYNAMIC_QUANT_MODULE_MAPPINGS: Types = {
    nn.Linear: QuantizedLinear,
    **dict.fromkeys(RECURRENT, QuantizedRecurrent),
    **dict.fromkeys(CELLS, QuantizedCell),
    **_EMBEDDINGS,
}
# Functions stay in float here.
DEFAULT_FLOAT_TO_QUANTIZED_OPERATOR_MAPPINGS: Types = {}


def no_observer_set() -> set[type]:
    """Modules that are not observed: there are none of torch.ao's kind."""
    return set()


def get_default_static_quant_module_mappings() -> Types:
    """Types for ``convert``."""
    return dict(DEFAULT_STATIC_QUANT_MODULE_MAPPINGS)


def get_embedding_static_quant_module_mappings() -> Types:
    """Types for ``convert``, embeddings included, as always."""
    return get_default_static_quant_module_mappings()


def get_default_qat_module_mappings() -> Types:
    """Types for ``prepare_qat``."""
    return dict(DEFAULT_QAT_MODULE_MAPPINGS)


def get_embedding_qat_module_mappings() -> Types:
    """Types for ``prepare_qat``, embeddings included."""
    embeddings = {nn.Embedding: SimulatedEmbedding, nn.EmbeddingBag: SimulatedEmbeddingBag}
    return DEFAULT_QAT_MODULE_MAPPINGS | embeddings


def get_default_dynamic_quant_module_mappings() -> Types:
    """Types for ``quantize_dynamic``."""
    return dict(DEFAULT_DYNAMIC_QUANT_MODULE_MAPPINGS)


def get_default_float_to_quantized_operator_mappings() -> Types:
    """Functions with a quantized form: none."""
    return dict(DEFAULT_FLOAT_TO_QUANTIZED_OPERATOR_MAPPINGS)


def get_default_qconfig_propagation_list() -> set[type]:
    """Types that a qconfig can change, for ``prepare(allow_list=)``."""
    return {
        *DEFAULT_STATIC_QUANT_MODULE_MAPPINGS,
        *DEFAULT_QAT_MODULE_MAPPINGS,
        *DEFAULT_DYNAMIC_QUANT_MODULE_MAPPINGS,
        nn.Sequential,
    }


def get_default_compare_output_module_list() -> set[type]:
    """Those types, and what they become."""
    made = {
        *DEFAULT_STATIC_QUANT_MODULE_MAPPINGS.values(),
        *DEFAULT_QAT_MODULE_MAPPINGS.values(),
        *DEFAULT_DYNAMIC_QUANT_MODULE_MAPPINGS.values(),
    }
    return get_default_qconfig_propagation_list() | made


def get_static_quant_module_class(
    float_module_class: Any,
    additional_static_quant_mapping: Mapping[Any, Any] | None = None,
    is_reference: bool = False,
) -> Any:
    """What a type becomes by ``convert``.

    Raises
    ------
    ValueError
        If it stays in float.
    """
    if is_reference:
        raise ValueError("is_reference: expected False: there are no reference modules")
    return _class_of(
        float_module_class, DEFAULT_STATIC_QUANT_MODULE_MAPPINGS, additional_static_quant_mapping
    )


def get_dynamic_quant_module_class(
    float_module_class: Any, additional_dynamic_quant_mapping: Mapping[Any, Any] | None = None
) -> Any:
    """What a type becomes by ``quantize_dynamic``.

    Raises
    ------
    ValueError
        If it stays in float.
    """
    return _class_of(
        float_module_class, DEFAULT_DYNAMIC_QUANT_MODULE_MAPPINGS, additional_dynamic_quant_mapping
    )


def _class_of(kind: Any, known: Types, more: Mapping[Any, Any] | None) -> Any:
    every = get_combined_dict(known, more or {})
    if kind not in every:
        told = ", ".join(sorted(key.__name__ for key in every))
        raise ValueError(f"float_module_class: expected one of {told}, got {kind}")
    return every[kind]


def get_quantized_operator(float_op: Any) -> NoReturn:
    """Raise ValueError: functions have no quantized form here."""
    raise ValueError(
        f"float_op: expected a function with a quantized form, got {float_op}: there are none, as "
        "only layers are quantized"
    )


def get_combined_dict(
    default_dict: Mapping[Any, Any], additional_dict: Mapping[Any, Any]
) -> dict[Any, Any]:
    """Both in one; the second wins."""
    return {**default_dict, **additional_dict}


__getattr__ = left_out_of(__name__)
