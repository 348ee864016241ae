"""Which kernel computes each layer: measured once per shape and CPU, and remembered.

A plan never changes an answer, only how long it takes. What was measured is kept for the process
and in the user's cache folder, so that the second model of the same shapes, and the next process,
measure nothing. ``plan="fixed"``, or ``FASTMNIST_PLAN=fixed``, measures nothing at all: a rule
decides, and many workers may start at once. Free of torch.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

from fastmnist import _core
from fastmnist.cache import cache_folder, write_whole

PLANS = ("measured", "fixed")
# The largest batch of each class of rows that a plan knows; the last stands for all above.
ROWS = (1, 2, 4, 8, 16, 32, 64, 96)
# Those that a share of one thread among several may have.
THREADED_ROWS = (32, 64, 96)
# Weights that each core has in a cache of its own: there others don't matter.
_NEAR_BYTES = 1 << 20
_FORMAT = 1
_MOST_ENTRIES = 1000  # per machine: the latest are kept
_default: ContextVar[str | None] = ContextVar("plan", default=None)
Times = dict[str, float]  # kernel -> µs
_lock = threading.Lock()
_known: dict[str, dict[str, Any]] = {}  # machine -> what was measured there
_unsaved: set[str] = set()
_read_from: set[str] = set()


@dataclass(frozen=True)
class Shape:
    """What a layer's speed depends on."""

    inputs: int
    outputs: int
    codes: bool  # hands over uint8
    per_row: bool  # a scale per row

    @property
    def key(self) -> str:
        """Its name in the file."""
        return f"{self.inputs}x{self.outputs}{' codes' * self.codes}{' rows' * self.per_row}"


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


def plan_into(
    packed: npt.NDArray[np.uint8], shapes: list[Shape], mode: str, about: str = ""
) -> Plan:
    """Write the plan into a packed network: from memory, or measured now; nothing if fixed.

    `about` tells networks of the same shapes apart that take their rows in different ways.
    """
    if mode == "measured":
        with _lock:
            times = [layer_times(packed, i, shape) for i, shape in enumerate(shapes)]
            kernels = _choice(packed, times)
            threads = _core.num_threads()
            block_rows = _block_rows(packed, shapes, kernels, about)
            threaded = _choice(packed, _threaded_times(packed, shapes, times, threads))
            _core.set_plan(packed, kernels, block_rows, threaded if threads > 1 else [])
            _save()
    names, block_rows = _core.get_plan(packed)
    threaded, _ = _core.get_plan(packed, threaded=True)
    return Plan(
        mode,
        tuple(tuple(layer) for layer in names),
        block_rows,
        tuple(_core.linear_kernels()),
        tuple(tuple(layer) for layer in threaded),
    )


def _choice(packed: npt.NDArray[np.uint8], times: list[list[Times]]) -> list[list[str]]:
    table = _core.linear_kernels()
    flat = [
        by_kernel.get(name, math.inf) / 1e6
        for layer in times
        for by_kernel in layer
        for name in table
    ]
    return _core.choose_kernels(packed, flat, _set_up())


def _threaded_times(
    packed: npt.NDArray[np.uint8], shapes: list[Shape], times: list[list[Times]], threads: int
) -> list[list[Times]]:
    """Replace times by those of `threads` at once where it matters: large weights, maybe sparse.

    Threads that share memory's bandwidth gain more from reading fewer bytes.
    """
    result = []
    for i, (shape, alone) in enumerate(zip(shapes, times, strict=True)):
        kernels = _core.layer_kernels(packed, i)
        near = shape.inputs * shape.outputs < _NEAR_BYTES
        if threads == 1 or near or not any(is_sparse(name) for name in kernels):
            result.append(alone)
            continue
        flat = _remembered(
            f"layer {shape.key}{_sparse_key(packed, i)} threads {threads}",
            lambda i=i: [t for *_, t in _core.measure_layer(packed, i, threads)],  # type: ignore[misc]
            len(THREADED_ROWS) * len(kernels),
        )
        shared = _by_class(flat, kernels)
        result.append([*alone[: -len(shared)], *shared])
    return result


def layer_times(packed: npt.NDArray[np.uint8], i: int, shape: Shape) -> list[Times]:
    """µs of each kernel that layer `i` could go by, per class of rows: remembered or measured."""
    kernels = _core.layer_kernels(packed, i)
    if len(kernels) == 1:
        return [{kernels[0]: 1.0} for _ in ROWS]  # nothing to choose
    flat = _remembered(
        f"layer {shape.key}{_sparse_key(packed, i)}",
        lambda: [time for _, _, time in _core.measure_layer(packed, i)],
        len(ROWS) * len(kernels),
    )
    return _by_class(flat, kernels)


def _by_class(flat: list[float], kernels: list[str]) -> list[Times]:
    steps = range(0, len(flat), len(kernels))
    return [dict(zip(kernels, flat[at : at + len(kernels)], strict=True)) for at in steps]


def is_sparse(kernel: str) -> bool:
    """Whether a kernel of that name reads sparse weights."""
    return kernel.endswith((" bitmask", " picks"))


