"""Their own model, training and variants."""

import torch
from torch import nn

import fastmnist as fm


class Digits(nn.Module):
    """A class that fastmnist has never seen."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        return self.head(self.body(x.flatten(1)))


def trained(data):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Digits()
    fm.train(model, data, epochs=5, seed=0)
    return model


def variants(data, model=None):
    model = trained(data) if model is None else model
    int8 = fm.quantize(model, fm.Static(calibration=data))
    broken = fm.quantize(model, fm.Static(calibration=data))
    with torch.no_grad():
        broken.get_submodule("body.0").weight_int8[::2] = 0
    broken.get_submodule("body.0").repack()
    return {"original": model, "int8": int8, "compiled": fm.compile(int8), "broken": broken}
