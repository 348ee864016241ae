"""Which qconfig holds for which layer: by attributes and dicts (eager), or by a mapping (FX)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Any

from torch import nn
from torch.nn.utils import parametrize

from fastmnist.ao.qconfig_mapping import Order, QConfigMapping
from fastmnist.layers.cells import CELLS
from fastmnist.layers.fused import FusedLinear
from fastmnist.layers.recurrent import RECURRENT
from fastmnist.rewriting.graph import Graph
from fastmnist.rewriting.selection import quantizable

EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)
STEPPED = (*RECURRENT, *CELLS)


def float_type(module: nn.Module) -> type:
    """The type that rules speak of: of a fused or parametrized layer, the one that it was."""
    if isinstance(module, FusedLinear):
        return nn.Linear
    kind: type = parametrize.type_before_parametrizations(module)
    return kind


def candidates(root: nn.Module) -> dict[str, nn.Module]:
    """Every layer that some qconfig may change, by its first name."""
    linear = quantizable(root)
    kinds = (*STEPPED, *EMBEDDINGS)
    return {
        name: module
        for name, module in root.named_modules()
        if name in linear or (type(module) in kinds and "forward" not in vars(module))
    }


def eager_qconfigs(
    root: nn.Module, given: Mapping[Any, Any] | None = None, config: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The qconfig of every module by torch.ao's rule of eager mode.

    A module's own ``qconfig``, None included; else that of `given` for its name, else for its type,
    else its owner's. What `config` calls not traceable, its owner's are not handed down to.
    """
    given, config = given or {}, config or {}
    names = set(config.get("non_traceable_module_name") or ())
    types = set(config.get("non_traceable_module_class") or ())
    found: dict[str, Any] = {}

    def visit(module: nn.Module, path: str, above: Any) -> None:
        own = given.get(path, given.get(float_type(module), above))
        found[path] = own = getattr(module, "qconfig", own)
        for name, child in module.named_children():
            inside = f"{path}.{name}" if path else name
            if name not in names and type(child) not in types:
                visit(child, inside, own)

    visit(root, "", None)
    # A layer under several names goes by its first one, as everywhere.
    return found


def propagate_qconfig_(
    module: nn.Module,
    qconfig_dict: Mapping[Any, Any] | None = None,
    prepare_custom_config_dict: Mapping[str, Any] | None = None,
) -> None:
    """``torch.ao.quantization.propagate_qconfig_``: give each module inside its ``qconfig``."""
    found = eager_qconfigs(module, qconfig_dict, prepare_custom_config_dict)
    for path, qconfig in found.items():
        module.get_submodule(path).qconfig = qconfig


def mapped_qconfigs(
    root: nn.Module,
    mapping: QConfigMapping,
    names: Collection[str] = (),
    types: Collection[type] = (),
) -> dict[str, Any]:
    """The qconfig of every candidate by a mapping; `names` and `types` are not looked into.

    Raises
    ------
    ValueError
        If the mapping counts calls, and what the model calls cannot be traced.
    """
    order = _order_of_calls(root) if mapping.module_name_object_type_order_qconfigs else None
    modules = dict(root.named_modules())
    found = {}
    for name, layer in candidates(root).items():
        parts = name.split(".")
        above = [".".join(parts[:i]) for i in range(1, len(parts) + 1)]
        if any(path in names or type(modules.get(path)) in types for path in above):
            continue
        found[name] = mapping.qconfig_of(name, float_type(layer), order)
    return found


def _order_of_calls(root: nn.Module) -> Order:
    """Who calls a layer, and how many of its type that module called before."""
    graph, why = Graph.of(root)
    if graph is None:
        raise ValueError(
            f"qconfig_mapping: expected a model whose calls can be counted, got one that cannot be "
            f"traced ({why}): use set_module_name instead of set_module_name_object_type_order"
        )
    counts: dict[tuple[str, type], int] = defaultdict(int)
    first: dict[str, tuple[str, int]] = {}
    for step in graph.steps:
        if not step.path:
            continue
        parent = step.path.rpartition(".")[0]
        kind = float_type(root.get_submodule(step.path))
        first.setdefault(step.path, (parent, counts[parent, kind]))
        counts[parent, kind] += 1
    return first.get
