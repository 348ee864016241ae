"""How benchmarks spend their time, and turns taken in other processes; nothing here is timed."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from benchmarks.measure import QUICK, WARM_UP, Effort, measure, turns
from benchmarks.ours import LIBRARY, compiled
from benchmarks.peers import Case, FloatLayer, Network
from benchmarks.processes.workers import Worker, in_process, interleave, write_job
from benchmarks.steps import Steps
from benchmarks.targets_tables import Asked, tables
from benchmarks.workloads import Workload


@pytest.fixture
def workload() -> Workload:
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(8, 20)).astype(np.float32)
    layer = FloatLayer(weight, rng.normal(size=8).astype(np.float32), True)
    pixels = rng.integers(0, 256, (64, 20)).astype(np.uint8)
    return Workload(Network("small", (layer,), pixels, False, 1), pixels, (1,), "random")


def test_long_calls_get_few_turns():
    assert turns(10.0, 10, QUICK) == (QUICK.fewest_rounds, 1, 0)
    rounds, calls, warm_up = turns(1e-5, 10, QUICK)
    assert rounds == QUICK.rounds
    assert calls > 1
    assert warm_up == WARM_UP
    full = Effort(31, 12.0)
    assert turns(100.0, 10, full)[0] == full.fewest_rounds


def test_what_is_far_behind_is_left_out_and_named(workload, monkeypatch):
    def case(name: str, library: str) -> Case:
        return Case(name, library, "uint8", lambda p: lambda: workload.network.float_outputs(p))

    seconds = iter([1.0, 0.2, 0.3, 0.9])  # ours is never left out
    monkeypatch.setattr("benchmarks.measure.check", lambda *_: next(repeated))
    repeated = (s for s in seconds for _ in range(8))  # once for each of eight sets of rows
    cases = [case("own", LIBRARY), case("best", "A"), case("near", "B"), case("far", "C")]
    effort = Effort(1, 0.0, fewest_rounds=1, hopeless=3.0)
    results, failed = measure(workload, cases, 1, effort)
    assert [r["name"] for r in results] == ["own", "best", "near"]
    assert set(failed) == {"far"}
    assert "times as slow" in failed["far"]


def test_everybody_has_a_turn_in_every_round():
    taken = []
    names = ("a", "b", "c")
    calls = [[lambda name=name: taken.append(name)] for name in names]
    medians = interleave([in_process(own) for own in calls], rounds=2, warm_up=1, calls=2)
    assert [len(m) for m in medians] == [2, 2, 2]
    # One round of warming up; every turn is one call that is not timed and two that are.
    assert [taken.count(name) for name in names] == [9, 9, 9]
    assert all(set(taken[i : i + 9]) == set(names) for i in range(0, 27, 9))


@pytest.mark.slow
@pytest.mark.parametrize("kernels", ["dense", "planned"])
def test_a_worker_answers_as_this_process_does(workload, tmp_path, kernels):
    write_job(tmp_path / "job.npz", workload.network, workload.pixels)
    expected = compiled(workload.network)(workload.pixels)
    with Worker(tmp_path / "job.npz", kernels=kernels, copies=2) as worker:
        worker.check(expected)
        assert len(worker.turn(1, 1, 3)) == 3
        with pytest.raises(AssertionError, match="other answers"):
            worker.check(expected + 1)


@pytest.mark.slow
def test_a_worker_that_fails_is_reported(tmp_path):
    with pytest.raises(RuntimeError, match="a worker ended"):
        Worker(tmp_path / "missing.npz", kernels="dense")


def test_steps_say_a_line_each_where_no_bar_can_be_drawn(capsys):
    with Steps(2) as steps:
        for name in ("first", "second"):
            with steps.step(name):
                pass
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines] == ["[1/2] first", "[2/2] second"]
    assert not sys.stderr.isatty()


@pytest.mark.parametrize(
    ("measured", "verdict"),
    [(None, "not measured"), (0.99, "missed"), (1.0, "reached"), (1.19, "reached"), (1.2, "goal")],
)
def test_verdicts(measured, verdict):
    assert Asked(1.0, 1.2).verdict(measured) == verdict


def made_up_report(isa: str) -> dict[str, object]:
    best = {"name": "ONNX Runtime", "microseconds": 20.0, "faster": 2.0}
    own = {"microseconds": 10.0, "usual": best, "prepared": best}
    than_torch = dict.fromkeys(
        (
            "fastmnist module, static int8",
            "fastmnist module, dynamic int8",
            "fastmnist compiled, float32 rows",
        ),
        1.5,
    )
    batch = {"batch": 1024, "uint8": own, "float32": own, "than_torch": than_torch, "failed": {}}
    return {
        "about": {"cpu": "a CPU", "isa": isa, "threads": 1, "capped": {}},
        "missing": {},
        "networks": [{"name": "784-96-256-10", "data": "mnist", "batches": [batch]}],
        "baseline": "24f06f5" * 5,
        "sparse": [
            {
                "zeros": 0.5,
                "microseconds": {"planned": 5.0, "baseline": 5.5, "scipy": 4.0},
                "faster_than": {"baseline": 1.1, "scipy": 0.8},
            }
        ],
        "threads": [
            {
                "batch": 1024,
                "rows_per_second": {"one": 10.0, "threads": 18.0, "processes": 20.0},
                "share": 0.9,
            }
        ],
    }


def test_what_is_asked_stands_beside_what_is_measured():
    networks, zeros, modules, threads = tables(made_up_report("avx2"))
    assert networks.rows[0][2] == "1.25 × (goal 1.6) / 1.15 ×"
    assert networks.rows[0][3:5] == ["2.00 × / 2.00 ×", "goal / reached"]
    assert zeros.rows[0][1:6] == ["1.2 × (goal 1.3)", "1.10 ×", "missed", "0.80 ×", "missed"]
    assert "24f06f5" in zeros.title
    assert [row[2:] for row in modules.rows[:1]] == [["1.25 ×", "1.50 ×", "reached"]]
    assert threads.rows[0][-2:] == ["0.90", "missed"]


def test_other_sets_are_asked_for_nothing_that_avx2_is():
    for table in tables(made_up_report("amx_int8")):
        assert "goal" not in " ".join(cell for row in table.rows for cell in row)
