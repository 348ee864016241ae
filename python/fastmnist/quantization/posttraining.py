"""Post-training quantization as transforms: static int8, dynamic int8, and 16-bit floats."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

from fastmnist.data.batches import check_repeatable
from fastmnist.data.meaning import meaning_of
from fastmnist.fusion.functions import fuse_functions
from fastmnist.fusion.fusing import fuse_in_place
from fastmnist.int8.quantizer import InputRule
from fastmnist.layers.cells import QuantizedCell, is_known_cell
from fastmnist.layers.half import HalfLinear, HalfRecurrent, dtype_name, how_computed
from fastmnist.layers.half_weights import HalfWeightLinear, HalfWeightRecurrent
from fastmnist.layers.linear import is_float_linear
from fastmnist.layers.recurrent import QuantizedRecurrent, is_known_recurrent
from fastmnist.pixels import model_pixels, set_model_pixels
from fastmnist.quantization.calibration import (
    calibrate,
    check_all_observed,
    warn_of_ranges_apart,
)
from fastmnist.quantization.configs import Dynamic, Half, Static, pixels_of
from fastmnist.quantization.placement import place, quantize_plain, what_is_left
from fastmnist.quantization.prepared import prepared_layers
from fastmnist.quantization.preparing import prepare_in_place
from fastmnist.quantization.weight_bits import WeightBits, check_names, weight_rule
from fastmnist.rewriting.changes import Change
from fastmnist.rewriting.graph import Graph, Traces
from fastmnist.rewriting.masks import make_permanent
from fastmnist.rewriting.selection import (
    check_has_linear,
    check_not_prepared,
    input_layers,
    named_layers,
    narrow_enough,
    not_read,
    quantizable,
    switch_off_transformer_fast_path,
)
from fastmnist.rewriting.swapping import freeze, put
from fastmnist.rewriting.transform import Transform, applies, transform_of


class PostTraining(Transform):
    """What the three have in common: a fused float model, some of whose layers are replaced."""

    takes_recurrent = True
    takes_wide = False
    takes_cells = False
    # Layers that have one scale a row, for which a norm that levels columns stays: None for all.
    by_row: Collection[str] | None = ()
    # Whether the result has one way in and one way out, as what is compiled has.
    is_closed = False
    weight_bits: WeightBits = 8

    def find(self, root: nn.Module) -> dict[str, nn.Module]:
        check_not_prepared(root)
        make_permanent(root)
        layers = quantizable(root)
        if self.takes_recurrent:
            layers |= {name: m for name, m in named_layers(root) if is_known_recurrent(m)}
        if self.takes_cells:
            layers |= {name: m for name, m in named_layers(root) if is_known_cell(m)}
        check_has_linear(root, layers)
        check_names(self.weight_bits, layers)
        return layers

    def narrow(self, chosen: dict[str, nn.Module], traces: Traces) -> dict[str, nn.Module]:
        if not chosen:
            raise ValueError("model: expected a layer to quantize among those selected, got none")
        left = not_read(traces.read, chosen)
        return left if self.takes_wide else narrow_enough(left)

    def begin(self, root: nn.Module, layers: Mapping[str, nn.Module]) -> None:
        self._fuse(root)

    def apply(
        self, root: nn.Module, names: Collection[str], why: str
    ) -> tuple[nn.Module, list[Change]]:
        make_permanent(root)
        done = self._fuse(root)
        layers = {name: root.get_submodule(name) for name in names}
        traces = Traces.of(root)
        done += what_is_left(root, layers, traces.read, why)
        result, replaced = self.replace(root, layers, traces.graph, traces.why_not)
        functions = fuse_functions(result, anywhere=self.is_closed)
        return freeze(result), [*done, *replaced, *functions]

    def _fuse(self, root: nn.Module) -> list[Change]:
        return fuse_in_place(
            root,
            anywhere=self.is_closed,
            norms_apart=self.norms_apart,
            by_row=self.by_row,
        )

    @abstractmethod
    def replace(
        self,
        root: nn.Module,
        layers: Mapping[str, nn.Module],
        graph: Graph | None,
        why_not: str,
    ) -> tuple[nn.Module, list[Change]]:
        """Put other layers in the places of these; `why_not` says why there is no graph."""

    def called(self, names: Collection[str]) -> Collection[str]:
        return names

    def layerwise(self, original: nn.Module) -> nn.Module | None:
        make_permanent(original)
        self._fuse(original)
        return original


@applies(Static)
class StaticInt8(PostTraining):
    """int8 with scales fixed by calibration."""

    takes_recurrent = False
    begins_on_copy = True

    def __init__(self, config: Static) -> None:
        self._config, self.weight_bits = config, config.weight_bits
        self._rules: dict[str, InputRule] = {}
        self._explicit = pixels_of(config)

    def begin(self, root: nn.Module, layers: Mapping[str, nn.Module]) -> None:
        config = self._config
        meaning = meaning_of(config.calibration, root, given=self._explicit)
        self._fuse(root)
        prepare_in_place(root, config, layers, meaning.known_pixels)
        samples, self.rows = calibrate(
            root,
            config.calibration,
            meaning=meaning,
            max_samples=config.max_samples,
            batch_fn=config.batch_fn,
        )
        prepared = prepared_layers(root)
        check_all_observed(prepared, samples)
        warn_of_ranges_apart(root, prepared)
        self._rules = {name: layer.final_rule() for name, layer in prepared.items()}

    def replace(
        self,
        root: nn.Module,
        layers: Mapping[str, nn.Module],
        graph: Graph | None,
        why_not: str,
    ) -> tuple[nn.Module, list[Change]]:
        rules = {name: self._rules[name] for name in layers}
        result, done = place(root, rules, quantize_plain(self._config), "static", why_not)
        if self._explicit is not None:
            set_model_pixels(result, self._explicit)
        return result, done


@applies(Dynamic)
class DynamicInt8(PostTraining):
    """int8 with scales per row."""

    takes_cells = True
    by_row = None

    def __init__(self, config: Dynamic) -> None:
        self._config, self.weight_bits = config, config.weight_bits
        self._explicit = pixels_of(config)

    def replace(
        self,
        root: nn.Module,
        layers: Mapping[str, nn.Module],
        graph: Graph | None,
        why_not: str,
    ) -> tuple[nn.Module, list[Change]]:
        if self._explicit is not None:
            set_model_pixels(root, self._explicit)
        pixels = model_pixels(root)
        linear = {name: layer for name, layer in layers.items() if is_float_linear(layer)}
        rules = {name: InputRule() for name in linear}
        fed = [""] if "" in linear else input_layers(graph, linear)
        rules |= {name: InputRule(pixels=pixels) for name in fed}
        config = self._config
        result, done = place(root, rules, quantize_plain(config), "dynamic", why_not)
        for name, owner in _recurrent(layers).items():
            rule = weight_rule(config.weight_bits, config.per_channel, name, owner)
            result = put(result, name, QuantizedRecurrent(owner, name, rule))
            done.append(Change(name, "int8 dynamic", after=f"projections of {owner.mode}"))
        for name, cell in _cells(layers).items():
            rule = weight_rule(config.weight_bits, config.per_channel, name, cell)
            result = put(result, name, QuantizedCell.of(cell, name, rule))
            done.append(Change(name, "int8 dynamic", after=f"projections of {type(cell).__name__}"))
        if pixels is not None:
            set_model_pixels(result, pixels)
        return result, done


@applies(Half)
class SixteenBits(PostTraining):
    """Weights and products in bfloat16 or float16."""

    takes_wide = True

    def __init__(self, config: Half) -> None:
        self._dtype = config.dtype

    def replace(
        self,
        root: nn.Module,
        layers: Mapping[str, nn.Module],
        graph: Graph | None,
        why_not: str,
    ) -> tuple[nn.Module, list[Change]]:
        _check_range(layers, self._dtype)
        about = how_computed(self._dtype) or None
        done = [Change(name, dtype_name(self._dtype), after=about) for name in layers]
        root = _in_16_bits(
            root,
            layers,
            partial(HalfLinear.convert, dtype=self._dtype),
            partial(HalfRecurrent, dtype=self._dtype),
        )
        return root, done


class HalfWeights(PostTraining):
    """Weights kept in float16, products and activations float32: torch.ao's dynamic float16."""

    takes_cells = True

    def replace(
        self,
        root: nn.Module,
        layers: Mapping[str, nn.Module],
        graph: Graph | None,
        why_not: str,
    ) -> tuple[nn.Module, list[Change]]:
        _check_range(layers, torch.float16)
        root = _in_16_bits(root, layers, HalfWeightLinear.convert, HalfWeightRecurrent)
        return root, [Change(name, "float16", after="weights") for name in layers]


