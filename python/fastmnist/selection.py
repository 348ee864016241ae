"""Which layers of a model are quantized, and which of them become one operator."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import fx, nn

from fastmnist.copies import check_module
from fastmnist.graph import Graph, is_linear

# Their forward may read linear1.weight instead of calling linear1, and go on in float.
_READ_WEIGHTS_DIRECTLY = (
    nn.TransformerEncoderLayer,
    nn.TransformerDecoderLayer,
    nn.MultiheadAttention,
)


def selection(model: Any, spec: Iterable[Any] | None) -> Callable[[str, nn.Module], bool]:
    if spec is None:
        return lambda name, layer: True
    if isinstance(spec, str | type) or not isinstance(spec, Iterable):
        raise TypeError(f"qconfig_spec: expected a set such as {{nn.Linear}}, got {spec!r}")
    wanted = [*spec]
    names = {entry for entry in wanted if isinstance(entry, str)}
    known = {name for name, _ in check_module(model).named_modules()}
    for entry in wanted:
        if isinstance(entry, str):
            if entry not in known:
                raise ValueError(f"qconfig_spec: the model has no module named '{entry}'")
        elif entry is not nn.Linear:
            raise ValueError(
                f"qconfig_spec: expected nn.Linear or names of modules, got {entry!r}: only Linear "
                "layers are quantized"
            )

    def selected(name: str, layer: nn.Module) -> bool:
        parts = name.split(".")
        above = {"", *(".".join(parts[:i]) for i in range(1, len(parts) + 1))}
        return nn.Linear in wanted or bool(above & names)

    return selected


def check_there_is_something(root: nn.Module) -> None:
    if quantizable(root):
        return
    kinds = sorted({type(m).__name__ for m in root.modules() if not [*m.children()]})
    if "QuantizedLinear" in kinds:
        raise ValueError(
            "model: expected float Linear layers, got a model that is quantized already"
        )
    raise ValueError(
        f"model: expected at least one torch.nn.Linear to quantize, got none: it has "
        f"{', '.join(kinds[:8]) or 'no layers'}"
    )


def quantizable(root: nn.Module) -> dict[str, nn.Module]:
    """Every Linear by its first name, but those whose owners read their weights themselves."""
    owners = [n for n, m in root.named_modules() if isinstance(m, _READ_WEIGHTS_DIRECTLY)]
    return {
        name: module
        for name, module in root.named_modules()
        if is_linear(module) and not any(name.startswith(f"{owner}.") for owner in owners)
    }


def chains_of(graph: Graph | None, layers: dict[str, nn.Module]) -> list[list[str]]:
    """Group the layers: names that follow each other and are used only there, else one by one."""
    chains: list[list[str]] = []
    taken: set[str] = set()
    for node in () if graph is None else graph.nodes:
        if graph is None or str(node.target) not in layers or not graph.is_private(node):
            continue
        if str(node.target) in taken:
            continue
        chain: list[str] = []
        at: fx.Node | None = node
        while at is not None and str(at.target) in layers and graph.is_private(at):
            chain.append(str(at.target))
            at = graph.next_layer(at)
        taken.update(chain)
        chains.append(chain)
    return chains + [[name] for name in layers if name not in taken]


def input_layers(graph: Graph | None, layers: dict[str, nn.Module]) -> list[str]:
    """Names of the layers that the graph shows to be given the model's first input."""
    if graph is None:
        return []
    fed: dict[str, bool] = {}
    for node in graph.nodes:
        if node.op == "call_module" and str(node.target) in layers:
            name = str(node.target)
            fed[name] = fed.get(name, True) and graph.is_input(node, first=True)
    return [name for name, holds in fed.items() if holds]
