"""latency: what it calls, and what it says; no test here depends on a time."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from torch import nn

import fastmnist as fm
from fastmnist.measuring import latency as module
from fastmnist.measuring.latency import BatchLatency, Latency, Percentiles
from fastmnist.measuring.noise import Noise
from fastmnist.measuring.threads import threads_set
from fastmnist.testing import assert_latency
from fastmnist.testing.latencies import broken_limits

X = torch.rand(8, 12)


def test_every_kind_of_net_and_rows():
    model = nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 4)).train()
    net = fm.compile(model, X)
    for one, rows in ((model, X), (net, X), (net, X.numpy()), (net, X.double().numpy()),
                      (lambda x: None, X)):  # fmt: skip
        found = fm.latency(one, rows, batches=(1, 3), seconds=0.05)
        assert [batch.batch for batch in found] == [1, 3]
        for batch in found:
            for times in (batch.warm, batch.cold):
                assert times.calls >= 5
                assert 0 < times.p50 < 60
    assert all(part.training for part in model.modules())


def test_batches_are_rows_as_they_were_given():
    seen = []

    def net(x, y=None):
        assert type(x) is np.ndarray
        assert (x[:, 0] == y[:, 0]).all()
        seen.append((len(x), x.dtype, tuple(x[:2, 0])))

    rows = np.arange(6, dtype=np.uint8)[:, None]
    fm.latency(net, (rows, rows.astype(float)), batches=(2, 9), seconds=0.02)
    fm.latency(net, {"x": rows, "y": rows}, batches=(2,), seconds=0.02)
    assert {size for size, _, _ in seen} == {2, 9}
    assert {dtype for _, dtype, _ in seen} == {np.dtype(np.uint8)}
    assert {first for size, _, first in seen if size == 2} == {(i, i + 1) for i in range(5)}


def test_modes_gradients_and_threads():
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(12, 4))
    states = []

    def hook(*_):
        states.append(
            (model.training, torch.is_grad_enabled(), torch.get_num_threads(), fm.num_threads())
        )

    model.register_forward_hook(hook)
    before = torch.get_num_threads(), fm.num_threads()
    fm.latency(model, X, batches=(1,), threads=1, seconds=0.02)
    assert {*states} == {(False, False, 1, 1)}
    assert (torch.get_num_threads(), fm.num_threads()) == before
    assert model.training


@pytest.fixture
def own_threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
    fm.set_num_threads(0)


def test_threads_follow_again_what_they_followed(own_threads, monkeypatch):
    monkeypatch.delenv("FASTMNIST_NUM_THREADS", raising=False)
    torch.set_num_threads(2)
    fm.set_num_threads(0)
    with threads_set(1):
        assert (torch.get_num_threads(), fm.num_threads()) == (1, 1)
    assert (torch.get_num_threads(), fm.num_threads()) == (2, 2)
    torch.set_num_threads(1)
    assert fm.num_threads() == 1
    fm.set_num_threads(3)
    with pytest.raises(RuntimeError), threads_set(1):
        raise RuntimeError
    torch.set_num_threads(2)
    assert fm.num_threads() == 3


def test_an_error_of_the_net_is_its_own():
    def broken(x):
        raise RuntimeError("broken")

    before = torch.get_num_threads()
    with pytest.raises(RuntimeError, match="broken"):
        fm.latency(broken, X, threads=1)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"net": 3}, TypeError, "net: expected a model or a function, got int"),
        ({"net": nn.Linear}, TypeError, "net: expected a model"),
        ({"batches": 1}, TypeError, r"batches: expected batch sizes such as \(1, 32\), got 1"),
        ({"batches": ()}, TypeError, "batches"),
        ({"batches": (0,)}, ValueError, "batches: expected an integer of at least 1, got 0"),
        ({"threads": 0}, ValueError, "threads: expected"),
        ({"seconds": 0}, ValueError, "seconds: expected a number above 0, got 0"),
        ({"seconds": "1"}, ValueError, "seconds"),
        ({"rows": 3}, TypeError, "rows: expected a tensor or an array"),
        ({"rows": X[:0]}, TypeError, "rows: expected a tensor or an array of one row at least"),
        ({"rows": torch.tensor(1.0)}, TypeError, "rows"),
        ({"rows": ()}, ValueError, "rows"),
        ({"rows": (X, X[:3])}, ValueError, r"rows: expected as many rows in each.*\[3, 8\]"),
    ],
)
def test_bad_arguments(arguments, error, message):
    given = {"net": nn.Linear(12, 4), "rows": X, **arguments}
    with pytest.raises(error, match=message):
        fm.latency(given.pop("net"), given.pop("rows"), **given)


def made(**noise: float) -> Latency:
    warm = Percentiles.of(np.arange(1.0, 2001.0) * 1000)
    cold = Percentiles.of(np.arange(1.0, 51.0) * 1000)
    quiet = Noise(**{"cpu_share": 1.0, "unsteady": 0.01, **noise})
    about = {"threads": 1, "isa": "avx2"}
    return Latency([BatchLatency(1, warm, cold, quiet), BatchLatency(32, warm, warm, quiet)], about)


def test_percentiles_say_what_is_known():
    found = made().at(1)
    times = np.arange(1.0, 2001.0) * 1e-6
    assert found.warm.p50 == pytest.approx(np.median(times))
    assert found.warm.p999 == pytest.approx(np.percentile(times, 99.9))
    assert found.cold.p90 == pytest.approx(45.1e-6)
    assert math.isnan(found.cold.p99)
    assert math.isnan(found.cold.p999)
    with pytest.raises(KeyError, match="batch: expected one of 1, 32, got 7"):
        made().at(7)


def test_every_form(tmp_path):
    found = made()
    assert found.verdict == "quiet"
    for word in ("p99.9", "warm", "cold", "2,000", "the machine was quiet", "too few calls"):
        assert word in str(found)
    assert "noisy: this process had a CPU for 30%" in str(made(cpu_share=0.3))
    content = json.loads(found.to_json(tmp_path / "l.json"))
    assert json.loads((tmp_path / "l.json").read_text()) == content
    assert content["about"]["verdict"] == "quiet"
    assert content["batches"][0]["cold_p99"] is None
    assert content["batches"][1]["warm_calls"] == 2000
    assert found.to_frame().loc[32, "warm_p50"] == found[1].warm.p50
    assert "nowrap" in found._repr_html_()


def test_limits_that_are_kept_and_broken():
    assert_latency(nn.Linear(12, 4), X, p50_us=60e6, seconds=0.05)
    with pytest.raises(AssertionError, match=r"p50 of at most 0.0001 µs, got .* the machine was"):
        assert_latency(nn.Linear(12, 4), X, p50_us=1e-4, seconds=0.05, attempts=2)
    with pytest.raises(ValueError, match="expected a limit, such as p99_us=100, got none"):
        assert_latency(nn.Linear(12, 4), X)
    for wrong in (0, -1, "9", True, float("nan")):
        with pytest.raises(ValueError, match="p99_us: expected microseconds above 0"):
            assert_latency(nn.Linear(12, 4), X, p99_us=wrong)
    with pytest.raises(ValueError, match="attempts"):
        assert_latency(nn.Linear(12, 4), X, p99_us=1, attempts=0)
    times = {"p50": 5e-6, "p999": float("nan")}
    assert broken_limits(times, {"p50": 5.1}) == []
    assert "too few calls" in broken_limits(times, {"p999": 5})[0]


def test_a_noisy_machine_is_asked_again(monkeypatch):
    asked = []

    def measured(noise):
        def answer(*_):
            asked.append(1)
            return made(**noise)

        return answer

    monkeypatch.setattr(module, "latency", measured({"cpu_share": 0.2}))
    with pytest.raises(
        AssertionError, match=r"attempt 3 of 3; the machine was noisy: this process"
    ):
        assert_latency(None, None, p99_us=1)
    assert len(asked) == 3
    monkeypatch.setattr(module, "latency", measured({}))
    with pytest.raises(AssertionError, match=r"attempt 1 of 3; the machine was quiet"):
        assert_latency(None, None, p99_us=1)
    assert len(asked) == 4
    assert_latency(None, None, p99_us=5000, p50_us=5000)
