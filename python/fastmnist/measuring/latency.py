"""How long one call takes: with warm caches and with cold ones, and how sure that is."""

from __future__ import annotations

import inspect
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from fastmnist.display.figures import microseconds
from fastmnist.display.tables import Table, Tabled, frame_of
from fastmnist.files.atomic import write_atomically
from fastmnist.int8.graph import NetworkGraph
from fastmnist.measuring.evaluation import in_mode
from fastmnist.measuring.noise import Noise, Watch, relative_spread, worst_of
from fastmnist.measuring.threads import threads_set
from fastmnist.measuring.timing import Call
from fastmnist.measuring.turns import checked_integer
from fastmnist.runtime.compiled import CompiledModel
from fastmnist.runtime.cpu import cpu_info, num_threads

_FLUSHED = 64 << 20  # bytes that are read between calls, to leave caches cold
_MOST_CALLS = 100_000
_FEWEST_CALLS = 5
_MOST_BATCHES = 64
_WARM_SHARE = 0.6  # of the time, the rest is for cold calls
_BLOCKS = 10
_PERCENTILES = (50, 90, 99, 99.9)


@dataclass(frozen=True)
class Percentiles:
    """Seconds per call.

    Attributes
    ----------
    calls : int
        Number of timed calls.
    p50, p90, p99, p999 : float
        The median, and the times that 9 of 10, 99 of 100 and 999 of 1,000 calls stay within; NaN if
        there were too few calls to know: fewer than 10, 100, 1,000.
    """

    calls: int
    p50: float
    p90: float
    p99: float
    p999: float

    @classmethod
    def of(cls, nanoseconds: Any) -> Percentiles:
        """Summarize times.

        Examples
        --------
        >>> Percentiles.of([1000.0, 2000.0, 3000.0]).p50
        2e-06
        """
        times = np.asarray(nanoseconds, dtype=float)
        found = np.percentile(times, _PERCENTILES) / 1e9
        enough = [len(times) >= n for n in (1, 10, 100, 1000)]
        told = (
            float(v) if is_enough else math.nan for v, is_enough in zip(found, enough, strict=True)
        )
        return cls(len(times), *told)


@dataclass(frozen=True)
class BatchLatency:
    """The latency at one batch size.

    Attributes
    ----------
    batch : int
    warm, cold : Percentiles
        Consecutive calls, and calls that each follow a read of 64 MB of other memory.
    noise : Noise
        The noise of the warm calls.
    """

    batch: int
    warm: Percentiles
    cold: Percentiles
    noise: Noise

    def as_record(self) -> dict[str, Any]:
        """Return all figures by name, as in frames and JSON."""
        record: dict[str, Any] = {"batch": self.batch}
        for name, found in (("warm", self.warm), ("cold", self.cold)):
            record |= {f"{name}_{key}": value for key, value in vars(found).items()}
        return record | vars(self.noise)


