"""The report's two tables."""

from __future__ import annotations

from typing import Any

from benchmarks.compressing.comparisons import COMPARISONS
from benchmarks.compressing.records import RECORDS, Target
from fastmnist.display.tables import Table


def records_table(report: dict[str, Any]) -> Table:
    """What each file is worth, beside what was asked for and what others have published."""
    about = report["about"]
    made = Table(
        f"Smallest files: {about['data']}, n = {about['n']:,} test images",
        ["record", "file", "accuracy", "error", "asked", "goal", "published"],
    )
    for record in RECORDS:
        found = report["records"].get(record.name)
        if found is None:
            continue
        goals = " or ".join(_target(goal, found) for goal in record.goals)
        made.row(
            record.title,
            f"{found['size']:,} bytes",
            f"{found['accuracy']:.2%}",
            f"{1 - found['accuracy']:.2%}",
            _verdict([record.asked], found) + _target(record.asked, found),
            _verdict(record.goals, found) + goals,
            "; ".join(f"{p.source}: {p.accuracy:.2%}, {_kb(p.size)}" for p in record.published)
            or "–",
        )
    return made


def comparisons_table(report: dict[str, Any]) -> Table:
    """Each technique over all seeds: the mean, and the least and the most."""
    about = report["about"]
    made = Table(
        f"784-96-256-10, techniques: {about['data']}, n = {about['n']:,} test images",
        ["technique", "accuracy", "against", "accuracy", "points", "asked", "goal"],
    )
    for comparison in COMPARISONS:
        runs = report["comparisons"].get(comparison.key)
        if not runs:
            continue
        ours, against = ([run[side] for run in runs] for side in ("ours", "against"))
        points = 100 * (sum(ours) - sum(against)) / len(runs) + 1e-9
        made.row(
            comparison.name,
            _spread(ours),
            comparison.against,
            _spread(against),
            f"{points:+.2f}",
            f"{_mark(points >= comparison.asked)} {comparison.asked:+.1f}",
            f"{_mark(points >= comparison.goal)} {comparison.goal:+.1f}",
        )
    made.note(f"Mean of {about['seeds']} seeds, and the range")
    return made


def wanted(target: Target, found: dict[str, Any]) -> float:
    """The accuracy that a target asks for; the original's less 0.1 points where it says none."""
    return target.accuracy or float(found["original"]) - 0.001


def is_met(target: Target, found: dict[str, Any]) -> bool:
    """Whether a file is as small and as accurate as that."""
    enough = round(found["accuracy"], 6) >= round(wanted(target, found), 6)
    return enough and int(found["size"]) <= target.size


def _verdict(targets: Any, found: dict[str, Any]) -> str:
    return _mark(any(is_met(target, found) for target in targets)) + " "


def _mark(met: bool) -> str:
    return "✓" if met else "✗"


def _target(target: Target, found: dict[str, Any]) -> str:
    return f"{wanted(target, found):.2%}, {_kb(target.size)}"


def _kb(size: float) -> str:
    return f"{size / 1000:g} KB"


def _spread(values: list[float]) -> str:
    mean = sum(values) / len(values)
    if len(values) == 1:
        return f"{mean:.2%}"
    return f"{mean:.2%} ({min(values):.2%} to {max(values):.2%})"
