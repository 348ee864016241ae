"""Which kernel computes each layer: measured once per shape and CPU, and remembered.

A plan never changes an answer, only how long it takes. What was measured is kept for the process
and in the user's cache folder, so that the second model of the same shapes, and the next process,
measure nothing. ``plan="fixed"``, or ``FASTMNIST_PLAN=fixed``, measures nothing at all: a rule
decides, and many workers may start at once. Free of torch.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import numpy as np

import fastmnist._core as _core
from fastmnist.int8.network import QuantizedNetwork
from fastmnist.runtime.measurements import SHARED, Measurements
from fastmnist.runtime.packing import Packed, pack, packed_forms

PLANS = ("measured", "fixed")
# The largest batch of each class of rows that a plan knows; the last stands for all above.
ROWS = (1, 2, 4, 8, 16, 32, 64, 96)
# Those that a share of one thread among several may have.
THREADED_ROWS = (32, 64, 96)
# Weights that each core has in a cache of its own: there others don't matter.
_NEAR_BYTES = 1 << 20
_default: ContextVar[str | None] = ContextVar("plan", default=None)
Times = dict[str, float]  # kernel -> µs


@dataclass(frozen=True)
class Shape:
    """What a layer's speed depends on."""

    inputs: int
    outputs: int
    codes_out: bool  # its outputs are codes of the next layer, uint8
    per_row: bool  # a scale per row

    @property
    def key(self) -> str:
        """Its name in the file."""
        return f"{self.inputs}x{self.outputs}{' codes' * self.codes_out}{' rows' * self.per_row}"


@dataclass(frozen=True)
class Plan:
    """What runs.

    Attributes
    ----------
    mode : str
        "measured" or "fixed".
    kernels : tuple of tuples of str
        Per layer and class of :data:`ROWS` the kernel's name: instruction set, and rows × panels
        of 16 outputs of its tile.
    block_rows : int
        Rows that go through all layers together.
    made_for : tuple of str
        The kernels that there were. With others (after a change of the instruction set) the plan
        is ignored and the rule decides.
    threaded : tuple of tuples of str
        As `kernels`, for batches that several threads share, by the rows of a share.
    """

    mode: str
    kernels: tuple[tuple[str, ...], ...]
    block_rows: int
    made_for: tuple[str, ...]
    threaded: tuple[tuple[str, ...], ...] = ()


@contextmanager
def using(plan: str) -> Iterator[None]:
    """Let this be the default meanwhile: for packed weights that are thrown away again."""
    token = _default.set(plan)
    try:
        yield
    finally:
        _default.reset(token)


def plan_mode(plan: str | None) -> str:
    """Check a `plan` argument; without one take ``FASTMNIST_PLAN``, else "measured".

    Raises
    ------
    ValueError
        If it, or the variable, is neither "measured" nor "fixed".
    """
    name = "plan"
    if plan is None:
        plan = _default.get()
    if plan is None:
        name, plan = "FASTMNIST_PLAN", os.environ.get("FASTMNIST_PLAN") or "measured"
    if plan not in PLANS:
        raise ValueError(f"{name}: expected 'measured' or 'fixed', got {plan!r}")
    return plan


def check_environment() -> None:
    """Raise for wrong environment variables before anything else could be blamed for them."""
    plan_mode(None)
    _core.linear_kernels()
    _core.num_threads()


def pack_and_plan(
    network: QuantizedNetwork, mode: str | None = None, known: Measurements = SHARED
) -> tuple[Packed, Plan]:
    """Lay a network out for this machine, and choose its kernels."""
    mode = plan_mode(mode)
    packed = pack(network)
    rows_kind = f"{network.kind}{' pixels' * (network.pixels is not None)}"
    plan = plan_into(packed, shapes_of(network), mode, rows_kind, known)
    # Forms of weights that no kernel of the plan reads would only take memory.
    made = [packed_forms(packed, i) for i in range(len(network.layers))]
    used = [
        [form for form in forms if any(name.endswith(f" {form}") for name in (*one, *many))]
        for forms, one, many in zip(made, plan.kernels, plan.threaded, strict=True)
    ]
    if used != made:
        packed = pack(network, used)
        if mode == "measured":
            one, many = ([[*names] for names in p] for p in (plan.kernels, plan.threaded))
            _core.set_plan(packed, one, plan.block_rows, many)
    return packed, plan


def shapes_of(network: QuantizedNetwork) -> list[Shape]:
    """What the speed of each layer depends on."""
    last = len(network.layers) - 1
    dynamic = network.kind == "dynamic"
    return [
        Shape(layer.inputs, layer.outputs, i < last and not dynamic, dynamic)
        for i, layer in enumerate(network.layers)
    ]


