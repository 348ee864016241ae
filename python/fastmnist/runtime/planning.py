"""Which kernel computes each layer: measured once per shape and CPU, then remembered.

A plan never changes an answer, only its time. Measurements are kept for the process and in the
user's cache folder, so the second model with the same shapes, and the next process, measure
nothing. ``plan="fixed"``, or ``FASTMNIST_PLAN=fixed``, measures nothing at all: a rule decides, so
many workers can start at once. Measuring and choosing are native (csrc/runtime/planner.h); this
module is the interface to them. Free of torch.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import fastmnist._core as _core
from fastmnist.int8.network import QuantizedNetwork
from fastmnist.runtime.measurements import shared
from fastmnist.runtime.packing import Packed, pack

PLANS = ("measured", "fixed")
# The largest batch of each class of rows that a plan knows; the last stands for all above.
ROWS = (1, 2, 4, 8, 16, 32, 64, 96)
_default: ContextVar[str | None] = ContextVar("plan", default=None)
Times = dict[_core.Kernel, float]  # µs


@dataclass(frozen=True)
class Plan:
    """What runs.

    Attributes
    ----------
    mode : str
        "measured" or "fixed".
    kernels : tuple of tuples of Kernel
        What computes each layer, per class of :data:`ROWS`.
    block_rows : int
        Rows that go through all layers together.
    made_for : tuple of Kernel
        The kernels that were available. If they change (with the instruction set), the plan is
        ignored and the rule decides.
    threaded : tuple of tuples of Kernel
        As `kernels`, for batches that several threads split, by the rows of each share.
    """

    mode: str
    kernels: tuple[tuple[_core.Kernel, ...], ...]
    block_rows: int
    made_for: tuple[_core.Kernel, ...]
    threaded: tuple[tuple[_core.Kernel, ...], ...] = ()


@contextmanager
def using(plan: str) -> Iterator[None]:
    """Make this the default in a context: for packed weights that are discarded again."""
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
    network: QuantizedNetwork, mode: str | None = None, without: Sequence[str] = ()
) -> tuple[Packed, Plan]:
    """Lay a network out for this machine, but not in the forms `without`, and choose kernels."""
    mode = plan_mode(mode)
    packed = pack(network, without=without)
    plan = plan_into(packed, mode)
    return packed[: _core.drop_unused_forms(packed)], plan


def plan_into(packed: Packed, mode: str) -> Plan:
    """Write the plan into a packed network: from memory or measured now; if fixed, by the rule."""
    if mode == "measured":
        _core.plan_network(packed, shared())
    else:
        _core.plan_by_rule(packed)
    kernels, block_rows = _core.get_plan(packed)
    threaded, _ = _core.get_plan(packed, threaded=True)
    return Plan(
        mode,
        tuple(tuple(layer) for layer in kernels),
        block_rows,
        tuple(_core.linear_kernels()),
        tuple(tuple(layer) for layer in threaded),
    )


def layer_times(packed: Packed, i: int) -> list[Times]:
    """µs of each kernel that layer `i` could go by, per class of rows: remembered or measured."""
    times: dict[int, Times] = {rows: {} for rows in ROWS}
    for rows, kernel, time in _core.layer_times(packed, i, shared()):
        times[rows][kernel] = time
    return [*times.values()]
