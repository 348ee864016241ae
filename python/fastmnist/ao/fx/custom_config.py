"""PrepareCustomConfig, ConvertCustomConfig, FuseCustomConfig, with torch.ao's methods.

They hold what scripts say. :mod:`fastmnist.ao.quantize_fx` heeds attributes to keep and modules to
leave alone, and refuses the rest by name.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple, TypeVar

Self = TypeVar("Self", bound="_Config")


class StandaloneModuleConfigEntry(NamedTuple):
    """What is said of a module that is to be prepared by itself."""

    qconfig_mapping: Any
    example_inputs: tuple[Any, ...]
    prepare_custom_config: Any
    backend_config: Any


class _Config:
    """Values by the keys of the older dicts."""

    _defaults: ClassVar[dict[str, Any]] = {"preserved_attributes": list}

    def __init__(self) -> None:
        self._told: dict[str, Any] = {key: make() for key, make in self._defaults.items()}

    def __getattr__(self, name: str) -> Any:
        told = self.__dict__.get("_told", {})
        if name in told:
            return told[name]
        raise AttributeError(f"'{type(self).__name__}' has no attribute '{name}'")

    def _put(self: Self, key: str, value: Any) -> Self:
        self._told[key] = value
        return self

    def set_preserved_attributes(self: Self, attributes: list[str]) -> Self:
        """Name attributes that the result is to keep; it keeps all."""
        return self._put("preserved_attributes", attributes)

    def to_dict(self) -> dict[str, Any]:
        """The older form: what was said, by key."""
        return {key: value for key, value in self._told.items() if value}

    @classmethod
    def from_dict(cls: type[Self], config: dict[str, Any]) -> Self:
        """The reverse of :meth:`to_dict`.

        Raises
        ------
        ValueError
            For a key that there is not.
        """
        made = cls()
        for key, value in config.items():
            if key not in cls._defaults:
                known = ", ".join(cls._defaults)
                raise ValueError(f"config: expected one of the keys {known}, got {key!r}")
            made._put(key, value)
        return made

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.to_dict()})"


class PrepareCustomConfig(_Config):
    """For :func:`fastmnist.ao.quantize_fx.prepare_fx`.

    Examples
    --------
    >>> PrepareCustomConfig().set_non_traceable_module_names(["decoder"])
    PrepareCustomConfig({'non_traceable_module_name': ['decoder']})
    """

    _defaults: ClassVar[dict[str, Any]] = {
        "standalone_module_name": list,
        "standalone_module_class": list,
        "float_to_observed_custom_module_class": dict,
        "non_traceable_module_name": list,
        "non_traceable_module_class": list,
        "input_quantized_idxs": list,
        "output_quantized_idxs": list,
        "preserved_attributes": list,
    }

    def set_standalone_module_name(self, module_name: str, *rest: Any) -> PrepareCustomConfig:
        """Name a module to prepare by itself; refused when it is used."""
        self._told["standalone_module_name"].append((module_name, *rest))
        return self

    def set_standalone_module_class(self, module_class: type, *rest: Any) -> PrepareCustomConfig:
        """Name a class of modules to prepare by themselves; refused when it is used."""
        self._told["standalone_module_class"].append((module_class, *rest))
        return self

    def set_float_to_observed_mapping(
        self, float_class: type, observed_class: type, quant_type: Any = "static"
    ) -> PrepareCustomConfig:
        """Name a class of one's own for observed modules; refused when it is used."""
        by_type = self._told["float_to_observed_custom_module_class"]
        by_type.setdefault(str(getattr(quant_type, "value", quant_type)), {})[float_class] = (
            observed_class
        )
        return self

    def set_non_traceable_module_names(self, module_names: list[str]) -> PrepareCustomConfig:
        """Name modules whose layers stay in float."""
        return self._put("non_traceable_module_name", module_names)

    def set_non_traceable_module_classes(self, module_classes: list[type]) -> PrepareCustomConfig:
        """Name classes of modules whose layers stay in float."""
        return self._put("non_traceable_module_class", module_classes)

    def set_input_quantized_indexes(self, indexes: list[int]) -> PrepareCustomConfig:
        """Say which inputs come as codes; refused when it is used."""
        return self._put("input_quantized_idxs", indexes)

    def set_output_quantized_indexes(self, indexes: list[int]) -> PrepareCustomConfig:
        """Say which outputs leave as codes; refused when it is used."""
        return self._put("output_quantized_idxs", indexes)


class ConvertCustomConfig(_Config):
    """For :func:`fastmnist.ao.quantize_fx.convert_fx`."""

    _defaults: ClassVar[dict[str, Any]] = {
        "observed_to_quantized_custom_module_class": dict,
        "preserved_attributes": list,
    }

    def set_observed_to_quantized_mapping(
        self, observed_class: type, quantized_class: type, quant_type: Any = "static"
    ) -> ConvertCustomConfig:
        """Name a class of one's own for quantized modules; refused when it is used."""
        by_type = self._told["observed_to_quantized_custom_module_class"]
        by_type.setdefault(str(getattr(quant_type, "value", quant_type)), {})[observed_class] = (
            quantized_class
        )
        return self


class FuseCustomConfig(_Config):
    """For :func:`fastmnist.ao.quantize_fx.fuse_fx`."""
