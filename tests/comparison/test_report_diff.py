"""What is better or worse between reports, on figures that are made up."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

import fastmnist as fm
from fastmnist.cli import main
from fastmnist.comparison.rows import BatchTiming, Row

ABOUT = {
    "data": "mnist", "n": 1000, "metric": "accuracy", "greater_is_better": True, "threads": 1,
    "torch_threads": 1, "isa": "avx2", "cpu": "A CPU", "targets": "ab12",
    "noise": {"cpu_share": 1.0, "unsteady": 0.02, "verdict": "quiet"},
}  # fmt: skip


def timing(microseconds: float, batch: int = 1) -> BatchTiming:
    seconds = microseconds * 1e-6
    return BatchTiming(batch, seconds, seconds, seconds, 1.0, 0.05, batch / seconds)


def row(name: str, right: np.ndarray, microseconds: float = 10.0, disk: int = 1000) -> Row:
    score, packed = float(right.mean()), np.packbits(right).tobytes()
    times = (timing(microseconds), timing(32 * microseconds, 32))
    return Row(name, "float32", score, 0.0, None, 0.1, times, 2000, disk, 0, correct=packed)


def report(*rows: Row, **about: object) -> fm.Report:
    return fm.Report(rows, {**ABOUT, **about})


RIGHT = np.arange(1000) >= 30


def flipped(count: int, to: bool) -> np.ndarray:
    right = RIGHT.copy()
    right[np.flatnonzero(right != to)[:count]] = to
    return right


def whats(found: list) -> list[tuple[str, str]]:
    return [(one.variant, one.what) for one in found]


def test_the_same_is_no_difference():
    same = report(row("a", RIGHT))
    found = same.diff(same)
    assert not found
    assert (found.worse, found.better, found.notes) == ([], [], [])
    assert "no difference beyond noise" in str(found)
    assert isinstance(found, fm.ReportDiff)


@pytest.mark.parametrize(("count", "differs"), [(0, False), (3, False), (12, True)])
def test_accuracy_is_paired_where_rows_are_the_same(count, differs):
    """12 of 1,000 rows: two samples of that size could not tell."""
    before, after = report(row("a", RIGHT)), report(row("a", flipped(count, False)))
    found, back = before.diff(after), after.diff(before)
    assert whats(found.worse) == whats(back.better) == [("a", "accuracy")] * differs
    assert found.better == back.worse == []
    if differs:
        assert "McNemar: p <0.001" in str(found)
        assert found.worse[0].told == ("97.00%", "95.80%")
    other = report(row("a", flipped(count, False)), targets="other rows")
    found = before.diff(other)
    assert not found.worse
    assert any("two samples" in note for note in found.notes)


def test_two_samples_that_differ():
    found = report(row("a", RIGHT)).diff(report(row("a", flipped(100, False)), targets=None))
    assert whats(found.worse) == [("a", "accuracy")]
    assert "two samples: p <0.001" in str(found)


def test_bytes_count_as_they_are():
    found = report(row("a", RIGHT)).diff(report(row("a", RIGHT, disk=999)))
    assert whats(found.better) == [("a", "disk")]
    assert found.better[0].why == "-1 bytes"
    assert found.better[0].told == ("1,000 B", "999 B")


@pytest.mark.parametrize(
    ("factor", "worse", "better"), [(1.15, 0, 0), (0.9, 0, 0), (1.5, 2, 0), (0.5, 0, 2)]
)
def test_times_beyond_the_noise_of_both(factor, worse, better):
    before, after = report(row("a", RIGHT)), report(row("a", RIGHT, 10 * factor))
    found = before.diff(after)
    assert [one.what for one in found.worse] == ["p50 at batch 1", "p50 at batch 32"][:worse]
    assert [one.what for one in found.better] == ["p50 at batch 1", "p50 at batch 32"][:better]


def test_a_noisy_report_tells_less():
    noisy = {"cpu_share": 0.5, "unsteady": 1.5, "verdict": "noisy"}
    after = report(row("a", RIGHT, 15.0), noise=noisy)
    found = report(row("a", RIGHT)).diff(after)
    assert not found
    assert found.notes == ["times after are rough ones: the machine was noisy"]


@pytest.mark.parametrize(
    "about", [{"cpu": "Another"}, {"isa": "scalar"}, {"threads": 2}, {"torch_threads": 2}]
)
def test_times_of_other_machines_are_not_compared(about):
    found = report(row("a", RIGHT)).diff(report(row("a", RIGHT, 100.0), **about))
    assert not found
    assert any(note.startswith("times: not compared: ") for note in found.notes)


def test_variants_that_came_and_went():
    found = report(row("a", RIGHT), row("b", RIGHT)).diff(report(row("a", RIGHT), row("c", RIGHT)))
    assert whats(found.worse) == [("b", "variant")]
    assert found.notes == ["new, so compared with nothing: c"]


def test_other_metrics_and_none():
    before = report(replace(row("a", RIGHT), score=0.95, metric="r2", correct=None), metric="r2")
    after = report(replace(row("a", RIGHT), score=0.94, metric="r2", correct=None), metric="r2")
    assert whats(before.diff(after).worse) == [("a", "r2")]
    assert whats(after.diff(before).better) == [("a", "r2")]
    near = report(replace(row("a", RIGHT), score=0.9495, metric="r2", correct=None), metric="r2")
    assert not before.diff(near)
    assert not any("rows" in note for note in before.diff(near).notes)
    elsewhere = fm.Report(near.rows, near.about | {"data": "other"})
    assert "r2: not of the same rows, so far as is known" in before.diff(elsewhere).notes
    unknown = {"metric": "r2", "greater_is_better": None}
    found = fm.Report(before.rows, ABOUT | unknown).diff(fm.Report(after.rows, ABOUT | unknown))
    assert not found
    assert any("which direction is better was not said" in note for note in found.notes)
    assert any(
        "not compared: r2 and accuracy" in n for n in before.diff(report(row("a", RIGHT))).notes
    )
    nan = report(replace(row("a", RIGHT), score=float("nan"), correct=None))
    assert whats(report(row("a", RIGHT)).diff(nan).worse) == [("a", "accuracy")]
    with pytest.raises(TypeError, match="other: expected a Report, got dict"):
        before.diff({})


def test_the_command_and_its_status(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    report(row("a", RIGHT)).to_json("a.json")
    report(row("a", flipped(50, False), disk=900)).to_json("b.json")
    assert main(["report", "diff", "a.json", "a.json"]) == 0
    assert "no difference beyond noise" in capsys.readouterr().out
    assert main(["report", "diff", "a.json", "b.json", "--json", "d.json"]) == 1
    out = capsys.readouterr().out
    assert "1 worse, 1 better" in out
    found = json.loads((tmp_path / "d.json").read_text())
    assert [one["what"] for one in found["worse"]] == ["accuracy"]
    assert [one["after"] for one in found["better"]] == [900]
    assert main(["report", "diff", "b.json", "a.json"]) == 1  # larger again
    for wrong in (["a.json", "none.json"], ["a.json", "d.json"], ["{}", "a.json"]):
        assert main(["report", "diff", *wrong]) == 2
        assert capsys.readouterr().err.startswith("fastmnist: error: report: ")
    assert main(["report", "diff", "a.json", "b.json", "--json", "no/where.json"]) == 2
    with pytest.raises(SystemExit) as stopped:
        main(["report"])
    assert stopped.value.code == 2


def test_a_table_for_narrow_terminals():
    import io

    from rich.console import Console

    stream = io.StringIO()
    found = report(row("a", RIGHT)).diff(report(row("a", flipped(50, False), 20.0)))
    Console(file=stream, width=60, color_system=None).print(found)
    assert max(map(len, stream.getvalue().splitlines())) <= 60
    assert "McNemar" in stream.getvalue()
