"""Copies that average a model while it trains: AveragedModel, and loops over the state_dict."""

from __future__ import annotations

import copy

import pytest
import torch
from models import make
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import fastmnist as fm
from fastmnist.measuring.sqnr import sqnr


def network() -> nn.Module:
    return nn.Sequential(
        nn.Linear(20, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 4)
    )


ROWS = torch.rand(64, 20, generator=torch.Generator().manual_seed(3))


def steps(model: nn.Module, count: int = 6):
    """Train a little; gives control after each step."""
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    for step in range(count):
        optimizer.zero_grad()
        model(ROWS * (1 + 0.1 * step)).square().sum(1).mean().backward()
        optimizer.step()
        yield step


def by_averaged_model(prepared: nn.Module, use_buffers: bool = False) -> nn.Module:
    ema = get_ema_multi_avg_fn(0.5)
    average = AveragedModel(prepared, multi_avg_fn=ema, use_buffers=use_buffers)
    for _ in steps(prepared):
        average.update_parameters(prepared)
    return average


def by_averaged_buffers(prepared: nn.Module) -> nn.Module:
    return by_averaged_model(prepared, use_buffers=True)


def by_hand(prepared: nn.Module) -> nn.Module:
    average = copy.deepcopy(prepared).eval()
    for _ in steps(prepared):
        with torch.no_grad():
            for mean, now in zip(
                average.state_dict().values(), prepared.state_dict().values(), strict=True
            ):
                mean.copy_(0.5 * mean + 0.5 * now)
    return average


def by_loading(prepared: nn.Module) -> nn.Module:
    average = copy.deepcopy(prepared)
    mean: dict[str, Tensor] = {}
    for _ in steps(prepared):
        for key, value in prepared.state_dict().items():
            mean[key] = value.clone() if key not in mean else 0.5 * (mean[key] + value)
    average.load_state_dict(mean)
    return average


@pytest.mark.parametrize("observer", ["moving_average", "minmax", "histogram"])
@pytest.mark.parametrize("average", [by_averaged_model, by_averaged_buffers, by_hand, by_loading])
def test_an_averaged_copy_of_a_prepared_model_converts(average, observer: str) -> None:
    # What pixels mean is known: hidden layers must not be taken for the one that they enter.
    config = fm.QAT(observer=observer, mean=0.0, std=1.0)
    prepared = fm.prepare_qat(make(network), config).train()
    averaged = average(prepared)
    inner = getattr(averaged, "module", averaged)
    float_model = make(network)
    with torch.no_grad():
        for layer in (0, 2, 4):
            float_model[layer].weight.copy_(inner[layer].weight)
            float_model[layer].bias.copy_(inner[layer].bias)
    converted = fm.convert(averaged)
    assert sqnr(float_model(ROWS).detach(), converted(ROWS)) > 25


TRANSFORMS = {
    "fuse": fm.fuse,
    "quantize": lambda model: fm.quantize(model, fm.Static(ROWS)),
    "prune": lambda model: fm.prune(model, fm.L1Unstructured(0.1)),
    "compile": lambda model: fm.compile(model, ROWS),
    "prepare_qat": lambda model: fm.prepare_qat(model, fm.QAT()),
}


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
def test_a_wrapper_is_read_as_what_it_wraps(transform) -> None:
    model = make(network).eval()
    want = transform(model)(ROWS)
    wrapped = AveragedModel(model)
    result = transform(wrapped)
    assert not isinstance(result, AveragedModel)
    assert torch.equal(torch.as_tensor(result(ROWS)), torch.as_tensor(want))
