"""The checks: each compares a variant with a reference on data, and says by how much it fails.

Variants are modules, compiled models or functions. torch and the rest of fastmnist are imported
when a check runs, so that pytest's plugin costs nothing where it is not used.
"""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastmnist.comparison.comparing import Report


def assert_accuracy_drop(
    variant: Any, reference: Any, data: Any, *, max: float = 0.5, metric: Any = None
) -> None:
    """Check that `variant` is at most `max` points less accurate than `reference`.

    Parameters
    ----------
    variant, reference : nn.Module, CompiledModel or callable
    data : Data, Split, DataLoader, Dataset or (x, y)
        With targets; of a bundle, its test half.
    max : float
        Points of accuracy (0.5 is from 97.7 % to 97.2 %); with a `metric`, in its unit.
    metric : callable, optional
        ``metric(outputs, target)``; more is better.

    Raises
    ------
    AssertionError
        With both accuracies and n.

    Examples
    --------
    >>> import fastmnist as fm
    >>> data, model = fm.load_dataset("digits"), fm.NeuralNetwork()
    >>> assert_accuracy_drop(fm.fuse(model), model, data, max=0.1)
    """
    __tracebackhide__ = True
    from fastmnist.measuring.evaluation import evaluate

    unit = 1.0 if metric is not None else 100.0
    before = evaluate(reference, data, metric=metric)
    after = evaluate(variant, data, metric=metric)
    drop = (float(before) - float(after)) * unit
    if not drop <= max + 1e-9:
        name = "points" if metric is None else "of the metric"
        raise AssertionError(
            f"accuracy: expected a drop of at most {max:g} {name}, got {drop:.3g}: "
            f"{float(before) * unit:.4g} before, {float(after) * unit:.4g} after, n = {after.n}"
        )


def assert_agreement(variant: Any, reference: Any, data: Any, *, min: float = 0.99) -> None:
    """Check that both give the same class for at least a share `min` of the rows.

    Parameters
    ----------
    variant, reference, data
        As for :func:`assert_accuracy_drop`; no targets needed. Up to 10,000 rows are used.
    min : float
        Share, 0 to 1.

    Raises
    ------
    AssertionError
        With the share and n; also if outputs have no classes to compare.

    Examples
    --------
    >>> import fastmnist as fm, torch
    >>> model = fm.NeuralNetwork()
    >>> assert_agreement(fm.fuse(model), model, torch.rand(64, 1, 28, 28), min=0.99)
    """
    __tracebackhide__ = True
    y, expected = _outputs(variant, reference, data, 10_000)
    if y.dim() < 2 or y.shape[-1] < 2:
        raise AssertionError(f"agreement: expected outputs [N, classes], got {[*y.shape]}")
    same = y.argmax(-1) == expected.argmax(-1)
    share = float(same.double().mean())
    if not share >= min:
        raise AssertionError(
            f"agreement: expected at least {min:.4g}, got {share:.4g}: {int((~same).sum())} of "
            f"{same.numel()} rows get another class"
        )


def assert_sqnr(variant: Any, reference: Any, data: Any, *, min_db: float = 20.0) -> None:
    """Check the signal to quantization noise of the outputs, in dB.

    ``10 log10(Σ reference² / Σ (reference - variant)²)`` over all outputs.

    Parameters
    ----------
    variant, reference, data
        As for :func:`assert_accuracy_drop`; no targets needed. Up to 2,048 rows are used.
    min_db : float

    Raises
    ------
    AssertionError
        With what it is.

    Examples
    --------
    >>> import fastmnist as fm, torch
    >>> model, x = fm.NeuralNetwork(), torch.rand(64, 1, 28, 28)
    >>> assert_sqnr(fm.quantize(model, fm.Static(x)), model, x, min_db=20)
    """
    __tracebackhide__ = True
    from fastmnist.measuring.sqnr import sqnr

    y, expected = _outputs(variant, reference, data, 2048)
    got = sqnr(expected, y)
    if not got >= min_db:
        raise AssertionError(f"SQNR: expected at least {min_db:g} dB, got {got:.1f} dB")


