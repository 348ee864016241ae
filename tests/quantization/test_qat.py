"""Quantization-aware training: the same bits as the converted model, in any ordinary loop."""

from __future__ import annotations

import copy
import io

import pytest
import torch
import torch.distributed as dist
from models import (
    ControlFlow,
    Encoder,
    Functional,
    Residual,
    mlp,
    quality,
    randomize,
    same,
)
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import prune as torch_prune

import fastmnist as fm
from fastmnist.layers.simulated import SimulatedLinear

X = torch.randn(96, 12, generator=torch.Generator().manual_seed(3))
Y = (X[:, 0] > 0).long()


def table():
    """BatchNorm1d at the input, behind a Linear, and past a ReLU."""
    with torch.random.fork_rng():
        torch.manual_seed(2)
        return nn.Sequential(
            nn.BatchNorm1d(12),
            nn.Linear(12, 16),
            nn.BatchNorm1d(16),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Linear(16, 8, bias=False),
            nn.ReLU6(),
            nn.BatchNorm1d(8),
            nn.Linear(8, 4),
        )


def train(model, steps=6, x=X, optimizer=None, lr=1e-2):
    model.train()
    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(x), Y).backward()
        optimizer.step()
    return model


KINDS = {
    "mlp": mlp,
    "functional": Functional,
    "residual": Residual,
    "control flow": ControlFlow,
    "table": table,
    "linear": lambda: nn.Linear(12, 4),
}


@pytest.mark.slow
@pytest.mark.parametrize("observer", ["moving_average", "minmax", "mse"])
@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_converted_logits_are_those_of_the_simulation(kind, per_channel, observer, isa):
    config = fm.QAT(observer=observer, per_channel=per_channel)
    model = train(fm.prepare_qat(KINDS[kind](), config)).eval()
    q = fm.convert(model)
    for x in (X, X[:1], X * 7):
        assert same(model(x), q(x))
        with torch.no_grad():
            assert same(model(x), q(x))
    if kind in ("mlp", "functional", "table"):
        assert same(fm.compile(q)(X), model(X).detach())


def test_also_while_it_trains():
    """Without dropout and batch statistics the forward of a training step is the int8 one."""
    model = fm.prepare_qat(nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 4))).train()
    for _ in range(3):
        y = model(X)
        assert same(y.detach(), fm.convert(model)(X))


def test_pixels():
    images = torch.randint(0, 256, (96, 12), dtype=torch.uint8)
    model = train(fm.prepare_qat(mlp()), x=images / 255).eval()
    q = fm.convert(model)
    assert same(q(images), model(images / 255))
    config = fm.QAT(mean=(0.3, 0.5, 0.2), std=(0.4, 0.3, 0.6))
    pixels = fm.Static(images, config.mean, config.std)
    first = fm.quantize(mlp(), pixels)
    rows = torch.randint(0, 256, (96, 12), dtype=torch.uint8)
    floats = (rows.reshape(96, 3, 4) / 255 - torch.tensor(config.mean)[:, None]) / torch.tensor(
        config.std
    )[:, None]
    floats = floats.reshape(96, 12)
    model = train(fm.prepare_qat(mlp(), config), x=floats).eval()
    q = fm.convert(model)
    assert same(q(rows), model(floats))
    assert same(first(rows), first(floats))


def test_gradients_are_those_of_float_where_nothing_saturates():
    torch.manual_seed(0)
    linear = nn.Linear(12, 4)
    prepared = fm.prepare_qat(linear, fm.QAT(observer="minmax")).train()
    x = X.clone().requires_grad_(True)
    prepared(x).square().sum().backward()
    z = X.clone().requires_grad_(True)
    linear(z).square().sum().backward()
    for own, other in ((prepared.weight.grad, linear.weight.grad), (x.grad, z.grad)):
        assert (own - other).abs().max() < 0.05 * other.abs().max()
    outside = (X * 5).requires_grad_(True)
    prepared.eval()(outside).sum().backward()
    lo, hi = prepared.observer.range()
    clipped = (outside < lo - 0.1) | (outside > hi + 0.1)
    assert clipped.any()
    assert (outside.grad[clipped] == 0).all()
    assert (outside.grad[~clipped] != 0).any()


def test_double_backward_and_no_grad():
    prepared = train(fm.prepare_qat(mlp()))
    x = X.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(prepared(x).sum(), x, create_graph=True)
    assert torch.isfinite(gradient).all()
    with torch.no_grad():
        assert not prepared(X).requires_grad
    with torch.inference_mode():
        prepared.eval()(X)


