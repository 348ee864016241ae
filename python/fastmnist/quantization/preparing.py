"""The three steps that people know: prepare, run or train, convert.

:func:`prepare` and :func:`prepare_qat` make the Linear layers of a model
:class:`~fastmnist.layers.simulated.SimulatedLinear` ones; :func:`convert` makes those int8.
:func:`fastmnist.quantize` with ``Static`` is all three.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from torch import nn

from fastmnist.fusion.fusing import fuse_in_place
from fastmnist.layers.simulated import Settings, SimulatedLinear
from fastmnist.pixels import PixelNormalization, model_pixels, set_model_pixels
from fastmnist.quantization.configs import QAT, Static, check_int8, explicit_pixels
from fastmnist.quantization.prepared import check_fresh
from fastmnist.quantization.retraining import make_trainable
from fastmnist.ranges.model_inputs import ModelInputs
from fastmnist.ranges.rules import rule_of
from fastmnist.rewriting.changes import record
from fastmnist.rewriting.copies import (
    check_module,
    checked_copy,
    has_computed_weights,
    plain_copy,
    rehearsed,
)
from fastmnist.rewriting.graph import Graph, is_linear
from fastmnist.rewriting.masks import bake
from fastmnist.rewriting.selection import (
    call_their_layers,
    check_there_is_something,
    quantizable,
    selection,
)

Names = str | type | Iterable[str | type] | None
Kind = TypeVar("Kind", Static, QAT)
# By layer: what holds for it instead of the one for all, or None to leave it in float.
OwnConfigs = Callable[[str], Static | QAT | None] | None


def prepare(
    model: Any,
    config: Static | None = None,
    *,
    include: Names = None,
    exclude: Names = None,
    inplace: bool = False,
) -> nn.Module:
    """Make a model watch what its Linear layers are given; then run it, then :func:`convert` it.

    For calibration in a loop of your own. With data at hand, ``fm.quantize(model,
    fm.Static(calibration=data))`` does all three steps.

    Parameters
    ----------
    model : torch.nn.Module
        A float model.
    config : Static, optional
        Without calibration; ``Static()`` by default.
    include, exclude : str, type, or several of them
        Which Linear layers: by name (or name of a module that holds some), glob pattern, or type.
        Default: all.
    inplace : bool
        Change `model` itself, and return it.

    Returns
    -------
    torch.nn.Module
        Fused, float32 on the CPU, in eval mode; it computes in float as before. NaN or infinity
        in a layer's input is an error that names the layer.

    Raises
    ------
    TypeError, ValueError
        If `config` is none, holds calibration, or there is no layer to prepare.

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
    own = check_module(model)

    def change(root: nn.Module) -> nn.Module:
        return prepare_in_place(root.cpu().float().eval(), config, include, exclude)

    return rehearsed(own, change) if inplace else change(plain_copy(own))


def prepare_in_place(
    root: nn.Module,
    config: Static,
    include: Names,
    exclude: Names,
    certain: PixelNormalization | None = None,
    own: OwnConfigs = None,
) -> nn.Module:
    """Prepare a float32 CPU model itself for calibration."""
    check_fresh(root)
    bake(root)
    check_there_is_something(root, quantizable(root))
    done = fuse_in_place(root)
    explicit = explicit_pixels(config)
    inputs = _inputs(root, explicit or certain, training=False)
    _prepare_layers(root, config, inputs, include, exclude, own, training=False)
    record(root, done)
    if explicit is not None:
        set_model_pixels(root, explicit)
    return root


