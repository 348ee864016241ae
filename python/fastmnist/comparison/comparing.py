"""Measure every variant of a model on the same rows: accuracy, speed, size."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn

from fastmnist.comparison.answers import answers_of, class_counts, digest_of
from fastmnist.comparison.report import Report
from fastmnist.comparison.rows import BatchTiming, Row
from fastmnist.comparison.signals import (
    ROWS,
    decibels,
    signals_of,
    sqnr_by_layer,
    wanted_paths,
)
from fastmnist.comparison.weights import Weights, disk_of, memory_of
from fastmnist.data.batch import Batch, BatchFn
from fastmnist.data.batches import data_pixels, iter_batches, select_half
from fastmnist.data.meaning import meaning_of
from fastmnist.measuring.evaluation import Evaluation, evaluate, in_mode
from fastmnist.measuring.metrics import Metric, MetricLike, metric_of
from fastmnist.measuring.noise import worst_of
from fastmnist.measuring.readings import Readings
from fastmnist.measuring.scoring import LossFn
from fastmnist.measuring.tally import joined
from fastmnist.measuring.timing import Timing
from fastmnist.measuring.turns import batch_sizes, checked_integer, slice_of, time_batches
from fastmnist.pixels import PixelNormalization, explicit_pixels
from fastmnist.rewriting.changes import NOT_CHANGED, changes
from fastmnist.runtime.compiled import CompiledModel
from fastmnist.runtime.cpu import cpu_info, num_threads

__all__ = ["Report", "compare"]


def compare(
    variants: Mapping[str, Any],
    data: Any,
    *,
    batch_size: int = 1024,
    batches: Sequence[int] | None = None,
    rounds: int = 25,
    seconds: float = 120.0,
    metric: MetricLike = None,
    greater_is_better: bool | None = None,
    loss_fn: LossFn | None = None,
    batch_fn: BatchFn | None = None,
    pixels: str | None = None,
    mean: Any = None,
    std: Any = None,
    name: str | None = None,
    compiled_rows: str = "both",
) -> Report:
    """Measure variants of a model on the same rows.

    Parameters
    ----------
    variants : dict of str to nn.Module, CompiledModel or callable
        The others are compared with the first. If the data holds uint8, a compiled model that takes
        pixels gets two rows in the table: one for float32 inputs, one for uint8 inputs.
    data : Data, Split, DataLoader, Dataset, (x, y), list of batches
        With targets; for a bundle, its test half.
    batch_size : int
        The largest batch that is timed, unless `batches` is given (smaller if there are fewer
        rows).
    batches : sequence of int, optional
        Batch sizes that are timed. Default: 1, 32 and `batch_size`.
    rounds : int
        How often each variant takes its turn; times are medians over the rounds.
    seconds : float
        No new round starts once timing has taken this long, and the report says so. At least one
        round of each batch size is timed.
    metric, greater_is_better, loss_fn, batch_fn
        As for :func:`fastmnist.evaluate`. Default: accuracy if the targets are classes, R² if they
        are other floats. Tables, plots, frames and JSON use the metric's name.
    pixels, mean, std
        What uint8 pixels of the data mean here, as for :func:`fastmnist.evaluate`. A compiled model
        still reads uint8 rows as it was compiled to.
    name : str, optional
        Name of the data in the table; a bundle has its own.
    compiled_rows : {"both", "float32", "uint8"}
        Which of the two kinds of input to measure such compiled models with.

    Returns
    -------
    Report
        Training and eval modes of all modules are restored afterwards.

    Raises
    ------
    TypeError, ValueError
        If there are no variants, a variant is not callable, or the data is empty or has no targets.

    Examples
    --------
    >>> import fastmnist as fm, torch
    >>> model = fm.NeuralNetwork()
    >>> data = torch.rand(32, 1, 28, 28), torch.randint(0, 10, (32,))
    >>> report = fm.compare({"original": model, "fused": fm.fuse(model)}, data, rounds=2)
    >>> [row.name for row in report]
    ['original', 'fused']
    """
    _check(variants, rounds, seconds)
    if compiled_rows not in ("both", "float32", "uint8"):
        raise ValueError(
            f"compiled_rows: expected 'both', 'float32' or 'uint8', got {compiled_rows!r}"
        )
    chosen = metric_of(metric, greater_is_better)
    told, first = explicit_pixels(mean, std, pixels), next(iter(variants.values()))
    meaning = meaning_of(data, *variants.values(), given=told)
    floats = _all_rows(data, batch_fn, meaning.pixels, first, raw=False)
    codes = (
        _all_rows(data, batch_fn, meaning.pixels, first, raw=True) if _holds_pixels(data) else None
    )
    _warn_of_other_readings(first, floats, Readings(meaning.is_told))
    entries = _entries(variants, codes is not None, compiled_rows)
    results: list[Evaluation] = []
    sources = [codes if kind == "uint8" and codes else floats for _, _, kind in entries]
    for (label, variant, _), source in zip(entries, sources, strict=True):
        results.append(_evaluate(label, variant, source, chosen, loss_fn))
        chosen = chosen or metric_of(results[0].metric)  # one for all
    wanted = batch_sizes(batches, batch_size, floats.size)
    models = [variant for _, variant, _ in entries]
    with ExitStack() as modes, torch.inference_mode():
        for model in models:
            if isinstance(model, nn.Module):
                modes.enter_context(in_mode(model, training=False))
        signals = _signals(models, sources)
        timed = time_batches(models, sources, wanted, rounds, seconds)
    known = meaning.pixels
    rows = [
        _row(entry, results, signals[i], [times[i] for times in timed], wanted, floats, known, i)
        for i, entry in enumerate(entries)
    ]
    return Report(rows, _about(data, name, floats.size, wanted, timed, rounds, results[0]))


def _check(variants: Any, rounds: int, seconds: float) -> None:
    if not isinstance(variants, Mapping):
        raise TypeError(
            'variants: expected a dict such as {"original": model}, got '
            f"{type(variants).__name__}"
        )
    if not variants:
        raise ValueError("variants: expected at least one, got an empty dict")
    for name, variant in variants.items():
        if not isinstance(name, str):
            raise TypeError(f"variants: expected names, got {name!r}")
        if not callable(variant) or isinstance(variant, type):
            raise TypeError(f"variants: expected a model as '{name}', got {variant!r}")
    checked_integer("rounds", rounds)
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not seconds > 0:
        raise ValueError(f"seconds: expected a number above 0, got {seconds!r}")


def _holds_pixels(data: Any) -> bool:
    return data_pixels(select_half(data, "test")) is not None and not isinstance(
        data, torch.utils.data.DataLoader
    )


def _all_rows(
    data: Any, batch_fn: Any, pixels: PixelNormalization | None, model: Any, *, raw: bool
) -> Batch:
    """Every row as one batch, in memory: what all variants are measured on."""
    parts = [
        *iter_batches(
            data,
            split="test",
            batch_size=4096,
            batch_fn=batch_fn,
            pixels=pixels,
            raw=raw,
            model=model,
            purpose="compare",
        )
    ]
    args = joined([part.args for part in parts], "data")
    kwargs = joined([part.kwargs for part in parts], "data")
    target = joined([part.target for part in parts], "data")
    given = [part.pixels for part in parts if part.pixels is not None]
    pixels_given = torch.cat(given) if len(given) == len(parts) else None
    return Batch(args, kwargs, target, sum(part.size for part in parts), pixels_given)


def _warn_of_other_readings(model: Any, rows: Batch, readings: Readings) -> None:
    readings.add(rows)
    module = model if isinstance(model, nn.Module) else None
    with torch.no_grad(), in_mode(module, training=False):
        readings.warn(model)


def _entries(
    variants: Mapping[str, Any], has_pixels: bool, wanted: str
) -> list[tuple[str, Any, str]]:
    entries: list[tuple[str, Any, str]] = []
    for name, variant in variants.items():
        if not (isinstance(variant, CompiledModel) and variant.takes_pixels and has_pixels):
            entries.append((name, variant, "float32"))
        elif wanted == "both":
            entries += [(f"{name} ({form} rows)", variant, form) for form in ("float32", "uint8")]
        else:
            entries.append((name, variant, wanted))
    return entries


def _evaluate(
    name: str, variant: Any, rows: Batch, metric: Metric | None, loss_fn: LossFn | None
) -> Evaluation:
    chunks = (slice_of(rows, at, min(at + 1024, rows.size)) for at in range(0, rows.size, 1024))
    try:
        return evaluate(
            variant,
            ((chunk.args, chunk.kwargs, chunk.target) for chunk in chunks),
            metric=metric,
            loss_fn=loss_fn,
            batch_fn=lambda batch: batch,
            raw=True,
        )
    except (RuntimeError, TypeError, ValueError) as error:
        raise type(error)(
            f"variants: '{name}' cannot be evaluated on this data: {error}"
        ) from error


def _signals(models: list[Any], sources: list[Batch]) -> list[tuple[Any, Any]]:
    """Of each variant the SQNR of its layers, and of its outputs, against the first's."""
    few = [slice_of(source, 0, min(ROWS, source.size)) for source in sources]
    first = signals_of(models[0], few[0], None)
    paths, found = wanted_paths(models[0]), []
    for i, (model, rows) in enumerate(zip(models, few, strict=True)):
        own = signals_of(model, rows, paths) if i else first
        layers = sqnr_by_layer(models[0], first, model, own) if i else {}
        outputs = None
        if first.outputs is not None and own.outputs is not None:
            same = first.outputs.shape == own.outputs.shape
            outputs = decibels(first.outputs, own.outputs) if same else None
        found.append((layers, outputs))
    return found


