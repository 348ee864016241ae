"""The check of a report against a stored one: how models are watched from release to release."""

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
    """Check a report against one that was stored: how models are watched from release to release.

    Every variant of the stored report must still be there, on as many rows, no worse by its metric
    and no larger. Times are not compared.

    Parameters
    ----------
    report : Report
        Of :func:`fastmnist.compare`.
    baseline : str or path
        What ``report.to_json(path)`` wrote, or ``fastmnist compare --json``; of any version.
    points : float, or dict of metric to float
        How much worse the metric may be: accuracy in points (0.1 unless said), another in its own
        unit (``r2``, ``f1``, ``auc``: 0.001; others unless said: a thousandth of what is stored).
    size : float
        By what factor a file may grow.

    Raises
    ------
    AssertionError
        Naming every variant that became worse.
    FileNotFoundError, ValueError
        If there is no such file, it is no report, or the metric has no direction.

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
