"""The first of three steps that people know: prepare, run or train, convert.

:func:`prepare` and :func:`prepare_qat` make the Linear layers of a model
:class:`~fastmnist.layers.simulated.SimulatedLinear` ones; :func:`fastmnist.convert` makes those
int8. :func:`fastmnist.quantize` with ``Static`` is all three.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, TypeVar

from torch import nn

from fastmnist.display.words import kind_of
from fastmnist.fusion.functions import run_natively
from fastmnist.fusion.fusing import FLOOR, fuse_in_place
from fastmnist.layers.linear import is_known_linear
from fastmnist.layers.simulated import Settings, SimulatedLinear
from fastmnist.pixels import PixelNormalization, model_pixels, set_model_pixels
from fastmnist.quantization.configs import QAT, Static, check_int8, pixels_of
from fastmnist.quantization.retraining import make_trainable
from fastmnist.quantization.weight_bits import check_names, weight_rule
from fastmnist.ranges.model_inputs import ModelInputs
from fastmnist.ranges.rules import rule_of
from fastmnist.rewriting.changes import Change
from fastmnist.rewriting.copies import check_module, has_computed_weights
from fastmnist.rewriting.graph import Graph, Traces
from fastmnist.rewriting.masks import make_permanent
from fastmnist.rewriting.selection import (
    Names,
    check_has_linear,
    check_not_prepared,
    narrow_enough,
    not_read,
    quantizable,
    switch_off_transformer_fast_path,
)
from fastmnist.rewriting.transform import Transform, applies, transformed

Kind = TypeVar("Kind", Static, QAT)
# By layer: its own configuration instead of the common one, or None to leave it in float.
OwnConfigs = Callable[[str], Static | QAT | None] | None


def prepare(
    model: Any,
    config: Static | None = None,
    *,
    include: Names = None,
    exclude: Names = None,
    inplace: bool = False,
    example: Any = None,
) -> nn.Module:
    """Make a model observe the inputs of its Linear layers; then run and :func:`convert` it.

    For calibration in your own loop. If you have the data, ``fm.quantize(model,
    fm.Static(calibration=data))`` does all three steps.

    Parameters
    ----------
    model : torch.nn.Module
        A float model.
    config : Static, optional
        Without calibration. Default: ``Static()``.
    include, exclude : str, type, or sequence of them
        Which Linear layers: by name, glob pattern or type, of the layer or of a module that
        contains it. Default: all.
    inplace : bool
        Change `model` itself, and return it.
    example : tensor, tuple of arguments, or dict of keywords, optional
        Rows on which original and result are run side by side; they are not observed.

    Returns
    -------
    torch.nn.Module
        Fused, float32 on the CPU, in eval mode; it still computes in float. NaN or infinity in a
        layer's input raises an error that names the layer.

    Raises
    ------
    TypeError, ValueError
        If `config` is not a ``Static`` or has calibration data, or there is no layer to prepare.

    Examples
    --------
    >>> import fastmnist as fm, torch
    >>> prepared = fm.prepare(fm.NeuralNetwork(), fm.Static(observer="mse"))
    >>> for _ in range(4):
    ...     _ = prepared(torch.rand(16, 784))
    >>> fm.convert(prepared).linear1.kind
    'static'
    """
    config = _checked(Static() if config is None else config, Static)
    if config.calibration is not None:
        raise ValueError(
            "config: expected Static without calibration, got some: run the prepared model on it, "
            "or let fm.quantize do all"
        )
    return prepare_model(model, config, include, exclude, inplace=inplace, example=example)


def prepare_qat(
    model: Any,
    config: QAT | None = None,
    *,
    include: Names = None,
    exclude: Names = None,
    inplace: bool = False,
    example: Any = None,
) -> nn.Module:
    """Make a model simulate int8 while it trains; :func:`convert` then makes it int8.

    Train the result in any loop, like the model itself: on any device, under autocast and
    GradScaler, wrapped in DDP, from checkpoints. In training mode, layers observe their inputs from
    the first batch on. On the CPU in float32, their outputs equal those of the converted model bit
    for bit. A BatchNorm1d before or after a Linear moves into it and is simulated as folded; masks
    of a pruned model stay in force.

    Parameters
    ----------
    model : torch.nn.Module
        A float model. A quantized one (Static or Dynamic) becomes trainable again; its scales
        initialize the observers.
    config : QAT, optional
    include, exclude : str, type, or sequence of them
        As for :func:`prepare`.
    inplace : bool
        Change `model` itself, and return it: parameters stay the same objects, so that an existing
        optimizer keeps working.
    example : tensor, tuple of arguments, or dict of keywords, optional
        Rows on which original and result are run side by side; they are not observed.

    Returns
    -------
    torch.nn.Module
        On the same device, in the same mode.

    Raises
    ------
    TypeError, ValueError
        If `config` is not a ``QAT``, or there is no layer to prepare.

    Examples
    --------
    >>> import fastmnist as fm, torch
    >>> data = fm.load_dataset("digits")
    >>> model = fm.prepare_qat(fm.NeuralNetwork(), fm.QAT())
    >>> _ = fm.train(model, data, epochs=1)
    >>> x = data.test.images[:5].float() / 255
    >>> q = fm.convert(model)
    >>> torch.equal(model.eval()(x), q(x))
    True
    """
    config = _checked(QAT() if config is None else config, QAT)
    return prepare_model(model, config, include, exclude, inplace=inplace, example=example)


def prepare_model(
    model: Any,
    config: Static | QAT,
    include: Names = None,
    exclude: Names = None,
    *,
    own: OwnConfigs = None,
    by_row: Collection[str] = (),
    inplace: bool = False,
    example: Any = None,
) -> nn.Module:
    """Prepare a model for calibration (Static) or training (QAT); `own` by layer, if given.

    `by_row` are the layers that are to have a scale for each row.
    """
    how = Preparation(config, own) if isinstance(config, Static) else TrainingAware(config, own)
    how.by_row = by_row
    if inplace and how.keeps_device:
        _check_keeps_parameters(check_module(model))
    return transformed(
        model, how, include=include, exclude=exclude, inplace=inplace, example=example
    )


def _check_keeps_parameters(model: nn.Module) -> None:
    computed = has_computed_weights(model)
    if computed is not None:
        raise ValueError(
            f"inplace: expected plain weights, got '{computed}', whose weight is computed from "
            "other parameters, which would not be trained any more: remove the parametrization "
            "before the optimizer is made, or use the returned copy"
        )


class Preparation(Transform):
    """Layers that observe, and compute in float."""

    floor = FLOOR

    def __init__(self, config: Static | QAT, own: OwnConfigs = None) -> None:
        self._config, self._own = config, own
        self.by_row: Collection[str] = ()

    def find(self, root: nn.Module) -> dict[str, nn.Module]:
        check_not_prepared(root)
        make_permanent(root)
        layers = quantizable(root)
        check_has_linear(root, layers)
        check_names(self._config.weight_bits, layers)
        return layers

    def narrow(self, chosen: dict[str, nn.Module], traces: Traces) -> dict[str, nn.Module]:
        chosen = narrow_enough(not_read(traces.read, chosen))
        if self._own is None:
            return chosen
        wanted = {name: layer for name, layer in chosen.items() if self._own(name) is not None}
        if not wanted:
            raise ValueError(
                "model: expected a layer to quantize, got a qconfig of None for every one"
            )
        return wanted

    def apply(
        self, root: nn.Module, names: Collection[str], why: str
    ) -> tuple[nn.Module, list[Change]]:
        assert isinstance(self._config, Static)
        done = fuse_in_place(root, norms_apart=self.norms_apart)
        prepare_in_place(root, self._config, names, own=self._own)
        return root, done


@applies(QAT)
class TrainingAware(Preparation):
    """Layers that simulate int8 while the model is trained."""

    keeps_device = True

    def find(self, root: nn.Module) -> dict[str, nn.Module]:
        check_not_prepared(root)
        make_permanent(root, keep_masks=True)
        make_trainable(root)
        layers = quantizable(root)
        check_has_linear(root, layers)
        check_names(self._config.weight_bits, layers)
        return layers

    def apply(
        self, root: nn.Module, names: Collection[str], why: str
    ) -> tuple[nn.Module, list[Change]]:
        config = self._config
        make_permanent(root, keep_masks=True)
        earlier = make_trainable(root)
        fuse_in_place(root, live=True, norms_apart=self.norms_apart, by_row=self.by_row)
        explicit = pixels_of(config)
        inputs = _inputs(root, explicit or earlier.pixels, training=True)
        layers = _prepare_layers(root, names, config, self._own, inputs, training=True)
        for name, (lo, hi, from_model) in earlier.ranges.items():
            if name in layers:
                layers[name].observer.set_range(lo, hi, is_first_input=from_model)
        if explicit is not None:
            set_model_pixels(root, explicit)
        return root, []  # what is done is said when it is converted


def prepare_in_place(
    root: nn.Module,
    config: Static,
    names: Collection[str],
    known_pixels: PixelNormalization | None = None,
    own: OwnConfigs = None,
) -> None:
    """Prepare a fused float32 CPU model itself for calibration."""
    explicit = pixels_of(config)
    inputs = _inputs(root, explicit or known_pixels, training=False)
    _prepare_layers(root, names, config, own, inputs, training=False)
    if explicit is not None:
        set_model_pixels(root, explicit)


def _checked(config: Any, kind: type[Kind]) -> Kind:
    if not isinstance(config, kind):
        raise TypeError(f"config: expected {kind.__name__}(...), got {kind_of(config)}")
    check_int8(config)
    return config


def _inputs(
    root: nn.Module, known_pixels: PixelNormalization | None, training: bool
) -> ModelInputs:
    identity, known = PixelNormalization(), model_pixels(root)
    candidates = [identity] if known in (None, identity) else [known, identity]
    return ModelInputs(known_pixels, [c for c in candidates if c is not None], training)


def _prepare_layers(
    root: nn.Module,
    names: Collection[str],
    config: Static | QAT,
    own: OwnConfigs,
    inputs: ModelInputs,
    *,
    training: bool,
) -> dict[str, SimulatedLinear]:
    made = {}
    for name in names:
        mine, layer = config if own is None else own(name), root.get_submodule(name)
        assert mine is not None
        assert is_known_linear(layer)
        rule = rule_of(mine.observer)
        weights = weight_rule(mine.weight_bits, mine.per_channel, name, layer)
        settings = Settings(rule, weights, mine.per_feature, training, mine.check)
        made[name] = SimulatedLinear.prepare(layer, name, settings, inputs)
    if (graph := Graph.of(root)[0]) is not None:
        run_natively(graph)  # as the converted model will, so that both give the same bits
    switch_off_transformer_fast_path(root)
    root.register_forward_pre_hook(inputs, with_kwargs=True, prepend=True)
    return made