def _in_16_bits(
    root: nn.Module,
    layers: Mapping[str, nn.Module],
    linear: Callable[[nn.Linear], Any],
    recurrent: Callable[[Any], nn.Module],
) -> nn.Module:
    """Make Linear layers others in place, and put others in the places of recurrent ones."""
    for layer in layers.values():
        if is_float_linear(layer):
            linear(layer)
    for name, owner in (_recurrent(layers) | _cells(layers)).items():
        root = put(root, name, recurrent(owner))
    switch_off_transformer_fast_path(root)
    return root


def _cells(layers: Mapping[str, nn.Module]) -> dict[str, nn.RNNCellBase]:
    return {name: layer for name, layer in layers.items() if isinstance(layer, nn.RNNCellBase)}


def _recurrent(layers: Mapping[str, nn.Module]) -> dict[str, nn.RNNBase]:
    return {name: layer for name, layer in layers.items() if isinstance(layer, nn.RNNBase)}


def _check_range(layers: Mapping[str, nn.Module], dtype: torch.dtype) -> None:
    """Raise ValueError, naming the layer with a weight that float16 cannot hold."""
    largest = torch.finfo(dtype).max
    for name, layer in layers.items():
        for key, parameter in layer.named_parameters(recurse=False):
            if not bool(torch.isfinite(parameter).all()):
                raise ValueError(
                    f"layer '{name}': expected finite numbers in its {key}, got NaN or inf"
                )
            if not bool((parameter.detach().abs() <= largest).all()):
                raise ValueError(
                    f"layer '{name}': expected values of at most {largest:g} in its {key}, the "
                    f"largest of {dtype}: use torch.bfloat16, or leave the layer in float with "
                    f"exclude=['{name}']"
                )


def post_training(config: Static | Dynamic | Half, *, is_closed: bool = False) -> Transform:
    """The transform of a configuration that was checked."""
    how = transform_of(config)
    assert isinstance(how, PostTraining)
    how.is_closed = is_closed
    return how


def data_to_measure_on(config: Any, data: Any) -> Any:
    """The data that `max_drop` is measured on: the calibration data, unless it is given."""
    if data is not None or not isinstance(config, Static):
        return data
    check_repeatable(config.calibration, "calibration", "as max_drop is measured on it, too")
    return config.calibration