@pytest.mark.parametrize("make", [mlp, table])
def test_in_place_parameters_stay_themselves(make):
    model = make()
    before = {id(p) for p in model.parameters()}
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    train(model, 2, optimizer=optimizer)
    assert fm.prepare_qat(model, inplace=True) is model
    assert {id(p) for p in model.parameters()} == before
    old = [p.detach().clone() for p in model.parameters()]
    train(model, 3, optimizer=optimizer)
    assert all(not torch.equal(a, b) for a, b in zip(old, model.parameters(), strict=True))
    again = fm.convert(model, inplace=True)
    assert again is model
    assert not any(p.requires_grad for p in model.parameters())


def test_a_copy_leaves_the_model_alone():
    model = table().train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    prepared = train(fm.prepare_qat(model))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert model.training
    assert not any(isinstance(m, SimulatedLinear) for m in model.modules())
    assert type(prepared) is type(model)


def test_norms_follow_their_batches_and_are_simulated_folded():
    model = fm.prepare_qat(table(), fm.QAT(observer="minmax")).train()
    norm = model[1].norm_after
    before = norm.running_mean.clone()
    model(X)
    assert not torch.equal(norm.running_mean, before)
    assert not torch.equal(model[1].norm_before.running_mean, torch.zeros(12))
    # In training the output is that of a float model with the same norms, but for rounding.
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(12, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4))
    prepared = fm.prepare_qat(plain).train()
    with torch.no_grad():
        wanted = copy.deepcopy(plain).train()(X)
        assert (prepared(X) - wanted).abs().max() < 0.06 * wanted.abs().max()
    # Frozen norms (in eval mode) are exact while the rest trains.
    prepared[0].norm_after.eval()
    assert same(prepared(X).detach(), fm.convert(prepared)(X))


def test_masks_hold():
    model = fm.prune(mlp(), fm.L1Unstructured(0.7))
    prepared = train(fm.prepare_qat(model))
    assert torch_prune.is_pruned(prepared)
    q = fm.convert(prepared)
    masks = [model[i].weight_mask for i in (0, 3, 5)]
    for layer, mask in zip((q[0], q[3], q[5]), masks, strict=True):
        assert (layer.weight_int8[mask == 0] == 0).all()
    assert same(prepared.eval()(X), q(X))
    back = fm.unprune(prepared)
    assert not torch_prune.is_pruned(back)
    for i in (0, 3, 5):
        assert torch.equal(back[i].weight, prepared[i].weight_orig)


def test_a_quantized_model_is_trained_on():
    images = torch.randint(0, 256, (96, 12), dtype=torch.uint8)
    cases = {
        "static": (mlp(), fm.Static(X), X),
        "dynamic": (mlp(), fm.Dynamic(), X),
        "affine": (randomize(table()), fm.Static(X), X),
        "pixels": (mlp(), fm.Static(images), images / 255),
        "normalized": (mlp(), fm.Static(images, 0.3, 0.4), (images / 255 - 0.3) / 0.4),
        "residual": (Residual(), fm.Static(X), X),
    }
    for name, (model, config, x) in cases.items():
        q = fm.quantize(model, config)
        again = fm.prepare_qat(q)
        assert all(p.requires_grad for p in again.parameters()), name
        if name != "dynamic":
            # Weights are on the grid already, and ranges are known: it begins where q is.
            off = (again.eval()(x) - q(x)).abs().max()
            assert off <= 0.03 * q(x).abs().max() + 1e-6, name
        train(again, x=x)
        new = fm.convert(again)
        assert same(again.eval()(x), new(x)), name
        assert [n for n, _ in new.named_modules()] == [n for n, _ in q.named_modules()], name


def test_gradients_through_a_quantized_model_point_here():
    q = fm.quantize(mlp(), fm.Dynamic())
    with pytest.raises(RuntimeError, match="prepare_qat"):
        q(X.clone().requires_grad_(True))


def test_checkpoints_resume():
    prepared = train(fm.prepare_qat(table()))
    prepared.apply(lambda m: setattr(m, "observing", False) if hasattr(m, "observing") else None)
    optimizer = torch.optim.Adam(prepared.parameters(), 1e-2)
    train(prepared, 2, optimizer=optimizer)
    buffer = io.BytesIO()
    torch.save({"model": prepared.state_dict(), "optimizer": optimizer.state_dict()}, buffer)
    buffer.seek(0)
    state = torch.load(buffer, weights_only=True)
    again = fm.prepare_qat(table())
    again.load_state_dict(state["model"])
    other = torch.optim.Adam(again.parameters(), 1e-2)
    other.load_state_dict(state["optimizer"])
    assert not again[1].observing
    for model, its in ((prepared, optimizer), (again, other)):
        torch.manual_seed(5)
        train(model, 2, optimizer=its)
    assert same(prepared.eval()(X), again.eval()(X))
    assert same(fm.convert(prepared)(X), fm.convert(again)(X))


