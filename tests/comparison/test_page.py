"""The report as one HTML file: all of it there, nothing loaded, nothing run that a name brings."""

from __future__ import annotations

import os
import re
from dataclasses import replace

import pytest
import torch
from pages import check_safe
from torch import nn

import fastmnist as fm
from fastmnist.comparison.rows import BatchTiming, Flip, Row
from fastmnist.rewriting.changes import Change

NAN = float("nan")
HOSTILE = [
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "\"'><b>&amp;",
    "\u202eleft to right",
    "a\x00b\ud800c",
    "{% raw %} ${x} `",
    "<!-- -->]]>",
    "",
]


def timing(batch=1, p50=1e-5, speedup=1.0):
    return BatchTiming(batch, p50, 2 * p50, 3 * p50, speedup, 0.05, batch / p50)


def row(name, **fields):
    fields = {
        "rows": "float32", "score": 0.97, "difference": 0.0, "p_value": None, "loss": None,
        "timings": (timing(), timing(32)), "memory": 1000, "disk": 2000, "layers_changed": 0,
    } | fields  # fmt: skip
    return Row(name=name, **fields)


ABOUT = {"data": "made up", "n": 1000, "metric": "accuracy", "greater_is_better": True}


def page_of(rows, folder, **about):
    path = fm.Report(rows, {**ABOUT, **about}).to_html(folder / "r.html")
    text = path.read_text(encoding="utf-8")
    assert path.stat().st_size < 1_000_000
    return check_safe(text), text


def cells_of(page):
    """Cells of the table of all variants: their attributes, by row."""
    rows, inside = [], False
    for name, attributes in page.tags:
        if name == "tr":
            inside = str(attributes.get("id", "")).startswith("variant-")
            rows += [[]] * 0 if not inside else [[]]
        elif inside and name == "td":
            rows[-1].append(attributes)
    return rows


@pytest.fixture(scope="module")
def report(trained, digits):
    pruned = fm.prune(trained, fm.L1Unstructured(0.93))
    variants = {"original": trained, "int8": fm.quantize(trained, fm.Static(digits.train)),
                "pruned 93 %": pruned, "function": lambda x: trained(x)}  # fmt: skip
    return fm.compare(variants, digits, rounds=2)


def test_all_of_a_report_is_there(report, tmp_path):
    path = report.to_html(str(tmp_path / "r.html"))
    page = check_safe(path.read_text(encoding="utf-8"))
    names = [name for name in page.texts["bdi"] if name in [row.name for row in report]]
    assert {*names} == {row.name for row in report}
    table = cells_of(page)
    assert len(table) == len(report)
    labels = [cell.get("data-label") for cell in table[0]]
    for label in ("accuracy", "difference", "p50 µs", "p99 µs", "speed-up", "file", "memory"):
        assert label in labels
    accuracy = labels.index("accuracy")
    assert [float(cells[accuracy]["data-v"]) for cells in table] == [row.score for row in report]
    file = labels.index("file")
    assert "data-v" not in table[3][file]  # a function has no file
    heads = [head for head in page.all("th") if "data-kind" in head]
    assert len(heads) == len(labels) + 1  # and the variant's name
    assert sum("aria-sort" in head for head in heads) == 1
    assert len(page.all("svg")) >= 2
    assert "Pareto front" in page.text
    assert "pruned: 93.0% of 75,264 weights are 0" in page.text
    assert f"{report[2].sqnr['linear1']:.1f}" in page.text
    pictures = page.all("img")
    assert len(pictures) == sum(min(row.flip_count, 24) for row in report) > 5
    assert all(picture["src"].startswith("data:image/png;base64,") for picture in pictures)
    assert all(picture["alt"] for picture in pictures)
    assert "prefers-color-scheme: dark" in page.texts["style"][0]
    assert report.about["cpu"] in page.text


def named(name, folder):
    """Give the page of a report that has a name wherever there is room for one."""
    rows = [
        row("first", recall=(0.9, 0.8)),
        row(
            name, recall=(0.8, NAN), losing=(0,), difference=-0.1, score=0.87, p_value=1e-4,
            changes=(Change(name, "pruned", 10, 5, name), Change("a", "left in float", why=name)),
            sqnr={name: 12.5}, flips=(Flip(0, 1, 1, 2, ((0, 255), (9, 9))),), flip_count=1,
        ),
    ]  # fmt: skip
    return page_of(rows, folder, **{"notes": [name], "cpu": name, f"k{name}": name, "data": name})


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_text(name, tmp_path):
    page, text = named(name, tmp_path)
    assert text.count("<script") == text.count("<style") == 1
    harmless, _ = named("x", tmp_path)
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in harmless.tags]
    assert name.replace("\x00", " ").replace("\ud800", "?") in page.text


