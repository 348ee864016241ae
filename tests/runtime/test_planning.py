"""The planner: what it chooses changes no bit, is remembered, and can be told not to measure."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from plans import PIXELS, compiled, entries, model
from torch import nn

import fastmnist as fm
from fastmnist import _core
from fastmnist.runtime import planning
from fastmnist.runtime.compiled import CompiledModel
from fastmnist.runtime.measurements import SHARED
from fastmnist.runtime.packing import pack


def test_every_plan_gives_the_same_bits(isa: str) -> None:
    """Whatever kernels and blocks a plan names, for every number of rows and both row types."""
    network = compiled("fixed").network
    floats = PIXELS.astype(np.float32) / np.float32(255)
    expected = CompiledModel(network, "fixed")(PIXELS)
    kernels = _core.layer_kernels(pack(network), 0, 96)
    rng = np.random.default_rng(1)
    for block_rows in (32, 64, 96, 160, 1024):
        packed = pack(network)
        chosen = [
            [kernels[rng.integers(len(kernels))] for _ in planning.ROWS] for _ in network.layers
        ]
        _core.set_plan(packed, chosen, block_rows)
        assert _core.get_plan(packed) == (chosen, block_rows)
        net = _core.Model(packed)
        # Threads get shares of other classes than the whole.
        _core.set_num_threads(1 + block_rows % 3)
        for rows in (1, 2, 3, 5, 15, 16, 17, 31, 33, 64, 65, 97, 161, 700):
            assert (net(PIXELS[:rows]) == expected[:rows]).all()
            assert (net(floats[-rows:]) == expected[-rows:]).all()
    _core.set_num_threads(0)


def test_tiles_are_set_up_where_only_a_share_needs_them() -> None:
    """1,100 rows by row kernels, but what is left of a share after whole blocks by tiles."""
    kernels = _core.linear_kernels()
    tiles = [kernel for kernel in kernels if "amx" in kernel.isa]
    if not tiles:
        pytest.skip("this machine has no tiles")
    network = compiled("fixed").network
    rows = np.concatenate([PIXELS, PIXELS])[:1100]
    expected = CompiledModel(network, "fixed")(rows)
    packed = pack(network)
    chosen = [[*([tiles[0]] * 7), kernels[0]]] * 3
    for threads in (1, 2, 3):
        _core.set_num_threads(threads)
        for block_rows in (96, 1024):
            _core.set_plan(packed, chosen, block_rows)
            assert (_core.Model(packed)(rows) == expected).all()
    _core.set_num_threads(0)


def test_another_instruction_set_goes_by_the_rule() -> None:
    """A plan is made for one set; under another it is ignored, not misread."""
    packed = pack(compiled("fixed").network)
    ladder = [rung["isa"] for rung in fm.cpu_info()["ladder"] if not rung["why_not"]]
    _core.set_plan(packed, [[_core.linear_kernels()[-1]] * len(planning.ROWS)] * 3, 64)
    before = _core.set_isa(ladder[-1])
    try:
        kernels, _ = _core.get_plan(packed)
        assert {kernel.name for layer in kernels for kernel in layer} == {"scalar 1x1"}
    finally:
        _core.set_isa(before)


def test_a_kernel_is_a_record(isa: str) -> None:
    kernels = _core.linear_kernels()
    assert len({*kernels}) == len({kernel.name for kernel in kernels}) == len(kernels)
    for kernel in kernels:
        parts = [kernel.isa, kernel.loop, f"{kernel.rows}x{kernel.panels}", kernel.form]
        assert kernel.name == " ".join(part for part in parts if part not in ("", "dense"))
        assert kernel.is_sparse == (kernel.form not in ("dense", "bounded", "int16", "nibbles"))
        assert pickle.loads(pickle.dumps(kernel)) == kernel
    assert isa in {kernel.isa for kernel in kernels}


def test_fixed_measures_nothing(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = SHARED.added
    assert compiled("fixed").plan == "fixed"
    monkeypatch.setenv("FASTMNIST_PLAN", "fixed")
    net = compiled()
    assert net.plan == "fixed"
    assert pickle.loads(pickle.dumps(compiled("fixed"))).plan == "fixed"
    fm.quantize(model(90, 20, 5), fm.Dynamic())
    assert SHARED.added == before
    assert not memory.exists()


def test_unknown_plans_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"plan: expected 'measured' or 'fixed', got 'fast'"):
        compiled("fast")
    monkeypatch.setenv("FASTMNIST_PLAN", "quick")
    with pytest.raises(ValueError, match="FASTMNIST_PLAN: expected"):
        compiled()


def test_set_plan_refuses_what_does_not_fit() -> None:
    packed = pack(compiled("fixed").network)
    kernels = [[_core.linear_kernels()[0]] * len(planning.ROWS)] * 3
    for bad, block_rows, message in (
        (kernels[:2], 64, "choices"),
        (kernels, 16, "block_rows"),
        (kernels, 2048, "block_rows"),
    ):
        with pytest.raises(ValueError, match=message):
            _core.set_plan(packed, bad, block_rows)
    before = _core.set_isa("scalar")
    scalar = _core.linear_kernels()[0]
    _core.set_isa(before)
    if scalar not in _core.linear_kernels():
        with pytest.raises(ValueError, match="scalar 1x1"):
            _core.set_plan(packed, [[scalar] * len(planning.ROWS)] * 3, 64)
    assert _core.get_plan(packed) == _core.get_plan(pack(compiled("fixed").network))
    with pytest.raises(ValueError, match="times"):
        _core.choose_kernels(packed, [1.0], 0.0)
    with pytest.raises(ValueError, match="layer"):
        _core.measure_layer(packed, 3)


def test_tiles_must_pay_for_their_set_up() -> None:
    """A kernel that is faster by less than setting the tile unit up costs is not taken."""
    kernels = _core.linear_kernels()
    if not any("amx" in kernel.isa for kernel in kernels):
        pytest.skip("this machine has no tiles")
    packed = pack(fm.compile(model(64, 20), dynamic=True, plan="fixed").network)
    per_class = [2e-9 if "amx" in kernel.isa else 4e-9 for kernel in kernels]
    chosen = _core.choose_kernels(packed, per_class * len(planning.ROWS), 50e-9)
    assert all("amx" not in kernel.isa for kernel in chosen[0])
    per_class = [2e-6 if "amx" in kernel.isa else 4e-6 for kernel in kernels]
    chosen = _core.choose_kernels(packed, per_class * len(planning.ROWS), 50e-9)
    assert all("amx" in kernel.isa for kernel in chosen[0])


def test_explain(isa: str, memory: Path) -> None:
    net = compiled()
    table = net.explain(rows=[1, 40, 5000])
    assert len(table.rows) == 9 + 3
    columns = {name: [row[i] for row in table.rows[:9]] for i, name in enumerate(table.columns)}
    totals = [dict(zip(table.columns, row, strict=True)) for row in table.rows[9:]]
    assert [row["layer"] for row in totals] == ["total", "", ""]
    for i, row in enumerate(totals):
        layers = [float(time.replace(",", "")) for time in columns["µs"][i::3]]
        assert float(row["µs"].replace(",", "")) == pytest.approx(sum(layers), abs=0.02)
    assert {*columns["kernel"]} <= {kernel.isa for kernel in _core.linear_kernels()}
    assert all(re.fullmatch(r"[\d,]+\.\d\d", time) for time in columns["µs"])  # none is too short
    shares = [row[table.columns.index("of limit")] for row in table.rows]
    assert all(share == "–" or 0 <= int(share.removesuffix("%")) <= 100 for share in shares)
    with pytest.raises(ValueError, match="rows"):
        net.explain(rows=[0])
    assert net.explain()._repr_html_()
    assert "rule" in str(compiled("fixed").explain())


def test_a_pickle_keeps_what_was_asked_for(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a plan asked for, the process that unpickles decides: workers may want none."""
    default, named = pickle.dumps(compiled()), pickle.dumps(compiled("measured"))
    monkeypatch.setenv("FASTMNIST_PLAN", "fixed")
    assert pickle.loads(default).plan == "fixed"
    assert pickle.loads(named).plan == "measured"