def assert_smaller(variant: Any, reference: Any, *, ratio: float = 1.0) -> None:
    """Check that the file of `variant` is at least `ratio` times smaller.

    Parameters
    ----------
    variant, reference : nn.Module or CompiledModel
        What :func:`fastmnist.save` takes; or bytes that a file has, as an int.
    ratio : float
        3.5: at least 3.5 times smaller; 1: no larger.

    Raises
    ------
    AssertionError
        With both sizes.

    Examples
    --------
    >>> import fastmnist as fm
    >>> model = fm.NeuralNetwork()
    >>> assert_smaller(fm.quantize(model, fm.Dynamic()), model, ratio=3.5)
    """
    __tracebackhide__ = True
    own, other = _bytes_of(variant), _bytes_of(reference)
    if not other >= ratio * own:
        raise AssertionError(
            f"file size: expected at least {ratio:g} times smaller, got {other / own:.2f} times: "
            f"{other:,} bytes before, {own:,} after"
        )


def assert_faster(
    variant: Any,
    reference: Any,
    data: Any,
    *,
    ratio: float = 1.0,
    batch_size: int = 1,
    rounds: int = 25,
) -> None:
    """Check that `variant` is at least `ratio` times faster, interleaved in this process.

    Times depend on the machine and on who else uses it: a check for one's own bench, not for a
    shared CI.

    Parameters
    ----------
    variant, reference, data
        As for :func:`assert_accuracy_drop`; no targets needed.
    ratio : float
        Median over rounds of the ratio of their times within a round.
    batch_size, rounds : int

    Raises
    ------
    AssertionError
        With both times.

    Examples
    --------
    >>> import fastmnist as fm, torch
    >>> model, x = fm.NeuralNetwork(), torch.rand(8, 1, 28, 28)
    >>> assert_faster(fm.compile(model, dynamic=True), model, x, ratio=0.01, rounds=2)
    """
    __tracebackhide__ = True
    import torch

    from fastmnist.data.batches import iter_batches
    from fastmnist.measuring.evaluation import in_mode
    from fastmnist.measuring.timing import time_interleaved

    batch = next(iter(iter_batches(data, split="test", batch_size=batch_size)))
    args, kwargs = batch.args, batch.kwargs
    pair = [[partial(model, *args, **kwargs)] for model in (reference, variant)]
    with torch.inference_mode(), ExitStack() as modes:
        for model in (reference, variant):
            if isinstance(model, torch.nn.Module):
                modes.enter_context(in_mode(model, training=False))
        timing = time_interleaved(
            pair, rounds=rounds, calls_per_round=16, warm_up=4, what=f"batch {batch_size}"
        )
    if not timing[1].ratio >= ratio:
        raise AssertionError(
            f"speed: expected at least {ratio:g} times faster at batch {batch_size}, got "
            f"{timing[1].ratio:.2f} times: {timing[0].p50 * 1e6:.1f} µs before, "
            f"{timing[1].p50 * 1e6:.1f} µs after"
        )


def assert_bit_equal(variant: Any, reference: Any, data: Any) -> None:
    """Check that the outputs are the same, bit for bit.

    Parameters
    ----------
    variant, reference, data
        As for :func:`assert_accuracy_drop`; no targets needed. Up to 2,048 rows are used.

    Raises
    ------
    AssertionError
        With how many outputs differ, and by how much.

    Examples
    --------
    >>> import fastmnist as fm, torch
    >>> q = fm.quantize(fm.NeuralNetwork(), fm.Dynamic())
    >>> assert_bit_equal(fm.compile(q), q, torch.rand(64, 1, 28, 28))
    """
    __tracebackhide__ = True
    import torch

    y, expected = _outputs(variant, reference, data, 2048)
    if y.shape != expected.shape:
        raise AssertionError(f"bits: expected shape {[*expected.shape]}, got {[*y.shape]}")
    differ = y.contiguous().view(torch.int32) != expected.contiguous().view(torch.int32)
    if bool(differ.any()):
        off = float((y - expected).abs().nan_to_num(nan=float("inf")).max())
        raise AssertionError(
            f"bits: expected the same, got {int(differ.sum())} of {differ.numel()} outputs that "
            f"differ, by up to {off:.3g}"
        )


