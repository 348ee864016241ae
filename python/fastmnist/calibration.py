"""Run a float model on calibration data and watch the inputs of its Linear layers.

Min–max: each layer's scale covers the values that it saw. The network's own input is special: if
it is pixels, the codes are pinned to the pixels, so that uint8 and float rows give the same bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from fastmnist.batch_rules import is_array, tree_map
from fastmnist.batches import count_samples, iter_batches
from fastmnist.folding import InputRule, rule_from_columns, rule_from_pixels, rule_from_range
from fastmnist.modules import FusedLinear
from fastmnist.pixels import PixelNormalization
from fastmnist.progress import ProgressBar

# How far a float may be from a pixel's value and still be that pixel, relative to the terms of
# (p/255 - mean)/std: a few roundings of float32.
_PIXEL_TOLERANCE = 2.0**-21


class InputObserver:
    """Smallest and largest input of one layer, over all features and per feature."""

    def __init__(self, layer: str) -> None:
        self.layer = layer
        self.rows = 0
        self.lo = self.hi = 0.0
        self.column_lo: Tensor | None = None
        self.column_hi: Tensor | None = None
        # Whether the layer was only ever given an input of the model's, at most reshaped; and
        # whether that was always the first, the one that may be pixels.
        self.is_model_input = self.is_first_input = True

    def watch(self, x: Tensor, position: int | None) -> None:
        """Take in one batch of inputs, ``[..., features]``: the model's own at `position`, or None.

        Raises
        ------
        ValueError
            If there is NaN or infinity among them, naming the layer.
        """
        rows = x.detach().float().reshape(-1, x.shape[-1])
        if rows.shape[0] == 0:
            return
        if not torch.isfinite(rows).all():
            raise ValueError(
                f"calibration: expected finite inputs to layer '{self.layer}', got NaN or inf: "
                "clean the calibration data, or look for an overflow before that layer"
            )
        lo, hi = rows.amin(dim=0), rows.amax(dim=0)
        if self.column_lo is not None and self.column_hi is not None:
            lo, hi = torch.minimum(lo, self.column_lo), torch.maximum(hi, self.column_hi)
        self.column_lo, self.column_hi = lo, hi
        self.lo, self.hi = float(lo.min()), float(hi.max())
        self.is_model_input = self.is_model_input and position is not None
        self.is_first_input = self.is_first_input and position == 0
        self.rows += rows.shape[0]


class PixelCheck:
    """Whether every float that the model was given is a pixel under a normalization."""

    def __init__(self, pixels: PixelNormalization) -> None:
        self.pixels = pixels
        self.holds = True

    def watch(self, x: Any) -> None:
        """Take in one batch as the model is given it, ``[N, C, ...]`` or ``[N, features]``."""
        if not isinstance(x, Tensor) or not x.is_floating_point() or x.dim() < 2:
            self.holds = False
        if not self.holds or x.numel() == 0:
            return
        channels = self.pixels.channels
        if x[0].numel() % channels:
            self.holds = False
            return
        # [N, channels, pixels of a channel]; one channel stands for any shape.
        values = x.float().reshape(x.shape[0], channels, -1)
        mean = torch.tensor(self.pixels.mean)[:, None]
        std = torch.tensor(self.pixels.std)[:, None]
        codes = ((values * std + mean) * 255).round()
        # Measured in values, not codes: tiny floats are no pixels because they are near 0.
        off = (values - (codes / 255 - mean) / std).abs()
        room = _PIXEL_TOLERANCE * torch.maximum(values.abs(), (mean / std).abs())
        self.holds = bool(((codes >= 0) & (codes <= 255) & (off <= room)).all())


def observe(
    model: nn.Module,
    layers: Mapping[str, nn.Module],
    calibration: Any,
    *,
    pixels: PixelNormalization | None,
    candidates: list[PixelNormalization],
    max_samples: int,
    batch_fn: Any = None,
) -> tuple[dict[str, InputObserver], PixelNormalization | None]:
    """Run `model` on up to `max_samples` rows; return what each layer saw and what pixels are.

    Parameters
    ----------
    pixels : PixelNormalization or None
        What a pixel stands for, where that is known; then it is not checked.
    candidates : list of PixelNormalization
        What a pixel may stand for otherwise: the first under which every float is a pixel holds.
    """
    observers = {name: InputObserver(name) for name in layers}
    checks = [] if pixels is not None else [PixelCheck(c) for c in candidates]
    expected = count_samples(calibration, "train")
    total = max_samples if expected is None else min(expected, max_samples)
    seen = 0
    with (
        torch.no_grad(),
        _watching(model, layers, observers),
        ProgressBar("calibrating", total) as bar,
    ):
        for batch in iter_batches(
            calibration,
            split="train",
            batch_size=64,
            batch_fn=batch_fn,
            max_samples=max_samples,
            pixels=pixels or next(iter(candidates), None),
            name="calibration",
        ):
            # Contiguous: flattened inputs are then views, by which layers know them as inputs.
            args, kwargs = tree_map(Tensor.contiguous, (batch.args, batch.kwargs))
            for check in checks:
                check.watch(next(iter((*args, *kwargs.values())), None))
            try:
                model(*args, **kwargs)
            except RuntimeError as error:
                got = [f"{a.dtype} {[*a.shape]}" for a in (*args, *kwargs.values()) if is_array(a)]
                raise ValueError(
                    f"calibration: expected rows that the model takes, got {', '.join(got)}: "
                    f"{error}"
                ) from error
            seen += batch.size
            bar.advance(batch.size)
    for name, observer in observers.items():
        if observer.rows == 0:
            raise ValueError(
                f"calibration: layer '{name}' never saw data in {seen} samples: give calibration "
                "data that reaches it, or use Dynamic()"
            )
    found = pixels or next((c.pixels for c in checks if c.holds), None)
    return observers, found


@contextmanager
def _watching(
    model: nn.Module, layers: Mapping[str, nn.Module], observers: Mapping[str, InputObserver]
) -> Iterator[None]:
    """Hook the layers; tell each which of the model's inputs it was given, by its memory."""
    # Address -> size, version (in-place operations count it up), position.
    given: dict[int, tuple[int, int, int]] = {}

    def note_inputs(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given.clear()
        for position, value in enumerate((*args, *kwargs.values())):
            if isinstance(value, Tensor) and value.numel() > 0:
                given[value.data_ptr()] = value.numel(), value._version, position

    def watch(observer: InputObserver) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            x = args[0] if args else kwargs["input"]
            size, version, position = given.get(x.data_ptr(), (-1, -1, -1))
            same = (size, version) == (x.numel(), x._version)
            observer.watch(x, position if same else None)

        return hook

    handles = [model.register_forward_pre_hook(note_inputs, with_kwargs=True, prepend=True)]
    handles += [
        layer.register_forward_pre_hook(watch(observers[name]), with_kwargs=True)
        for name, layer in layers.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def input_rule(
    observer: InputObserver,
    layer: nn.Module,
    pixels: PixelNormalization | None,
    per_feature: bool | None,
) -> InputRule:
    """Decide how one layer's inputs become codes.

    Pixels are pinned; raw table columns, known by a BatchNorm1d that led or by `per_feature`,
    get a multiplier and offset each; everything else gets one scale and zero point.
    """
    assert observer.column_lo is not None
    assert observer.column_hi is not None
    columns_differ = isinstance(layer, FusedLinear) and layer.columns_differ
    wanted = columns_differ if per_feature is None else per_feature and observer.is_model_input
    if pixels is not None and observer.is_first_input and per_feature is not True:
        return rule_from_pixels(pixels, int(observer.column_lo.numel()))
    if wanted:
        assert isinstance(layer, nn.Linear)
        columns = observer.column_lo.double().numpy(), observer.column_hi.double().numpy()
        return rule_from_columns(*columns, layer.weight.detach().numpy())
    return rule_from_range(observer.lo, observer.hi)
