"""The check of a call's latency, which allows for busy machines."""

from __future__ import annotations

from typing import Any


def assert_latency(
    net: Any,
    rows: Any,
    *,
    p50_us: float | None = None,
    p90_us: float | None = None,
    p99_us: float | None = None,
    p999_us: float | None = None,
    batch: int = 1,
    threads: int | None = None,
    seconds: float = 1.0,
    attempts: int = 3,
) -> None:
    """Check how long one call takes, with warm caches, in microseconds.

    If a limit is exceeded while the machine is noisy, it is measured again; on a quiet machine, the
    first result counts. Times depend on the machine: use this on your own machine, not in a shared
    CI, unless limits are generous.

    Parameters
    ----------
    net, rows, threads
        As for :func:`fastmnist.latency`.
    p50_us, p90_us, p99_us, p999_us : float, optional
        Limits; at least one.
    batch : int
        Rows in a call.
    seconds : float
        Approximate time per attempt. p99.9 needs 1,000 calls, p99 needs 100.
    attempts : int
        Maximum number of attempts.

    Raises
    ------
    AssertionError
        With all figures, and whether the machine was noisy.
    TypeError, ValueError
        If there is no limit, or an argument is invalid.

    Examples
    --------
    >>> import fastmnist as fm, torch
    >>> x = torch.rand(8, 1, 28, 28)
    >>> assert_latency(fm.compile(fm.NeuralNetwork(), x), x, p50_us=100_000, seconds=0.1)
    """
    __tracebackhide__ = True
    from fastmnist.measuring.latency import latency
    from fastmnist.measuring.turns import checked_integer

    given = {"p50": p50_us, "p90": p90_us, "p99": p99_us, "p999": p999_us}
    limits = {name: limit for name, limit in given.items() if limit is not None}
    if not limits:
        raise ValueError("assert_latency: expected a limit, such as p99_us=100, got none")
    for name, limit in limits.items():
        if not isinstance(limit, int | float) or isinstance(limit, bool) or not limit > 0:
            raise ValueError(f"{name}_us: expected microseconds above 0, got {limit!r}")
    checked_integer("batch", batch)
    checked_integer("attempts", attempts)
    made: list[str] = []
    while len(made) < attempts:
        found = latency(net, rows, (batch,), threads, seconds)
        failed = broken_limits(vars(found[0].warm), limits)
        if not failed:
            return
        made.append(found.verdict)
        if found.verdict == "quiet":
            break
    raise AssertionError(
        f"latency: expected at batch {batch:,} {'; '.join(failed)} ({found[0].warm.calls:,} calls; "
        f"attempt {len(made)} of {attempts}; the machine was {made[-1]})"
    )


def broken_limits(seconds: dict[str, float], limits: dict[str, float]) -> list[str]:
    """List the limits, in µs, that times in seconds exceed; unknown times exceed all limits.

    Examples
    --------
    >>> broken_limits({"p50": 2e-6, "p99": 9e-6}, {"p50": 3, "p99": 5})
    ['p99 of at most 5 µs, got 9.00']
    """
    broken = []
    for name, limit in limits.items():
        time, told = seconds[name] * 1e6, name.replace("999", "99.9")
        if time != time:
            broken.append(f"{told} of at most {limit:g} µs, got too few calls to know: seconds=")
        elif time > limit:
            broken.append(f"{told} of at most {limit:g} µs, got {time:.2f}")
    return broken
