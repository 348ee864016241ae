"""Hidden neurons in the order that takes the fewest bytes: the same function, to the bit.

What is coded behind one another should be alike. A start is made by likeness: the next neuron is
the one whose weights lie most where those of the last one do. From there single neurons are moved
at random, and stay where the file is no larger. The first layer's cost hardly depends on the order
of its neurons, and takes longest to tell: it is left out, and its neurons move among those of the
same bias alone, so that equal biases stay in a row.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from fastmnist._core import CodedWriter, encode_weights

_Array = npt.NDArray[Any]
_Order = npt.NDArray[np.intp]


class Neurons:
    """An int8 chain's weights and biases, and what they cost in some order."""

    def __init__(self, state: dict[str, torch.Tensor]) -> None:
        self.names = [key[: -len("weight_int8")] for key in state if key.endswith("weight_int8")]
        self.weights = [state[f"{name}weight_int8"].numpy() for name in self.names]
        self.biases = [state[f"{name}bias"].numpy() for name in self.names]

    def start(self) -> list[_Order]:
        """An order of each hidden layer by likeness."""
        there = [weight != 0 for weight in self.weights]
        orders = []
        for i, (before, after) in enumerate(itertools.pairwise(there)):
            by_count = np.argsort(-after.sum(0), kind="stable")
            is_last = i == len(there) - 2
            if is_last:
                orders.append(_chain(before, [by_count]))
            else:
                bias = self.biases[i][by_count]
                groups = [by_count[bias == value] for value in np.unique(bias)]
                orders.append(_chain(after.T, groups))
        return orders

    def cost(self, orders: list[_Order]) -> int:
        """Bytes of all layers but the first, and of the hidden biases."""
        layers = list(zip(self.weights, [*orders, None], [None, *orders], strict=True))
        weights = sum(len(encode_weights(_ordered(*layer))) for layer in layers[1:])
        return weights + sum(
            _bias_cost(b[o]) for b, o in zip(self.biases[:-1], orders, strict=True)
        )

    def moved(self, orders: list[_Order], random: np.random.Generator) -> list[_Order]:
        """The same orders but for one or a few neurons."""
        new = [order.copy() for order in orders]
        i = int(random.integers(len(new)))
        order = new[i]
        at = int(random.integers(len(order)))
        if i == len(new) - 1:
            rest = np.concatenate([order[:at], order[at + (n := int(random.integers(1, 5))) :]])
            to = int(random.integers(len(rest) + 1))
            new[i] = np.concatenate([rest[:to], order[at : at + n], rest[to:]])
        else:
            bias = self.biases[i][order]
            to = int(random.choice(np.flatnonzero(bias == bias[at])))
            new[i] = np.insert(np.delete(order, at), to, order[at])
        return new

    def state(self, orders: list[_Order]) -> dict[str, torch.Tensor]:
        """The tensors in these orders, by their names in the state dict."""
        found = {}
        for i, name in enumerate(self.names):
            rows = orders[i] if i < len(orders) else None
            columns = orders[i - 1] if i > 0 else None
            found[f"{name}weight_int8"] = _ordered(self.weights[i], rows, columns)
            found[f"{name}bias"] = self.biases[i] if rows is None else self.biases[i][rows]
        return {key: torch.from_numpy(array.copy()) for key, array in found.items()}


def reordered(model: nn.Module, tries: int, seed: int) -> nn.Module:
    """Put the hidden neurons of an int8 chain of one scale a layer in a better order, in place."""
    state = model.state_dict()
    neurons, random = Neurons(state), np.random.default_rng(seed)
    orders = neurons.start()
    least = neurons.cost(orders)
    for _ in range(tries):
        others = neurons.moved(orders, random)
        if (cost := neurons.cost(others)) <= least:
            orders, least = others, cost
    model.load_state_dict(state | neurons.state(orders))
    return model


def _chain(rows: _Array, groups: list[_Order]) -> _Order:
    """Group by group, each row followed by the one that is most like it."""
    near = rows.astype(np.float64)
    near /= np.linalg.norm(near, axis=1, keepdims=True) + 1e-9
    order: list[int] = []
    for group in groups:
        left = [int(row) for row in group]
        if not order:
            order.append(left.pop(0))
        while left:
            order.append(left.pop(int(np.argmax(near[left] @ near[order[-1]]))))
    return np.array(order)


def _ordered(weight: _Array, rows: _Order | None, columns: _Order | None) -> _Array:
    weight = weight if rows is None else weight[rows]
    return np.ascontiguousarray(weight if columns is None else weight[:, columns])


def _bias_cost(bias: _Array) -> int:
    writer = CodedWriter()
    upper = bias.astype(">f4").view(np.uint8).reshape(-1, 4)[:, :2]  # as bfloat16, which they fit
    writer.bytes(upper.tobytes(), 2)
    return len(writer.finish())
