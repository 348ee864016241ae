"""Low-rank models held in every way, and together with the other transforms."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from models import IMAGES, assert_unchanged, make, snapshot
from torch import nn

import fastmnist as fm
from fastmnist.files.container import read, write
from fastmnist.layers.low_rank import LowRankLinear

X = torch.randn(40, 12, generator=torch.Generator().manual_seed(4))


def mlp() -> nn.Sequential:
    return make(
        lambda: nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 14), nn.ReLU(),
                              nn.Linear(14, 4))
    )  # fmt: skip


HALF = fm.LowRank(ratio=0.5)


# --- together with others


def results() -> dict[str, nn.Module]:
    thin = fm.factorize(mlp(), HALF, X)
    return {
        "float": thin,
        "fused": fm.fuse(thin),
        "of fused": fm.factorize(fm.fuse(mlp()), HALF, X),
        "static": fm.quantize(thin, fm.Static(X)),
        "dynamic": fm.quantize(thin, fm.Dynamic()),
        "half": fm.quantize(thin, fm.Half()),
        "pruned": fm.prune(thin, fm.L1Unstructured(0.3)),
        "root": fm.factorize(nn.Linear(12, 16), fm.LowRank(rank=3)),
        "root static": fm.quantize(
            fm.factorize(nn.Linear(12, 16), fm.LowRank(rank=3)), fm.Static(X)
        ),
    }


KINDS = [*results()]


@pytest.mark.parametrize("kind", KINDS)
def test_every_way_to_hold_a_module(kind, tmp_path):
    model = results()[kind]
    with torch.no_grad():
        want = model(X)
        assert torch.equal(pickle.loads(pickle.dumps(model))(X), want)
        assert torch.equal(copy.deepcopy(model)(X), want)
        fm.save(tmp_path / "model.safetensors", model)
        loaded = fm.load(tmp_path / "model.safetensors")
        assert torch.equal(loaded(X), want)
        fm.save(tmp_path / "again.safetensors", loaded)
        assert torch.equal(fm.load(tmp_path / "again.safetensors")(X), want)
        into = nn.Linear(12, 16) if "root" in kind else mlp()
        again = fm.load(tmp_path / "model.safetensors", into=into)
        assert torch.equal(again(X), want)
        assert type(again) is type(into) or "root" in kind
        assert [str(c) for c in fm.changes(again)] == [str(c) for c in fm.changes(model)]
        other = results()[kind]
        for value in other.state_dict().values():
            if value.is_floating_point() and value.ndim == 2:
                value.zero_()
        other.load_state_dict(model.state_dict())
        assert torch.equal(other(X), want)
        exported = torch.export.export(model, (X,)).module()
        assert torch.allclose(exported(X), want, atol=1e-2 if kind == "half" else 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["float", "static"])
def test_torch_compile(kind):
    model = results()[kind]
    with torch.no_grad():
        assert torch.allclose(torch.compile(model)(X), model(X), atol=1e-6)


def test_damaged_files_are_refused(tmp_path):
    path = tmp_path / "thin.safetensors"
    fm.save(path, results()["float"])

    def damaged(change):
        file = read(path)
        description, arrays = file.model("model")
        arrays = dict(arrays)
        change(description, arrays)
        write(tmp_path / "damaged.safetensors", {"model": (description, arrays)}, file.single)
        for into in (None, mlp()):
            with pytest.raises(ValueError, match=r"damaged\.safetensors"):
                fm.load(tmp_path / "damaged.safetensors", into=into)

    damaged(lambda d, a: [a.pop(f"0.first.{n}") for n in ("weight",)])
    damaged(
        lambda d, a: [
            p.update(shape=[12, 10**9]) for p in (d["replaced"]["0.first"], d["chain"][0])
        ]
    )
    damaged(lambda d, a: a.update({"0.second.weight": a["0.second.weight"][:, :1].copy()}))


def test_under_autocast_and_in_other_dtypes():
    thin = results()["float"]
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert thin(X).dtype == torch.bfloat16
    wrapped = torch.optim.swa_utils.AveragedModel(mlp())
    assert torch.equal(fm.factorize(wrapped, HALF, X)(X), thin(X))
    again = fm.factorize(mlp().bfloat16(), HALF)
    assert again[0].first.weight.dtype == torch.float32


@pytest.mark.parametrize("config", ["static", "dynamic"])
def test_compiled_without_a_copy_between(config, isa):
    q = results()[config]
    net = fm.compile(q)
    assert [layer.name for layer in net.layers] == ["0.first", "0.second", "2.first", "2.second",
                                                    "4"]  # fmt: skip
    assert net.network.layers[0].activation != net.network.layers[1].activation == "ReLU"
    assert torch.equal(net(X), q(X))


def test_images_of_uint8(trained, digits):
    thin = fm.factorize(trained, HALF, digits)
    net = fm.compile(thin, digits)
    pixels = digits.test.images
    assert torch.equal(net(pixels), net(digits.test.pixels.to_float(pixels)))
    assert fm.evaluate(net, digits) > fm.evaluate(trained, digits) - 0.02
    assert float((thin.linear1.first.weight != 0).float().mean()) == 1


def test_quantization_aware_training(digits):
    few = digits.train.subset(200)
    thin = fm.factorize(fm.NeuralNetwork(), HALF)
    prepared = fm.prepare_qat(thin, fm.QAT())
    fm.train(prepared, few, 1)
    q = fm.convert(prepared)
    x = digits.test.pixels.to_float(digits.test.images)
    assert "int8" in str(fm.changes(q)[-1])
    assert torch.equal(fm.compile(q)(x), q(x))
    again = fm.prepare_qat(q, fm.QAT())
    fm.train(again, few, 1)
    with pytest.raises(ValueError, match="prepared already"):
        fm.factorize(prepared, HALF)


def test_a_pruned_model_loses_its_zeros_and_says_so():
    pruned = fm.prune(mlp(), fm.L1Unstructured(0.5))
    thin = fm.factorize(pruned, fm.LowRank(rank={"0": 4}))
    assert "without the 50% that were 0" in str(fm.changes(thin)[3])
    assert torch.equal(thin[2].weight, pruned[2].weight)
    assert "2.weight" in thin.state_dict()
    again = fm.prune(thin, fm.L1Unstructured(0.5), include="0.first")
    assert float((again[0].first.weight == 0).float().mean()) == 0.5
    shrunk = fm.prune(fm.factorize(fm.NeuralNetwork(), HALF), fm.Structured(0.3))
    assert shrunk(IMAGES).shape == (40, 10)


def test_clusters_come_after():
    thin = fm.factorize(mlp(), HALF, X)
    clustered = fm.cluster(thin, fm.Clusters(4))
    assert len(clustered[0].first.weight.unique()) <= 5
    q = fm.quantize(clustered, fm.Static(X))
    assert torch.equal(fm.compile(q)(X), q(X))
    with pytest.raises(ValueError, match="which is clustered: factorize first, then cluster"):
        fm.factorize(fm.cluster(mlp(), fm.Clusters(4)), HALF)


def test_batchnorm_around_it():
    model = make(lambda: nn.Sequential(nn.BatchNorm1d(12), *mlp(), nn.BatchNorm1d(4)))
    model(X)
    model.eval()
    thin = fm.factorize(model, HALF, X)
    fused = fm.fuse(thin, example=X)
    assert torch.allclose(fused(X), thin(X), atol=1e-5)
    assert fm.factorize(fm.fuse(model), HALF, X)(X).shape == (40, 4)
    q = fm.quantize(thin, fm.Static(X))
    assert torch.equal(fm.compile(q)(X), q(X))


def test_fine_tuning(digits, trained):
    before = snapshot(trained)
    config = fm.LowRank(ratio=0.1)
    thin = fm.factorize(trained, config, digits)
    torch.manual_seed(0)
    tuned = fm.factorize(trained, config, digits, epochs=2)
    assert fm.evaluate(tuned, digits) > fm.evaluate(thin, digits)
    assert tuned.linear1.rank == thin.linear1.rank
    by_function = [
        fm.factorize(trained, config, digits, finetune=lambda m: fm.train(m, digits, 1, seed=0))
        for _ in range(2)
    ]
    assert torch.equal(*(model.linear1.first.weight for model in by_function))
    fm.factorize(trained, config, digits.train.subset(50), epochs=1, augment=fm.Affine(seed=0))
    assert_unchanged(trained, before)
    student = fm.distill(thin, trained, digits.train.subset(100), epochs=1)
    assert isinstance(student.linear1, LowRankLinear)


def test_no_more_may_be_lost_than_max_drop(trained, digits):
    thin = fm.factorize(trained, fm.LowRank(rank={"linear1": 1, "linear2": 30}), digits,
                        max_drop=2.0)  # fmt: skip
    assert fm.evaluate(thin, digits) >= fm.evaluate(trained, digits) - 0.02
    assert type(thin.linear1) is nn.Linear
    assert isinstance(thin.linear2, LowRankLinear)
