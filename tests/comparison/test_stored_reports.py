"""Reports as JSON: the same figures when read back, and one clear error for anything else."""

from __future__ import annotations

import copy
import json
import math

import pytest
import torch
from torch import nn

import fastmnist as fm
from fastmnist.comparison.rows import BatchTiming, Row
from fastmnist.rewriting.changes import Change


@pytest.fixture(scope="module")
def report(digits):
    torch.manual_seed(0)
    model = fm.NeuralNetwork().eval()
    q = fm.quantize(model, fm.Static(calibration=digits.train, weight_bits=2, check=None))
    return fm.compare({"original": model, "int8": q, "f": lambda x: model(x)}, digits, rounds=2)


def test_everything_comes_back(report, tmp_path):
    again = fm.Report.from_json(report.to_json(tmp_path / "r.json"))
    assert again == report == fm.Report.from_json(tmp_path / "r.json")
    assert fm.Report.from_json(str(tmp_path / "r.json")) == report
    assert [*again] == [*report]
    assert again.about == report.about
    row = again["int8"]
    assert row.timings == report["int8"].timings
    assert row.changes == report["int8"].changes
    assert all(isinstance(change, Change) for change in row.changes)
    assert row.sqnr == report["int8"].sqnr != {}
    assert row.flips == report["int8"].flips
    assert row.flips[0].pixels == report["int8"].flips[0].pixels
    assert row.recall == report["int8"].recall
    assert row.correct == report["int8"].correct
    assert str(again) == str(report)
    assert again.metrics() == report.metrics()


def test_what_is_no_number_is_null_and_equal(report):
    timing = BatchTiming(1, 1e-6, math.nan, math.inf, 1.0, 0.0, 1e6)
    row = Row(
        "a", "float32", math.nan, math.nan, None, None, (timing,), None, None, 0, metric="mse"
    )
    made = fm.Report([row], {"metric": "mse", "n": 3})
    text = made.to_json()
    json.loads(text, parse_constant=lambda name: pytest.fail(name))
    again = fm.Report.from_json(text)
    assert again == made
    assert math.isnan(again[0].score)
    assert math.isnan(again[0].p99)
    assert "–" in str(again)
    assert made != report
    assert made != "a"


OLD = {
    "about": {
        "data": "mnist", "n": 10000, "batch_size": 1024, "metric": "accuracy", "threads": 1,
        "isa": "avx2",
    },
    "rows": [
        {
            "name": "original", "rows": "float32", "accuracy": 0.97, "difference": 0.0,
            "p_value": None, "loss": 0.1, "p50": 4e-5, "p99": 1e-4, "speedup": 1.0,
            "speedup_spread": 0.0, "throughput": 512000.0, "memory": 411048, "disk": 412276,
            "layers_changed": 0,
        },
        {"name": "int8", "accuracy": None, "disk": None},
    ],
}  # fmt: skip


def test_files_without_a_version_are_read():
    report = fm.Report.from_json(json.dumps(OLD))
    first = report["original"]
    assert (first.accuracy, first.p50, first.p99, first.disk) == (0.97, 4e-5, 1e-4, 412276)
    assert [timing.batch for timing in first.timings] == [1, 1024]
    assert first.timings[1].p50 == 1024 / 512000
    assert first.throughput == 512000.0
    assert math.isnan(first.p90)
    assert math.isnan(report["int8"].score)
    assert report["int8"].timings == ()
    assert "mnist, n = 10,000" in str(report)
    assert report.to_markdown()
    assert fm.Report.from_json(report.to_json()) == report


