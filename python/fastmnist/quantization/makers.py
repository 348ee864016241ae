"""One model, quantized in several ways: all layers, or some, calibrated once.

:func:`start` makes everything that costs (the copy, fusion, calibration); each
:meth:`Attempt.make` then quantizes the layers that it is told to. :func:`fastmnist.quantize`
makes one; ``max_drop`` and :func:`fastmnist.sensitivity` make many.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from fastmnist.data.batches import carried_pixels, data_pixels
from fastmnist.fusion.fusing import fuse_in_place
from fastmnist.int8.quantizer import InputRule
from fastmnist.layers.fused import FusedLinear
from fastmnist.layers.recurrent import RECURRENT, QuantizedRecurrent
from fastmnist.pixels import PixelNormalization, model_pixels, set_model_pixels
from fastmnist.quantization.calibration import calibrate, check_all_observed
from fastmnist.quantization.configs import Config, Dynamic, Half, Static, explicit_pixels
from fastmnist.quantization.converting import convert_in_place
from fastmnist.quantization.half import place_half
from fastmnist.quantization.placement import place, quantize_plain
from fastmnist.quantization.prepared import check_fresh, prepared_layers
from fastmnist.quantization.preparing import prepare_in_place
from fastmnist.rewriting.changes import Change, record
from fastmnist.rewriting.copies import plain_copy, rehearsed
from fastmnist.rewriting.graph import Graph, is_linear
from fastmnist.rewriting.masks import bake
from fastmnist.rewriting.selection import (
    Selected,
    check_there_is_something,
    input_layers,
    left_in_float,
    quantizable,
    selection,
)
from fastmnist.rewriting.swapping import freeze, swap


class Attempt(ABC):
    """A model that is ready to be quantized, as often as one likes.

    Attributes
    ----------
    layers : dict
        What can be quantized, by name, as float layers.
    """

    layers: Mapping[str, nn.Module]

    @abstractmethod
    def make(self, names: Iterable[str], excluded: str = "excluded") -> nn.Module:
        """Return the model with these layers quantized; `excluded` says why not the others."""


class _Calibrated(Attempt):
    """Static: a prepared model that has seen its data."""

    def __init__(self, model: Any, config: Static, include: Any, exclude: Any) -> None:
        root = plain_copy(model)
        # What is certain: given, carried by the data, or uint8 rows. Floats from elsewhere are
        # checked.
        data, known = config.calibration, model_pixels(root)
        certain = explicit_pixels(config) or carried_pixels(data)
        if certain is None and data_pixels(data) is not None:
            certain = known or data_pixels(data)
        self.root = prepare_in_place(root, config, include, exclude, certain)
        self.layers = prepared_layers(self.root)
        samples = calibrate(
            self.root,
            data,
            pixels=certain or known or PixelNormalization(),
            max_samples=config.max_samples,
            batch_fn=config.batch_fn,
        )
        check_all_observed(prepared_layers(self.root), samples)

    def make(self, names: Iterable[str], excluded: str = "excluded") -> nn.Module:
        root, wanted = plain_copy(self.root), {*names}
        for name, layer in prepared_layers(root).items():
            if name not in wanted:
                del layer.observer
                layer.__class__ = FusedLinear  # type: ignore[assignment]
        return convert_in_place(root, excluded)


class _Uncalibrated(Attempt):
    """Dynamic and Half: a fused float model."""

    def __init__(
        self,
        root: nn.Module,
        config: Dynamic | Half,
        include: Any,
        exclude: Any,
        spec: Selected | None,
    ) -> None:
        self.config, self.root = config, root
        self.single = isinstance(self.root, RECURRENT) or is_linear(self.root)
        explicit = explicit_pixels(config) if isinstance(config, Dynamic) else None
        if explicit is not None:
            set_model_pixels(self.root, explicit)
        check_fresh(self.root)
        bake(self.root)
        check_there_is_something(self.root, self._candidates(self.root))
        self.done = fuse_in_place(self.root)
        graph, _ = Graph.of(self.root)
        layers = self._candidates(self.root)
        selected = spec or selection(self.root, layers, include, exclude)
        layers = {name: layer for name, layer in layers.items() if selected(name, layer)}
        if not layers:
            raise ValueError("model: expected a layer to quantize among those selected, got none")
        read = frozenset() if graph is None else graph.read
        self.layers = {name: m for name, m in layers.items() if id(m) not in read}
        if not self.layers:
            raise ValueError(
                "model: expected a Linear layer to quantize, got only such whose weights forward "
                "reads itself: call the layers instead"
            )

    @staticmethod
    def _candidates(root: nn.Module) -> dict[str, nn.Module]:
        recurrent = {n: m for n, m in root.named_modules() if type(m) in RECURRENT}
        return {**quantizable(root), **recurrent}

    def make(self, names: Iterable[str], excluded: str = "excluded") -> nn.Module:
        return self.finish(plain_copy(self.root), names, excluded)

    def finish(
        self, root: nn.Module, names: Iterable[str], excluded: str = "excluded"
    ) -> nn.Module:
        """Quantize layers of `root`, which is this attempt's own or a copy of it."""
        holder = nn.Sequential(root) if self.single else root
        at = {("0" if self.single else name): name for name in names}
        modules = {path: holder.get_submodule(path) for path in at}
        linear = {p: m for p, m in modules.items() if isinstance(m, nn.Linear)}
        recurrent = {p: m for p, m in modules.items() if isinstance(m, nn.RNNBase)}
        graph, _ = Graph.of(root)
        left = {} if self.single else left_in_float(root, modules, graph, excluded)
        done = [Change(name, f"left in float: {why}") for name, why in left.items()]
        if isinstance(self.config, Half):
            done += place_half(holder, linear, recurrent, self.config.dtype)
        else:
            done += self._place_dynamic(holder, linear, recurrent, self.config.per_channel)
        result = holder[0] if isinstance(holder, nn.Sequential) and self.single else root
        done = [Change(at.get(c.layer, c.layer), c.what) for c in done]
        record(result, [*self.done, *done])
        pixels = model_pixels(self.root)
        if pixels is not None:
            set_model_pixels(result, pixels)
        return freeze(result)

    def _place_dynamic(
        self,
        root: nn.Module,
        linear: Mapping[str, nn.Linear],
        recurrent: Mapping[str, nn.RNNBase],
        per_channel: bool,
    ) -> list[Change]:
        rules = {name: InputRule() for name in linear}
        graph, _ = Graph.of(root)
        for name in input_layers(graph, linear):
            rules[name] = InputRule(pixels=model_pixels(self.root))
        done = place(root, linear, rules, quantize_plain(per_channel), "dynamic")
        for name, module in recurrent.items():
            own = "" if self.single else name
            swap(root, name, QuantizedRecurrent(module, own, per_channel))
            done.append(Change(name, f"int8 dynamic, projections of {type(module).__name__}"))
        return done


def start(
    model: Any, config: Config, include: Any, exclude: Any, spec: Selected | None = None
) -> Attempt:
    """Do everything that quantizing does once; `spec` selects in place of the two before it."""
    if isinstance(config, Static):
        return _Calibrated(model, config, include, exclude)
    return _Uncalibrated(plain_copy(model), config, include, exclude, spec)


def quantize_itself(model: nn.Module, config: Dynamic | Half, spec: Selected) -> nn.Module:
    """Quantize `model` itself: what is not quantized in it stays the same objects."""

    def change(root: nn.Module) -> nn.Module:
        attempt = _Uncalibrated(root.cpu().float().eval(), config, None, None, spec)
        return attempt.finish(root, [*attempt.layers])

    return rehearsed(model, change)
