"""How close a kernel comes to the limit of one core. Free of torch.

A layer takes at least the time of its products, or of reading its weights, whichever is longer.
Probes measure how fast a core does either (csrc/runtime/limits.h), from the cache level that holds
the weights. A probe that ran while the machine was busy reports too little: if a kernel that
computes everything was faster than the probes allow, its speed becomes the limit. So no such kernel
exceeds the limit. A kernel that skips zeros, of weights or of rows, is compared with the remaining
work, as far as that is known.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import fastmnist._core as _core
from fastmnist.int8.network import ZEROS_OF, QuantizedLayer
from fastmnist.runtime.planning import ROWS, Times

LEVELS = ("l1", "l2", "l3")
SKIPS_ZEROS = "live"  # the loop's name


@dataclass(frozen=True)
class Work:
    """What a kernel has to do for some rows of a layer.

    Attributes
    ----------
    products, bytes : float
        Multiply-accumulates, and bytes of weights, of which :attr:`level` holds all.
    level : str
    is_whole : bool
        Whether nothing is left out.
    """

    products: float
    bytes: float
    level: str
    is_whole: bool


@dataclass
class Limits:
    """The limits of one core.

    Attributes
    ----------
    products : float
        Per second.
    reads : dict of str to float
        Bytes per second, by cache level.
    level_bytes : dict of str to float
        How much a level holds.
    """

    products: float
    reads: dict[str, float]
    level_bytes: dict[str, float]

    @classmethod
    def measured(cls, isa: str) -> Limits:
        """Run the probes, once per process."""
        found = _probed(isa)
        return cls(
            float(found["products_per_second"]),
            {level: float(found[level]["bytes_per_second"]) for level in LEVELS},
            {level: float(found[level]["level_bytes"]) for level in LEVELS},
        )

    def work(self, layer: QuantizedLayer, zeros: float, rows: int, kernel: _core.Kernel) -> Work:
        """Return a kernel's work; `zeros` is their share among the layer's weights."""
        weights = float(layer.inputs * layer.outputs)
        needed, held = weights, weights
        if kernel.is_sparse:
            needed = weights * (1 - zeros)
            held = needed + weights / 8  # a bit for each tells where they are
        elif kernel.form == "nibbles":
            held = weights / 2
        if kernel.loop == SKIPS_ZEROS:
            share = 1.0
            if layer.input_zeros is not None:
                share -= float(layer.input_zeros.mean()) / ZEROS_OF
            needed, held = needed * share, held * share
        level = next((name for name in LEVELS if weights < self.level_bytes[name]), LEVELS[-1])
        whole = not kernel.is_sparse and kernel.loop != SKIPS_ZEROS
        return Work(needed * rows, held, level, whole)

    def learn(self, layer: QuantizedLayer, zeros: float, by_class: Iterable[Times]) -> None:
        """Raise the probes' limits to what kernels reached."""
        for rows, times in zip(ROWS, by_class, strict=True):
            for kernel, time in times.items():
                work = self.work(layer, zeros, rows, kernel)
                if work.is_whole and time > 0:
                    self.products = max(self.products, work.products / time * 1e6)
                    read = work.bytes / time * 1e6
                    # A nearer level is at least as fast.
                    for level in LEVELS[: LEVELS.index(work.level) + 1]:
                        self.reads[level] = max(self.reads[level], read)

    def least(self, work: Work) -> float:
        """Return the minimum time for the work in µs."""
        return 1e6 * max(work.products / self.products, work.bytes / self.reads[work.level])


@functools.cache
def _probed(isa: str) -> dict[str, Any]:
    return _core.measure_limits(isa)