def plan_into(
    packed: Packed,
    shapes: list[Shape],
    mode: str,
    rows_kind: str = "",
    known: Measurements = SHARED,
) -> Plan:
    """Write the plan into a packed network: from memory, or measured now; nothing if fixed.

    `rows_kind` tells networks of the same shapes apart that take their rows in different ways.
    """
    if mode == "measured":
        with known.lock:
            times = [layer_times(packed, i, shape, known) for i, shape in enumerate(shapes)]
            kernels = _choice(packed, times, known)
            threads = _core.num_threads()
            block_rows = _block_rows(packed, shapes, kernels, rows_kind, known)
            shared = _threaded_times(packed, shapes, times, threads, known)
            threaded = _choice(packed, shared, known)
            _core.set_plan(packed, kernels, block_rows, threaded if threads > 1 else [])
            known.save()
    names, block_rows = _core.get_plan(packed)
    threaded, _ = _core.get_plan(packed, threaded=True)
    return Plan(
        mode,
        tuple(tuple(layer) for layer in names),
        block_rows,
        tuple(_core.linear_kernels()),
        tuple(tuple(layer) for layer in threaded),
    )


def _choice(packed: Packed, times: list[list[Times]], known: Measurements) -> list[list[str]]:
    table = _core.linear_kernels()
    flat = [
        by_kernel.get(name, math.inf) / 1e6
        for layer in times
        for by_kernel in layer
        for name in table
    ]
    return _core.choose_kernels(packed, flat, _set_up(known))


def _threaded_times(
    packed: Packed,
    shapes: list[Shape],
    times: list[list[Times]],
    threads: int,
    known: Measurements,
) -> list[list[Times]]:
    """Replace times by those of `threads` at once where it matters: large weights, maybe sparse.

    Threads that share memory's bandwidth gain more from reading fewer bytes.
    """
    result = []
    for i, (shape, alone) in enumerate(zip(shapes, times, strict=True)):
        kernels = [_core.layer_kernels(packed, i, rows) for rows in THREADED_ROWS]
        near = shape.inputs * shape.outputs < _NEAR_BYTES
        if threads == 1 or near or not any(is_sparse(name) for name in kernels[0]):
            result.append(alone)
            continue
        flat = known.times(
            f"layer {shape.key}{_sparse_key(packed, i)} threads {threads}",
            lambda i=i: [t for *_, t in _core.measure_layer(packed, i, threads)],  # type: ignore[misc]
            sum(map(len, kernels)),
        )
        shared = _by_class(flat, kernels)
        result.append([*alone[: -len(shared)], *shared])
    return result


def layer_times(packed: Packed, i: int, shape: Shape, known: Measurements = SHARED) -> list[Times]:
    """µs of each kernel that layer `i` could go by, per class of rows: remembered or measured."""
    kernels = [_core.layer_kernels(packed, i, rows) for rows in ROWS]
    if all(len(names) == 1 for names in kernels):
        return [{names[0]: 1.0} for names in kernels]  # nothing to choose
    flat = known.times(
        f"layer {shape.key}{_sparse_key(packed, i)}",
        lambda: [time for _, _, time in _core.measure_layer(packed, i)],
        sum(map(len, kernels)),
    )
    return _by_class(flat, kernels)


def _by_class(flat: list[float], kernels: list[list[str]]) -> list[Times]:
    times = iter(flat)
    return [{name: next(times) for name in names} for names in kernels]


def is_sparse(kernel: str) -> bool:
    """Whether a kernel of that name reads sparse weights."""
    return kernel.endswith((" bitmask", " picks", " windows"))


def synthetic_times(shape: Shape, zeros: float, known: Measurements = SHARED) -> list[Times]:
    """µs of each kernel for a layer of this shape, of which a random share of weights is zero."""
    rng = np.random.default_rng(0)
    weight = rng.integers(-127, 128, (shape.outputs, shape.inputs), dtype=np.int8)
    weight[rng.random(weight.shape, np.float32) < zeros] = 0
    ones = np.full(shape.outputs, 1e-3, np.float32)
    layers = [_core.Layer(weight, ones, None, 0.0, math.inf, 0.01, 0)]
    if shape.codes_out:  # a layer that takes them
        last = np.zeros((1, shape.outputs), np.int8)
        layers.append(_core.Layer(last, ones[:1], None, -math.inf, math.inf, 0.01, 0))
    packed = _core.pack(layers, "dynamic" if shape.per_row else "static")
    with known.lock:
        times = layer_times(packed, 0, shape, known)
        known.save()
    return times


def _sparse_key(packed: Packed, i: int) -> str:
    """Name what the speed of sparse weights depends on beside the shape: how large they are."""
    forms = _core.layer_forms(packed, i)
    dense = forms.pop("dense")
    shares = {form: round(50 * size / dense) * 2 for form, size in forms.items() if size}
    return "".join(f" {form} {share}%" for form, share in shares.items())


def _set_up(known: Measurements) -> float:
    """Seconds that setting the tile unit up costs."""
    return known.times("set-up", lambda: [_core.measure_set_up() * 1e6], 1)[0] / 1e6


def _block_rows(
    packed: Packed,
    shapes: list[Shape],
    kernels: list[list[str]],
    rows_kind: str,
    known: Measurements,
) -> int:
    def measure() -> list[float]:
        _core.set_plan(packed, kernels, 32)
        return [float(rows) for rows, _, chosen in _core.measure_blocks(packed) if chosen]

    key = f"blocks {rows_kind} " + ", ".join(shape.key for shape in shapes)
    return round(known.times(key, measure, 1, least=32, most=1024)[0])
