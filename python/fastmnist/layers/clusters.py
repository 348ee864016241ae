"""Weights that share few values: centroids that are trained, and each weight's place among them.

A clustered layer has no ``weight`` parameter but, as under a mask of ``torch.nn.utils.prune``, one
that a forward pre-hook computes anew in every call::

    weight_centroids  float32 [n] or [outputs, n]   Parameter: what optimizers see
    weight_indices    uint8 [outputs, inputs]       buffer: weight = centroids[indices]

Gradients of the weights that share a value add up in its centroid by themselves. Where a layer
keeps its zeros (``holds_zero``), the first centroid stands for 0 and gets no gradient. The weights
as they were lie behind, in a buffer that no state_dict holds, until they are wanted back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

SCOPES = ("layer", "channel")
MOST_VALUES = 256
_BEHIND = "weight_unclustered"


class ClusterHook:
    """Computes ``weight`` before each call of a clustered layer.

    Attributes
    ----------
    scope : {"layer", "channel"}
        Whether the layer has one table, or each output its own.
    holds_zero : bool
        Whether the first centroid is a 0 that is not trained.
    """

    def __init__(self, scope: str, holds_zero: bool) -> None:
        self.scope, self.holds_zero = scope, holds_zero

    def __call__(self, module: nn.Module, inputs: Any) -> None:
        module.weight = self.compute(module._parameters, module._buffers)

    def compute(
        self, parameters: Mapping[str, Tensor | None], buffers: Mapping[str, Tensor | None]
    ) -> Tensor:
        """The weight ``[outputs, inputs]`` that centroids and indices make."""
        table, indices = parameters.get("weight_centroids"), buffers.get("weight_indices")
        if table is None or indices is None:
            raise TypeError(
                "weight_centroids: expected a parameter of the clustered layer's own, got one that "
                "is pruned or parametrized: do that before fm.cluster, or undo it"
            )
        return looked_up(self.table(table), indices)

    def table(self, centroids: Tensor) -> Tensor:
        """The values that the weights have: the 0 whatever was written into its centroid."""
        if not self.holds_zero:
            return centroids
        return torch.cat([torch.zeros_like(centroids[..., :1]), centroids[..., 1:]], dim=-1)

    def before_load(
        self,
        module: nn.Module,
        state: Mapping[str, Any],
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Follow a state that is about to be loaded; see ``register_load_state_dict_pre_hook``."""
        if f"{prefix}weight" in state:
            # An error without `strict`, too: the clusters would stay as they were, in silence.
            error_msgs.append(
                f"'{prefix}weight': a plain weight does not fit a clustered layer: load it into "
                "the model from before fm.cluster, and cluster that"
            )
            return
        old, new = module._buffers.get("weight_indices"), state.get(f"{prefix}weight_indices")
        centroids = state.get(f"{prefix}weight_centroids")
        if old is None or new is None or centroids is None or old.shape != new.shape:
            return
        if old.is_meta or new.is_meta or torch.equal(old, new.to(old)):
            return
        # Other clusters: the weights behind are not theirs, and they may keep a 0, or not.
        module._buffers.pop(_BEHIND, None)
        module._non_persistent_buffers_set.discard(_BEHIND)
        self.holds_zero = bool((centroids[..., 0] == 0).all())


def cluster_hook(module: nn.Module) -> ClusterHook | None:
    """The hook of a layer that is clustered now."""
    hooks = module._forward_pre_hooks.values()
    return next((hook for hook in hooks if isinstance(hook, ClusterHook)), None)


def values_of(module: nn.Module) -> int:
    """How many values the weights of a clustered layer may have (each output's, by channel)."""
    return int(module.get_parameter("weight_centroids").shape[-1])


def looked_up(table: Tensor, indices: Tensor) -> Tensor:
    """The weight ``[outputs, inputs]`` that a table, or one of each output, and indices make."""
    if table.dim() == 2:
        return table.gather(1, indices.long())
    return table.index_select(0, indices.flatten().int()).view(indices.shape)


