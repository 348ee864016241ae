"""What the quantizing functions can be asked for: one small dataclass a way of quantizing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch

from fastmnist.display.words import kind_of
from fastmnist.layers.half import HALF_TYPES
from fastmnist.pixels import PixelNormalization, explicit_pixels
from fastmnist.quantization.weight_bits import WeightBits, check_weight_bits
from fastmnist.ranges.rules import MinMax, MovingAverage, Rule, rule_of


@dataclass(frozen=True)
class Static:
    """int8 with activation scales fixed in advance, from calibration data.

    Parameters
    ----------
    calibration : Data, Split, DataLoader, Dataset, (x, y) or tensor
        Rows like those that the model will see; for a bundle, its training half. uint8 rows, rows
        that are all k/255, or any rows if `mean` and `std` are given, are pixels: the model then
        accepts uint8 rows too, and gives the same bits for both. Not needed for
        :func:`fastmnist.prepare`, where you run the prepared model on the data.
    mean, std : float or sequence of float, optional
        A pixel ``p`` means ``(p/255 - mean)/std``, as in torchvision's Normalize.
    pixels : str, optional
        The same, given as the range of the pixels: "0..255" for a model trained on
        ``images.float()``, "-1..1", or "0..1", the default if nothing else is known.
    max_samples : int
        Calibration uses at most this many rows.
    per_feature : bool, optional
        Whether the model's input gets one scale per feature (for table columns of different
        magnitude). None: only if the model starts with a BatchNorm1d.
    batch_fn : callable, optional
        Converts batches of `calibration` that are not of a usual kind.
    observer : str or rule
        How a layer's range is derived from the observed values: "minmax", "moving_average",
        "percentile", "histogram", "mse", or a rule such as ``fm.Percentile(99.99)``. Pixels, and
        features with their own scales, always cover all observed values.
    per_channel : bool
        Whether each output has its own weight scale, or the layer a single one. Layers that
        :func:`fastmnist.cluster` gave a single table of values always have one scale.
    weight_bits : int or dict of str to int
        Bits per weight, from 2 to 8, for all layers or by name or pattern, such as ``{"linear3": 8,
        "*": 4}``; layers that are not named get 8. Codes are within ±(2^(bits-1) - 1). With 8 bits,
        the largest weight has the largest code; with fewer, scales minimize the squared error. 4
        bits halve the file size, and the time of small batches through layers too large for the
        cache, whose weights are then read as 4 bits (memory also keeps them as bytes if that makes
        large batches faster). Below 4 bits, train (:class:`QAT`).
    check : float, optional
        Minimum signal-to-noise ratio, in dB, of the outputs when original and result are compared;
        a lower one is an error. Default: warn below 15.

    Examples
    --------
    >>> import fastmnist as fm, torch
    >>> rows = torch.rand(64, 784)
    >>> q = fm.quantize(fm.NeuralNetwork(), fm.Static(calibration=rows, observer="mse"))
    """

    calibration: Any = None
    mean: Any = None
    std: Any = None
    max_samples: int = 512
    per_feature: bool | None = None
    batch_fn: Callable[[Any], Any] | None = None
    observer: str | Rule = field(default_factory=MinMax)
    per_channel: bool = True
    check: float | None = None
    pixels: str | None = None
    weight_bits: WeightBits = 8


@dataclass(frozen=True)
class Dynamic:
    """int8 with activation scales computed per row, at every layer: no calibration.

    Parameters
    ----------
    mean, std : float or sequence of float, optional
        A pixel ``p`` of a uint8 row means ``(p/255 - mean)/std``. Not needed for models that
        :func:`fastmnist.train` trained on pixels, because they record it; without either, uint8
        rows are refused.
    pixels, per_channel, weight_bits, check
        As for :class:`Static`.

    Examples
    --------
    >>> import fastmnist as fm
    >>> q = fm.quantize(fm.NeuralNetwork(), fm.Dynamic(mean=0.1307, std=0.3081))
    """

    mean: Any = None
    std: Any = None
    per_channel: bool = True
    check: float | None = None
    pixels: str | None = None
    weight_bits: WeightBits = 8


@dataclass(frozen=True)
class QAT:
    """Quantization-aware training, as :func:`fastmnist.prepare_qat` simulates it.

    Parameters
    ----------
    observer : str or rule
        As for :class:`Static`; default: moving averages. Rules that count values ("percentile",
        "histogram", "mse") search a range at every step, which takes a millisecond per layer.
    per_channel, per_feature, mean, std, pixels, check
        As for :class:`Static`; `check` is for :func:`fastmnist.convert`.
    weight_bits : int or dict of str to int
        As for :class:`Static`. With fewer than 8 bits, scales are learned: each layer has a
        parameter ``weight_step``, ``[outputs]`` or ``[1]``, initialized to the scales of least
        squared error (S. K. Esser et al., "Learned step size quantization", ICLR 2020). Create the
        optimizer afterwards, so that it includes them.

    Examples
    --------
    >>> import fastmnist as fm
    >>> prepared = fm.prepare_qat(fm.NeuralNetwork(), fm.QAT(observer=fm.MovingAverage(0.01)))
    """

    observer: str | Rule = field(default_factory=MovingAverage)
    per_channel: bool = True
    per_feature: bool | None = None
    mean: Any = None
    std: Any = None
    check: float | None = None
    pixels: str | None = None
    weight_bits: WeightBits = 8


@dataclass(frozen=True)
class Half:
    """Weights and products in a 16-bit float type, computed by torch's kernels; floats in and out.

    Parameters
    ----------
    dtype : torch.dtype
        ``torch.bfloat16`` (the range of float32, 8 bits of precision) or ``torch.float16`` (11
        bits, nothing above 65,504). The speed depends on torch and the CPU.
    check : float, optional
        As for :class:`Static`.

    Examples
    --------
    >>> import fastmnist as fm, torch
    >>> half = fm.quantize(fm.NeuralNetwork(), fm.Half(torch.bfloat16))
    >>> half.linear1.weight.dtype
    torch.bfloat16
    """

    dtype: torch.dtype = torch.bfloat16
    check: float | None = None


Config: TypeAlias = Static | Dynamic | Half


def check_config(config: Any) -> Config:
    """Return `config`, or raise an error that names what is wrong with it."""
    if not isinstance(config, Static | Dynamic | Half):
        hint = ": fm.prepare_qat takes it" if isinstance(config, QAT) else ""
        raise TypeError(
            f"config: expected Static(calibration=...), Dynamic() or Half(), got {kind_of(config)}"
            f"{hint or ': for example fm.quantize(model, fm.Dynamic())'}"
        )
    if isinstance(config, Half):
        check_half(config.dtype)
        return config
    check_int8(config)
    if isinstance(config, Static):
        if config.calibration is None:
            raise ValueError(
                "calibration: expected data (a few hundred rows like those the model will see), "
                "got None: give some, or use Dynamic(), or fm.prepare and run the model yourself"
            )
        if isinstance(config.max_samples, bool) or not isinstance(config.max_samples, int):
            raise TypeError(
                f"max_samples: expected an int, got {type(config.max_samples).__name__}"
            )
        if config.max_samples < 1:
            raise ValueError(f"max_samples: expected at least 1, got {config.max_samples}")
    return config


def check_int8(config: Static | Dynamic | QAT) -> None:
    """Raise for what is wrong with the fields of an int8 configuration."""
    if not isinstance(config.per_channel, bool):
        raise TypeError(f"per_channel: expected a bool, got {type(config.per_channel).__name__}")
    check_weight_bits(config.weight_bits)
    if not isinstance(config, Dynamic):
        rule_of(config.observer)
        if config.per_feature not in (None, True, False):
            raise TypeError(
                f"per_feature: expected a bool or None, got {type(config.per_feature).__name__}"
            )


def check_half(dtype: Any) -> None:
    """Raise unless `dtype` is one of the 16-bit floats."""
    if dtype not in HALF_TYPES:
        got = dtype if isinstance(dtype, torch.dtype) else type(dtype).__name__
        raise ValueError(f"dtype: expected torch.bfloat16 or torch.float16, got {got}")


def pixels_of(config: Static | Dynamic | QAT) -> PixelNormalization | None:
    """What a pixel stands for, where the configuration says so."""
    return explicit_pixels(config.mean, config.std, config.pixels)