def test_missing_values_are_dashes(tmp_path):
    rows = [
        row("a", timings=(), memory=None, disk=None, score=NAN, difference=NAN),
        row("b", timings=(replace(timing(), p90=NAN, p99=NAN),), memory=None, disk=None),
    ]
    page, _ = page_of(rows, tmp_path, n=None)
    assert "nan" not in page.text.lower()
    assert "none" not in page.text.lower().replace("none that", "")
    assert "–" in page.text
    first = cells_of(page)[0]
    assert "data-v" not in next(cell for cell in first if cell.get("data-label") == "accuracy")


@pytest.mark.parametrize("odd", [None, "two", -1.5, [1, "x"], {"a": 1}, True])
def test_odd_things_that_a_file_may_tell(odd, tmp_path):
    keys = ["n", "threads", "class_counts", "noise", "cpu", "isa", "data", "greater_is_better"]
    rows = [row("a", recall=(0.5, 0.5)), row("b", recall=(0.25, 0.5), score=0.9)]
    page, _ = page_of(rows, tmp_path, **dict.fromkeys(keys, odd))
    assert "2 variants" in page.text


def test_a_report_without_rows(tmp_path):
    page, _ = page_of([], tmp_path)
    assert "0 variants" in page.text


def test_regressions_have_no_classes(tmp_path):
    x = torch.randn(90, 12, generator=torch.Generator().manual_seed(0))
    model = nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 1)).eval()
    variants = {"a": model, "q": fm.quantize(model, fm.Static(x))}
    report = fm.compare(variants, (x, x[:, :1]), rounds=1, metric="mae")
    page = check_safe(report.to_html(tmp_path / "r.html").read_text(encoding="utf-8"))
    assert "mae" in page.text
    assert "less is better" in page.text.lower()
    assert "accuracy" not in page.text.lower()
    assert "classes" not in page.text.lower()


def test_a_metric_without_a_direction_has_no_front(tmp_path):
    rows = [row("a", metric="worst"), row("b", metric="worst", score=0.5, difference=-0.47)]
    page, _ = page_of(rows, tmp_path, metric="worst", greater_is_better=None)
    assert "No front" in page.text
    assert not [path for path in page.all("path") if path.get("class") == "front"]


def test_however_much_there_is_it_stays_below_a_megabyte(tmp_path):
    side = tuple(tuple((7 * i * j + i) % 256 for i in range(32)) for j in range(32))
    flips = tuple(Flip(i, 1, 2, 3, side) for i in range(24))
    long = "'" * 5000
    rows = [
        row(
            f"{long}{i}", disk=1000 + i, score=0.9 + i / 10_000, flips=flips, flip_count=5000,
            changes=tuple(Change(f"{k}{long}", "pruned", 10, 5, long) for k in range(200)),
            sqnr={f"{k}{long}": 3.0 for k in range(200)}, recall=(0.5,) * 1000,
            timings=tuple(timing(2**k, 1e-5 * (1 + i)) for k in range(12)),
        )
        for i in range(300)
    ]  # fmt: skip
    rows[0] = replace(rows[0], recall=(0.6,) * 1000)
    page, _ = page_of(rows, tmp_path, notes=[long] * 100, cpu=long, data=long)
    assert "Left out: 200 variants more" in page.text
    assert re.search(r"Left out: \d+ panels more", page.text)
    assert "Left out: 4,976 more inputs" in page.text
    assert "Left out: 150 more layers" in page.text
    assert "Left out: 992 classes" in page.text
    assert len(cells_of(page)) == 100
    assert len(page.all("img")) < 24 * 100


def test_paths_that_cannot_be_written(report, tmp_path):
    with pytest.raises(TypeError, match="path: expected a str or a path, got int"):
        report.to_html(3)
    with pytest.raises(OSError, match="cannot write"):
        report.to_html(tmp_path / "no" / "such" / "folder.html")
    with pytest.raises(OSError, match="cannot write"):
        report.to_html(tmp_path)
    assert os.listdir(tmp_path) == []
