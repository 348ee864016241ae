"""What became better or worse between two reports, beyond noise.

Of each figure that both have, one question: is the difference more than chance? Where both reports
hold which rows of the same data were right, McNemar's test pairs them; else shares are compared as
those of two samples. Times count where CPU, instruction set and threads are the same, and beyond
the noise that was measured with both, and a quarter more: times of two sessions differ by more than
those of one. Bytes count as they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fastmnist.comparison.answers import mcnemar
from fastmnist.comparison.figures import kilobytes, p_value, scores
from fastmnist.comparison.rows import BatchTiming, Row
from fastmnist.display.figures import microseconds
from fastmnist.display.tables import Table, Tabled
from fastmnist.measuring.metrics import ACCURACY
from fastmnist.measuring.noise import FLOOR

if TYPE_CHECKING:
    from fastmnist.comparison.report import Report

_LEVEL = 0.01
_SAME_MACHINE = ("cpu", "isa", "threads", "torch_threads")
# A metric that has no test, as R² of a regression: what is more than rounding, relative.
_UNTESTED = 1e-3


@dataclass(frozen=True)
class Difference:
    """One figure that changed.

    Attributes
    ----------
    variant, what : str
        The variant, and the figure: the metric's name, ``"disk"``, ``"p50 at batch 1"``, …
    before, after : float or None
        In seconds, bytes, 0…1; None if the variant is missing on that side.
    why : str
        Why this is not chance.
    told : tuple of str
        Both values, formatted for a table.
    """

    variant: str
    what: str
    before: float | None
    after: float | None
    why: str
    told: tuple[str, str]


class ReportDiff(Tabled):
    """The result of :meth:`Report.diff`: true if there is any difference; prints as a table.

    Attributes
    ----------
    worse, better : list of Difference
    notes : list of str
        What was not compared, and why.
    """

    def __init__(
        self, worse: list[Difference], better: list[Difference], notes: list[str], title: str = ""
    ) -> None:
        self.worse, self.better, self.notes = worse, better, notes
        self._title = title or "two reports"

    def __bool__(self) -> bool:
        return bool(self.worse or self.better)

    def table(self) -> Table:
        """Return the printed table."""
        count = f"{len(self.worse)} worse, {len(self.better)} better"
        table = Table(
            f"{self._title}: {count if self else 'no difference beyond noise'}",
            ["variant", "what", "before", "after", "is", "why"],
        )
        for found, word in ((self.worse, "worse"), (self.better, "better")):
            for one in found:
                table.row(one.variant, one.what, *one.told, word, one.why)
        table.part("differences", {n: n for n in ("what", "before", "after", "is")})
        table.part("what tells that they are no chance", {"what": "what", "why": "why"})
        for note in self.notes:
            table.note(note)
        return table

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain dicts and lists."""

        def records(found: list[Difference]) -> list[dict[str, Any]]:
            return [
                {
                    "variant": one.variant,
                    "what": one.what,
                    "before": one.before,
                    "after": one.after,
                    "why": one.why,
                }
                for one in found
            ]

        return {
            "worse": records(self.worse),
            "better": records(self.better),
            "notes": [*self.notes],
        }


def diff_of(before: Report, after: Report) -> ReportDiff:
    """See :meth:`Report.diff`."""
    worse: list[Difference] = []
    better: list[Difference] = []
    notes = []
    old, new = ({row.name: row for row in report} for report in (before, after))
    for name in old:
        if name not in new:
            gone = Difference(name, "variant", None, None, "it is missing now", ("there", "gone"))
            worse.append(gone)
    added = [name for name in new if name not in old]
    if added:
        notes.append(f"new, so compared with nothing: {', '.join(added)}")
    judge = _judge_of(before, after, notes)
    others = [key for key in _SAME_MACHINE if before.about.get(key) != after.about.get(key)]
    unknown = any(before.about.get(key) is None for key in _SAME_MACHINE[:2])
    if others or unknown:
        told = [f"{key} {before.about.get(key)} and {after.about.get(key)}" for key in others]
        notes.append(f"times: not compared: {', '.join(told) or 'the CPU is not known'}")
    notes += _noisy(before, after)
    batches = [
        {timing.batch for row in report for timing in row.timings} for report in (before, after)
    ]
    if untimed := sorted(batches[0] - batches[1]):
        notes.append(f"times: not measured now at batch {', '.join(f'{n:,}' for n in untimed)}")
    for name, row in old.items():
        if name not in new:
            continue
        found = [judge(row, new[name]), *_sizes(row, new[name])]
        if not others and not unknown:
            found += _times(row, new[name], _unsteady(before) + _unsteady(after))
        for one in found:
            if one is not None:
                (worse if one[0] else better).append(one[1])
    data = after.about.get("data") or "data"
    return ReportDiff(worse, better, notes, f"{data}, n = {after.about.get('n', 'unknown')}")


Found = tuple[bool, Difference] | None  # whether it is worse