def test_explain_after_a_change_of_the_set(memory: Path) -> None:
    net = compiled()
    before = _core.set_isa("scalar")
    try:
        table = net.explain()
        assert {row[table.columns.index("kernel")] for row in table.rows} == {"scalar", ""}
        assert before == "scalar" or any("another instruction set" in n for n in table.notes)
    finally:
        _core.set_isa(before)


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = fm.num_threads()
    fm.set_num_threads(2)
    yield
    fm.set_num_threads(before)


def pruned_and_wide() -> nn.Module:
    """Enough products for two threads to share 64 rows."""
    torch.manual_seed(1)
    wide = nn.Sequential(nn.Linear(1024, 1500), nn.ReLU(), nn.Linear(1500, 5))
    return fm.prune(wide, fm.L1Unstructured(0.9))


@pytest.mark.slow
def test_threads_have_a_plan_of_their_own(isa: str, memory: Path, two_threads: None) -> None:
    """Sparse layers are measured with all threads at once, too; no bit depends on it."""
    if isa == "scalar":
        pytest.skip("the scalar kernels would take a minute, and have no plan")
    rows = np.random.default_rng(2).normal(size=(200, 1024)).astype(np.float32)
    net = fm.compile(pruned_and_wide(), calibration=torch.from_numpy(rows[:64]))
    sparse = any(kernel.is_sparse for kernel in _core.linear_kernels())
    assert any(key.endswith(" threads 2") for key in entries(memory)) == sparse
    kernels, threaded = net._plans[0].kernels, net._plans[0].threaded
    assert [layer[:5] for layer in kernels] == [layer[:5] for layer in threaded]
    fixed = fm.CompiledModel(net.network, "fixed")
    for threads in (1, 2, 3):
        fm.set_num_threads(threads)
        for count in (1, 40, 64, 65, 128, 200):
            assert (net(rows[:count]) == fixed(rows)[:count]).all()
    measured = SHARED.added
    fm.set_num_threads(2)
    again = fm.compile(pruned_and_wide(), calibration=torch.from_numpy(rows[:64]))
    assert SHARED.added == measured
    assert again._plans == net._plans
    assert net.explain(rows=(1, 64)).rows