def _row(
    entry: tuple[str, Any, str],
    results: list[Evaluation],
    signals: tuple[dict[str, float | None], float | None],
    timings: list[Timing],
    batches: list[int],
    data: Batch,
    pixels: PixelNormalization | None,
    index: int,
) -> Row:
    (name, variant, rows), result, first = entry, results[index], results[0]
    answers = answers_of(first, result, data, pixels)
    made, weights = changes(variant), Weights.of(variant)
    return Row(
        name=name,
        rows=rows,
        score=float(result),
        difference=float(result) - float(first),
        p_value=answers.p_value,
        loss=result.loss,
        timings=tuple(
            BatchTiming(batch, t.p50, t.p90, t.p99, t.quotient, t.doubt, batch / t.p50)
            for batch, t in zip(batches, timings, strict=True)
        ),
        memory=memory_of(variant),
        disk=disk_of(variant),
        layers_changed=len({change.layer for change in made if change.kind not in NOT_CHANGED}),
        changes=tuple(made),
        sparsity=weights.sparsity,
        bits=weights.bits,
        sqnr=signals[0],
        output_sqnr=signals[1],
        recall=answers.recall,
        losing=answers.losing,
        flips=answers.flips,
        flip_count=answers.flip_count,
        correct=answers.correct,
        metric=result.metric,
    )


