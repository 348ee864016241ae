"""A pruned layer keeps the product of weight and mask while both stay as they are."""

from __future__ import annotations

import copy
import io
import pickle
from collections import OrderedDict
from collections.abc import Callable

import pytest
import torch
from models import X, make
from torch import Tensor, nn
from torch.nn.utils import prune as torch_prune

import fastmnist as fm


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 4))


def pruned() -> nn.Module:
    return fm.prune(make(network), fm.L1Unstructured(0.5))


def by_hand(model: nn.Module, x: Tensor = X) -> Tensor:
    with torch.no_grad():
        for layer in model:
            if isinstance(layer, nn.Linear):
                weight = layer.weight_orig * layer.weight_mask
                x = nn.functional.linear(x, weight, layer.bias)
            else:
                x = layer(x)
    return x


def products(model: nn.Module) -> list[int]:
    return [id(layer.weight) for layer in model if isinstance(layer, nn.Linear)]


def test_the_product_is_kept_from_call_to_call() -> None:
    model = pruned()
    with torch.inference_mode():
        first = model(X)
        kept = products(model)
        assert torch.equal(model(X), first)
    with torch.no_grad():
        assert torch.equal(model(X), first)
    assert products(model) == kept
    assert torch.equal(first, by_hand(model))


def _load(model: nn.Module) -> None:
    model.load_state_dict({key: value * 0.5 for key, value in model.state_dict().items()})


def _step(model: nn.Module) -> None:
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    model.train()
    model(X).square().mean().backward()
    optimizer.step()
    model.eval()


def _old_optimizer(model: nn.Module) -> None:
    """Writes through `.data`, as older code does, in a training loop."""
    model.train()
    model(X).square().mean().backward()
    for parameter in model.parameters():
        parameter.data.add_(parameter.grad.data, alpha=-0.1)
    model.eval()


@torch.no_grad()
def _weight(model: nn.Module) -> None:
    model[0].weight_orig.mul_(3)


@torch.no_grad()
def _mask(model: nn.Module) -> None:
    model[0].weight_mask.zero_()


def _other_weight(model: nn.Module) -> None:
    model[0].weight_orig = nn.Parameter(torch.ones(16, 12))


def _other_mask(model: nn.Module) -> None:
    model[0].weight_mask = torch.zeros(16, 12)


def _more(model: nn.Module) -> None:
    torch_prune.random_unstructured(model[0], "weight", 0.5)


CHANGES: dict[str, Callable[[nn.Module], None]] = {
    "an optimizer's step": _step,
    "an old optimizer's step": _old_optimizer,
    "load_state_dict": _load,
    "the weight": _weight,
    "the mask": _mask,
    "another weight": _other_weight,
    "another mask": _other_mask,
    "pruned more by torch": _more,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_changes_is_computed_anew(change: Callable[[nn.Module], None]) -> None:
    model = pruned()
    with torch.no_grad():
        before = model(X)
    change(model)
    with torch.no_grad():
        after = model(X)
    assert not torch.equal(before, after)
    assert torch.equal(after, by_hand(model))
    with torch.inference_mode():
        assert torch.equal(model(X), by_hand(model))


def test_gradients_reach_the_weight_in_eval_mode_too() -> None:
    model = pruned()
    with torch.no_grad():
        model(X)
    for _ in range(2):
        model.zero_grad()
        model(X).sum().backward()
        gradient = model[0].weight_orig.grad
        assert gradient is not None
        assert torch.equal(gradient == 0, (gradient == 0) | (model[0].weight_mask == 0))
        assert bool(gradient.any())


def test_a_hook_of_the_users_runs_each_time() -> None:
    model, calls = pruned(), []
    handle = model[0].register_forward_pre_hook(lambda layer, args: calls.append(1))
    with torch.no_grad():
        for _ in range(3):
            assert torch.equal(model(X), by_hand(model))
    assert len(calls) == 3
    handle.remove()
    with torch.no_grad():
        model(X)
    assert len(calls) == 3


def test_torch_knows_it_as_its_own() -> None:
    model = pruned()
    with torch.no_grad():
        want = model(X)
        assert torch_prune.is_pruned(model)
        for layer in (model[0], model[2]):
            torch_prune.remove(layer, "weight")
        assert not torch_prune.is_pruned(model)
        assert torch.equal(model(X), want)
        calls = []
        model[0].register_forward_pre_hook(lambda layer, args: calls.append(1))
        assert torch.equal(model(X), want)
        assert calls == [1]


def _saved(model: nn.Module) -> nn.Module:
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    result: nn.Module = torch.load(buffer, weights_only=False)
    return result


COPIES: dict[str, Callable[[nn.Module], nn.Module]] = {
    "deepcopy": copy.deepcopy,
    "copy of a copy": lambda model: copy.deepcopy(copy.deepcopy(model)),
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "torch.save": _saved,
}


@pytest.mark.parametrize("other", COPIES.values(), ids=COPIES)
def test_copies_follow_their_own_weights(other: Callable[[nn.Module], nn.Module]) -> None:
    model = pruned()
    with torch.no_grad():
        want = model(X)
        copied = other(model)
        assert torch.equal(copied(X), want)
        # As code that averages does it: no version counter sees this.
        copied[0].weight_orig.data.mul_(0.5)
        assert torch.equal(copied(X), by_hand(copied))
        assert torch.equal(model(X), want)
    assert type(copied[0]._forward_pre_hooks) is OrderedDict


def test_loaded_models_keep_it_too(tmp_path) -> None:
    model = pruned()
    fm.save(tmp_path / "a.safetensors", model)
    loaded = fm.load(tmp_path / "a.safetensors")
    with torch.no_grad():
        assert torch.equal(loaded(X), model(X))
        kept = products(loaded)
        loaded(X)
    assert products(loaded) == kept


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_traced_and_exported() -> None:
    model = pruned()
    want = by_hand(model)
    with torch.no_grad():
        model(X)
        assert torch.allclose(torch.jit.trace(model, X)(X), want)
        assert torch.allclose(torch.export.export(model, (X,)).module()(X), want)
    assert torch.allclose(torch.jit.trace(model, X)(X), want)


def test_under_functional_call_and_torch_compile() -> None:
    model = pruned()
    with torch.no_grad():
        want = model(X)
        doubled = {"0.weight_orig": 2 * model[0].weight_orig, "0.bias": 2 * model[0].bias}
        other = copy.deepcopy(model)
        other.load_state_dict({**other.state_dict(), **doubled})
        assert torch.equal(torch.func.functional_call(model, doubled, (X,)), other(X))
        assert torch.equal(model(X), want)
        compiled = torch.compile(model, backend="eager")
        assert torch.allclose(compiled(X), want)
        model[0].weight_orig.mul_(2)
        assert torch.allclose(compiled(X), by_hand(model))
    torch._dynamo.reset()