def put_clusters(
    layer: nn.Module,
    centroids: nn.Parameter,
    indices: Tensor,
    hook: ClusterHook,
    *,
    keep_weight: bool = True,
) -> None:
    """Cluster a layer with a plain weight; the very tensors may be those of others, too.

    With `keep_weight` the weight lies behind, to be brought back.
    """
    weight = layer._parameters.pop("weight")
    assert weight is not None
    layer.register_parameter("weight_centroids", centroids)
    layer.register_buffer("weight_indices", indices)
    if keep_weight:
        layer.register_buffer(_BEHIND, weight.detach(), persistent=False)
    layer.register_forward_pre_hook(hook)
    layer.register_load_state_dict_pre_hook(hook.before_load)
    with torch.no_grad():
        hook(layer, None)


def cluster_as_it_is(layer: nn.Module, scope: str) -> None:
    """Cluster a layer whose weights have few values already, such as one from a file.

    What it had before is not known: nothing lies behind.
    """
    weight = layer.get_parameter("weight").detach()
    rows = weight.reshape(1, -1) if scope == "layer" else weight
    distinct = [np.unique(row) for row in rows.cpu().numpy()]
    holds_zero = any(bool((values == 0).any()) for values in distinct)
    if holds_zero:  # first, and in every table
        distinct = [np.append(np.float32(0), values[values != 0]) for values in distinct]
    width = max(map(len, distinct))
    if width > MOST_VALUES:
        raise ValueError(f"expected at most {MOST_VALUES} distinct weights, got {width}")
    table = np.stack([np.pad(v, (0, width - len(v)), mode="edge") for v in distinct])
    places = np.empty(rows.shape, np.uint8)
    for own, values, row in zip(places, distinct, rows.cpu().numpy(), strict=True):
        order = np.argsort(values, kind="stable")
        own[:] = order[np.searchsorted(values, row, sorter=order)]
    centroids = torch.from_numpy(table if scope == "channel" else table[0]).to(weight)
    put_clusters(
        layer,
        nn.Parameter(centroids, requires_grad=layer.get_parameter("weight").requires_grad),
        torch.from_numpy(places).reshape(weight.shape).to(weight.device),
        ClusterHook(scope, holds_zero),
        keep_weight=False,
    )


def cluster_like(layer: nn.Module, other: nn.Module) -> None:
    """Cluster a layer whose weight was that of `other`, which is clustered by now."""
    hook = cluster_hook(other)
    assert hook is not None
    put_clusters(
        layer,
        other.get_parameter("weight_centroids"),
        other.get_buffer("weight_indices"),
        ClusterHook(hook.scope, hook.holds_zero),
        keep_weight=has_weights_behind(other),
    )


def remove_clusters(layer: nn.Module, *, bring_back: bool = False) -> None:
    """Give a clustered layer a plain weight: what it has now, or what it had before."""
    hook = cluster_hook(layer)
    assert hook is not None
    with torch.no_grad():
        weight = hook.compute(layer._parameters, layer._buffers)
        behind = layer._buffers.get(_BEHIND)
        if bring_back and behind is not None:
            weight = behind.to(weight).clone()
    requires_grad = layer.get_parameter("weight_centroids").requires_grad
    for key, found in [*layer._forward_pre_hooks.items()]:
        if found is hook:
            del layer._forward_pre_hooks[key]
    for key, wrapped in [*layer._load_state_dict_pre_hooks.items()]:
        if getattr(getattr(wrapped, "hook", None), "__self__", None) is hook:
            del layer._load_state_dict_pre_hooks[key]
    vars(layer).pop("weight", None)
    del layer._parameters["weight_centroids"], layer._buffers["weight_indices"]
    layer._buffers.pop(_BEHIND, None)
    layer._non_persistent_buffers_set.discard(_BEHIND)
    layer.register_parameter("weight", nn.Parameter(weight, requires_grad))


def has_weights_behind(layer: nn.Module) -> bool:
    """Whether there is something that could come back."""
    return layer._buffers.get(_BEHIND) is not None
