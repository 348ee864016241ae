"""Plans carried out: layers prepared, and layers replaced, by the transforms of the house."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from fastmnist.ao.plans import Plan, embedding_plan_of, is_fixed, plan_of, stepped_plan_of
from fastmnist.ao.rules import EMBEDDINGS, STEPPED, candidates, float_type
from fastmnist.ao.unseen import guard, settle
from fastmnist.display.callers import callers_level
from fastmnist.layers.linear import is_float_linear
from fastmnist.layers.simulated import SimulatedLinear
from fastmnist.layers.simulated_embedding import (
    SimulatedEmbedding,
    SimulatedEmbeddingBag,
    simulate_rows,
)
from fastmnist.quantization.configs import QAT, Dynamic, Half, Static
from fastmnist.quantization.converting import convert as fastmnist_convert
from fastmnist.quantization.embeddings import WeightOnlyEmbeddings
from fastmnist.quantization.posttraining import DynamicInt8, HalfWeights, SixteenBits
from fastmnist.quantization.prepared import drop_inputs, hand_rows_on, prepared_layers
from fastmnist.quantization.preparing import prepare_model
from fastmnist.rewriting.changes import drop_outdated
from fastmnist.rewriting.copies import checked_copy, plain_copy
from fastmnist.rewriting.transform import Transform, transformed

Plans = Mapping[str, Plan]
# On a prepared model: what convert is to do with the layers that are not observed.
LATER = "fastmnist_plans"


def planned(
    root: nn.Module, qconfigs: Mapping[str, Any], only: Any = None, *, training: bool = False
) -> dict[str, Plan]:
    """What is to become of each layer that has a qconfig; `only` are the types to look at.

    Raises
    ------
    TypeError, ValueError
        For a qconfig that cannot be heeded, naming its layer.
    """
    plans: dict[str, Plan] = {}
    for name, layer in candidates(root).items():
        qconfig, kind = qconfigs.get(name), float_type(layer)
        if qconfig is None or (only is not None and kind not in only):
            continue
        if kind in EMBEDDINGS:
            plan = embedding_plan_of(qconfig, name)
        elif kind in STEPPED:
            plan = stepped_plan_of(qconfig, name)
        else:
            plan = plan_of(qconfig, name, training=training)
        if plan is not None:
            plans[name] = plan
    return plans


def prepare_planned(
    model: nn.Module,
    plans: Plans,
    *,
    inplace: bool,
    training: bool = False,
    rows: bool = False,
) -> nn.Module:
    """Prepare the layers that observe, and note what becomes of others; warn if there is none.

    With `rows`, embeddings simulate their codes from now on.
    """
    if not plans:
        warn_of_nothing()
    if inplace and any(plan.watcher for plan in plans.values()):
        # On a copy first, so that an error leaves the model unchanged.
        prepare_planned(model, plans, inplace=False, training=training)
    observing = {
        name: plan
        for name, plan in plans.items()
        if is_float_linear(model.get_submodule(name))
        and (plan.kind == "static" or (training and plan.kind == "dynamic"))
    }
    kind: type[Static] | type[QAT] = QAT if training else Static
    result = _untouched(model, inplace=inplace, training=training)
    if observing:
        configs = {
            n: kind(observer=p.rule, per_channel=p.per_channel) for n, p in observing.items()
        }
        by_row = {name for name, plan in observing.items() if plan.kind == "dynamic"}
        result = prepare_model(model, kind(), own=configs.get, by_row=by_row, inplace=inplace)
        for name, layer in prepared_layers(result).items():
            _attach(layer, name, observing[name])
    later = {name: plan for name, plan in plans.items() if name not in observing}
    for name, plan in later.items() if rows else ():
        if plan.kind.startswith("embedding"):
            simulate_rows(result.get_submodule(name), _bits(plan.kind))
    object.__setattr__(result, LATER, later)
    return result


def _untouched(model: nn.Module, *, inplace: bool, training: bool) -> nn.Module:
    if inplace:
        return model if training else model.cpu().float().eval()
    return checked_copy(model) if training else plain_copy(model)


def _attach(layer: SimulatedLinear, name: str, plan: Plan) -> None:
    watcher = None if plan.watcher is None else plan.watcher()
    if watcher is not None and layer.columns_differ:
        # What a norm levelled was watched in torch; here it is folded in, and each column of what
        # is given to it has a range of its own, which only own observers cannot make of it.
        if is_fixed(watcher) or not type(watcher).__module__.startswith(("fastmnist", "torch.")):
            raise ValueError(
                f"qconfig of '{name}': expected an observer of ranges, got "
                f"{type(watcher).__name__}, as a BatchNorm1d leads and is folded in: leave that "
                "layer in float with a qconfig of None"
            )
        watcher = None
    if watcher is not None:
        layer.watcher = watcher.to(layer.weight.device).train(layer.training)
    layer.weight_scales, layer.dynamic = plan.weight_scales, plan.kind == "dynamic"


def convert_planned(
    model: nn.Module, keep: Callable[[str], bool], *, inplace: bool, remove_qconfig: bool
) -> nn.Module:
    """Convert what was prepared, and do what was noted; layers that `keep` refuses stay float."""
    if inplace and not all(
        keep(n) and m.observer.started for n, m in prepared_layers(model).items()
    ):
        with warnings.catch_warnings():  # first a copy, so that no error comes half way
            warnings.simplefilter("ignore")
            convert_planned(model, keep, inplace=False, remove_qconfig=remove_qconfig)
    root = model if inplace else checked_copy(model)  # layers may be released, or settled
    hand_rows_on(model, root)
    later: dict[str, Plan] = vars(root).get(LATER, {})
    for name, layer in prepared_layers(root).items():
        if not keep(name):
            layer.released()
    for module in root.modules():
        if isinstance(module, SimulatedEmbedding | SimulatedEmbeddingBag):
            module.released()
    prepared = prepared_layers(root)
    unseen = settle(prepared)
    if prepared:
        result = fastmnist_convert(root, inplace=inplace)
    else:
        drop_inputs(root)
        result = root.cpu().float().eval()
    result = replaced(result, {n: p for n, p in later.items() if keep(n)}, inplace=inplace)
    guard(result, unseen)
    vars(result).pop(LATER, None)
    if remove_qconfig:
        drop_qconfigs(result)
    return result


def replaced(model: nn.Module, plans: Plans, *, inplace: bool) -> nn.Module:
    """Replace layers as planned, one kind after the other."""
    for how, names in _transforms(plans):
        select = lambda name, layer, names=names: name in names  # noqa: E731
        model = transformed(model, how, select=select, inplace=inplace)
        drop_outdated(model)
        inplace = inplace or bool([*model.children()])  # a copy by now, but a lone layer
    return model


def _transforms(plans: Plans) -> list[tuple[Transform, set[str]]]:
    groups: dict[Any, set[str]] = {}
    for name, plan in plans.items():
        groups.setdefault((plan.kind, plan.per_channel, plan.dtype), set()).add(name)
    made: list[tuple[Transform, set[str]]] = []
    for (kind, per_channel, dtype), names in groups.items():
        how: Transform
        if kind == "dynamic":
            how = DynamicInt8(Dynamic(per_channel=per_channel))
        elif kind == "half":
            how = SixteenBits(Half(dtype))
        elif kind == "half weights":
            how = HalfWeights()
        else:
            how = WeightOnlyEmbeddings(_bits(kind))
        made.append((how, names))
    return made


def _bits(kind: str) -> int:
    return 4 if kind.endswith("4bit") else 8


def drop_qconfigs(model: nn.Module) -> None:
    """Take the qconfigs away that rules were read from."""
    for module in model.modules():
        vars(module).pop("qconfig", None)


def warn_of_nothing() -> None:
    """Say that no layer has a qconfig that changes it; torch.ao warns, too."""
    warnings.warn(
        "model: expected a layer with a qconfig that quantizes it, got none: the result is in "
        "float. Set model.qconfig (or that of the modules meant), and see fastmnist's "
        "docs/torch-ao.md for the types of layers that there are",
        stacklevel=callers_level(),
    )
