"""From a pruned model to a file of a few KB: neurons, biases, few values, int8."""

from __future__ import annotations

import copy
import itertools
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

import fastmnist as fm
from benchmarks.compressing.sparse import linears
from benchmarks.compressing.teaching import Lesson, taught
from fastmnist.data import Split
from fastmnist.layers.quantized import QuantizedLinear


@dataclass(frozen=True)
class Shrinking:
    """How a pruned model becomes small.

    Attributes
    ----------
    bits : int
        Of a weight, as one scale a layer spans them.
    bias_step : float
        Biases are multiples of it; they cost as much as weights do, each for itself.
    lessons : tuple of Lesson
        What the model is taught with the codes that its weights have.
    """

    bits: int
    bias_step: float
    lessons: tuple[Lesson, ...]


def shrunk(
    model: nn.Module, teachers: list[nn.Module], half: Split, how: Shrinking, seed: int
) -> nn.Module:
    """Return the int8 model of a file: fewer neurons in a better order, coarse biases, few codes.

    Codes are learnt with the scale (``weight_bits=`` of :class:`fastmnist.QAT`), so that a weight
    may still move to another, or become zero.
    """
    model = without_empty(model)
    for layer in linears(model).values():
        layer.bias.data = (layer.bias.data / how.bias_step).round() * how.bias_step
        layer.bias.requires_grad_(False)
    model = sorted_neurons(model)
    masks = {name: layer.weight.detach() != 0 for name, layer in linears(model).items()}
    model = fm.prune(model, fm.CustomMask(masks))
    model = fm.prepare_qat(model, fm.QAT(per_channel=False, weight_bits=how.bits))
    for i, lesson in enumerate(how.lessons):
        model = taught(model, teachers, half, lesson, seed + i)
    return fm.convert(model)


def without_empty(model: nn.Module) -> nn.Module:
    """Return a copy without masks and without the neurons that nothing comes from or goes to."""
    model = plain(model)
    masks = {name: layer.weight.detach() != 0 for name, layer in linears(model).items()}
    return plain(fm.prune(model, fm.CustomMask(masks), remove_empty=True))


def plain(model: nn.Module) -> nn.Module:
    """Return a copy whose zeros are weights like others."""
    model = copy.deepcopy(model)
    for layer in linears(model).values():
        if hasattr(layer, "weight_mask"):
            nn.utils.prune.remove(layer, "weight")
    return model


@torch.no_grad()
def sorted_neurons(model: nn.Module) -> nn.Module:
    """Put hidden neurons in order of bias, and then of how many weights they have: in place, the
    same function.

    The coder learns as it goes what comes behind what: equal biases in a row are nearly free, and
    how often a neuron's weights are there changes slowly.
    """
    for layer, reader in itertools.pairwise(linears(model).values()):
        share = (layer.weight != 0).double().mean(1) + (reader.weight != 0).double().mean(0)
        order = share.argsort(descending=True, stable=True)
        order = order[layer.bias[order].argsort(stable=True)]
        layer.weight.copy_(layer.weight[order])
        layer.bias.copy_(layer.bias[order])
        reader.weight.copy_(reader.weight[:, order])
    return model


def lean(model: nn.Module) -> nn.Module:
    """Leave out of an int8 model what its outputs do not need, in place.

    That is which zeros of a bias are negative, and how often calibration saw zeros: only plans are
    made by it, and it tells of another order of neurons.
    """
    for layer in model.modules():
        if isinstance(layer, QuantizedLinear):
            layer.input_zeros = None
            layer.bias.add_(0.0)
    return model


def accuracy(path: Path, half: Split) -> float:
    """Accuracy of a file's model: loaded, compiled, and given uint8 rows."""
    net = fm.compile(fm.load(path))
    pixels = half.images.flatten(1).numpy()
    said = torch.from_numpy(net(pixels)).argmax(1)
    return float((said == half.labels).double().mean())
