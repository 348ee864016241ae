"""Which tensors a model itself was given, and whether they are pixels.

:class:`ModelInputs` is a forward pre-hook of the model that is prepared. Its layers ask it whether
what they are given is an input of the model's, at most reshaped: such tensors share their memory.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fastmnist.pixels import PixelNormalization

# How far a float may be from a pixel's value and still be that pixel, relative to the terms of
# (p/255 - mean)/std: a few roundings of float32.
_PIXEL_TOLERANCE = 2.0**-21
_KEPT_ROWS = 64


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
        values = x.detach().float().reshape(x.shape[0], channels, -1)
        mean = torch.tensor(self.pixels.mean, dtype=torch.float32, device=x.device)[:, None]
        std = torch.tensor(self.pixels.std, dtype=torch.float32, device=x.device)[:, None]
        codes = ((values * std + mean) * 255).round()
        # Measured in values, not codes: tiny floats are no pixels because they are near 0.
        off = (values - (codes / 255 - mean) / std).abs()
        room = _PIXEL_TOLERANCE * torch.maximum(values.abs(), (mean / std).abs())
        self.holds = bool(((codes >= 0) & (codes <= 255) & (off <= room)).all())


class ModelInputs:
    """The hook. Plain data: it is copied and pickled with the model.

    Parameters
    ----------
    known_pixels : PixelNormalization or None
        What a pixel stands for, where that is known; then it is not checked.
    candidates : list of PixelNormalization
        What a pixel may stand for otherwise: the first under which every float is a pixel holds.
    training : bool
        Whether only what comes in training mode counts.
    """

    only_looks = True  # what forward is given, it gets as it is

    def __init__(
        self,
        known_pixels: PixelNormalization | None,
        candidates: list[PixelNormalization],
        training: bool = False,
    ) -> None:
        self.known_pixels, self.training = known_pixels, training
        self.checks = [] if known_pixels is not None else [PixelCheck(c) for c in candidates]
        self.calls = 0
        # The first rows that the model was given, to hold a converted model against it.
        self.first: tuple[tuple[Any, ...], dict[str, Any]] | None = None
        # Where values lie -> rows, size, version (in-place operations count it up), position.
        self._given: dict[int, tuple[int, int, Any, int]] = {}

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def __call__(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        values = (*args, *kwargs.values())
        self._given.clear()
        for position, value in enumerate(values):
            if isinstance(value, Tensor) and value.numel() > 0:
                rows = value.shape[0] if value.dim() else 1
                self._given[_address(value)] = rows, value.numel(), _version(value), position
        if self.training and not model.training:
            return
        self.calls += 1
        if self.first is None:
            self.first = _first_rows(args), _first_rows(kwargs)
        for check in self.checks:
            check.watch(next(iter(values), None))

    def position_of(self, x: Tensor) -> int | None:
        """Which of the model's inputs `x` is, reshaped or not; None if it is none."""
        rows, size, version, position = self._given.get(_address(x), (-1, -1, -1, -1))
        if (size, version) != (x.numel(), _version(x)):
            return None
        # Channels are told apart by the place in a flattened row, so rows must be whole ones.
        whole = rows * x.shape[-1] == size
        pixels = self.known_pixels or next((c.pixels for c in self.checks if c.holds), None)
        return position if whole or pixels is None or pixels.channels == 1 else None

    @property
    def pixels(self) -> PixelNormalization | None:
        """What a pixel stands for; None where inputs are no pixels."""
        if self.known_pixels is not None:
            return self.known_pixels
        return next((c.pixels for c in self.checks if c.holds and self.calls), None)

    def state(self) -> list[bool]:
        return [check.holds for check in self.checks]

    def load_state(self, holds: list[bool]) -> None:
        for check, value in zip(self.checks, holds, strict=False):
            check.holds = check.holds and bool(value)
        self.calls = max(1, self.calls)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_given": {}, "first": None}


def _first_rows(value: Any) -> Any:
    """A few rows of every tensor, on the CPU; what is no plain tensor as it is."""
    if isinstance(value, Tensor):
        return value.detach()[:_KEPT_ROWS].clone().cpu() if value.dim() else value
    if type(value) in (tuple, list):
        return type(value)(map(_first_rows, value))
    return {key: _first_rows(part) for key, part in value.items()} if type(value) is dict else value


def _version(x: Tensor) -> Any:
    # Tensors made in inference mode count no versions: their values have to do.
    return (float(x.sum()), float(x.abs().sum())) if x.is_inference() else x._version


def _address(x: Tensor) -> int:
    try:
        return x.data_ptr()
    except RuntimeError:  # symbols of a tracer have no memory
        return id(x)