class Latency(Tabled, Sequence[BatchLatency]):
    """The result of :func:`latency`: batch sizes in the given order; prints as a table.

    Attributes
    ----------
    batches : tuple of BatchLatency
    about : dict
        CPU, instruction set, threads.
    """

    def __init__(self, batches: Sequence[BatchLatency], about: dict[str, Any]) -> None:
        self.batches, self.about = tuple(batches), about

    def __getitem__(self, index: Any) -> Any:
        return self.batches[index]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[BatchLatency]:
        return iter(self.batches)

    def at(self, batch: int) -> BatchLatency:
        """Return the measurements at a batch size.

        Raises
        ------
        KeyError
            If this batch size was not timed.
        """
        for found in self.batches:
            if found.batch == batch:
                return found
        raise KeyError(
            f"batch: expected one of {', '.join(str(b.batch) for b in self)}, got {batch}"
        )

    @property
    def verdict(self) -> str:
        """Whether the figures are reliable: ``quiet``, or ``noisy`` and why."""
        return worst_of([found.noise for found in self.batches]).verdict

    def table(self) -> Table:
        """Return the printed table."""
        table = Table(
            f"µs per call, {self.about['threads']} thread(s), {self.about['isa']}",
            ["batch", "caches", "p50", "p90", "p99", "p99.9", "calls"],
        )
        for found in self.batches:
            for caches, times in (("warm", found.warm), ("cold", found.cold)):
                cells = (times.p50, times.p90, times.p99, times.p999)
                batch = f"{found.batch:,}" if caches == "warm" else ""
                table.row(batch, caches, *map(microseconds, cells), f"{times.calls:,}")
        table.note(f"the machine was {self.verdict}")
        table.note(
            f"cold: {_FLUSHED >> 20} MB of other memory were read before each call, which leaves "
            "nothing in L1 and L2; a larger L3 may hold some of it"
        )
        if any(math.isnan(t.p999) for found in self.batches for t in (found.warm, found.cold)):
            table.note("–: too few calls to know; seconds= gives them more time")
        return table

    def to_frame(self) -> Any:
        """Return a pandas DataFrame, one row per batch size, in seconds.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        return frame_of(self.batches, BatchLatency, "batch")

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return all figures as JSON, in seconds, and write them to `path` if given."""
        records = [found.as_record() for found in self.batches]
        finite = [
            {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in r.items()}
            for r in records
        ]
        content = {"about": {**self.about, "verdict": self.verdict}, "batches": finite}
        text = json.dumps(content, indent=2)
        if path is not None:
            write_atomically(path, (text + "\n").encode())
        return text