def _judge_of(before: Report, after: Report, notes: list[str]) -> Callable[[Row, Row], Found]:
    """How scores are compared, if at all."""
    metric, n = after.about["metric"], after.about.get("n")
    if before.about["metric"] != metric:
        notes.append(f"scores: not compared: {before.about['metric']} and {metric}")
        return lambda old, new: None
    counts = [report.about.get("n") for report in (before, after)]
    if metric == ACCURACY.name:
        first, second = (count if isinstance(count, int) else 0 for count in counts)
        if not first or not second:
            notes.append("accuracy: not compared: how many rows there were is not known")
            return lambda old, new: None
        same = before.about.get("targets"), after.about.get("targets")
        paired = same[0] is not None and same[0] == same[1] and first == second
        if not paired:
            notes.append("accuracy: not the same rows, so far as is known: two samples compared")
        return lambda old, new: _shares(old, new, first, second, paired)
    greater = after.about.get("greater_is_better")
    if greater is None:
        notes.append(f"{metric}: not compared: which direction is better was not said")
        return lambda old, new: None
    notes.append(f"{metric}: no test is known for it: from {_UNTESTED:.1%} on it counts")
    if any(before.about.get(key) != after.about.get(key) for key in ("data", "n")):
        notes.append(f"{metric}: not of the same rows, so far as is known")
    return lambda old, new: _values(old, new, metric, bool(greater), int(n or 0))


def _shares(old: Row, new: Row, n: int, m: int, paired: bool) -> Found:
    if not all(math.isfinite(row.score) for row in (old, new)):
        return _unknown_score(old, new, n)
    if old.score == new.score and old.correct == new.correct:
        return None
    p, test = None, ""
    if paired and old.correct is not None and new.correct is not None:
        flags = [_bits(row.correct or b"") for row in (old, new)]
        if len(flags[0]) == len(flags[1]):
            p, test = mcnemar(*flags), "McNemar"
    if p is None:
        p, test = _two_samples(old.score, n, new.score, m), "two samples"
    if p >= _LEVEL:
        return None
    told = scores(ACCURACY.name, [old.score, new.score], max(n, m))
    why = f"{test}: p {'= ' if p >= 0.001 else ''}{p_value(p)}"
    return new.score < old.score, _difference(new, ACCURACY.name, old.score, new.score, why, told)


def _unknown_score(old: Row, new: Row, n: int) -> Found:
    """A score that is no number any more is worse, one that is one again better."""
    known = [math.isfinite(row.score) for row in (old, new)]
    if known[0] == known[1]:
        return None
    told = [f"{row.score:.4g}" for row in (old, new)]
    return known[0], _difference(new, new.metric, old.score, new.score, "no number", told)


def _bits(packed: bytes) -> torch.Tensor:
    return torch.from_numpy(np.unpackbits(np.frombuffer(packed, np.uint8)).astype(bool))


def _two_samples(first: float, n: int, second: float, m: int) -> float:
    """Whether two shares differ: Fisher's exact test of the counts."""
    from scipy.stats import fisher_exact

    hits = round(first * n), round(second * m)
    table = [[hits[0], n - hits[0]], [hits[1], m - hits[1]]]
    return float(fisher_exact(table).pvalue)


def _values(old: Row, new: Row, metric: str, greater: bool, n: int) -> Found:
    if not all(math.isfinite(row.score) for row in (old, new)):
        return _unknown_score(old, new, n)
    change = new.score - old.score
    least = _UNTESTED * max(abs(old.score), abs(new.score))
    if abs(change) <= least:
        return None
    told = scores(metric, [old.score, new.score], n)
    why = f"{change:+.3g}, more than {_UNTESTED:.1%}"
    return (change < 0) == greater, _difference(new, metric, old.score, new.score, why, told)


def _sizes(old: Row, new: Row) -> list[Found]:
    found: list[Found] = []
    for what in ("disk", "memory"):
        before, after = getattr(old, what), getattr(new, what)
        if before is not None and after is not None and before != after:
            told = [kilobytes(before), kilobytes(after)]
            if told[0] == told[1]:
                told = [f"{before:,} B", f"{after:,} B"]
            one = _difference(new, what, before, after, f"{after - before:+,} bytes", told)
            found.append((after > before, one))
    return found


def _noisy(before: Report, after: Report) -> list[str]:
    """Notes on reports whose own times were rough."""
    verdicts = {
        when: report.about.get("noise", {}).get("verdict", "quiet")
        for when, report in (("before", before), ("after", after))
    }
    return [
        f"times {when} are rough ones: the machine was {verdict}"
        for when, verdict in verdicts.items()
        if verdict != "quiet"
    ]


def _unsteady(report: Report) -> float:
    """How far rounds were apart while it was measured."""
    value = report.about.get("noise", {}).get("unsteady", 0.0)
    known = isinstance(value, int | float) and math.isfinite(value)
    return float(value) / 2 if known else 0.0


def _times(old: Row, new: Row, unsteady: float) -> list[Found]:
    known = {timing.batch: timing for timing in new.timings}
    found: list[Found] = []
    for before in old.timings:
        after = known.get(before.batch)
        if after is None:
            continue
        ratio = before.p50 / after.p50 if after.p50 > 0 else math.nan
        noise = _noise(before) + _noise(after) + unsteady
        if not math.isfinite(ratio) or ratio <= 0 or max(ratio, 1 / ratio) - 1 <= noise:
            continue
        told = [f"{microseconds(timing.p50)} µs" for timing in (before, after)]
        why = f"{max(ratio, 1 / ratio):.2f} ×, noise up to {1 + noise:.2f}"
        what = f"p50 at batch {before.batch:,}"
        found.append((ratio < 1, _difference(new, what, before.p50, after.p50, why, told)))
    return found


def _noise(timing: BatchTiming) -> float:
    """Of a time by itself; the first variant's is not told, as a ratio to itself has none."""
    spread = timing.spread if math.isfinite(timing.spread) else 0.0
    return 1.25 * max(spread, FLOOR)


def _difference(
    row: Row, what: str, before: float, after: float, why: str, told: list[str]
) -> Difference:
    return Difference(row.name, what, before, after, why, (told[0], told[1]))
