"""What scripts pass beside the qconfigs: honored where it has a meaning here, else refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastmnist.display.words import kind_of

# Nothing to do: results keep their class, attributes and methods.
_KEPT = ("preserved_attributes",)
_LEFT_ALONE = ("non_traceable_module_name", "non_traceable_module_class")
_PREPARE = (
    *_KEPT,
    *_LEFT_ALONE,
    "standalone_module_name",
    "standalone_module_class",
    "float_to_observed_custom_module_class",
    "input_quantized_idxs",
    "output_quantized_idxs",
)
_CONVERT = (*_KEPT, "observed_to_quantized_custom_module_class")
_FUSE = (*_KEPT, "additional_fuser_method_mapping")


def get_default_custom_config_dict() -> dict[str, dict[Any, Any]]:
    """Return an empty configuration: no module has custom observed or quantized classes."""
    return {
        "float_to_observed_custom_module_class": {},
        "observed_to_quantized_custom_module_class": {},
    }


def prepare_config(config: Any, what: str = "prepare_custom_config") -> dict[str, Any]:
    """What a configuration for prepare says: a dict, or PrepareCustomConfig, ours or torch's.

    Raises
    ------
    TypeError, ValueError
        If it is none, or asks for what there is not.
    """
    return _checked(config, what, (*_PREPARE, *_CONVERT), (*_KEPT, *_LEFT_ALONE))


def convert_config(config: Any, what: str = "convert_custom_config") -> None:
    """Refuse what a configuration for convert asks for and there is not."""
    _checked(config, what, (*_PREPARE, *_CONVERT), _KEPT)


def fuse_config(config: Any, what: str = "fuse_custom_config") -> None:
    """Refuse what a configuration for fusing asks for and there is not."""
    _checked(config, what, _FUSE, _KEPT)


def _checked(
    config: Any, what: str, known: tuple[str, ...], heeded: tuple[str, ...]
) -> dict[str, Any]:
    if config is None:
        return {}
    told = config.to_dict() if hasattr(config, "to_dict") else config
    if not isinstance(told, Mapping):
        raise TypeError(f"{what}: expected a dict or its class, got {kind_of(config)}")
    for key, value in told.items():
        if key not in known:
            raise ValueError(f"{what}: expected one of the keys {', '.join(known)}, got {key!r}")
        if key not in heeded and value is not None and not _is_empty(value):
            raise ValueError(
                f"{what}: expected no '{key}', which there is not here, got {value}: replace such "
                "modules in the model yourself, or leave them in float with a qconfig of None"
            )
    return {key: value for key, value in told.items() if key in heeded}


def _is_empty(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(map(_is_empty, value.values()))
    return isinstance(value, list | tuple | set) and not value


def nothing_given(**arguments: Any) -> None:
    """Refuse arguments of torch.ao's that must be None, False or empty here.

    Raises
    ------
    ValueError
        Naming the first that is not.
    """
    for name, value in arguments.items():
        if value is None or value is False or _is_empty(value):
            continue
        raise ValueError(
            f"{name}: expected None, as there is nothing for it to change here, got "
            f"{kind_of(value)}: leave it out"
        )


def checked_mapping(mapping: Any) -> Any:
    """The types that a mapping from float to quantized modules lets be quantized; None for all.

    Raises
    ------
    TypeError, ValueError
        If it is no mapping, or names a quantized module that is neither ours nor torch's.
    """
    if mapping is None:
        return None
    if not isinstance(mapping, Mapping):
        raise TypeError(f"mapping: expected a dict of types, got {kind_of(mapping)}")
    for source, target in mapping.items():
        module = str(getattr(target, "__module__", ""))
        if not module.startswith(("fastmnist.", "torch.ao.nn.")):
            raise ValueError(
                f"mapping: expected modules of fastmnist or torch.ao, got {target!r} for "
                f"{getattr(source, '__name__', source)}: put modules of your own into the model "
                "yourself, and leave the layer out of the mapping to keep it in float"
            )
    return {*mapping}
