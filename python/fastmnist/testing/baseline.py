"""The check of a report against a stored one, to track models from release to release."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastmnist.testing.limits import DROP_SINCE, Limit

if TYPE_CHECKING:
    from fastmnist.comparison.report import Report


def assert_no_worse(
    report: Report,
    baseline: str | os.PathLike[str],
    *,
    points: Limit = DROP_SINCE,
    size: float = 1.02,
) -> None:
    """Check a report against a stored one, to track models from release to release.

    Every variant of the stored report must still exist, on as many rows, with a metric that is no
    worse and a file that is no larger. Times are not compared.

    Parameters
    ----------
    report : Report
        Returned by :func:`fastmnist.compare`.
    baseline : str or path
        Written by ``report.to_json(path)`` or ``fastmnist compare --json``, in any version.
    points : float, or dict of metric to float
        How much worse the metric may be: accuracy in points (default: 0.1), another metric in its
        own unit (default for ``r2``, ``f1``, ``auc``: 0.001; for others, a thousandth of the stored
        value).
    size : float
        Factor by which a file may grow.

    Raises
    ------
    AssertionError
        If variants became worse; it names all of them.
    FileNotFoundError, ValueError
        If the file does not exist or is not a report, or the metric has no direction.

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
    from fastmnist.measuring.metrics import Metric

    rows = {row.name: row for row in report}
    before = _stored(baseline)
    metric = Metric(report.about["metric"], _not_computed, report.about.get("greater_is_better"))
    worse = []
    known = before.about["metric"] == metric.name
    if not known:
        worse.append(f"the metric was {before.about['metric']}, is {metric.name}")
    if before.about.get("n") != report.about.get("n"):
        worse.append(f"n was {before.about.get('n')}, is {report.about.get('n')}")
    for old in before if known else ():
        name = old.name
        if name not in rows:
            worse.append(f"'{name}' is gone")
            continue
        lost = metric.loss_of(old.score, rows[name].score)
        most = _most(metric.name, points, old.score)
        if not lost <= most + 1e-12:
            worse.append(f"'{name}' lost {lost:.3g} of {metric.name} (at most {most:g})")
        disk = rows[name].disk
        if old.disk is not None and disk is not None and disk > size * old.disk:
            worse.append(f"'{name}' grew from {old.disk:,} to {disk:,} bytes")
    if worse:
        raise AssertionError(
            f"worse than {os.fspath(baseline)}: {'; '.join(worse)}. If that is meant, store the "
            "new report: report.to_json(path), or --update-baseline in the suite"
        )


def _stored(baseline: str | os.PathLike[str]) -> Report:
    from fastmnist.comparison.report import Report

    path = Path(baseline)
    if not path.is_file():
        raise FileNotFoundError(
            f"baseline: expected a stored report, got '{path}', which is no file: write it with "
            "report.to_json(path), or run the suite with --update-baseline"
        )
    try:
        return Report.from_json(path)
    except ValueError as error:
        raise ValueError(f"baseline: {str(error).removeprefix('report: ')}") from None


def _most(metric: str, points: Limit, stored: float) -> float:
    if isinstance(points, Mapping):
        return points.get(metric, abs(stored) / 1000)
    return points


def _not_computed(outputs: Any, targets: Any) -> float:
    raise NotImplementedError("the values are in the reports")