def test_autocast_and_grad_scaler():
    prepared = fm.prepare_qat(table()).train()
    optimizer = torch.optim.SGD(prepared.parameters(), 1e-2)
    scaler = torch.amp.GradScaler("cpu")
    for _ in range(4):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = prepared(X)
            loss = F.cross_entropy(y.float(), Y)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    assert torch.isfinite(loss)
    q = fm.convert(prepared)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        simulated = prepared.eval()(X).float()
    assert (simulated - q(X)).abs().max() < 0.1 * q(X).abs().max()


def test_other_dtypes_and_devices_simulate():
    prepared = train(fm.prepare_qat(mlp()))
    q = fm.convert(prepared)
    double = copy.deepcopy(prepared).double().eval()
    assert (double(X.double()) - q(X)).abs().max() < 0.02 * q(X).abs().max()
    y = copy.deepcopy(prepared).bfloat16().eval()(X.bfloat16())
    assert (y.float() - q(X)).abs().max() < 0.1 * q(X).abs().max()
    if torch.cuda.is_available():
        assert (prepared.cuda().eval()(X.cuda()).cpu() - q(X)).abs().max() < 0.02


def test_ddp(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        model = torch.nn.parallel.DistributedDataParallel(fm.prepare_qat(table()))
        train(model)
        q = fm.convert(model)
        assert same(model.module.eval()(X), q(X))
    finally:
        dist.destroy_process_group()


@pytest.mark.slow
def test_under_torch_compile():
    prepared = train(fm.prepare_qat(mlp())).eval()
    compiled = torch.compile(prepared, backend="eager")
    with torch.no_grad():
        assert (compiled(X) - prepared(X)).abs().max() < 0.02 * prepared(X).abs().max()
    torch._dynamo.reset()


def test_transformers_train():
    x = torch.randn(6, 5, 12)
    prepared = fm.prepare_qat(Encoder()).train()
    prepared(x).square().mean().backward()
    q = fm.convert(prepared)
    with torch.no_grad():
        assert (prepared.eval()(x) - q(x)).abs().max() < 1e-5


@pytest.mark.slow
def test_ordinary_training_function_and_quality():
    data = fm.load_dataset("digits")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = fm.NeuralNetwork()
    fm.train(model, data, epochs=4, seed=0)
    before = fm.evaluate(model, data)
    prepared = fm.prepare_qat(model)
    fm.train(prepared, data, epochs=1, lr=3e-4, seed=0)
    q = fm.convert(prepared)
    assert float(fm.evaluate(q, data)) >= float(before) - 0.01
    assert fm.evaluate(prepared, data) == fm.evaluate(q, data)
    uint8 = data.test.images
    assert same(q(uint8), q(uint8 / 255))


def test_never_trained_is_an_error_that_says_so():
    prepared = fm.prepare_qat(mlp())
    prepared.eval()
    prepared(X)  # eval mode observes nothing
    with pytest.raises(ValueError, match=r"'0', which never saw data: train it .*model.train\(\)"):
        fm.convert(prepared)


@pytest.mark.slow
def test_on_mnist(mnist):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = fm.NeuralNetwork()
    fm.train(model, mnist, epochs=2, seed=0)
    before = float(fm.evaluate(model, mnist))
    quality = {}
    for rule in ("minmax", "moving_average", "percentile", "histogram", "mse"):
        q = fm.quantize(model, fm.Static(mnist.train, observer=rule))
        quality[rule] = before - float(fm.evaluate(q, mnist))
    assert quality.pop("minmax") <= 0.002
    assert max(quality.values()) <= 0.001, quality
    prepared = fm.prepare_qat(model)
    fm.train(prepared, mnist, epochs=1, lr=3e-4, seed=0)
    assert float(fm.evaluate(fm.convert(prepared), mnist)) >= before - 0.0005


PIXELS = torch.randint(0, 256, (96, 12), generator=torch.Generator().manual_seed(4)).to(torch.uint8)


def test_a_checkpoint_remembers_that_inputs_are_no_pixels():
    model = mlp()
    prepared = fm.prepare_qat(model).train()
    prepared(X)
    fresh = fm.prepare_qat(model)
    fresh.load_state_dict(prepared.state_dict())
    zeros_and_ones = (X > 0).float()
    assert same(prepared.eval()(zeros_and_ones), fresh.eval()(zeros_and_ones))
    assert quality(model, fm.convert(fresh), X) > 30


def test_a_probe_in_eval_mode_changes_nothing():
    rows = PIXELS.float() / 255
    prepared = fm.prepare_qat(mlp()).train()
    prepared(rows)
    expected = prepared.eval()(rows)
    prepared(X)
    assert same(prepared(rows), expected)
    assert fm.convert(prepared)[0].pixels is not None
