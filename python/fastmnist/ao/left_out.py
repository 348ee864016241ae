"""Names of ``torch.ao.quantization`` that have no counterpart here, and what to do instead.

Importing one works, so that scripts that only mention it run; using it raises NotImplementedError
with the alternative. ``docs/torch-ao.md`` has the same list.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

_SCRIPT = "TorchScript is not quantized: quantize the model in Python, and torch.jit.trace it then"
_PT2E = "torch.export is not quantized: quantize the model first, with quantize_dynamic or prepare"
_SPARSE = "prune and quantize: fastmnist.prune, and kernels choose sparse ones by themselves"
_FUSERS = "fuse_modules and fuse_fx know their patterns, which cannot be added to"
_REFERENCE = "there are no reference modules: convert and convert_fx give int8 layers"
_SWAP = "convert replaces layers, as their qconfig says"
_TYPES = "it is a name for type hints: use typing.Any"

# name -> what to do.
LEFT_OUT: dict[str, str] = {
    **dict.fromkeys(
        (
            "convert_dynamic_jit",
            "convert_jit",
            "fuse_conv_bn_jit",
            "prepare_dynamic_jit",
            "prepare_jit",
            "quantize_dynamic_jit",
            "quantize_jit",
            "script_qconfig",
            "script_qconfig_dict",
        ),
        _SCRIPT,
    ),
    **dict.fromkeys(
        (
            "AffineQuantizedObserverBase",
            "Granularity",
            "MappingType",
            "PerAxis",
            "PerBlock",
            "PerGroup",
            "PerRow",
            "PerTensor",
            "PerToken",
            "TorchAODType",
            "ZeroPointDomain",
            "get_block_size",
        ),
        _PT2E,
    ),
    **dict.fromkeys(
        (
            "get_default_dynamic_sparse_quant_module_mappings",
            "get_default_static_sparse_quant_module_mappings",
            "DEFAULT_DYNAMIC_SPARSE_QUANT_MODULE_MAPPINGS",
            "DEFAULT_STATIC_SPARSE_QUANT_MODULE_MAPPINGS",
        ),
        _SPARSE,
    ),
    **dict.fromkeys(("get_fuser_method", "get_fuser_method_new", "MatchAllNode"), _FUSERS),
    "get_default_static_quant_reference_module_mappings": _REFERENCE,
    "DEFAULT_REFERENCE_STATIC_QUANT_MODULE_MAPPINGS": _REFERENCE,
    "DEFAULT_MODULE_TO_ACT_POST_PROCESS": "activations are not observed: they stay in float",
    "default_eval_fn": "call the prepared model on your calibration data yourself",
    "swap_module": _SWAP,
    "Pattern": _TYPES,
}


class LeftOut:
    """Placeholder for a missing name: any use of it raises NotImplementedError."""

    def __init__(self, name: str) -> None:
        self._name = name

    def _refuse(self) -> NoReturn:
        raise NotImplementedError(f"fastmnist.ao.{self._name}: {LEFT_OUT[self._name]}")

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._refuse()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        self._refuse()

    def __repr__(self) -> str:
        return f"<fastmnist.ao.{self._name}: left out>"


def left_out_of(module: str) -> Callable[[str], Any]:
    """The ``__getattr__`` of a module, which gives what is left out."""

    def get(name: str) -> Any:
        if name in LEFT_OUT:
            return LeftOut(name)
        raise AttributeError(f"module '{module}' has no attribute '{name}'")

    return get
