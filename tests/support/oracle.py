"""What kernel tests compare with: comparison by bits, exact rounding, networks in plain NumPy."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fastmnist import _core
from fastmnist.int8 import reference

F32 = npt.NDArray[np.float32]
U8 = npt.NDArray[np.uint8]
Kind = Literal["static", "affine", "dynamic"]
KINDS: tuple[Kind, ...] = ("static", "affine", "dynamic")

INF = float("inf")
# (lo, hi) of the clamp that each activation is.
NONE, RELU, RELU6 = (-INF, INF), (0.0, INF), (0.0, 6.0)
FLT_MIN = float(np.finfo(np.float32).tiny)
FLT_MAX = float(np.finfo(np.float32).max)


def bits(values: Any) -> npt.NDArray[Any]:
    """Return floats as their bit patterns, every NaN as the same one; other types as they are."""
    array = np.ascontiguousarray(values)
    if array.dtype != np.float32:
        return array
    return np.where(np.isnan(array), np.uint32(0x7FC00000), array.view(np.uint32))


def assert_same_bits(got: Any, expected: Any, what: object = "") -> None:
    """Compare at tolerance 0: shape, type, and bit by bit, so that -0 is not 0."""
    got, expected = np.asarray(got), np.asarray(expected)
    assert (got.shape, got.dtype) == (expected.shape, expected.dtype), what
    different = np.flatnonzero(bits(got).ravel() != bits(expected).ravel())
    if different.size:
        at = np.unravel_index(int(different[0]), got.shape)
        raise AssertionError(
            f"{what}: {different.size} of {got.size} values differ, first at {at}: "
            f"got {got[at]!r}, expected {expected[at]!r}"
        )


def round_to_float32(value: Fraction) -> np.float32:
    """Round an exact number to the nearest float32, ties to even. (0 gives +0.)"""
    if value == 0:
        return np.float32(0)
    magnitude = abs(value)
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    if magnitude < Fraction(2) ** exponent:
        exponent -= 1
    unit = Fraction(2) ** max(exponent - 23, -149)
    rounded = round(value / unit) * unit  # Python rounds fractions half to even
    if abs(rounded) >= Fraction(2) ** 128:
        return np.float32(INF if value > 0 else -INF)
    result = np.float32(float(rounded))
    return np.float32(-0.0) if result == 0 and value < 0 else result


@dataclass
class RandomLayer:
    """One canonical layer of random numbers."""

    weight: npt.NDArray[np.int8]
    weight_scale: F32
    bias: F32 | None
    bounds: tuple[float, float]
    input_scale: float
    input_zero_point: int

    @property
    def native(self) -> _core.Layer:
        """The same as the native class."""
        return _core.Layer(
            self.weight,
            self.weight_scale,
            self.bias,
            *self.bounds,
            self.input_scale,
            self.input_zero_point,
        )


def random_layer(
    rng: np.random.Generator,
    inputs: int,
    outputs: int,
    *,
    bias: bool = True,
    bounds: tuple[float, float] = NONE,
    zero_point: int | None = None,
    extreme: bool = False,
) -> RandomLayer:
    """Make a layer whose outputs are mostly inside what the next layer's quantizer covers."""
    if extreme:
        weight = rng.choice(np.array([-128, -127, 127], np.int8), (outputs, inputs))
    else:
        weight = rng.integers(-128, 128, (outputs, inputs)).astype(np.int8)
    spread = 1.0 / (127 * np.sqrt(inputs))
    return RandomLayer(
        weight=weight,
        weight_scale=rng.uniform(0.5 * spread, 2 * spread, outputs).astype(np.float32),
        bias=rng.normal(size=outputs).astype(np.float32) if bias else None,
        bounds=bounds,
        input_scale=float(np.float32(rng.uniform(0.01, 0.03))),
        input_zero_point=int(rng.integers(0, 256)) if zero_point is None else zero_point,
    )


