"""How near a kernel comes to what one core can do at best. Free of torch.

A layer takes at least the time of its products, or of reading its weights, whichever is longer.
How fast a core does either is measured by probes (csrc/runtime/limits.h), from the cache level that
holds the weights. A probe that ran while the machine was busy tells too little: where a kernel that
computes everything was faster than probes allow, that is what the core can do. So no such kernel
is beyond the limit. One that leaves zeros out, of weights or of rows, is held against what is left
of the work, as far as that is known.
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
    """What one core does at best.

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
        """Ask the probes, once in a process."""
        found = _probed(isa)
        return cls(
            float(found["products_per_second"]),
            {level: float(found[level]["bytes_per_second"]) for level in LEVELS},
            {level: float(found[level]["level_bytes"]) for level in LEVELS},
        )

    def work(self, layer: QuantizedLayer, zeros: float, rows: int, kernel: _core.Kernel) -> Work:
        """Tell what a kernel has to do; `zeros` is the share among the layer's weights."""
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
        """Raise what probes told to what kernels did."""
        for rows, times in zip(ROWS, by_class, strict=True):
            for kernel, time in times.items():
                work = self.work(layer, zeros, rows, kernel)
                if work.is_whole and time > 0:
                    self.products = max(self.products, work.products / time * 1e6)
                    read = work.bytes / time * 1e6
                    # What one level gives, a nearer one gives, too.
                    for level in LEVELS[: LEVELS.index(work.level) + 1]:
                        self.reads[level] = max(self.reads[level], read)

    def least(self, work: Work) -> float:
        """µs that the work takes at least."""
        return 1e6 * max(work.products / self.products, work.bytes / self.reads[work.level])


@functools.cache
def _probed(isa: str) -> dict[str, Any]:
    return _core.measure_limits(isa)
