"""Which layers a transform takes, and why others are left."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from fastmnist.int8.network import MAX_INPUTS
from fastmnist.layers.linear import is_known_linear
from fastmnist.layers.registry import kind_of
from fastmnist.layers.simulated import SimulatedLinear
from fastmnist.rewriting.graph import Graph
from fastmnist.rewriting.steps import Kind

# Its forward reads out_proj.weight instead of calling out_proj. TransformerEncoderLayer, which
# reads linear1.weight on its fast path, is told to take the slow one: see
# `switch_off_transformer_fast_path`.
_READ_WEIGHTS_DIRECTLY = (nn.MultiheadAttention,)

Selected = Callable[[str, nn.Module], bool]
Names = str | type | Iterable[str | type] | None


def selection(
    root: nn.Module, layers: Mapping[str, nn.Module], include: Names, exclude: Names
) -> Selected:
    """Resolve `include` and `exclude` among `layers`, named from `root`.

    Raises
    ------
    TypeError, ValueError
        If an entry is no name, pattern or type, or stands for no layer, or none is left.
    """
    taken = selected_names(root, first_names(layers), include, exclude)
    chosen = {id(layers[name]) for name in taken}
    return lambda name, layer: id(layer) in chosen


def first_names(layers: Mapping[str, nn.Module]) -> dict[str, str]:
    """For every name of a layer its first one: a layer may have several."""
    first = {id(layer): name for name, layer in reversed([*layers.items()])}
    return {name: first[id(layer)] for name, layer in layers.items()}


def selected_names(
    root: nn.Module,
    by_name: Mapping[str, str],
    include: Names,
    exclude: Names,
    what: str = "a layer",
) -> set[str]:
    """First names of what `include` takes, and `exclude` leaves, of the layers in `by_name`."""
    taken = {*by_name.values()}
    if include is not None:
        named = entries("include", include)
        taken = {name for entry in named for name in matches("include", entry, root, by_name)}
    for entry in [] if exclude is None else entries("exclude", exclude):
        taken -= matches("exclude", entry, root, by_name)
    if not taken:
        raise ValueError(f"include, exclude: expected to leave {what}, got none left")
    return taken


def kept(spec: Names) -> Names:
    """The same, to be read more than once: an iterator is gone through once only."""
    return [*spec] if isinstance(spec, Iterator) else spec


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
            f"{what}: expected a type that a Linear layer is, or is in, got {entry.__name__}"
        )
    return found


def unknown(name: Any, names: Iterable[str]) -> str:
    """Say that there is no such layer, and which there are."""
    every = [*names]
    known = ", ".join(f"'{n}'" for n in every[:20])
    more = ", …" if len(every) > 20 else ""
    return f"expected one of the model's Linear layers, {known}{more}, got {name!r}"


def named_layers(root: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Modules by their first name, but those inside layers of ours, which are one layer."""
    inside: list[str] = []
    for name, module in root.named_modules():
        if not any(name.startswith(prefix) for prefix in inside):
            yield name, module
            if (kind := kind_of(module)) is not None and kind.is_frozen:
                inside.append(f"{name}." if name else "")


def check_not_prepared(root: nn.Module, instead: str = "fm.convert finishes it") -> None:
    """Raise ValueError for a model between ``prepare`` and ``convert``; `instead` is the advice."""
    if any(isinstance(module, SimulatedLinear) for module in root.modules()):
        raise ValueError(
            f"model: expected a float model, got one that is prepared already: {instead}"
        )


def check_has_linear(
    root: nn.Module,
    layers: Mapping[str, nn.Module],
    to: str = "quantize",
    instead: str = "fm.prepare_qat makes one trainable again",
) -> None:
    """Raise ValueError, telling what the model holds, if `layers` is empty.

    `to` names what they are wanted for, `instead` what to do about a model that is int8 already.
    """
    if layers:
        return
    check_not_prepared(root)
    frozen = {k.name for m in root.modules() if (k := kind_of(m)) is not None and k.is_frozen}
    if frozen and all(name.startswith("half") for name in frozen):
        raise ValueError(
            "model: expected float Linear layers, got a model of 16-bit layers: give the float "
            "model that it was made from"
        )
    if frozen:
        raise ValueError(
            f"model: expected float Linear layers, got a model that is quantized already: {instead}"
        )
    kinds = sorted({type(m).__name__ for m in root.modules() if not [*m.children()]})
    raise ValueError(
        f"model: expected at least one torch.nn.Linear to {to}, got none: it has "
        f"{', '.join(kinds[:8]) or 'no layers'}"
    )


