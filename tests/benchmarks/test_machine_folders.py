"""Where results go: a folder per machine and cap, and never into another's."""

from __future__ import annotations

import json
import sys

import pytest

import fastmnist as fm
from benchmarks.command import Benchmark
from benchmarks.machine import folders, machine, save, slug, title
from benchmarks.masking.processes import TOLD

XEON = {"cpu": "Intel(R) Xeon(R) Processor", "isa": "amx_int8", "capped": {}}
CAPPED = {
    "cpu": "Intel(R) Xeon(R) Processor",
    "isa": "avx2",
    "native": "amx_int8",
    "capped": {"as": "avx2", "by": "CPUID"},
}


@pytest.mark.parametrize(
    ("about", "expected"),
    [
        (XEON, "intel-xeon-amx"),
        (CAPPED, "intel-xeon-amx-as-avx2"),
        (
            {"cpu": "AMD Ryzen 7 5800X 8-Core Processor", "isa": "avx2", "native": "avx2"},
            "amd-ryzen-7-5800x-avx2",
        ),
        (
            {"cpu": "Intel(R) Core(TM) i7-1185G7 CPU @ 3.00GHz", "isa": "avx512_vnni"},
            "intel-core-i7-1185g7-avx512-vnni",
        ),
        ({"cpu": "", "isa": "scalar"}, "unknown-scalar"),
        ({"cpu": "../../etc", "isa": "scalar"}, "etc-scalar"),
    ],
)
def test_slugs(about, expected):
    assert slug(about) == expected


def test_a_capped_run_leaves_the_machines_own_alone(tmp_path):
    first = save({"about": XEON, "value": 1}, "dense", tmp_path)
    second = save({"about": CAPPED, "value": 2}, "dense", tmp_path)
    assert json.loads(first.read_text())["value"] == 1
    assert json.loads(second.read_text())["value"] == 2
    assert [path.name for path in folders(tmp_path)] == ["intel-xeon-amx", "intel-xeon-amx-as-avx2"]
    assert save({"about": XEON, "value": 3}, "dense", tmp_path) == first


def test_a_report_says_where_it_was_measured(monkeypatch):
    monkeypatch.delenv("FASTMNIST_ISA", raising=False)
    monkeypatch.delenv(TOLD, raising=False)
    about = machine()
    assert about["cpu"] == fm.cpu_info()["model"]
    assert about["isa"] == about["native"] == fm.cpu_info()["isa"]
    assert about["capped"] == {}
    told = {"as": "avx2", "by": "CPUID", "native": "amx_int8"}
    monkeypatch.setenv(TOLD, json.dumps(told))
    about = machine()
    assert about["native"] == "amx_int8"
    assert about["capped"] == {"as": "avx2", "by": "CPUID"}
    assert slug(about).endswith("-amx-as-avx2")
    assert "run as a CPU with avx2 at best" in title(about)


@pytest.mark.parametrize("part", [["--only", "digits"], ["--quick"]])
def test_parts_of_a_run_are_not_kept(monkeypatch, capsys, part):
    benchmark = Benchmark("dense", "", "dense")
    benchmark.parser.add_argument("--only")
    benchmark.partial += ("only",)
    monkeypatch.setattr(sys, "argv", ["dense", *part, "--save"])
    with pytest.raises(SystemExit):
        benchmark.main(lambda options: pytest.fail("measured"), lambda report: [])
    assert f"expected no {part[0]}" in capsys.readouterr().err


def test_the_report_is_written_where_it_is_wanted(monkeypatch, tmp_path):
    path = tmp_path / "report.json"
    monkeypatch.setattr(sys, "argv", ["dense", "--quick", "--json", str(path)])
    benchmark = Benchmark("dense", "", "dense")
    assert benchmark.main(lambda options: {"about": {"n": 7}, "value": 1}, lambda report: []) == 0
    report = json.loads(path.read_text())
    assert report["value"] == 1
    assert report["about"]["n"] == 7
    assert report["about"]["quick"] is True
    assert {"cpu", "isa", "native", "capped", "versions"} <= set(report["about"])
