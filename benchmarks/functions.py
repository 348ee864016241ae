"""Activations, softmax and LayerNorm of each instruction set, and torch's: nanoseconds a row.

    python -m benchmarks.functions [--sizes 128 1024]

One thread. Every answer is checked first, against torch in float64. Kernels are called on 64 rows
in turn, one call from Python each; a call on an empty row is timed the same way and taken off, so
that what is left is the kernel's. torch's and the operators' times are whole calls, as modules make
them: they make a tensor each. Times are the least of many turns; the table ends in how far apart
the halves of those turns are, which says what the machine's other work did to them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from fastmnist import _core, _ops
from fastmnist.int8.activation import Activation, elu

F32 = npt.NDArray[np.float32]
Call = Callable[[], object]
TURNS, CALLS = 40, 64
ACTIVATIONS: list[tuple[Activation, Callable[[torch.Tensor], torch.Tensor]]] = [
    (Activation("leaky_relu", (0.01, 0, 0)), F.leaky_relu),
    (elu(), F.elu),
    (Activation("gelu"), F.gelu),
    (Activation("gelu_tanh"), partial(F.gelu, approximate="tanh")),
    (Activation("silu"), F.silu),
    (Activation("mish"), F.mish),
    (Activation("hardswish"), F.hardswish),
    (Activation("hardsigmoid"), F.hardsigmoid),
    (Activation("sigmoid"), torch.sigmoid),
    (Activation("tanh"), torch.tanh),
    (Activation("softplus", (1, 20, 0)), F.softplus),
    (Activation("log_sigmoid"), F.logsigmoid),
    (Activation("softsign"), F.softsign),
]


class Row:
    """One function: its kernel into `out`, its operator, and torch's."""

    def __init__(
        self,
        name: str,
        kernel: Callable[[F32, F32], object],
        operator: Callable[[torch.Tensor], torch.Tensor],
        torchs: Callable[[torch.Tensor], torch.Tensor],
    ) -> None:
        self.name, self.kernel, self.operator, self.torchs = name, kernel, operator, torchs


def functions(size: int) -> list[Row]:
    """All functions on rows of `size` values."""
    found = []
    for activation, torchs in ACTIVATIONS:
        known, few = (activation.number, *activation.parameters), activation.arguments
        found.append(
            Row(
                activation.title,
                lambda x, out, known=known: _core.activate(x, *known, out),  # type: ignore[misc]
                lambda x, few=few: _ops.activate_eager(x, *few),  # type: ignore[misc]
                torchs,
            )
        )
    for name, log in (("softmax", False), ("log_softmax", True)):
        found.append(
            Row(
                name,
                lambda x, out, log=log: _core.softmax(x, log, out),  # type: ignore[misc]
                lambda x, log=log: _ops.softmax_eager(x, log),  # type: ignore[misc]
                partial(F.log_softmax if log else F.softmax, dim=-1),
            )
        )
    w = torch.linspace(0.5, 2, size)
    values = w.numpy()
    found.append(
        Row(
            "layer_norm",
            # Of an empty row there are no weights.
            lambda x, out: _core.layer_norm(x, values[: x.size], values[: x.size], 1e-5, out),
            lambda x: _ops.layer_norm_eager(x, w, w, 1e-5),
            lambda x: F.layer_norm(x, (size,), w.to(x.dtype), w.to(x.dtype)),
        )
    )
    return found


def least(call: Callable[[int], object]) -> tuple[float, float]:
    """Nanoseconds a call, and how far the least of one half of the turns is from the other's."""
    halves = [float("inf"), float("inf")]
    for turn in range(TURNS):
        start = time.perf_counter_ns()
        for i in range(CALLS):
            call(i)
        halves[turn % 2] = min(halves[turn % 2], (time.perf_counter_ns() - start) / CALLS)
    return min(halves), max(halves) / min(halves) - 1


def check(row: Row, x: F32, got: F32) -> None:
    """Raise where an answer is wrong."""
    want = row.torchs(torch.from_numpy(x).double()).numpy()
    np.testing.assert_allclose(got, want, rtol=2e-6, atol=4e-6, err_msg=row.name)


def measure(size: int, isas: list[str]) -> None:
    """Print the table of one size."""
    rows = np.random.default_rng(0).normal(scale=2, size=(CALLS, size)).astype(np.float32)
    tensors = list(torch.from_numpy(rows))
    empty, out = np.empty(0, np.float32), np.empty(size, np.float32)
    arrays = list(rows)
    print(f"\nns for {size} values")
    print(f"{'':14}" + "".join(f"{isa:>13}" for isa in isas) + f"{'operator':>11}{'torch':>9}")
    spread = []
    for row in functions(size):
        cells = []
        for isa in isas:
            _core.set_isa(isa)
            row.kernel(arrays[0], out)
            check(row, arrays[0], out)
            call, _ = least(lambda i, row=row: row.kernel(empty, empty))  # type: ignore[misc]
            whole, apart = least(lambda i, row=row: row.kernel(arrays[i], out))  # type: ignore[misc]
            cells.append(max(whole - call, 0.0))
            spread.append(apart)
        _core.set_isa(isas[0])
        check(row, arrays[0], row.operator(tensors[0]).numpy())
        for function in (row.operator, row.torchs):
            whole, apart = least(lambda i, function=function: function(tensors[i]))  # type: ignore[misc]
            cells.append(whole)
            spread.append(apart)
        line = "".join(f"{value:13.0f}" for value in cells[:-2])
        print(f"{row.name:14}{line}{cells[-2]:11.0f}{cells[-1]:9.0f}", flush=True)
    print(f"halves are {100 * float(np.median(spread)):.0f} % apart at the median")


def main() -> int:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 1024])
    options = parser.parse_args()
    torch.set_num_threads(1)
    _core.set_num_threads(1)
    ladder = _core.cpu_info()["ladder"]
    # AMX has the kernels of AVX-512 for these.
    isas = [r["isa"] for r in ladder if not r["why_not"] and r["isa"] != "amx_int8"]
    with torch.inference_mode():
        for size in options.sizes:
            measure(size, isas)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