def _kind_of(data: Any) -> str:
    """What the table calls data without a name."""
    plain = isinstance(data, tuple | list | Mapping | Iterator)
    return "data" if plain else type(data).__name__


def _about(
    data: Any,
    name: str | None,
    n: int,
    batches: list[int],
    timed: list[list[Timing]],
    rounds: int,
    result: Evaluation,
) -> dict[str, Any]:
    info = cpu_info()
    noise = worst_of([times[0].noise for times in timed])
    return {
        "data": name or getattr(data, "name", None) or _kind_of(data),
        "n": n,
        "batch_size": batches[-1],
        "batches": batches,
        "rounds": rounds,
        "rounds_timed": min(times[0].rounds for times in timed),
        "metric": result.metric,
        "greater_is_better": result.greater_is_better,
        "class_counts": class_counts(result),
        "targets": digest_of(result),
        "results": "fresh",  # as a plain call gives them, not into out=
        "noise": {
            "cpu_share": round(noise.cpu_share, 3),
            "unsteady": round(noise.unsteady, 3),
            "interruptions": round(noise.interruptions, 1),
            "verdict": noise.verdict,
        },
        "threads": num_threads(),
        "torch_threads": torch.get_num_threads(),
        "isa": info["isa"],
        "cpu": info["model"],
        "torch": str(torch.__version__),
        "python": platform.python_version(),
    }
