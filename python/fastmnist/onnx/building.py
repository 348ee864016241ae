"""The torch module in the making: layers, functions between them, and what they are called."""

from __future__ import annotations

import math
import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from fastmnist.int8.activation import Activation
from fastmnist.int8.network import QuantizedNetwork
from fastmnist.layers.functions import activation_of
from fastmnist.layers.native import make_native
from fastmnist.layers.quantized import QuantizedLinear
from fastmnist.onnx.expressions import Array

Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Rows:
    """A value with a row for each of the input's.

    Attributes
    ----------
    node : fx.Node
    shape : tuple of int
        Of a row.
    is_index : bool
        Whether it is what arg max gives.
    """

    node: fx.Node
    shape: Shape
    is_index: bool = False


class Building:
    """A traced forward, step by step."""

    def __init__(self) -> None:
        self.graph = fx.Graph()
        self.root = nn.Module()
        self._int8: dict[str, QuantizedNetwork] = {}
        self._open: set[fx.Node] = set()  # layers that have no bias yet

    def input(self, name: str, shape: Shape) -> Rows:
        """Add an argument of forward."""
        word = re.sub(r"\W", "_", name) or "input"
        word = word if word.isidentifier() and not word[0].isdigit() else f"input_{word}"
        return Rows(self.graph.placeholder(word), shape)

    def layer(self, module: nn.Module, x: Rows, shape: Shape, name: str) -> Rows:
        """Call a module."""
        path = self._path(name)
        self.root.add_module(path, module)
        return Rows(self.graph.call_module(path, (x.node,)), shape)

    def int8(self, network: QuantizedNetwork, x: Rows, name: str) -> Rows:
        """Call an int8 layer; what follows it may still become part of it."""
        path = self._path(name)
        self.root.add_module(path, nn.Identity())
        self._int8[path] = network
        node = self.graph.call_module(path, (x.node,))
        return Rows(node, (*x.shape[:-1], network.outputs))

    def takes_bias(self, layer: Rows) -> None:
        """Note that a layer has no bias yet: what is added next may be it."""
        self._open.add(layer.node)

    def add_bias(self, layer: Rows, bias: Array) -> bool:
        """Let a constant be the bias of a layer that has none; whether it can be."""
        outputs = layer.shape[-1] if layer.shape else 0
        fits = bias.dtype.kind == "f" and bias.size == outputs and bias.shape[-1:] == (outputs,)
        if layer.node not in self._open or not fits or not np.isfinite(bias).all():
            return False
        self._open.discard(layer.node)
        path, made = str(layer.node.target), np.array(bias.reshape(-1), np.float32)
        if path in self._int8:
            (only,) = self._int8[path].layers
            self._int8[path] = replace(self._int8[path], layers=(replace(only, bias=made),))
        else:
            getattr(self.root, path).bias = nn.Parameter(torch.from_numpy(made))
        return True

    def call(
        self, function: Callable[..., Any], *arguments: Any, shape: Shape, **named: Any
    ) -> Rows:
        """Call a function."""
        return Rows(self.graph.call_function(function, _plain(arguments), _plain(named)), shape)

    def method(self, method: str, *arguments: Any, shape: Shape, **named: Any) -> Rows:
        """Call a method of a tensor."""
        return Rows(self.graph.call_method(method, _plain(arguments), _plain(named)), shape)

    def constant(self, array: Array, name: str) -> Any:
        """A number as it is, an array as a buffer."""
        if array.dtype.kind not in "fiu":
            raise ValueError(f"path: expected numbers as constant '{name}', got {array.dtype}")
        if array.size == 1 and array.ndim == 0:
            return float(array)
        path = self._path(name or "constant")
        made = torch.from_numpy(np.array(array, np.float32))
        self.root.register_buffer(path, made)
        return self.graph.get_attr(path)

    def _path(self, name: str) -> str:
        word = re.sub(r"\W+", "_", re.sub(r"\.(weight|bias)$", "", name)).strip("_")
        word = word or "layer"
        made, count = word, 1
        while hasattr(self.root, made) or made in ("forward", "training"):
            count += 1
            made = f"{word}_{count}"
        return made

    # ---- at the end ------------------------------------------------------------------------------

    def module(self, outputs: list[Rows], structure: Any) -> nn.Module:
        """The module: a Sequential where it is a chain, else a GraphModule."""
        nodes: Any = [rows.node for rows in outputs]
        if isinstance(structure, list):
            given: Any = dict(zip(structure, nodes, strict=True))
        elif structure is None and len(nodes) == 1:
            given = nodes[0]
        else:
            given = nodes if structure == "list" else tuple(nodes)
        self.graph.output(given)
        self._drop_unread()
        self._merge()
        if self._int8:
            for module in self.root.modules():
                make_native(module)
        for path, network in self._int8.items():
            has_bias = bool(network.layers[0].bias.any())
            setattr(self.root, path, QuantizedLinear(network, bias=has_bias))
        chain = self._chain()
        made = chain if chain is not None else fx.GraphModule(self.root, self.graph, "Imported")
        return made.eval()

    def _chain(self) -> nn.Sequential | None:
        last: fx.Node | None = None
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for node in self.graph.nodes:
            if node.op == "placeholder" and last is None:
                last = node
            elif node.op == "output" and node.args == (last,) and layers:
                # Only the placeholder's own readers count: a value that is read twice is no chain.
                return nn.Sequential(layers)
            elif node.op == "call_module" and node.args == (last,):
                if last is not None and len(last.users) != 1:
                    return None
                layers[str(node.target)] = getattr(self.root, str(node.target))
                last = node
            else:
                return None
        return None

    def _drop_unread(self) -> None:
        """Leave out steps whose values nothing reads, and what they hold."""
        for node in reversed([*self.graph.nodes]):
            if node.users or node.op in ("placeholder", "output"):
                continue
            self.graph.erase_node(node)
            if node.op in ("call_module", "get_attr"):
                delattr(self.root, str(node.target))
                self._int8.pop(str(node.target), None)

    def _merge(self) -> None:
        """Put clamps and activations into the int8 layers before them, as fm.quantize does."""
        for node in [*self.graph.nodes]:
            if node.op != "call_module" or not isinstance(source := node.args[0], fx.Node):
                continue
            path = str(source.target)
            if source.op != "call_module" or path not in self._int8 or len(source.users) != 1:
                continue
            network = self._int8[path]
            module = getattr(self.root, str(node.target))
            if network.layers[-1].function is not None:
                continue
            clamp, function = clamp_of(module), activation_of(module)
            if clamp is not None:
                self._int8[path] = network.clamped(clamp)
            elif isinstance(function, Activation):
                self._int8[path] = network.activated(function)
            else:
                continue
            node.replace_all_uses_with(source)
            self.graph.erase_node(node)
            delattr(self.root, str(node.target))


def clamp_of(module: nn.Module) -> tuple[float, float] | None:
    """The bounds of a module that clamps."""
    if type(module) is nn.ReLU:
        return (0.0, math.inf)
    if type(module) is nn.ReLU6:
        return (0.0, 6.0)
    if type(module) is nn.Hardtanh:
        return (float(module.min_val), float(module.max_val))
    return None


def clamp_module(lo: float, hi: float) -> nn.Module:
    """A module that clamps."""
    if (lo, hi) == (0.0, math.inf):
        return nn.ReLU()
    return nn.ReLU6() if (lo, hi) == (0.0, 6.0) else nn.Hardtanh(lo, hi)


def _plain(arguments: Any) -> Any:
    """Arguments with the nodes of what they hold."""
    if isinstance(arguments, Rows):
        return arguments.node
    if isinstance(arguments, dict):
        return {key: _plain(value) for key, value in arguments.items()}
    if isinstance(arguments, tuple | list):
        return type(arguments)(_plain(value) for value in arguments)
    return arguments