def changed(record, path, value):
    record = copy.deepcopy(record)
    at = record
    for step in path[:-1]:
        at = at[step]
    if value is KeyError:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return json.dumps(record)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("format",), "fastmnist model", "field 'format': expected 'fastmnist report'"),
        (("version",), 2, "field 'version': expected at most 1, got 2: a later fastmnist"),
        (("version",), "1", "field 'version'"),
        (("version",), True, "field 'version'"),
        (("about",), [], "field 'about': expected a record"),
        (("about",), KeyError, "field 'about': expected a record, got null"),
        (("about", "metric"), None, "field 'metric'"),
        (("about", "n"), -1, "field 'n': expected no negative number"),
        (("about", "n"), "many", "field 'n': expected an integer"),
        (("about", "cpu"), 3, "field 'cpu': expected words"),
        (("about", "notes"), [3], "field 'notes'"),
        (("about", "noise"), 3, "field 'noise'"),
        (("about", "greater_is_better"), "yes", "greater_is_better"),
        (("rows",), {}, "field 'rows': expected a list"),
        (("rows",), [], "expected at least one variant"),
        (("rows", 0), 3, "row 0: a row: expected a record, got 3"),
        (("rows", 1, "name"), None, "row 1: field 'name': expected words, got null"),
        (("rows", 1, "accuracy"), KeyError, "row 1: field 'accuracy'.*missing"),
        (("rows", 1, "accuracy"), "0.9", "row 1: field 'accuracy': expected a number or null"),
        (("rows", 1, "loss"), True, "row 1: field 'loss'"),
        (("rows", 1, "loss"), 10**400, "row 1: "),
        (("rows", 1, "disk"), 1.5, "row 1: field 'disk': expected an integer"),
        (("rows", 1, "memory"), -1, "row 1: field 'memory'"),
        (("rows", 1, "timings"), None, "row 1: field 'timings': expected a list, got null"),
        (("rows", 1, "timings", 0, "p99"), [], "row 1: field 'p99'"),
        (("rows", 1, "timings", 0, "batch"), "1", "row 1: field 'batch'"),
        (("rows", 1, "changes", 0), "fused", "row 1: "),
        (("rows", 1, "sqnr"), [], "row 1: field 'sqnr'"),
        (("rows", 1, "sqnr", "linear1"), "40 dB", "row 1: field 'linear1'"),
        (("rows", 1, "recall", 0), "all", "row 1: field 'recall'"),
        (("rows", 1, "recall"), [0.5] * 10_001, "expected at most 10,000 entries"),
        (("rows", 1, "losing"), [-1], "row 1: field 'losing'"),
        (("rows", 1, "correct"), "%%%", "row 1: field 'correct': expected base64"),
        (("rows", 1, "flips", 0, "pixels", "shape"), [1000, 1000], "field 'shape'"),
        (("rows", 1, "flips", 0, "pixels", "shape"), [28], "field 'shape'"),
        (("rows", 1, "flips", 0, "pixels", "data"), "AAAA", "field 'data': expected 784 bytes"),
        (("rows", 1, "flips", 0, "index"), 1.5, "field 'index'"),
    ],
)
def test_hostile_files(report, path, value, message):
    text = changed(json.loads(report.to_json()), path, value)
    with pytest.raises(ValueError, match=message) as error:
        fm.Report.from_json(text)
    assert str(error.value).startswith("report: expected one of fm.compare, got 'the text': ")
    assert len(str(error.value)) < 400


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"about": NaN}', "[" * 100_000, '{"a": 1e999}'])
def test_text_that_is_no_report(text):
    with pytest.raises(ValueError, match=r"report: expected one of fm\.compare"):
        fm.Report.from_json(text)


def test_files_that_are_none(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected a file that report\.to_json"):
        fm.Report.from_json(tmp_path / "none.json")
    with pytest.raises(FileNotFoundError):
        fm.Report.from_json(tmp_path)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="which is no text"):
        fm.Report.from_json(tmp_path / "binary")
    with open(tmp_path / "large", "wb") as file:
        file.truncate(65_000_000)
    with pytest.raises(ValueError, match="at most 64,000,000 bytes"):
        fm.Report.from_json(tmp_path / "large")
    with pytest.raises(TypeError, match="expected a path or JSON text, got int"):
        fm.Report.from_json(3)


def test_metrics_are_flat_numbers_with_plain_names(report):
    found = report.metrics()
    assert found["int8/accuracy"] == report["int8"].accuracy
    assert found["int8/p50_us_batch_1"] == report["int8"].p50 * 1e6
    assert found["int8/sqnr_db/linear1"] == report["int8"].sqnr["linear1"]
    assert found["f/flips"] == 0
    assert "f/disk_bytes" not in found
    assert all(isinstance(value, float) and math.isfinite(value) for value in found.values())
    x, y = torch.randn(8, 4), torch.randint(0, 3, (8,))
    odd = {"a b/c:50 %": nn.Linear(4, 3), "a b_c_50 %": nn.Linear(4, 3), "é": nn.Linear(4, 3)}
    found = fm.compare(odd, (x, y), rounds=1).metrics()
    names = {name.split("/")[0] for name in found}
    assert names == {"a b_c_50 percent", "a b_c_50 percent_2", "_"}
    allowed = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-. /")
    assert all(set(name) <= allowed for name in found)
