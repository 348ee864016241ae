"""The table of a report: digits that agree and suffice, and no line too long."""

from __future__ import annotations

import io
import re

import pytest
import torch
from rich.console import Console
from torch import nn

import fastmnist as fm
from fastmnist.comparison.rows import BatchTiming, Row

ABOUT = {
    "data": "mnist", "n": 10_000, "metric": "accuracy", "greater_is_better": True, "threads": 1,
    "isa": "avx2", "results": "fresh", "rounds": 25, "rounds_timed": 25,
    "noise": {"cpu_share": 1.0, "unsteady": 0.02, "verdict": "quiet"},
}  # fmt: skip


def timing(microseconds: float, batch: int = 1, first: float = 38.35, spread: float = 0.05):
    seconds = microseconds * 1e-6
    ratio = first / microseconds
    return BatchTiming(batch, seconds, 2 * seconds, 3 * seconds, ratio, spread, batch / seconds)


def row(name: str, microseconds: float, score: float = 0.97, **more: object) -> Row:
    times = tuple(timing(microseconds * n, n, 38.35 * n) for n in (1, 32, 1024))
    fields = {"p_value": 0.5, "memory": 411_048, "disk": 412_276, "layers_changed": 3, **more}
    return Row(name, "float32", score, score - 0.97, loss=0.1, timings=times, **fields)


def report(*rows: Row, **about: object) -> fm.Report:
    return fm.Report([row("original", 38.35, p_value=None), *rows], {**ABOUT, **about})


def printed(shown: object, width: int) -> list[str]:
    stream = io.StringIO()
    Console(file=stream, width=width, color_system=None).print(shown)
    return stream.getvalue().splitlines()


NAMES = ("compiled float32 (float32 rows)", "static int8", "pruned 50 %")


@pytest.mark.parametrize("width", [80, 100, 120, 200, 400])
def test_it_fits(width):
    made = report(*(row(name, 0.5 + 777 * i, 0.96) for i, name in enumerate(NAMES)))
    lines = printed(made, width)
    assert max(map(len, lines)) <= width
    text = " ".join(" ".join(lines).split())
    for word in ("p50 µs", "p90 µs", "p99 µs", "speed-up", "rows/s", "memory", "disk"):
        assert word in text
    for name in NAMES:
        assert sum(line.strip("│ ").startswith(name) for line in lines) >= 1
    # What answers "which one?" is in one table, however narrow.
    glance = next(line for line in lines if "accuracy" in line)
    assert [word in glance for word in ("p50 µs", "speed-up", "disk")] == [True] * 3


def test_a_speed_up_is_the_ratio_of_the_times_shown():
    """To the last digit, as somebody with a calculator would find it."""
    made = report(*(row(f"v{i}", 0.731 * 1.7**i) for i in range(12)))
    table = made.table()
    for at in ("", " at 32", " at 1,024"):
        p50, ratio = (table.columns.index(name + at) for name in ("p50 µs", "speed-up"))
        times = [float(cells[p50].replace(",", "")) for cells in table.rows]
        for time, cells in zip(times, table.rows, strict=True):
            if "×" in cells[ratio]:
                told = float(cells[ratio].removesuffix(" ×").replace(",", ""))
                assert told == float(f"{times[0] / time:.3g}") or told == round(times[0] / time, 2)
            else:
                assert cells[ratio] in ("–", "≈ 1")
                assert abs(times[0] / time - 1) < 0.06


def test_no_difference_and_never_nothing():
    made = report(row("same", 38.0), row("slow", 38.35 * 5000), row("fast", 38.35 / 500))
    cells = [cells[made.table().columns.index("speed-up")] for cells in made.table().rows]
    assert cells == ["–", "≈ 1", "0.0002 ×", "498 ×"]


def test_notes_say_what_they_must():
    made = report(row("int8", 20.0))
    text = str(made)
    assert "among the other variants" in text
    assert "results are fresh ones, not out=" in text
    assert "rough" not in text
    alone = fm.Report(made.rows[:1], made.about)
    assert "alone, caches warm" in str(alone)
    noisy = report(noise={"verdict": "noisy: other programs interrupted it 99 times a second"})
    assert "times are rough ones: the machine was noisy: other programs" in str(noisy)
    assert "the time ran out after 3 of 25 rounds" in str(report(rounds_timed=3))


def test_losing_classes_are_named_and_few():
    recall = tuple(0.99 for _ in range(1000))
    first = row("original", 38.35, recall=recall)
    recall = tuple(0.9 - 0.0001 * i for i in range(1000))
    worse = row("worse", 20.0, recall=recall, losing=tuple(range(900)))
    text = str(fm.Report([first, worse], ABOUT))
    assert "'worse' loses in classes 899 (99.0% to 81.0%), 898 (99.0% to 81.0%)" in text
    assert "896 more" in text
    assert len(text) < 5000


def test_digits_of_other_metrics():
    def of(*values: float, name: str = "r2") -> list[str]:
        rows = [row(f"v{i}", 10.0, value, metric=name) for i, value in enumerate(values)]
        made = fm.Report(rows, ABOUT | {"metric": name})
        return [cells[2] for cells in made.table().rows]

    assert of(0.9484, 0.9479) == ["0.9484", "0.9479"]
    assert of(0.0484, name="mae") == ["0.0484"]
    assert of(0.99996, 0.99997) == ["0.99996", "0.99997"]
    assert of(1234.5, 1234.25) == ["1234.5", "1234.2"]
    made = [row("a", 1.0, 0.5, metric="r2", p_value=None)]
    table = fm.Report(made, ABOUT | {"metric": "r2"}).table()
    assert "p" not in table.columns
    assert table.columns[2] == "r2"


def test_a_title_is_a_name():
    x, y = torch.randn(40, 6), torch.randn(40, 1)
    found = fm.compare({"a": nn.Linear(6, 1)}, (x, y), metric=lambda o, t: (o - t).abs().max(),
                       rounds=1)  # fmt: skip
    assert "<lambda>" not in str(found) + found.to_markdown() + found._repr_html_()
    assert found.table().columns[2] == "metric"


def test_no_value_breaks_in_a_notebook():
    made = report(row("int8 of mine", 20.0))
    html = made._repr_html_()
    cells = re.findall(r"<t[hd] style=\"([^\"]*)\"", html)
    assert len(cells) == len(made.table().columns) * 3
    assert all("white-space:nowrap" in style for style in cells)
    assert "overflow-x:auto" in html


def test_layers_have_their_changes_and_decibels(digits):
    model = fm.NeuralNetwork()
    q = fm.quantize(model, fm.Static(digits.train))
    made = fm.compare({"original": model, "int8": q, "fused": fm.fuse(model)}, digits, rounds=1)
    rows = [dict(zip(made.layers().columns, cells, strict=True)) for cells in made.layers().rows]
    of_int8 = {r["layer"]: r for r in rows if r["variant"] == "int8"}
    assert "int8 static" in of_int8["linear1"]["change"]
    assert float(of_int8["linear1"]["SQNR dB"]) > 20
    fused = {r["layer"]: r["SQNR dB"] for r in rows if r["variant"] == "fused"}
    assert fused["linear1"] == "equal" or float(fused["linear1"]) > 80