@pytest.mark.slow
def test_any_threaded_plan_gives_the_same_bits(isa: str, two_threads: None) -> None:
    """Also where the shares' kernels need tiles and the others do not, and the reverse."""
    rows = np.random.default_rng(3).normal(size=(150, 1024)).astype(np.float32)
    net = fm.compile(pruned_and_wide(), calibration=torch.from_numpy(rows), plan="fixed")
    expected = net(rows)
    # Of all forms but nibbles, which layers of many values cannot have.
    forms = [sorted({k.form for k in _core.linear_kernels()} - {"dense", "nibbles"})] * 2
    whole = pack(net.network, forms)
    everywhere = [{*_core.layer_kernels(whole, i, n)} for i in range(2) for n in (1, 17, 96)]
    kernels = set.intersection(*everywhere)
    assert len(kernels) > 1
    for one in kernels:
        for many in kernels:
            packed = pack(net.network, forms)
            _core.set_plan(packed, [[one] * 8] * 2, 64, [[many] * 8] * 2)
            planned, _ = _core.get_plan(packed, threaded=True)
            assert planned == [[*[one] * 5, *[many] * 3]] * 2
            assert (_core.Model(packed)(rows) == expected).all(), (one, many)


def test_a_threaded_plan_that_does_not_fit_is_refused() -> None:
    packed = pack(compiled("fixed").network)
    kernels = [[_core.linear_kernels()[0]] * len(planning.ROWS)] * 3
    with pytest.raises(ValueError, match="choices"):
        _core.set_plan(packed, kernels, 64, kernels[:2])
    with pytest.raises(ValueError, match="threads: expected 1 to"):
        _core.measure_layer(packed, 0, 0)


def test_where_no_kernel_skips_zeros_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    pruned = fm.prune(model(90, 20, 5), fm.L1Unstructured(0.8))
    net = fm.compile(pruned, dynamic=True, plan="fixed")
    line = "no sparse kernels on this CPU: zeros make the file smaller, not the call faster"
    assert line not in str(net.explain())
    assert fm.cpu_info()["sparse_forms"]
    assert line not in str(fm.cpu_info())
    dense = [kernel for kernel in _core.linear_kernels() if not kernel.is_sparse]
    monkeypatch.setattr(_core, "linear_kernels", lambda: dense)
    assert line in " ".join(str(net.explain()).split())
    known = _core.cpu_info()
    monkeypatch.setattr(_core, "cpu_info", lambda: {**known, "sparse_forms": []})
    assert line in str(fm.cpu_info())
