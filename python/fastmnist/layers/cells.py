"""LSTMCell, GRUCell and RNNCell whose two projections are int8, each row by its own range.

One step of :mod:`fastmnist.layers.recurrent`, for code that runs the steps itself; arguments,
shapes and equations are those of ``torch.nn.LSTMCell``, ``GRUCell`` and ``RNNCell``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fastmnist.files.fields import required_field
from fastmnist.int8.quantizer import INT8, WeightRule
from fastmnist.layers.quantized import QuantizedLinear
from fastmnist.layers.recurrent import GATES, gru_step, lstm_step, projection_of, rnn_step
from fastmnist.layers.registry import Arrays, Description, saved

CELLS = (nn.LSTMCell, nn.GRUCell, nn.RNNCell)


def is_known_cell(module: nn.Module) -> bool:
    """Whether it is a recurrent cell with the arithmetic of its class."""
    return type(module) in CELLS and "forward" not in vars(module)


def mode_of(cell: nn.Module) -> str:
    """ "LSTM", "GRU", "RNN_TANH" or "RNN_RELU"."""
    if isinstance(cell, nn.RNNCell):
        return f"RNN_{cell.nonlinearity.upper()}"
    return "LSTM" if isinstance(cell, nn.LSTMCell) else "GRU"


@saved("cell", is_frozen=True, takes_numbers=True)
class QuantizedCell(nn.Module):
    """A recurrent cell with int8 projections: made by :func:`fastmnist.quantize_dynamic`.

    Parameters
    ----------
    mode : {"LSTM", "GRU", "RNN_TANH", "RNN_RELU"}
    input, hidden : QuantizedLinear
        The projections of input and hidden state, ``[gates · hidden_size, …]``.
    """

    def __init__(self, mode: str, input: QuantizedLinear, hidden: QuantizedLinear) -> None:
        super().__init__()
        self.mode, self.input, self.hidden = mode, input, hidden
        self.input_size, self.hidden_size = input.in_features, hidden.in_features
        self.eval()

    @classmethod
    def of(cls, cell: nn.RNNCellBase, name: str, rule: WeightRule = INT8) -> QuantizedCell:
        """Quantize a cell of torch's; `name` is for errors."""
        parts = [projection_of(cell, which, name, rule) for which in ("ih", "hh")]
        return cls(mode_of(cell), *parts)

    def forward(self, input: Tensor, hx: Any = None) -> Any:
        if not isinstance(input, Tensor) or input.dim() not in (1, 2):
            got = [*input.shape] if isinstance(input, Tensor) else type(input).__name__
            raise ValueError(f"input: expected a tensor of 1 or 2 dimensions, got {got}")
        if input.shape[-1] != self.input_size:
            raise ValueError(
                f"input: expected {self.input_size} features, got shape {[*input.shape]}"
            )
        x = torch.atleast_2d(input)
        states = self._states(hx, x, input.dim() == 1)
        projected, hidden = self.input(x), self.hidden(states[0])
        if self.mode == "LSTM":
            new: tuple[Tensor, ...] = lstm_step(hidden.add_(projected), states[1])
        elif self.mode == "GRU":
            new = (gru_step(projected, hidden, states[0]),)
        else:
            new = (rnn_step(hidden.add_(projected), self.mode),)
        if input.dim() == 1:
            new = tuple(state.squeeze(0) for state in new)
        return new if self.mode == "LSTM" else new[0]

    def _states(self, hx: Any, x: Tensor, single: bool) -> list[Tensor]:
        count = 2 if self.mode == "LSTM" else 1
        if hx is None:
            return [x.new_zeros(len(x), self.hidden_size, dtype=torch.float32)] * count
        given = [*hx] if count == 2 and isinstance(hx, tuple | list) else [hx]
        if len(given) != count:
            raise ValueError("hx: expected the pair (h_0, c_0) for an LSTMCell, got one tensor")
        wanted = [self.hidden_size] if single else [len(x), self.hidden_size]
        for state in given:
            if not isinstance(state, Tensor) or [*state.shape] != wanted:
                got = [*state.shape] if isinstance(state, Tensor) else type(state).__name__
                raise ValueError(f"hx: expected shape {wanted}, got {got}")
        return [torch.atleast_2d(state.float()) for state in given]

    def describe(self) -> Description:
        """What a file has to tell besides the numbers, as plain JSON."""
        layers = {"input": self.input.describe(), "hidden": self.hidden.describe()}
        return {"type": "cell", "mode": self.mode, "layers": layers}

    @classmethod
    def rebuild(cls, description: Description, prefix: str, arrays: Arrays) -> QuantizedCell:
        """Make one as described, with its numbers.

        Raises
        ------
        ValueError
            If the description or the numbers are not as they should be.
        """
        mode = required_field(description, "mode", str)
        if mode not in GATES:
            raise ValueError(f"mode: expected one of {', '.join(GATES)}, got '{mode}'")
        told = required_field(description, "layers", dict)
        made = []
        for which in ("input", "hidden"):
            part = required_field(told, which, dict)
            made.append(QuantizedLinear.rebuild(part, f"{prefix}{which}.", arrays))
        size = made[1].in_features
        for layer in made:
            if layer.out_features != GATES[mode] * size or layer.kind != "dynamic":
                raise ValueError(
                    f"'{prefix}': expected {GATES[mode] * size} outputs, dynamic, got "
                    f"{layer.out_features}, {layer.kind}"
                )
        return cls(mode, *made)

    def extra_repr(self) -> str:
        return f"{self.mode}, {self.input_size}, {self.hidden_size}, int8 dynamic"
