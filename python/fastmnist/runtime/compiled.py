"""The whole network as one native call. Free of torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

import fastmnist._core as _core
from fastmnist.int8.activation import Activation
from fastmnist.int8.graph import GraphStep, NetworkGraph
from fastmnist.int8.network import QuantizedLayer, QuantizedNetwork
from fastmnist.runtime.explanation import explained
from fastmnist.runtime.graph_explanation import GraphExplanation, described, explained_graph
from fastmnist.runtime.graph_packing import pack_graph, ports_of
from fastmnist.runtime.layer_table import LayerTable
from fastmnist.runtime.planning import Plan, pack_and_plan, plan_mode
from fastmnist.runtime.unpacking import (
    filled_graph,
    filled_network,
    hollow_graph,
    hollow_network,
)


class CompiledModel(_core.Model):
    """A network that runs as a single native call: rows in, float32 outputs out.

    Created by :func:`fastmnist.compile` and :func:`fastmnist.load`. Immutable, so any number of
    threads may call one model at once. Pickled and deep-copied as canonical layers, which do not
    depend on the machine. Calls and :meth:`predict` are native: a Python method around them would
    cost as much as a small network itself.

    ``model(x, out=None)`` takes ``[N, ...]``, uint8 pixels or floats, NumPy or torch, and returns
    float32 outputs from the same library, structured like those of the model's forward: ``[N,
    classes]``, or a tuple, list or dict of several; arg max returns int64. `out`, a contiguous
    array of that shape and type (or a tuple, list or dict of them), is written to and returned, so
    that nothing is allocated. Pass several inputs in the order, or by the names, of forward's
    arguments. ``model.predict(x, out=None)`` returns the arg max over the last dimension of the
    single output, int64 ``[N]``. `in_features` and `out_features` are those of the first input and
    the first output. Calls do not propagate gradients.

    Parameters
    ----------
    network : QuantizedNetwork or NetworkGraph
        The layers, and how inputs are quantized; or a graph of such networks, float32 layers and
        the steps that join them. Pass several inputs in the order, or by the names, of the
        arguments of the model's forward; with several outputs, `out` is a tuple of arrays.
    plan : {"measured", "fixed"}, optional
        How kernels are chosen: by measuring them on this machine (about 15 ms for the digits
        network, once per shape and CPU), or by a fixed rule. Default: ``FASTMNIST_PLAN``, else
        "measured". The outputs are the same.

    Raises
    ------
    ValueError
        If `plan` is invalid.

    Examples
    --------
    >>> import fastmnist as fm, torch
    >>> model = fm.NeuralNetwork()
    >>> net = fm.compile(model, dynamic=True)
    >>> net(torch.rand(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """

    def __init__(self, network: QuantizedNetwork | NetworkGraph, plan: str | None = None) -> None:
        chain = network.as_network() if isinstance(network, NetworkGraph) else network
        self._wanted_plan = plan
        # Everything except the numbers, which the packed form already holds and which are unpacked
        # on request. Placeholders have their shapes and take no memory.
        self._hollow: QuantizedNetwork | NetworkGraph
        self._plans: tuple[Plan, ...]
        if chain is not None:
            packed, chosen = pack_and_plan(chain, plan)
            super().__init__(packed)
            self._plans, self._hollow = (chosen,), hollow_network(chain)
        else:
            assert isinstance(network, NetworkGraph)
            whole = pack_graph(network, plan)
            super().__init__(whole.packed, **ports_of(network))
            self._plans, self._hollow = whole.plans, hollow_graph(network)

    @property
    def network(self) -> QuantizedNetwork | NetworkGraph:
        """The canonical form that this model was made from, unpacked."""
        if isinstance(self._hollow, NetworkGraph):
            return filled_graph(self, self._hollow)
        return filled_network(self, self._hollow, 0)

    @property
    def layers(self) -> tuple[QuantizedLayer | GraphStep, ...]:
        """The fused layers: name, weight, weight_scale, bias, clamp, input scale, zero point.

        For a graph, the layers of its int8 parts, and its float32 layers: name, weight, bias,
        clamp.
        """
        return self.network.layers

    @property
    def plan(self) -> str:
        """How kernels were chosen: "measured" or "fixed"."""
        return self._plans[0].mode if self._plans else plan_mode(self._wanted_plan)

    @property
    def pixels(self) -> Any:
        """What a uint8 pixel means (mean, std), or None if uint8 rows are refused."""
        return self._hollow.pixels

    def predict_proba(self, *inputs: Any, **named: Any) -> Any:
        """Return class probabilities: float32 ``[N, classes]``, from the same library as `x`.

        These are the softmax of the outputs. If the network ends in Softmax or Sigmoid, they are
        its outputs; if it ends in LogSoftmax, their exponentials.

        Raises
        ------
        ValueError
            If the network has a single output feature, several output tensors, indices as outputs,
            or ends in another activation, so that its outputs are not logits; otherwise as for
            calling the model.
        """
        ending = _ending(self._hollow)
        if ending == "logits" and self.out_features < 2:
            raise ValueError("predict_proba: expected a network with at least two outputs, got 1")
        outputs = self(*inputs, **named)
        if ending == "probabilities":
            return outputs
        if not isinstance(outputs, np.ndarray):
            return outputs.exp() if ending == "logarithms" else outputs.softmax(dim=-1)
        if ending == "logits":
            outputs -= outputs.max(axis=-1, keepdims=True)
        np.exp(outputs, out=outputs)
        if ending == "logits":
            outputs /= outputs.sum(axis=-1, keepdims=True)
        return outputs

    def explain(self, rows: Sequence[int] = (1, 32, 1024)) -> LayerTable | GraphExplanation:
        """Show which kernels run, how close they come to a core's limit, and why others lost.

        Parameters
        ----------
        rows : sequence of int
            Batch sizes to report on.

        Returns
        -------
        LayerTable or GraphExplanation
            A table, which ``plot()`` draws, with a line per layer and batch size, and a total per
            batch size: the kernel (instruction set), its tile (rows × panels of 16 outputs), the
            time for the batch, or for the 96 rows that represent larger ones, the share of the
            core's limit (int8 products per second, or reading the weights, whichever takes longer:
            the best that probes and these kernels reached), and how much slower other kernels were.
            The first call measures the limits (under a second).

        Raises
        ------
        ValueError
            If `rows` contains anything but positive integers.
        """
        network = self.network
        if isinstance(network, NetworkGraph):
            return explained_graph(network, self._plans, rows)
        return explained(network, self._plans[0], rows)

    def __repr__(self) -> str:
        network = self._hollow
        if isinstance(network, NetworkGraph):
            return f"CompiledModel({described(network)}, {self.nbytes:,} bytes)"
        chain = "-".join(str(n) for n in (network.inputs, *(x.outputs for x in network.layers)))
        return f"CompiledModel({chain}, int8 {network.kind}, {self.nbytes:,} bytes)"

    def __reduce__(self) -> tuple[Any, ...]:
        recipe = {k: v for k, v in vars(self).items() if k == "fastmnist_recipe"}
        return type(self), (self.network, self._wanted_plan), recipe or None

    def __deepcopy__(self, memo: dict[int, Any]) -> CompiledModel:
        return self  # immutable


def _ending(network: QuantizedNetwork | NetworkGraph) -> str:
    """What the outputs are: "logits", "probabilities" or "logarithms" of those."""
    if isinstance(network, QuantizedNetwork):
        return _after(network.layers[-1].function)
    if len(network.outputs) != 1:
        raise ValueError(
            f"predict_proba: expected a network with one output, got {len(network.outputs)}: call "
            "the model, and take the one that you mean"
        )
    by_value = {step.value: step for step in network.steps}
    step = by_value[network.outputs[0]]
    while step.kind == "reshape" and step.operands[0] in by_value:
        step = by_value[step.operands[0]]
    if step.kind == "softmax":
        return "probabilities"
    if step.kind == "log_softmax":
        return "logarithms"
    if step.kind == "argmax":
        raise ValueError("predict_proba: expected logits, got a network that gives indexes")
    if step.network is not None:
        return _after(step.network.layers[-1].function)
    if step.kind in ("float", "activate"):
        return _after(step.function)
    if any(_makes_probabilities(before) for before in _behind_layers(step, by_value)):
        raise ValueError(
            f"predict_proba: expected logits or probabilities, got a network that goes on to "
            f"compute with probabilities ('{step.name}'): call the model, and make of its outputs "
            "what they mean"
        )
    return "logits"


def _behind_layers(step: GraphStep, by_value: Mapping[int, GraphStep]) -> Iterator[GraphStep]:
    """The steps between an output and the layers that it is made of, and these."""
    waiting, seen = [step], set[int]()
    while waiting:
        at = waiting.pop()
        if at.value in seen:
            continue
        seen.add(at.value)
        yield at
        if at.kind not in ("int8", "float"):
            waiting += [by_value[o] for o in at.operands if o in by_value]


def _makes_probabilities(step: GraphStep) -> bool:
    last = step.network.layers[-1].function if step.network is not None else step.function
    sigmoid = last is not None and last.name in ("sigmoid", "log_sigmoid")
    return sigmoid or step.kind in ("softmax", "log_softmax")


def _after(function: Activation | None) -> str:
    """What the outputs of a layer, or of an activation, are."""
    if function is None:
        return "logits"
    if function.name == "sigmoid":
        return "probabilities"
    if function.name == "log_sigmoid":
        return "logarithms"
    raise ValueError(
        f"predict_proba: expected logits or probabilities, got a network that ends in "
        f"{function.title}: call the model, and make of its outputs what they mean"
    )