def quantizable(root: nn.Module) -> dict[str, nn.Module]:
    """Every Linear by its first name, but those whose owners read their weights themselves."""
    owners = [n for n, m in root.named_modules() if isinstance(m, _READ_WEIGHTS_DIRECTLY)]
    return {
        name: module
        for name, module in named_layers(root)
        if is_known_linear(module) and not any(name.startswith(f"{owner}.") for owner in owners)
    }


def not_read(read: Collection[int], layers: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """Those of `layers` whose weights forward does not read itself, as far as traces show.

    Raises
    ------
    ValueError
        If none is left.
    """
    left = {name: layer for name, layer in layers.items() if id(layer) not in read}
    if not left:
        raise ValueError(
            "model: expected a Linear that is called, got only such whose weights forward() reads "
            "directly: call the layer instead"
        )
    return left


def narrow_enough(layers: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """Those of `layers` whose int8 products fit into the kernels' sums; wider ones stay float.

    Raises
    ------
    ValueError
        If none is left.
    """
    left = {name: layer for name, layer in layers.items() if not _is_too_wide(layer)}
    if layers and not left:
        name, layer = next(iter(layers.items()))
        raise ValueError(
            f"layer '{name}': expected at most {MAX_INPUTS} inputs, got {_inputs_of(layer)}: int32 "
            "sums of int8 products would overflow; use Half(), or leave the layer in float with "
            f"exclude=['{name}']"
        )
    return left


def _is_too_wide(layer: nn.Module) -> bool:
    return _inputs_of(layer) > MAX_INPUTS


def _inputs_of(layer: nn.Module) -> int:
    return int(getattr(layer, "in_features", getattr(layer, "input_size", 0)))


def left_in_float(
    root: nn.Module,
    taken: Mapping[str, nn.Module],
    read: Collection[int] = (),
    excluded: str = "excluded",
) -> dict[str, str]:
    """The Linear layers, and those like them, that are not taken, and why."""
    chosen = {id(layer) for layer in taken.values()}
    ordinary = quantizable(root)
    left: dict[str, str] = {}
    for name, module in named_layers(root):
        kinds = nn.Linear | nn.Bilinear | nn.RNNBase | nn.RNNCellBase
        kind = kind_of(module)
        if not isinstance(module, kinds) or id(module) in chosen or (kind and kind.is_frozen):
            continue
        if _is_too_wide(module):
            left[name] = f"int8 takes at most {MAX_INPUTS:,} inputs"
        elif isinstance(module, nn.RNNBase | nn.RNNCellBase):
            left[name] = f"{type(module).__name__}, which Dynamic and Half take, or excluded"
        elif name in ordinary and id(module) in read:
            left[name] = "forward reads its weight itself"
        elif name in ordinary:
            left[name] = excluded
        elif is_known_linear(module) or type(module).__module__.startswith("torch.nn"):
            left[name] = "its owner reads the weight instead of calling it"
        else:
            left[name] = f"{type(module).__name__} may have arithmetic of its own"
    return left


def switch_off_transformer_fast_path(root: nn.Module) -> None:
    """Keep transformers from reading ``linear1.weight`` of layers that are no longer float.

    torch's TransformerEncoderLayer hands its weights to one fused operator when nothing stands
    against that, and TransformerEncoder makes nested tensors of padded rows for it; what the two
    ask of themselves are these attributes, which copies, pickles and files' models keep.
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


def input_layers(graph: Graph | None, layers: Mapping[str, nn.Module]) -> list[str]:
    """Names of the layers that the graph shows to be given the model's first input."""
    if graph is None:
        return []
    fed: dict[str, bool] = {}
    for step in graph.steps:
        if step.path in layers and step.kind is not Kind.OTHER:
            fed[step.path] = fed.get(step.path, True) and graph.is_input(step, first=True)
    return [name for name, holds in fed.items() if holds]
