"""LSTM, GRU and RNN whose input and hidden projections are int8, each row by its own range.

The projections are the Linear layers inside: all steps' inputs in one call, and the hidden state's
step by step. Gates and states stay in float, as in the equations of ``torch.nn.LSTM``,
``torch.nn.GRU`` and ``torch.nn.RNN``, whose arguments, shapes and packed sequences are kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from fastmnist.files.fields import required_field
from fastmnist.int8.network import QuantizedNetwork
from fastmnist.int8.quantizer import INT8, FloatLayer, InputRule, WeightRule, quantize_layer
from fastmnist.layers.quantized import QuantizedLinear
from fastmnist.layers.registry import Arrays, Description, saved

RECURRENT = (nn.LSTM, nn.GRU, nn.RNN)
# How many gates of hidden_size outputs each projection has.
GATES = {"LSTM": 4, "GRU": 3, "RNN_TANH": 1, "RNN_RELU": 1}


def is_known_recurrent(module: nn.Module) -> bool:
    """Whether it is an LSTM, GRU or RNN with the arithmetic of its class."""
    return type(module) in RECURRENT and "forward" not in vars(module)


class _Direction(nn.Module):
    """One layer in one direction: both projections, and of an LSTM with proj_size a third."""

    def __init__(
        self, input: QuantizedLinear, hidden: QuantizedLinear, projection: QuantizedLinear | None
    ) -> None:
        super().__init__()
        self.input, self.hidden, self.projection = input, hidden, projection


def lstm_step(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """New states from the sum of both projections ``[B, 4 hidden]``, which is overwritten."""
    gate_i, gate_f, gate_g, gate_o = gates.chunk(4, -1)
    c = torch.addcmul(gate_f.sigmoid_() * c, gate_i.sigmoid_(), gate_g.tanh_())
    return gate_o.sigmoid_() * c.tanh(), c


def gru_step(x: Tensor, hidden: Tensor, h: Tensor) -> Tensor:
    """New state from both projections ``[B, 3 hidden]``; that of the hidden one is overwritten."""
    n = h.shape[-1]
    reset, update = torch.add(x[:, : 2 * n], hidden[:, : 2 * n]).sigmoid_().chunk(2, -1)
    new = torch.addcmul(x[:, 2 * n :], reset, hidden[:, 2 * n :]).tanh_()
    return torch.addcmul(new, update, h - new)


def rnn_step(x: Tensor, mode: str) -> Tensor:
    """New state from the sum of both projections ``[B, hidden]``, which is overwritten."""
    return x.tanh_() if mode == "RNN_TANH" else x.relu_()


def projection_of(
    owner: nn.Module, part: str, name: str, rule: WeightRule = INT8
) -> QuantizedLinear:
    """Quantize one projection, such as "ih_l0", of a recurrent layer or cell called `name`."""
    weight = getattr(owner, f"weight_{part}").detach()
    bias = getattr(owner, f"bias_{part}", None)
    bias = weight.new_zeros(len(weight)) if bias is None else bias.detach()
    layer = FloatLayer(f"{name}.{part}".strip("."), weight.numpy(), bias.numpy())
    canonical = quantize_layer(layer, InputRule(), rule)
    return QuantizedLinear(QuantizedNetwork((canonical,), "dynamic"))


def recurrent_shape(owner: nn.RNNBase) -> dict[str, Any]:
    """The arguments that an LSTM, GRU or RNN was made with, and which of them it is."""
    shape = {
        "mode": owner.mode,
        "input_size": owner.input_size,
        "hidden_size": owner.hidden_size,
        "num_layers": owner.num_layers,
        "bias": owner.bias,
        "batch_first": owner.batch_first,
        "bidirectional": owner.bidirectional,
    }
    return {**shape, "proj_size": owner.proj_size} if owner.mode == "LSTM" else shape


def recurrent_of(shape: dict[str, Any]) -> nn.RNNBase:
    """The reverse of :func:`recurrent_shape`: a layer of that shape, with weights of its own."""
    options = {**shape, "dtype": torch.float32}
    mode = options.pop("mode")
    if mode.startswith("RNN"):
        return nn.RNN(nonlinearity=mode.removeprefix("RNN_").lower(), **options)
    return nn.LSTM(**options) if mode == "LSTM" else nn.GRU(**options)


def checked_shape(description: Any) -> dict[str, Any]:
    """What :func:`recurrent_shape` wrote, after checking it.

    Raises
    ------
    ValueError
        Naming the field that is not as it should be.
    """
    mode = required_field(description, "mode", str)
    if mode not in GATES:
        raise ValueError(f"mode: expected one of {', '.join(GATES)}, got '{mode}'")
    shape: dict[str, Any] = {"mode": mode}
    sizes = ["input_size", "hidden_size", "num_layers"] + ["proj_size"] * (mode == "LSTM")
    for name in sizes:
        value = required_field(description, name, int)
        least = 0 if name == "proj_size" else 1
        most = 1024 if name == "num_layers" else 1 << 24
        if not least <= value <= most:
            raise ValueError(f"{name}: expected {least} to {most}, got {value}")
        shape[name] = value
    for name in ("bias", "batch_first", "bidirectional"):
        shape[name] = required_field(description, name, bool)
    return shape


@saved("recurrent", is_frozen=True, takes_numbers=True)
class QuantizedRecurrent(nn.Module):
    """An LSTM, GRU or RNN with int8 projections: made by :func:`fastmnist.quantize_dynamic`.

    Parameters
    ----------
    owner : torch.nn.LSTM, torch.nn.GRU or torch.nn.RNN
    name : str
        Its name in the model, for errors.
    rule : WeightRule
    """

    def __init__(self, owner: nn.RNNBase, name: str, rule: WeightRule = INT8) -> None:
        def quantized(which: str, suffix: str) -> QuantizedLinear:
            return projection_of(owner, f"{which}_{suffix}", name, rule)

        self._build(recurrent_shape(owner), quantized)

    def _build(
        self, shape: dict[str, Any], projection: Callable[[str, str], QuantizedLinear]
    ) -> None:
        super().__init__()
        self.shape = shape
        self.mode, self.num_layers = shape["mode"], shape["num_layers"]
        self.input_size, self.hidden_size = shape["input_size"], shape["hidden_size"]
        self.proj_size, self.batch_first = shape.get("proj_size", 0), shape["batch_first"]
        self.bidirectional = shape["bidirectional"]
        suffixes = ["", "_reverse"] if self.bidirectional else [""]
        self.directions = nn.ModuleList(
            _Direction(
                projection("ih", f"l{layer}{suffix}"),
                projection("hh", f"l{layer}{suffix}"),
                projection("hr", f"l{layer}{suffix}") if self.proj_size else None,
            )
            for layer in range(self.num_layers)
            for suffix in suffixes
        )
        self.eval()

    def describe(self) -> Description:
        """What a file has to tell besides the numbers, as plain JSON."""
        layers = {
            path: module.describe()
            for path, module in self.named_modules()
            if isinstance(module, QuantizedLinear)
        }
        return {"type": "recurrent", **self.shape, "layers": layers}

    @classmethod
    def rebuild(cls, description: Description, prefix: str, arrays: Arrays) -> QuantizedRecurrent:
        """Make one as described, with its numbers.

        Raises
        ------
        ValueError
            If the description or the numbers are not as they should be.
        """
        shape, layers = checked_shape(description), required_field(description, "layers", dict)
        made = cls.__new__(cls)
        count = [0, 0, 0]
        places = {"ih": (0, "input"), "hh": (1, "hidden"), "hr": (2, "projection")}
        # Gates, and what each projection is given: what the steps rely on.
        gates = GATES[shape["mode"]] * shape["hidden_size"]
        outputs = shape.get("proj_size", 0) or shape["hidden_size"]
        ways = 2 if shape["bidirectional"] else 1

        def stored(which: str, suffix: str) -> QuantizedLinear:
            kind, name = places[which]
            path = f"directions.{count[kind]}.{name}"
            count[kind] += 1
            at = f"{prefix}{path}."
            layer = QuantizedLinear.rebuild(required_field(layers, path, dict), at, arrays)
            inner = shape["input_size"] if suffix.split("_")[0] == "l0" else ways * outputs
            wanted = {
                "ih": (inner, gates),
                "hh": (outputs, gates),
                "hr": (shape["hidden_size"], outputs),
            }[which]
            if (layer.in_features, layer.out_features) != wanted or layer.kind != "dynamic":
                raise ValueError(
                    f"'{path}': expected {wanted[0]} inputs and {wanted[1]} outputs, dynamic, got "
                    f"{layer.in_features} and {layer.out_features}, {layer.kind}"
                )
            return layer

        made._build(shape, stored)
        return made

    @property
    def _outputs(self) -> int:
        return int(self.proj_size or self.hidden_size)

    def forward(self, input: Any, hx: Any = None) -> Any:
        if isinstance(input, PackedSequence):
            return self._packed(input, hx)
        if not isinstance(input, Tensor) or input.dim() not in (2, 3):
            got = [*input.shape] if isinstance(input, Tensor) else type(input).__name__
            raise ValueError(
                f"input: expected a tensor of 2 or 3 dimensions or a PackedSequence, got {got}"
            )
        if input.shape[-1] != self.input_size:
            raise ValueError(
                f"input: expected {self.input_size} features, got shape {[*input.shape]}"
            )
        batched = input.dim() == 3
        x = input if batched else input.unsqueeze(1)
        if batched and self.batch_first:
            x = x.transpose(0, 1)
        if x.shape[0] == 0:
            raise ValueError(f"input: expected at least one step, got shape {[*input.shape]}")
        states = self._first_states(hx, x.shape[1], batched, x)
        sizes = [x.shape[1]] * x.shape[0]
        y, h, c = self._run(x.reshape(-1, x.shape[-1]), sizes, states)
        y = y.reshape(x.shape[0], x.shape[1], y.shape[-1])
        if not batched:
            y, h, c = y.squeeze(1), h.squeeze(1), None if c is None else c.squeeze(1)
        elif self.batch_first:
            y = y.transpose(0, 1)
        return y, (h if c is None else (h, c))

    def _packed(self, packed: PackedSequence, hx: Any) -> Any:
        sizes = packed.batch_sizes.tolist()
        order, back = packed.sorted_indices, packed.unsorted_indices
        states = self._first_states(hx, sizes[0], True, packed.data)
        if order is not None:
            states = [None if s is None else s.index_select(1, order) for s in states]
        y, h, c = self._run(packed.data, sizes, states)
        if back is not None:
            h = h.index_select(1, back)
            c = None if c is None else c.index_select(1, back)
        return PackedSequence(y, packed.batch_sizes, order, back), (h if c is None else (h, c))

    def _first_states(
        self, hx: Any, batch: int, batched: bool, like: Tensor
    ) -> list[Tensor | None]:
        """h ``[layers, B, outputs]``, and of an LSTM c ``[layers, B, hidden]``."""
        is_lstm = self.mode == "LSTM"
        widths = [self._outputs] + ([self.hidden_size] if is_lstm else [])
        count = len(self.directions)
        if hx is None:
            states = [like.new_zeros(count, batch, w, dtype=torch.float32) for w in widths]
        else:
            given = [*hx] if is_lstm and isinstance(hx, tuple | list) else [hx]
            states = []
            for value, width in zip(given, widths, strict=False):
                wanted = [count, batch, width] if batched else [count, width]
                if not isinstance(value, Tensor) or [*value.shape] != wanted:
                    got = [*value.shape] if isinstance(value, Tensor) else type(value).__name__
                    raise ValueError(f"hx: expected shape {wanted}, got {got}")
                states.append(value.float() if batched else value.float().unsqueeze(1))
            if len(states) != len(widths):
                raise ValueError("hx: expected the pair (h_0, c_0) for an LSTM, got one tensor")
        return [*states, None][:2]

    def _run(
        self, x: Tensor, sizes: list[int], states: list[Tensor | None]
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """All layers over rows ``[steps' rows, features]``: `sizes` sequences at each step."""
        h_all, c_all = states
        assert h_all is not None
        last_h, last_c = [], []
        per_layer = 2 if self.bidirectional else 1
        for layer in range(self.num_layers):
            outputs = []
            for direction in range(per_layer):
                i = layer * per_layer + direction
                cell = self.directions[i]
                assert isinstance(cell, _Direction)
                c = None if c_all is None else c_all[i]
                y, h, c = _over_steps(
                    cell, self.mode, cell.input(x), sizes, h_all[i], c, direction == 1
                )
                outputs.append(y)
                last_h.append(h)
                last_c.append(c)
            x = outputs[0] if per_layer == 1 else torch.cat(outputs, dim=-1)
        cells = [c for c in last_c if c is not None]
        return x, torch.stack(last_h), torch.stack(cells) if cells else None

    def flatten_parameters(self) -> None:
        """Nothing to do: for code that calls it on an LSTM, GRU or RNN."""

    def extra_repr(self) -> str:
        return (
            f"{self.mode}, {self.input_size}, {self.hidden_size}, num_layers={self.num_layers}, "
            f"bidirectional={self.bidirectional}, int8 dynamic"
        )


def _over_steps(
    cell: _Direction,
    mode: str,
    projected: Tensor,
    sizes: list[int],
    h: Tensor,
    c: Tensor | None,
    backwards: bool,
) -> tuple[Tensor, Tensor, Tensor | None]:
    steps = list(projected.split(sizes))
    outputs: list[Tensor] = [projected] * len(steps)
    hidden, projection = cell.hidden, cell.projection
    for t in range(len(steps) - 1, -1, -1) if backwards else range(len(steps)):
        n = sizes[t]  # sequences that are this long: the first ones, as they are sorted
        whole = n == len(h)
        own = h if whole else h[:n]
        if mode.startswith("RNN"):
            new = rnn_step(hidden(own).add_(steps[t]), mode)
        elif c is None:
            new = gru_step(steps[t], hidden(own), own)
        else:
            new, new_c = lstm_step(hidden(own).add_(steps[t]), c if whole else c[:n])
            new = new if projection is None else projection(new)
            c = new_c if whole else torch.cat((new_c, c[n:]))
        outputs[t] = new
        h = new if whole else torch.cat((new, h[n:]))
    return torch.cat(outputs), h, c
