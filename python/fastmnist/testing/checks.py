"""The checks: each compares a variant with a reference on data, and reports by how much it fails.

Variants are modules, compiled models or functions. torch and the rest of fastmnist are imported
when a check runs, so that the pytest plugin costs nothing where it is not used.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

from fastmnist.testing.limits import (
    AGREEMENT,
    DROP,
    FASTER,
    OUTPUTS_R2,
    SMALLER,
    SQNR_DB,
    Limit,
    limit_for,
)


def assert_accuracy_drop(
    variant: Any,
    reference: Any,
    data: Any,
    *,
    max: Limit = DROP,
    metric: Any = None,
    greater_is_better: bool | None = None,
    batch_fn: Any = None,
) -> None:
    """Check that `variant` is at most `max` points less accurate than `reference`.

    With another metric, check that it is at most `max` worse. Regression targets use R².

    Parameters
    ----------
    variant, reference : nn.Module, CompiledModel or callable
    data : Data, Split, DataLoader, Dataset, (x, y), list of batches
        With targets; for a bundle, its test half.
    max : float, or dict of metric to float
        Points of accuracy (default: 0.5, as from 97.7 % to 97.2 %); another metric in its own unit
        (default for ``r2``, ``f1``, ``auc``: 0.005; required for others).
    metric, greater_is_better, batch_fn
        As for :func:`fastmnist.evaluate`; for your own function, give the direction.

    Raises
    ------
    AssertionError
        With both values and n.
    TypeError, ValueError
        If the metric is invalid, or has no direction or no limit.

    Examples
    --------
    >>> import fastmnist as fm
    >>> data, model = fm.load_dataset("digits"), fm.NeuralNetwork()
    >>> assert_accuracy_drop(fm.fuse(model), model, data, max=0.1)
    """
    __tracebackhide__ = True
    from fastmnist.data.batches import check_repeatable
    from fastmnist.measuring.evaluation import evaluate
    from fastmnist.measuring.metrics import directed_metric, metric_of, unit_of

    chosen = directed_metric(metric, greater_is_better, "assert_accuracy_drop")
    check_repeatable(data, "data", "for both")
    before = evaluate(reference, data, metric=chosen, batch_fn=batch_fn)
    used = chosen or metric_of(before.metric)
    assert used is not None
    most = limit_for(used.name, max, "max")
    after = evaluate(variant, data, metric=used, batch_fn=batch_fn)
    drop, unit = used.loss_of(before, after), unit_of(used.name)
    if not drop <= most + 1e-12:
        by = " points" if unit == 100 else ""
        way = "drop" if used.greater_is_better else "rise"
        raise AssertionError(
            f"{used.name}: expected a {way} of at most {most:g}{by}, got {drop:.3g}: "
            f"{float(before) * unit:.4g} before, {float(after) * unit:.4g} after, n = {after.n}"
        )


def assert_agreement(
    variant: Any, reference: Any, data: Any, *, min: float = AGREEMENT, batch_fn: Any = None
) -> None:
    """Check that both predict the same class for at least the share `min` of the rows.

    Parameters
    ----------
    variant, reference, data, batch_fn
        As for :func:`assert_accuracy_drop`; no targets needed. Up to 10,000 rows are used.
    min : float
        Share, 0 to 1.

    Raises
    ------
    AssertionError
        With the share and n; also if outputs are not classes: for a regression, use
        :func:`assert_r2` and :func:`assert_max_error`.

    Examples
    --------
    >>> import fastmnist as fm, torch
    >>> model = fm.NeuralNetwork()
    >>> assert_agreement(fm.fuse(model), model, torch.rand(64, 1, 28, 28), min=0.99)
    """
    __tracebackhide__ = True
    y, expected = _outputs(variant, reference, data, 10_000, batch_fn)
    once = isinstance(data, Iterator)
    if _is_one(y) or (not once and is_regression(reference, data, batch_fn)):
        raise AssertionError(
            f"agreement: expected outputs [N, classes], got a regression's, {[*y.shape]}: use "
            "assert_r2 and assert_max_error (in the suite, the limits r2 and max_error)"
        )
    same = y.argmax(-1) == expected.argmax(-1)
    share = float(same.double().mean())
    if not share >= min:
        raise AssertionError(
            f"agreement: expected at least {min:.4g}, got {share:.4g}: {int((~same).sum())} of "
            f"{same.numel()} rows get another class"
        )


def assert_r2(
    variant: Any, reference: Any, data: Any, *, min: float = OUTPUTS_R2, batch_fn: Any = None
) -> None:
    """Check, for a regression, the R² of the outputs against those of `reference`.

    R² is 1 if they are the same, and 0 if they predict no better than the mean of the reference's
    outputs. For several outputs, it is averaged.

    Parameters
    ----------
    variant, reference, data, batch_fn
        As for :func:`assert_accuracy_drop`; no targets needed. Up to 2,048 rows are used.
    min : float

    Raises
    ------
    AssertionError
        With what it is.

    Examples
    --------
    >>> import fastmnist as fm, torch
    >>> model, x = torch.nn.Linear(8, 1), torch.randn(64, 8)
    >>> assert_r2(fm.quantize(model, fm.Static(x)), model, x, min=0.99)
    """
    __tracebackhide__ = True
    from fastmnist.measuring.metrics import R2

    y, expected = _outputs(variant, reference, data, 2048, batch_fn)
    got = R2(y, expected)
    if not got >= min:
        raise AssertionError(f"R²: expected outputs with at least {min:g}, got {got:.4g}")


def assert_max_error(
    variant: Any, reference: Any, data: Any, *, max: float, batch_fn: Any = None
) -> None:
    """Check, for a regression, that no output differs from that of `reference` by more than `max`.

    Parameters
    ----------
    variant, reference, data, batch_fn
        As for :func:`assert_accuracy_drop`; no targets needed. Up to 10,000 rows are used.
    max : float
        In the unit of the outputs.

    Raises
    ------
    AssertionError
        With the largest error and its row.

    Examples
    --------
    >>> import fastmnist as fm, torch
    >>> model, x = torch.nn.Linear(8, 1), torch.randn(64, 8)
    >>> assert_max_error(fm.quantize(model, fm.Static(x)), model, x, max=0.1)
    """
    __tracebackhide__ = True
    y, expected = _outputs(variant, reference, data, 10_000, batch_fn)
    off = (y - expected).abs().nan_to_num(nan=float("inf")).flatten(1 if y.dim() > 1 else 0)
    worst = float(off.max())
    if not worst <= max:
        rows = off.max(1).values if off.dim() > 1 else off
        raise AssertionError(
            f"max_error: expected outputs within {max:g}, got one {worst:.4g} off, in row "
            f"{int(rows.argmax())} of {len(rows)}"
        )


def assert_sqnr(
    variant: Any, reference: Any, data: Any, *, min_db: float = SQNR_DB, batch_fn: Any = None
) -> None:
    """Check the signal-to-quantization-noise ratio of the outputs, in dB.

    ``10 log10(Σ reference² / Σ (reference - variant)²)`` over all outputs.

    Parameters
    ----------
    variant, reference, data, batch_fn
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

    y, expected = _outputs(variant, reference, data, 2048, batch_fn)
    got = sqnr(expected, y)
    if not got >= min_db:
        raise AssertionError(f"SQNR: expected at least {min_db:g} dB, got {got:.1f} dB")


