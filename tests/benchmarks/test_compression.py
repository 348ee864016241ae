"""The records' benchmark: what decides, what is kept, and that the committed files are files."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import fastmnist as fm
from benchmarks import compression
from benchmarks.compressing.halves import split
from benchmarks.compressing.ordering import Neurons, reordered
from benchmarks.compressing.records import RECORDS, Target
from benchmarks.compressing.shrinking import accuracy, lean, sorted_neurons, without_empty
from benchmarks.compressing.sparse import best, costs, linears
from benchmarks.compressing.stages import Stages
from benchmarks.compressing.tables import is_met
from benchmarks.compressing.teaching import falling

COMMITTED = sorted(compression.FOLDER.glob("*.safetensors"))


@pytest.fixture(autouse=True)
def _same_threads() -> Iterator[None]:
    """Leave other tests the threads that they had: the command sets them."""
    torchs, ours = torch.get_num_threads(), fm.num_threads()
    yield
    torch.set_num_threads(torchs)
    fm.set_num_threads(ours)


@pytest.fixture
def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        *[nn.Flatten(), nn.Linear(784, 12), nn.ReLU(), nn.Linear(12, 8), nn.ReLU()],
        nn.Linear(8, 10),
    )


def rows_of(half: fm.data.Split) -> set[bytes]:
    return {image.numpy().tobytes() for image in half.images}


def test_what_is_held_out_is_of_the_training_images_and_never_learnt_from(digits):
    halves = split(digits)
    assert len(halves.train) + len(halves.held_out) == len(digits.train)
    assert len(halves.held_out) == len(digits.train) // 12
    together = torch.cat([halves.train.images, halves.held_out.images])
    assert torch.equal(
        together.flatten(1).long().sum(1).sort().values,
        digits.train.images.flatten(1).long().sum(1).sort().values,
    )
    assert halves.test is digits.test
    assert not rows_of(halves.held_out) & rows_of(halves.test)
    again = split(digits)
    assert torch.equal(again.held_out.images, halves.held_out.images)


def test_a_finished_stage_is_not_made_again(tmp_path, model):
    made = []

    def make() -> nn.Module:
        made.append(1)
        return model

    said: list[str] = []
    for _ in range(2):
        stages = Stages(tmp_path, said.append)
        found = stages.model("net", ("settings", 1), make)
        assert torch.equal(found[1].weight, model[1].weight)
        assert stages.figures("sums", 3, lambda: made.append(2) or {"n": 4}) == {"n": 4}
    assert made == [1, 2]
    assert said[0] == "net ..."
    Stages(tmp_path).model("net", ("settings", 2), make)
    assert made == [1, 2, 1]


def test_a_stage_that_fails_leaves_no_file(tmp_path):
    def fail() -> dict[str, float]:
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        Stages(tmp_path).figures("sums", 1, fail)
    assert not [*tmp_path.iterdir()]


def test_the_rate_falls_as_half_a_cosine():
    weight = nn.Parameter(torch.zeros(2))
    optimizer = falling(1e-2, 1e-3, 4)([weight])
    rates = []
    for _ in range(6):
        rates.append(optimizer.param_groups[0]["lr"])
        weight.grad = torch.ones(2)
        optimizer.step()
    assert rates[0] == 1e-2
    assert rates == sorted(rates, reverse=True)
    assert rates[2] == pytest.approx(5.5e-3)
    assert rates[4] == rates[5] == pytest.approx(1e-3)


def test_a_weight_alone_costs_more_than_one_among_many():
    there = torch.zeros(20, 784, dtype=torch.bool)
    there[:10, 300:310] = True
    cost = costs(there)
    assert cost.shape == there.shape
    assert float(cost[5, 305]) < float(cost[5, 600]) <= float(cost[15, 600]) + 1e-9
    assert float(costs(torch.ones(3, 5, dtype=torch.bool)).max()) == pytest.approx(2.7)


def test_as_many_weights_are_kept_as_were_asked_for(digits, model):
    masks = best(model, 500, digits.train)
    assert sum(int(mask.sum()) for mask in masks.values()) == 500
    # Pixels that are black in all images have nothing to say.
    black = (digits.train.images[:4096].flatten(1) == 0).all(0)
    assert not bool(masks["1"][:, black].any())


def test_order_and_empty_neurons_change_no_output(digits, model):
    pruned = fm.prune(model, fm.CustomMask(best(model, 300, digits.train)))
    with torch.no_grad():
        pruned[1].weight_orig[4] = 0.0
        pruned[1].weight_mask[4] = 0.0
    rows = torch.rand(50, 784)
    expected = pruned(rows)
    smaller = sorted_neurons(without_empty(pruned))
    assert smaller[1].out_features < 12
    assert torch.allclose(smaller(rows), expected, atol=1e-5)
    assert torch.equal(smaller[1].bias, smaller[1].bias.sort().values)
    assert torch.equal(smaller[3].bias, smaller[3].bias.sort().values)


def test_another_order_of_an_int8_model_changes_no_bit_and_costs_no_more(digits, model):
    pruned = fm.prune(model, fm.CustomMask(best(model, 800, digits.train)))
    for layer in linears(pruned).values():
        layer.bias.data = (layer.bias.data * 8).round() / 8
    prepared = fm.prepare_qat(pruned, fm.QAT(per_channel=False, weight_bits=3))
    prepared.train()(digits.train.pixels.to_float(digits.train.images[:64]))
    int8 = fm.convert(prepared)
    neurons = Neurons(copy.deepcopy(int8.state_dict()))
    pixels = digits.test.images[:100].flatten(1).numpy()
    before, expected = neurons.cost(neurons.start()), fm.compile(int8)(pixels)
    made = reordered(int8, 30, seed=0)
    assert np.array_equal(fm.compile(made)(pixels), expected)
    after = Neurons(made.state_dict())
    assert not np.array_equal(after.weights[0], neurons.weights[0])
    as_it_is = [np.arange(len(bias)) for bias in after.biases[:-1]]
    assert after.cost(as_it_is) <= before
    smaller = lean(made)
    assert np.array_equal(fm.compile(smaller)(pixels), expected)
    assert smaller[1].input_zeros is None


def test_targets_want_size_and_accuracy():
    found = {"size": 8000, "accuracy": 0.9902, "original": 0.9912}
    assert is_met(Target(8000, 0.9902), found)
    assert not is_met(Target(7999, 0.9902), found)
    assert not is_met(Target(8000, 0.9903), found)
    assert is_met(Target(8000, 0.0), found)  # the original's less 0.1 points
    assert not is_met(Target(8000, 0.0), found | {"original": 0.9913})


def test_a_quick_run_goes_through_and_goes_on_where_it_was(tmp_path, capsys):
    arguments = ["--data", "digits", "--quick", "--seeds", "1", "--work", str(tmp_path)]
    chosen = ["--only", "digits", "--only", "low-rank"]
    assert compression.main([*arguments, *chosen]) == 0
    first = capsys.readouterr()
    assert "784-96-256-10" in first.out
    assert "low rank, half the products" in first.out
    assert "teacher ..." in first.err
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert compression.main([*arguments, *chosen]) == 0
    second = capsys.readouterr()
    assert "..." not in second.err
    assert second.out == first.out
    assert {path: path.read_bytes() for path in files} == files


def test_save_keeps_whole_runs(capsys):
    with pytest.raises(SystemExit):
        compression.main(["--quick", "--save"])
    assert "expected no --quick" in capsys.readouterr().err


def test_what_was_not_made_this_time_stays(tmp_path):
    work, folder = tmp_path / "work", tmp_path / "results"
    work.mkdir()
    (work / "digits.safetensors").write_bytes(b"one")
    compression.keep({"records": {"digits": {"size": 3}}, "comparisons": {}}, work, folder)
    compression.keep({"records": {}, "comparisons": {"low-rank": []}}, work, folder)
    kept = json.loads((folder / compression.REPORT).read_text())
    assert kept["records"] == {"digits": {"size": 3}}
    assert kept["comparisons"] == {"low-rank": []}
    assert (folder / "digits.safetensors").read_bytes() == b"one"


def test_every_reported_record_is_a_file_of_that_size():
    report = json.loads((compression.FOLDER / compression.REPORT).read_text())
    assert {path.stem for path in COMMITTED} == set(report["records"])
    assert {record.name for record in RECORDS} >= set(report["records"])
    for path in COMMITTED:
        assert path.stat().st_size == report["records"][path.stem]["size"]


def test_records_are_checked_on_their_own_images_alone():
    with pytest.raises(SystemExit, match="expected the data mnist, got digits"):
        compression.main(["--check", "--data", "digits"])


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_a_record_takes_pixels_and_floats(path: Path):
    net = fm.compile(fm.load(path))
    pixels = np.random.default_rng(0).integers(0, 256, (64, 784), dtype=np.uint8)
    out = net(pixels)
    assert out.shape == (64, 10)
    assert np.array_equal(out, net(pixels.astype(np.float32) / np.float32(255)))


@pytest.mark.slow
@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_a_record_is_as_accurate_as_reported(path: Path, mnist: fm.Data):
    report = json.loads((compression.FOLDER / compression.REPORT).read_text())
    assert accuracy(path, mnist.test) == pytest.approx(report["records"][path.stem]["accuracy"])