def assert_no_worse(
    report: Report, baseline: str | os.PathLike[str], *, points: float = 0.1, size: float = 1.02
) -> None:
    """Check a report against one that was stored: how models are watched from release to release.

    Every variant of the stored report must still be there, on as many rows, no less accurate and
    no larger. Times are not compared.

    Parameters
    ----------
    report : Report
        Of :func:`fastmnist.compare`.
    baseline : str or path
        What ``report.to_json(path)`` wrote.
    points : float
        Accuracy that may be lost, in points; with a metric, in its unit.
    size : float
        By what factor a file may grow.

    Raises
    ------
    AssertionError
        Naming every variant that became worse.
    FileNotFoundError, ValueError
        If there is no such file, or it is no report.

    Examples
    --------
    >>> import fastmnist as fm, tempfile, os
    >>> data, model = fm.load_dataset("digits"), fm.NeuralNetwork()
    >>> report = fm.compare({"original": model}, data, rounds=1)
    >>> path = os.path.join(tempfile.mkdtemp(), "baseline.json")
    >>> _ = report.to_json(path)
    >>> assert_no_worse(report, path)
    """
    __tracebackhide__ = True
    rows = {row.name: row for row in report}
    before = _stored(baseline)
    unit = 100.0 if report.about.get("metric") == "accuracy" else 1.0
    worse = []
    if before["about"].get("metric") != report.about.get("metric"):
        worse.append(f"the metric was {before['about'].get('metric')}")
    if before["about"].get("n") != report.about.get("n"):
        worse.append(f"n was {before['about'].get('n')}, is {report.about.get('n')}")
    for old in before["rows"]:
        name = old["name"]
        if name not in rows:
            worse.append(f"'{name}' is gone")
            continue
        lost = (old["accuracy"] - rows[name].accuracy) * unit
        if not lost <= points + 1e-9:
            worse.append(f"'{name}' lost {lost:.3g} of accuracy (at most {points:g})")
        disk = rows[name].disk
        if old["disk"] is not None and disk is not None and disk > size * old["disk"]:
            worse.append(f"'{name}' grew from {old['disk']:,} to {disk:,} bytes")
    if worse:
        raise AssertionError(
            f"worse than {os.fspath(baseline)}: {'; '.join(worse)}. If that is meant, store the "
            "new report: report.to_json(path), or --update-baseline in the suite"
        )


def _bytes_of(model: Any) -> int:
    if isinstance(model, int) and not isinstance(model, bool):
        return model
    from fastmnist.saving.save_load import file_size

    return file_size(model)


def _stored(baseline: str | os.PathLike[str]) -> dict[str, Any]:
    path = Path(baseline)
    if not path.is_file():
        raise FileNotFoundError(
            f"baseline: expected a stored report, got '{path}', which is no file: write it with "
            "report.to_json(path), or run the suite with --update-baseline"
        )
    try:
        stored = json.loads(path.read_text())
        names = [row["name"] for row in stored["rows"]]
        numbers = [float(row["accuracy"]) for row in stored["rows"]]
        if len(names) != len(numbers) or not isinstance(stored["about"], dict):
            raise ValueError("no report")
        return {**stored, "rows": [{"disk": None, **row} for row in stored["rows"]]}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"baseline: '{path}' is no report of fm.compare: {error}") from None


def _outputs(variant: Any, reference: Any, data: Any, most: int) -> tuple[Any, Any]:
    from fastmnist.measuring.sqnr import outputs_of

    y, expected = outputs_of([variant, reference], data, most)
    return y, expected
