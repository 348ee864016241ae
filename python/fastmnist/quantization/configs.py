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
    """int8 with scales fixed beforehand, from calibration data.

    Parameters
    ----------
    calibration : Data, Split, DataLoader, Dataset, (x, y) or tensor
        Rows like those that the model will see; of a bundle, its training half. uint8 rows, rows
        that are all k/255, or any rows where `mean` and `std` are given, are pixels: the model
        then takes uint8 rows too, and gives the same bits for both. Not needed for
        :func:`fastmnist.prepare`, where the prepared model is run on it.
    mean, std : float or sequence of float, optional
        What a pixel ``p`` stands for: ``(p/255 - mean)/std``, as for torchvision's Normalize.
    pixels : str, optional
        The same, by the range that pixels were given in: "0..255" for a model trained on
        ``images.float()``, "-1..1", or "0..1", which holds where nothing else is known.
    max_samples : int
        Calibration stops there.
    per_feature : bool, optional
        Whether the model's input gets a scale of its own per feature (table columns of different
        size). None: where a BatchNorm1d leads.
    batch_fn : callable, optional
        Reads a batch of `calibration` that is not one of the usual kinds.
    observer : str or rule
        How a layer's range comes from what it saw: "minmax", "moving_average", "percentile",
        "histogram", "mse", or a rule such as ``fm.Percentile(99.99)``. Pixels, and features with
        scales of their own, always cover all that was seen.
    per_channel : bool
        Whether each output has a weight scale of its own, or the layer one for all. Layers that
        :func:`fastmnist.cluster` gave one table of values have one scale anyway.
    weight_bits : int or dict of str to int
        Bits of a weight, from 2 to 8, for all layers or by name or pattern, such as
        ``{"linear3": 8, "*": 4}``; layers that nothing names have 8. Codes are within
        ±(2^(bits-1) - 1). With 8, the largest weight has the largest code; with fewer, scales are
        those of least squared error. 4 bits halve what 8 take in files, and the time of few rows
        through layers too large for the cache, whose weights are then read as 4 bits (in memory
        bytes stay beside them where large batches are faster so); below 4, train (:class:`QAT`).
    check : float, optional
        Least signal-to-noise ratio, in dB, of the outputs where original and result are run side by
        side: below is an error. Default: below 15 is a warning.

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
    """int8 with scales per row, from the row's own range at every layer: no calibration.

    Parameters
    ----------
    mean, std : float or sequence of float, optional
        What a pixel ``p`` of a uint8 row stands for: ``(p/255 - mean)/std``. Not needed for
        models that :func:`fastmnist.train` trained on pixels, which remember it; without either,
        uint8 rows are refused.
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
    """Quantization-aware training: what :func:`fastmnist.prepare_qat` simulates.

    Parameters
    ----------
    observer : str or rule
        As for :class:`Static`; moving averages by default. Rules that count values ("percentile",
        "histogram", "mse") search a range at every step, which takes a millisecond a layer.
    per_channel, per_feature, mean, std, pixels, check
        As for :class:`Static`; `check` is for :func:`fastmnist.convert`.
    weight_bits : int or dict of str to int
        As for :class:`Static`. With fewer than 8 bits scales are learned: a parameter
        ``weight_step`` of each layer, ``[outputs]`` or ``[1]``, that begins with those of least
        squared error (S. K. Esser et al., "Learned step size quantization", ICLR 2020): an
        optimizer is to be made afterwards, as one from before does not know them.

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
    """Weights and products in a 16-bit float type, by torch's own kernels; floats in and out.

    Parameters
    ----------
    dtype : torch.dtype
        ``torch.bfloat16`` (the range of float32, 8 bits of precision) or ``torch.float16`` (11
        bits, nothing above 65,504). How fast that is, is up to torch and the CPU.
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
