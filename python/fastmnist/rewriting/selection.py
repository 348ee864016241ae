"""Which layers a transform takes, and which of them become one operator."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from torch import fx, nn

from fastmnist.rewriting.graph import Graph, is_linear

# Its forward reads out_proj.weight instead of calling out_proj. TransformerEncoderLayer, which
# reads linear1.weight on its fast path, is told to take the slow one: see `call_their_layers`.
_READ_WEIGHTS_DIRECTLY = (nn.MultiheadAttention,)

Selected = Callable[[str, nn.Module], bool]


def selection(
    root: nn.Module, layers: Mapping[str, nn.Module], include: Any, exclude: Any
) -> Selected:
    """Resolve `include` and `exclude` among `layers`, named from `root`.

    Raises
    ------
    TypeError, ValueError
        If an entry is no name, pattern or type, or stands for no layer, or none is left.
    """
    first = {id(layer): name for name, layer in reversed([*layers.items()])}
    by_name = {name: first[id(layer)] for name, layer in layers.items()}
    taken = {*by_name.values()}
    if include is not None:
        taken = set()
        for entry in entries("include", include):
            taken |= matches("include", entry, root, by_name)
    for entry in [] if exclude is None else entries("exclude", exclude):
        taken -= matches("exclude", entry, root, by_name)
    if not taken:
        raise ValueError("include, exclude: expected to leave a layer, got none left")
    chosen = {id(layers[name]) for name in taken}
    return lambda name, layer: id(layer) in chosen


def entries(what: str, spec: Any) -> list[Any]:
    """The names, patterns and types of a spec, or of a single one."""
    found = [spec] if isinstance(spec, str | type) or not isinstance(spec, Iterable) else [*spec]
    for entry in found:
        if not isinstance(entry, str) and not (
            isinstance(entry, type) and issubclass(entry, nn.Module)
        ):
            raise TypeError(
                f"{what}: expected names, patterns or types of modules, such as ['linear1', "
                f"'head.*', nn.Linear], got {entry!r}"
            )
    return found


def matches(what: str, entry: str | type, root: nn.Module, by_name: Mapping[str, str]) -> set[str]:
    """First names of the layers that an entry stands for: themselves, or in what it names.

    `by_name` maps every name of a layer to its first one.
    """
    modules = dict(root.named_modules(remove_duplicate=False))
    found = set()
    for name in by_name:
        parts = name.split(".")
        paths = ["", *(".".join(parts[: i + 1]) for i in range(len(parts)))]
        if isinstance(entry, str):
            hit = any(path == entry or fnmatchcase(path, entry) for path in paths[1:] or [""])
        else:
            hit = any(isinstance(modules[path], entry) for path in paths)
        if hit:
            found.add(by_name[name])
    if not found:
        if isinstance(entry, str):
            raise ValueError(f"{what}: {unknown(entry, by_name)}")
        raise ValueError(
            f"{what}: the model has no Linear layer that is, or is in, {entry.__name__}"
        )
    return found


def unknown(name: Any, names: Iterable[str]) -> str:
    """Say that there is no such layer, and which there are."""
    every = [*names]
    known = ", ".join(f"'{n}'" for n in every[:20])
    more = ", …" if len(every) > 20 else ""
    return f"the model has no Linear layer {name!r}: it has {known}{more}"


def check_there_is_something(root: nn.Module, layers: Mapping[str, nn.Module]) -> None:
    """Raise ValueError, telling what the model holds, if `layers` is empty."""
    if layers:
        return
    kinds = sorted({type(m).__name__ for m in root.modules() if not [*m.children()]})
    if "QuantizedLinear" in kinds:
        raise ValueError(
            "model: expected float Linear layers, got a model that is quantized already: "
            "fm.prepare_qat makes one trainable again"
        )
    if "InputObserver" in kinds:
        raise ValueError(
            "model: expected a float model, got one that is prepared already: fm.convert finishes "
            "it"
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


def left_in_float(
    root: nn.Module, taken: Mapping[str, nn.Module], graph: Graph | None, excluded: str = "excluded"
) -> dict[str, str]:
    """The Linear layers, and those like them, that are not taken, and why."""
    chosen = {id(layer) for layer in taken.values()}
    ordinary = quantizable(root)
    left: dict[str, str] = {}
    for name, module in root.named_modules():
        kinds = nn.Linear | nn.Bilinear | nn.LSTM | nn.GRU
        if not isinstance(module, kinds) or id(module) in chosen:
            continue
        if isinstance(module, nn.LSTM | nn.GRU):
            left[name] = f"{type(module).__name__}, which Dynamic and Half take, or excluded"
        elif name in ordinary and graph is not None and id(module) in graph.read:
            left[name] = "forward reads its weight itself"
        elif name in ordinary:
            left[name] = excluded
        elif is_linear(module) or type(module).__module__.startswith("torch.nn"):
            left[name] = "its owner reads the weight instead of calling it"
        else:
            left[name] = f"{type(module).__name__} may have arithmetic of its own"
    return left


def call_their_layers(root: nn.Module) -> None:
    """Keep transformers from reading ``linear1.weight`` of layers that are no longer float.

    torch's TransformerEncoderLayer hands its weights to one fused operator when nothing stands
    against that, and TransformerEncoder makes nested tensors of padded rows for it; what the two
    ask of themselves are these attributes.
    """

    def is_ours(layer: nn.Module) -> bool:
        return isinstance(layer, nn.TransformerEncoderLayer) and not all(
            type(part) is nn.Linear for part in (layer.linear1, layer.linear2)
        )

    for module in root.modules():
        if is_ours(module):
            module.activation_relu_or_gelu = 0  # type: ignore[assignment]
        elif isinstance(module, nn.TransformerEncoder) and any(map(is_ours, module.layers)):
            module.use_nested_tensor = False


def chains_of(graph: Graph | None, layers: Mapping[str, nn.Module]) -> list[list[str]]:
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


def input_layers(graph: Graph | None, layers: Mapping[str, nn.Module]) -> list[str]:
    """Names of the layers that the graph shows to be given the model's first input."""
    if graph is None:
        return []
    fed: dict[str, bool] = {}
    for node in graph.nodes:
        if node.op == "call_module" and str(node.target) in layers:
            name = str(node.target)
            fed[name] = fed.get(name, True) and graph.is_input(node, first=True)
    return [name for name, holds in fed.items() if holds]