def prepare_qat(
    model: Any,
    config: QAT | None = None,
    *,
    include: Names = None,
    exclude: Names = None,
    inplace: bool = False,
) -> nn.Module:
    """Make a model simulate int8 while it trains on; :func:`convert` makes it int8.

    The result is trained in any loop, like the model itself: on any device, under autocast and
    GradScaler, wrapped by DDP, from checkpoints. In training mode layers observe their inputs,
    from the first batch on. On the CPU in float32 their outputs are bit for bit those of the
    converted model. A BatchNorm1d that follows or leads a Linear moves into it and is simulated
    folded; masks of a pruned model hold.

    Parameters
    ----------
    model : torch.nn.Module
        A float model; a quantized one (Static or Dynamic) becomes trainable again, its scales
        are where the observers begin.
    config : QAT, optional
    include, exclude : str, type, or several of them
        As for :func:`prepare`.
    inplace : bool
        Change `model` itself, and return it: parameters stay the very same objects, so that an
        optimizer made before goes on.

    Returns
    -------
    torch.nn.Module
        On the same device, in the same mode.

    Raises
    ------
    TypeError, ValueError
        If `config` is none, or there is no layer to prepare.

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
    own = check_module(model)

    def change(root: nn.Module) -> nn.Module:
        return prepare_qat_in_place(root, config, include, exclude)

    return prepare_qat_itself(own, change) if inplace else change(checked_copy(own))


def prepare_qat_itself(model: nn.Module, change: Callable[[nn.Module], nn.Module]) -> nn.Module:
    """Prepare `model` itself for training, unless parameters could not stay what they are."""
    computed = has_computed_weights(model)
    if computed is not None:
        raise ValueError(
            f"inplace: expected plain weights, got '{computed}', whose weight is computed from "
            "other parameters, which would not be trained any more: remove the parametrization "
            "before the optimizer is made, or use the returned copy"
        )
    return rehearsed(model, change)


def prepare_qat_in_place(
    root: nn.Module, config: QAT, include: Names, exclude: Names, own: OwnConfigs = None
) -> nn.Module:
    """Prepare a model itself for training."""
    check_fresh(root)
    bake(root, keep_masks=True)
    again = make_trainable(root)
    check_there_is_something(root, quantizable(root))
    fuse_in_place(root, live=True)
    explicit = explicit_pixels(config)
    inputs = _inputs(root, explicit or again.pixels, training=True)
    layers = _prepare_layers(root, config, inputs, include, exclude, own, training=True)
    for name, (lo, hi, from_model) in again.ranges.items():
        if name in layers:
            observer = layers[name].observer
            observer.set_range(lo, hi)
            observer.is_model_input = observer.is_first_input = from_model
    if explicit is not None:
        set_model_pixels(root, explicit)
    return root


def _checked(config: Any, kind: type[Kind]) -> Kind:
    if not isinstance(config, kind):
        got = f"the class {config.__name__}" if isinstance(config, type) else type(config).__name__
        raise TypeError(f"config: expected {kind.__name__}(...), got {got}")
    check_int8(config)
    return config


def _inputs(root: nn.Module, certain: PixelNormalization | None, training: bool) -> ModelInputs:
    identity, known = PixelNormalization(), model_pixels(root)
    candidates = [identity] if known in (None, identity) else [known, identity]
    return ModelInputs(certain, [c for c in candidates if c is not None], training)


def _prepare_layers(
    root: nn.Module,
    config: Static | QAT,
    inputs: ModelInputs,
    include: Names,
    exclude: Names,
    own: OwnConfigs,
    *,
    training: bool,
) -> dict[str, SimulatedLinear]:
    layers = quantizable(root)
    selected = selection(root, layers, include, exclude)
    graph, _ = Graph.of(root)
    chosen = {
        name: layer
        for name, layer in layers.items()
        if selected(name, layer) and (graph is None or id(layer) not in graph.read)
    }
    if not chosen:
        raise ValueError(
            "model: expected a Linear layer to quantize, got only such whose weights forward reads "
            "itself: call the layers instead"
        )
    made = {}
    configs = {name: config if own is None else own(name) for name in chosen}
    if not any(configs.values()):
        raise ValueError("model: expected a layer to quantize, got a qconfig of None for every one")
    for name, layer in chosen.items():
        mine = configs[name]
        if mine is None:
            continue
        settings = Settings(rule_of(mine.observer), mine.per_channel, mine.per_feature, training)
        assert isinstance(layer, nn.Linear)
        assert is_linear(layer)
        made[name] = SimulatedLinear.prepare(layer, name, settings, inputs)
    call_their_layers(root)
    root.register_forward_pre_hook(inputs, with_kwargs=True, prepend=True)
    return made