@dataclass
class RandomNetwork:
    """A packed network's parts, and the NumPy oracle of what it computes."""

    kind: Kind
    layers: list[RandomLayer]
    multiplier: F32
    offset: F32
    pixel_table: F32 | None = None
    pixel_codes: bool = False
    packed: U8 = field(init=False)

    def __post_init__(self) -> None:
        affine = self.kind == "affine"
        self.packed = _core.pack(
            [layer.native for layer in self.layers],
            self.kind,
            pixel_codes=self.pixel_codes,
            multiplier=self.multiplier if affine else None,
            offset=self.offset if affine else None,
            pixel_table=self.pixel_table,
        )

    @property
    def inputs(self) -> int:
        return self.layers[0].weight.shape[1]

    @property
    def outputs(self) -> int:
        return self.layers[-1].weight.shape[0]

    def expected(self, x: npt.NDArray[Any]) -> F32:
        """Compose the reference functions, layer by layer; `x` is ``[rows, inputs]``."""
        if x.dtype == np.uint8:
            if self.pixel_codes:
                return self._from_codes(x)
            assert self.pixel_table is not None
            channel = np.arange(self.inputs) // (self.inputs // len(self.pixel_table))
            return self._dynamic(self.pixel_table[channel[None, :], x])
        if self.kind == "dynamic":
            return self._dynamic(x)
        first = self.layers[0]
        if self.kind == "affine":
            codes = reference.quantize_affine(x, self.multiplier, self.offset)
        else:
            codes = reference.quantize(x, first.input_scale, first.input_zero_point)
        logits = self._from_codes(codes)
        logits[np.isnan(x).any(axis=1)] = np.nan
        return logits

    def _from_codes(self, codes: U8) -> F32:
        for layer, after in itertools.pairwise(self.layers):
            codes = reference.linear_u8(
                codes, *_arguments(layer), after.input_scale, after.input_zero_point, *layer.bounds
            )
        return reference.linear_f32(codes, *_arguments(self.layers[-1]), *self.layers[-1].bounds)

    def _dynamic(self, x: F32) -> F32:
        bad = np.zeros(len(x), bool)
        for layer in self.layers:
            bad |= ~np.isfinite(x).all(axis=1)
            x = np.where(bad[:, None], np.float32(0), x)
            codes, scales, zero_points = codes_by_row(x)
            x = reference.linear_f32(
                codes,
                layer.weight,
                layer.weight_scale,
                layer.bias,
                scales,
                zero_points,
                *layer.bounds,
            )
        x[bad] = np.nan
        return x


def codes_by_row(x: F32) -> tuple[U8, F32, npt.NDArray[np.int32]]:
    """Codes of rows that have a quantizer each, by their ranges; scales and zero points."""
    found = [reference.quantizer_from_range(row.min(), row.max()) for row in x]
    scales = np.array([scale for scale, _ in found], np.float32)
    zero_points = np.array([zero_point for _, zero_point in found], np.int32)
    rows = zip(x, scales, zero_points, strict=True)
    codes = np.array([reference.quantize(r, s, z) for r, s, z in rows], np.uint8)
    return codes.reshape(x.shape), scales, zero_points


def _arguments(layer: RandomLayer) -> tuple[Any, ...]:
    return (
        layer.weight,
        layer.weight_scale,
        layer.bias,
        np.float32(layer.input_scale),
        np.int32(layer.input_zero_point),
    )


def random_network(
    seed: int,
    widths: tuple[int, ...],
    kind: Kind = "static",
    *,
    pixels: bool = False,
    channels: int = 1,
) -> RandomNetwork:
    """Make a network with ReLU or ReLU6 between its layers; with `pixels` it takes uint8 too."""
    rng = np.random.default_rng([seed, *widths])
    layers = [
        random_layer(
            rng,
            inputs,
            outputs,
            bias=bool(rng.integers(0, 2)),
            bounds=NONE if i + 2 == len(widths) else (RELU, RELU6, NONE)[int(rng.integers(0, 3))],
        )
        for i, (inputs, outputs) in enumerate(itertools.pairwise(widths))
    ]
    table = rng.normal(size=(channels, 256)).astype(np.float32)
    return RandomNetwork(
        kind=kind,
        layers=layers,
        multiplier=rng.uniform(-60, 60, widths[0]).astype(np.float32),
        offset=rng.uniform(0, 255, widths[0]).astype(np.float32),
        pixel_table=table if pixels and kind == "dynamic" else None,
        pixel_codes=pixels and kind != "dynamic",
    )
