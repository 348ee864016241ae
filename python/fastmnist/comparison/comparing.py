"""Measure every variant of a model on the same rows: accuracy, speed, size."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fastmnist.comparison.report import Report
from fastmnist.comparison.rows import Row
from fastmnist.data.batch import Batch, BatchFn, tree_map
from fastmnist.data.batches import data_pixels, iter_batches, select_half
from fastmnist.data.meaning import meaning_of
from fastmnist.layers.widened import Widened
from fastmnist.measuring.evaluation import Evaluation, evaluate, in_mode
from fastmnist.measuring.metrics import Metric, MetricLike, metric_of
from fastmnist.measuring.readings import Readings
from fastmnist.measuring.scoring import LossFn
from fastmnist.measuring.tally import joined
from fastmnist.measuring.timing import Call, Timing, time_interleaved
from fastmnist.pixels import PixelNormalization, explicit_pixels
from fastmnist.rewriting.changes import NOT_CHANGED, changes
from fastmnist.runtime.compiled import CompiledModel
from fastmnist.runtime.cpu import cpu_info, num_threads
from fastmnist.saving.save_load import size

__all__ = ["Report", "compare"]


def compare(
    variants: Mapping[str, Any],
    data: Any,
    *,
    batch_size: int = 1024,
    rounds: int = 25,
    metric: MetricLike = None,
    greater_is_better: bool | None = None,
    loss_fn: LossFn | None = None,
    batch_fn: BatchFn | None = None,
    pixels: str | None = None,
    mean: Any = None,
    std: Any = None,
    name: str | None = None,
) -> Report:
    """Measure variants of one model on the same rows.

    Parameters
    ----------
    variants : dict of str to nn.Module, CompiledModel or callable
        The first is what the others are compared with. A compiled model that takes pixels gets
        two rows, from float32 and from uint8 rows, where the data holds uint8.
    data : Data, Split, DataLoader, Dataset, (x, y), list of batches
        With targets; of a bundle, its test half.
    batch_size : int
        The large batch whose throughput is measured (fewer where the data is smaller).
    rounds : int
        How often every variant has its turn; medians over them.
    metric, greater_is_better, loss_fn, batch_fn
        As for :func:`fastmnist.evaluate`: accuracy where the targets are classes, R² where they
        are other floats, unless said. Tables, plots, frames and JSON call it by its name.
    pixels, mean, std
        What uint8 pixels of the data stand for here, as for :func:`fastmnist.evaluate`. What a
        compiled model makes of uint8 rows by itself stays as it was compiled.
    name : str, optional
        What the table calls the data; a bundle knows its own.

    Returns
    -------
    Report
        Modes of all modules are afterwards as they were.

    Raises
    ------
    TypeError, ValueError
        If there are no variants, one cannot be called, or the data is empty or has no targets.

    Examples
    --------
    >>> import fastmnist as fm, torch
    >>> model = fm.NeuralNetwork()
    >>> data = torch.rand(32, 1, 28, 28), torch.randint(0, 10, (32,))
    >>> report = fm.compare({"original": model, "fused": fm.fuse(model)}, data, rounds=2)
    >>> [row.name for row in report]
    ['original', 'fused']
    """
    _check(variants, batch_size, rounds)
    chosen = metric_of(metric, greater_is_better)
    told, first = explicit_pixels(mean, std, pixels), next(iter(variants.values()))
    meaning = meaning_of(data, *variants.values(), given=told)
    floats = _all_rows(data, batch_fn, meaning.pixels, first, raw=False)
    codes = (
        _all_rows(data, batch_fn, meaning.pixels, first, raw=True) if _holds_pixels(data) else None
    )
    _warn_of_other_readings(first, floats, Readings(meaning.is_told))
    entries = _entries(variants, codes is not None)
    results: list[Evaluation] = []
    for label, variant, kind in entries:
        given = codes if kind == "uint8" and codes else floats
        results.append(_evaluate(label, variant, given, chosen, loss_fn))
        chosen = chosen or metric_of(results[0].metric)  # one for all
    sources = [codes if rows == "uint8" and codes else floats for _, _, rows in entries]
    large = min(batch_size, floats.size)
    models = [variant for _, variant, _ in entries]
    with ExitStack() as modes, torch.inference_mode():
        for model in models:
            if isinstance(model, nn.Module):
                modes.enter_context(in_mode(model, training=False))
        single = time_interleaved(
            [_calls(m, s, 1, 32) for m, s in zip(models, sources, strict=True)],
            rounds=rounds,
            calls_per_round=32,
            what="batch 1",
        )
        batches = time_interleaved(
            [_calls(m, s, large, 2) for m, s in zip(models, sources, strict=True)],
            rounds=rounds,
            calls_per_round=2,
            what=f"batch {large:,}",
        )
    rows = [
        _row(entry, results[i], results[0], single[i], batches[i], large, i == 0)
        for i, entry in enumerate(entries)
    ]
    return Report(rows, _about(data, name, floats.size, large, results[0]))


def _check(variants: Any, batch_size: int, rounds: int) -> None:
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
    for what, value in (("batch_size", batch_size), ("rounds", rounds)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{what}: expected an integer of at least 1, got {value!r}")


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


def _slice(batch: Batch, start: int, stop: int) -> Batch:
    def part(value: Tensor) -> Tensor:
        return value[start:stop].contiguous()

    args = tuple(tree_map(part, a) for a in batch.args)
    kwargs = {k: tree_map(part, v) for k, v in batch.kwargs.items()}
    target = batch.target[start:stop] if batch.target is not None else None
    return Batch(args, kwargs, target, stop - start)


def _entries(variants: Mapping[str, Any], has_pixels: bool) -> list[tuple[str, Any, str]]:
    entries = []
    for name, variant in variants.items():
        if isinstance(variant, CompiledModel) and variant.takes_pixels and has_pixels:
            entries.append((f"{name} (float32 rows)", variant, "float32"))
            entries.append((f"{name} (uint8 rows)", variant, "uint8"))
        else:
            entries.append((name, variant, "float32"))
    return entries


def _evaluate(
    name: str, variant: Any, rows: Batch, metric: Metric | None, loss_fn: LossFn | None
) -> Evaluation:
    chunks = (_slice(rows, at, min(at + 1024, rows.size)) for at in range(0, rows.size, 1024))
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


def _calls(model: Any, rows: Batch, size: int, count: int) -> list[Call]:
    """Calls on different rows of the given batch size."""
    last = max(rows.size - size, 0)
    starts = np.linspace(0, last, min(count, last + 1)).astype(int)
    batches = [_slice(rows, int(s), int(s) + size) for s in starts]
    if len(rows.args) == 1 and not rows.kwargs:
        return [partial(model, batch.args[0]) for batch in batches]
    return [partial(model, *batch.args, **batch.kwargs) for batch in batches]


def _row(
    entry: tuple[str, Any, str],
    result: Evaluation,
    first: Evaluation,
    single: Timing,
    batches: Timing,
    large: int,
    is_first: bool,
) -> Row:
    name, variant, rows = entry
    return Row(
        name=name,
        rows=rows,
        score=float(result),
        difference=float(result) - float(first),
        p_value=None if is_first else _mcnemar(first.correct, result.correct),
        loss=result.loss,
        p50=single.p50,
        p99=single.p99,
        speedup=single.ratio,
        speedup_spread=0.0 if is_first else single.spread,
        throughput=large / batches.p50,
        memory=_memory(variant),
        disk=_disk(variant),
        layers_changed=len({c.layer for c in changes(variant) if c.kind not in NOT_CHANGED}),
        metric=result.metric,
    )


def _mcnemar(before: Tensor | None, after: Tensor | None) -> float | None:
    """The exact test (Q. McNemar, Psychometrika 12, 1947): do the two err on different rows?"""
    if before is None or after is None:
        return None
    from scipy.stats import binomtest

    lost = int((before & ~after).sum())
    won = int((after & ~before).sum())
    return 1.0 if lost + won == 0 else float(binomtest(lost, lost + won, 0.5).pvalue)


def _memory(variant: Any) -> int | None:
    """Bytes of weights and buffers, and of what layers keep that was made of them."""
    if isinstance(variant, CompiledModel):
        return variant.nbytes
    if not isinstance(variant, nn.Module):
        return None
    kept = [value for module in variant.modules() for value in _kept_by(module)]
    tensors = {t.data_ptr(): t for t in (*variant.parameters(), *variant.buffers(), *kept)}
    return sum(t.numel() * t.element_size() for t in tensors.values())


def _kept_by(module: nn.Module) -> Iterator[Tensor]:
    """Tensors among a module's plain attributes: masked weights, widened ones."""
    for value in vars(module).values():
        value = value.value if isinstance(value, Widened) else value
        for part in value if isinstance(value, tuple | list) else [value]:
            if isinstance(part, Tensor):
                yield part
            elif isinstance(part, nn.Module) and part is not module:
                yield from part.parameters()


def _disk(variant: Any) -> int | None:
    """Bytes of the file that ``save`` writes."""
    try:
        return size(variant)
    except (TypeError, ValueError):
        return None


def _kind_of(data: Any) -> str:
    """What the table calls data without a name."""
    plain = isinstance(data, tuple | list | Mapping | Iterator)
    return "data" if plain else type(data).__name__


def _about(data: Any, name: str | None, n: int, large: int, result: Evaluation) -> dict[str, Any]:
    info = cpu_info()
    return {
        "data": name or getattr(data, "name", None) or _kind_of(data),
        "n": n,
        "batch_size": large,
        "metric": result.metric,
        "greater_is_better": result.greater_is_better,
        "threads": num_threads(),
        "torch_threads": torch.get_num_threads(),
        "isa": info["isa"],
        "cpu": info["model"],
        "torch": str(torch.__version__),
        "python": platform.python_version(),
    }