def synthetic_times(shape: Shape, zeros: float) -> list[Times]:
    """µs of each kernel for a layer of this shape, of which a random share of weights is zero."""
    rng = np.random.default_rng(0)
    weight = rng.integers(-127, 128, (shape.outputs, shape.inputs), dtype=np.int8)
    weight[rng.random(weight.shape, np.float32) < zeros] = 0
    ones = np.full(shape.outputs, 1e-3, np.float32)
    layers = [_core.Layer(weight, ones, None, 0.0, math.inf, 0.01, 0)]
    if shape.codes:  # a layer that takes them
        last = np.zeros((1, shape.outputs), np.int8)
        layers.append(_core.Layer(last, ones[:1], None, -math.inf, math.inf, 0.01, 0))
    packed = _core.pack(layers, "dynamic" if shape.per_row else "static")
    with _lock:
        times = layer_times(packed, 0, shape)
        _save()
    return times


def _sparse_key(packed: npt.NDArray[np.uint8], i: int) -> str:
    """Name what the speed of sparse weights depends on beside the shape: how large they are."""
    forms = _core.layer_forms(packed, i)
    dense = forms.pop("dense")
    shares = {form: round(50 * size / dense) * 2 for form, size in forms.items() if size}
    return "".join(f" {form} {share}%" for form, share in shares.items())


def _set_up() -> float:
    """Seconds that setting the tile unit up costs."""
    return _remembered("set-up", lambda: [_core.measure_set_up() * 1e6], 1)[0] / 1e6


def _block_rows(
    packed: npt.NDArray[np.uint8], shapes: list[Shape], kernels: list[list[str]], about: str
) -> int:
    def measure() -> list[float]:
        _core.set_plan(packed, kernels, 32)
        return [float(rows) for rows, _, chosen in _core.measure_blocks(packed) if chosen]

    key = f"blocks {about} " + ", ".join(shape.key for shape in shapes)
    return round(_remembered(key, measure, 1, least=32, most=1024)[0])


def _remembered(
    key: str,
    measure: Callable[[], list[float]],
    count: int,
    least: float = 0.0,
    most: float = math.inf,
) -> list[float]:
    """Look a measurement up in what is known of this machine, or make it."""
    machine = _machine(tuple(_core.linear_kernels()))
    known = _known.setdefault(machine, {})
    _read_once(machine, known)
    values = known.get(key)
    good = _checked(values, count, least, most)
    if good is None:
        good = [round(value, 3) for value in measure()]
        known.pop(key, None)
        known[key] = good
        _unsaved.add(machine)
    return good


def _checked(values: Any, count: int, least: float, most: float) -> list[float] | None:
    """Return remembered numbers if they can be used: the file may hold anything."""
    if not isinstance(values, list) or len(values) != count:
        return None
    try:
        numbers = [float(value) for value in values if type(value) in (int, float)]
    except OverflowError:
        return None
    usable = [v for v in numbers if least <= v <= most and v < math.inf]
    return usable if len(usable) == count else None


@functools.cache
def _machine(kernels: tuple[str, ...]) -> str:
    """Name what times depend on beside the shape. (Asking the CPU takes some 0.1 ms.)"""
    from fastmnist import __version__

    model = _core.cpu_info()["model"]
    return f"{model} | {', '.join(kernels)} | fastmnist {__version__}"


def _read_once(machine: str, known: dict[str, Any]) -> None:
    path = _path()
    if path is None or f"{path} {machine}" in _read_from:
        return
    _read_from.add(f"{path} {machine}")
    for key, values in _file_content(path).get(machine, {}).items():
        known.setdefault(key, values)


def _path() -> Path | None:
    folder = cache_folder()
    return None if folder is None else folder / "plans.json"


def memory_note() -> str:
    """Say where measurements are kept, and how to have them made again."""
    path = _path()
    if path is None:
        return "in this process only"
    with contextlib.suppress(RuntimeError, ValueError):  # no home, or not in it
        path = Path("~") / path.relative_to(Path.home())
    return f"delete {path} to measure again"


def _file_content(path: Path) -> dict[str, dict[str, Any]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        return {}
    machines = content.get("machines")
    if not isinstance(machines, dict):
        return {}
    return {key: value for key, value in machines.items() if isinstance(value, dict)}


def _save() -> None:
    """Add what is new to the file, which other processes may be changing, too."""
    path = _path()
    while path is not None and _unsaved:
        machine = _unsaved.pop()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with _file_lock(path.with_suffix(".lock")):
                machines = _file_content(path)
                entries = {**machines.get(machine, {}), **_known[machine]}
                machines[machine] = dict([*entries.items()][-_MOST_ENTRIES:])
                content = {"format": _FORMAT, "machines": machines}
                write_whole(path, json.dumps(content, indent=1).encode())
        except OSError:
            pass  # a cache that cannot be written costs some milliseconds next time


@contextmanager
def _file_lock(path: Path) -> Iterator[None]:
    """Keep other processes out meanwhile, where the system can. The file stays, and is empty."""
    with open(path, "ab") as file:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX)  # goes with the file
        yield


def _forget_lock() -> None:
    """A child forked while another thread measured must not wait for that thread."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_lock)