def latency(
    net: Callable[..., Any],
    rows: Any,
    batches: Sequence[int] = (1, 32),
    threads: int | None = None,
    seconds: float = 2.0,
) -> Latency:
    """Time single calls of a model, with warm and cold caches.

    Parameters
    ----------
    net : CompiledModel, nn.Module or callable
        A module runs in eval mode, without gradients; its modes are restored afterwards.
    rows : array or tensor, tuple of them, or dict
        Inputs for `net`, passed unchanged in batches: one input, several, or keywords; the targets
        of ``(x, y)`` are ignored. Rows repeat if a batch needs more than there are.
    batches : sequence of int
    threads : int, optional
        Threads of torch and fastmnist during the measurement. Default: the current settings.
    seconds : float
        Approximate total time. p99.9 needs 1,000 calls of each kind; figures that there was no time
        for are NaN, and – in tables.

    Returns
    -------
    Latency
        Prints as a table; ``latency(…).at(1).warm.p99`` is in seconds.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid.

    Examples
    --------
    >>> import fastmnist as fm, torch
    >>> net = fm.compile(fm.NeuralNetwork(), torch.rand(64, 1, 28, 28))
    >>> found = fm.latency(net, torch.rand(8, 1, 28, 28), batches=(1, 8), seconds=0.1)
    >>> [one.batch for one in found]
    [1, 8]
    """
    if not callable(net) or isinstance(net, type):
        raise TypeError(f"net: expected a model or a function, got {type(net).__name__}")
    if isinstance(batches, str | bytes) or not isinstance(batches, Sequence) or not batches:
        raise TypeError(f"batches: expected batch sizes such as (1, 32), got {batches!r}")
    for batch in batches:
        checked_integer("batches", batch)
    if threads is not None:
        checked_integer("threads", threads)
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not seconds > 0:
        raise ValueError(f"seconds: expected a number above 0, got {seconds!r}")
    args, kwargs, count = _inputs(rows)
    args = _without_target(net, args)
    end, found = time.perf_counter() + seconds, []
    memory = np.ones(_FLUSHED // 8)
    with ExitStack() as state, torch.inference_mode():
        state.enter_context(threads_set(threads))
        state.enter_context(in_mode(net if isinstance(net, nn.Module) else None, training=False))
        about = {
            "threads": num_threads(),
            "torch_threads": torch.get_num_threads(),
            "isa": cpu_info()["isa"],
            "cpu": cpu_info()["model"],
        }
        for i, batch in enumerate(batches):
            calls = _calls(net, args, kwargs, count, batch)
            left = (end - time.perf_counter()) / (len(batches) - i)
            found.append(_measured(calls, batch, left, memory))
    return Latency(found, about)


def _measured(
    calls: Sequence[Call], batch: int, seconds: float, memory: npt.NDArray[np.float64]
) -> BatchLatency:
    calls[0]()  # what is made at the first call: scratch memory, caches of the framework
    watch = Watch()
    warm = _timed(calls, seconds * _WARM_SHARE, None)
    noise = watch.noise(
        relative_spread([np.median(part) for part in np.array_split(warm, min(_BLOCKS, len(warm)))])
    )
    cold = _timed(calls, seconds * (1 - _WARM_SHARE), memory)
    return BatchLatency(batch, Percentiles.of(warm), Percentiles.of(cold), noise)


def _timed(
    calls: Sequence[Call], seconds: float, memory: npt.NDArray[np.float64] | None
) -> npt.NDArray[np.float64]:
    """Nanoseconds of calls until the time is over, and of some at least."""
    times = np.zeros(_MOST_CALLS)
    clock, n = time.perf_counter_ns, 0
    end = clock() + seconds * 1e9
    while n < _MOST_CALLS and (n < _FEWEST_CALLS or clock() < end):
        call = calls[n % len(calls)]
        if memory is not None:
            memory.sum()
        start = clock()
        call()
        times[n] = clock() - start
        n += 1
    return times[:n]


def _inputs(rows: Any) -> tuple[list[Any], dict[str, Any], int]:
    """Positional and keyword arguments, and how many rows they have."""
    named = dict(rows) if isinstance(rows, Mapping) else {}
    several = isinstance(rows, tuple | list)
    given = [] if named else [*rows] if several else [rows]
    sizes = set()
    for part in (*given, *named.values()):
        if not isinstance(part, Tensor | np.ndarray) or part.ndim < 1 or not len(part):
            raise TypeError(
                "rows: expected a tensor or an array of one row at least, a tuple of such or a "
                f"dict, got {type(part).__name__}"
            )
        sizes.add(len(part))
    if len(sizes) != 1:
        raise ValueError(f"rows: expected as many rows in each input, got {sorted(sizes)}")
    return given, named, sizes.pop()


def _without_target(net: Callable[..., Any], given: list[Any]) -> list[Any]:
    """Leave out the targets of (x, y): what is one more than the model's inputs.

    A compiled network's next argument is `out`, which nobody means by rows.
    """
    if isinstance(net, CompiledModel):
        graph = net.network
        most = len(graph.inputs) if isinstance(graph, NetworkGraph) else 1
    else:
        function = net.forward if isinstance(net, nn.Module) else net
        try:
            parameters = inspect.signature(function).parameters.values()
        except (TypeError, ValueError):  # a builtin without a signature
            return given
        if any(p.kind is p.VAR_POSITIONAL for p in parameters):
            return given
        most = sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)
    if len(given) <= most:
        return given
    if len(given) == most + 1:
        return given[:-1]
    raise ValueError(f"rows: expected at most {most} inputs, as the model takes, got {len(given)}")


def _calls(
    net: Callable[..., Any], args: list[Any], kwargs: dict[str, Any], count: int, batch: int
) -> list[Call]:
    """Calls on different rows."""
    starts = np.linspace(0, max(count - batch, 0), min(_MOST_BATCHES, max(count - batch, 0) + 1))
    calls: list[Call] = []
    for start in starts.astype(int):
        index = (np.arange(batch) + start) % count

        def part(value: Any, index: npt.NDArray[np.int64] = index) -> Any:
            if isinstance(value, Tensor):
                return value[torch.from_numpy(index)].contiguous()
            return np.ascontiguousarray(value[index])

        own = {name: part(value) for name, value in kwargs.items()}
        calls.append(partial(net, *map(part, args), **own))
    return calls