def assert_smaller(variant: Any, reference: Any, *, ratio: float = SMALLER) -> None:
    """Check that the file of `variant` is at least `ratio` times smaller.

    Parameters
    ----------
    variant, reference : nn.Module or CompiledModel
        What :func:`fastmnist.save` takes; or the size of a file in bytes, as an int.
    ratio : float
        3.5 means at least 3.5 times smaller. Default: 0.99, no larger except for a few bytes.

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
    ratio: float = FASTER,
    batch_size: int = 1,
    rounds: int = 25,
    batch_fn: Any = None,
) -> None:
    """Check that `variant` is at least `ratio` times faster, calls interleaved in this process.

    Times depend on the machine and on what else runs on it: use this on your own machine, not in a
    shared CI.

    Parameters
    ----------
    variant, reference, data, batch_fn
        As for :func:`assert_accuracy_drop`; no targets needed.
    ratio : float
        Compared with the median, over rounds, of the ratio of their times within a round.
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

    batches = iter_batches(
        data, split="test", batch_size=batch_size, batch_fn=batch_fn, model=reference
    )
    batch = next(batches)
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


def assert_bit_equal(variant: Any, reference: Any, data: Any, *, batch_fn: Any = None) -> None:
    """Check that the outputs are the same, bit for bit.

    Parameters
    ----------
    variant, reference, data, batch_fn
        As for :func:`assert_accuracy_drop`; no targets needed. Up to 2,048 rows are used.

    Raises
    ------
    AssertionError
        With the number of outputs that differ, and by how much.

    Examples
    --------
    >>> import fastmnist as fm, torch
    >>> q = fm.quantize(fm.NeuralNetwork(), fm.Dynamic())
    >>> assert_bit_equal(fm.compile(q), q, torch.rand(64, 1, 28, 28))
    """
    __tracebackhide__ = True
    import torch

    y, expected = _outputs(variant, reference, data, 2048, batch_fn)
    if y.shape != expected.shape:
        raise AssertionError(f"bits: expected shape {[*expected.shape]}, got {[*y.shape]}")
    differ = y.contiguous().view(torch.int32) != expected.contiguous().view(torch.int32)
    if bool(differ.any()):
        off = float((y - expected).abs().nan_to_num(nan=float("inf")).max())
        raise AssertionError(
            f"bits: expected the same, got {int(differ.sum())} of {differ.numel()} outputs that "
            f"differ, by up to {off:.3g}"
        )


def _bytes_of(model: Any) -> int:
    if isinstance(model, int) and not isinstance(model, bool):
        return model
    from fastmnist.saving.save_load import size

    return size(model)


def is_regression(reference: Any, data: Any, batch_fn: Any = None) -> bool:
    """Return whether outputs are numbers, not classes: by the targets, or if there is only one."""
    import torch

    from fastmnist.data.batches import iter_batches
    from fastmnist.measuring.scoring import hits
    from fastmnist.measuring.sqnr import outputs_of

    rows = iter_batches(
        data, split="test", batch_size=64, max_samples=64, batch_fn=batch_fn, model=reference
    )
    target = next(rows).target
    (outputs,) = outputs_of([reference], data, 64, batch_fn)
    if _is_one(outputs) or not isinstance(target, torch.Tensor):
        return _is_one(outputs)
    is_class = hits(outputs[: len(target)], target[: len(outputs)], probabilities=True) is not None
    return target.is_floating_point() and not is_class


def _is_one(outputs: Any) -> bool:
    return outputs.dim() < 2 or int(outputs.shape[-1]) < 2


def _outputs(variant: Any, reference: Any, data: Any, most: int, batch_fn: Any) -> tuple[Any, Any]:
    from fastmnist.measuring.sqnr import outputs_of

    # The reference first: by its forward, several inputs become its arguments.
    expected, y = outputs_of([reference, variant], data, most, batch_fn)
    return y, expected
