"""Pruned and clustered layers that cost what plain ones do: the weight is kept until it changes.

``torch.nn.utils.prune`` multiplies weight and mask anew in a pre-hook of every call, and
:class:`~fastmnist.layers.clusters.ClusterHook` looks every weight up: that takes longer than a
small layer itself. The hook stays, so that everything of torch's goes on; only the dict that holds
it says that it is empty while there is nothing to do::

    call in eval mode, no gradients:   bool(hooks) ── numbers as they were? ──► False: no hook runs
                                                  └── else: the weight, kept ──► False
    any other call:                    bool(hooks) ──► True: the hook runs; nothing is kept

Numbers "as they were" are the same tensors in the same memory, written as often as before (torch's
version counters). What is written through ``.data`` is not counted: two numbers of the weight are
looked at, so that what changes all of it, as averaging does, is seen; what changes a few is not.
Any call in training mode, or with gradients, forgets what was kept, so that a training loop is safe
with any optimizer.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from typing import Any

import numpy as np
import torch
from torch import is_grad_enabled, nn
from torch._C import _get_tracing_state as tracing_state  # of torch.jit.trace
from torch.nn.utils import prune

from fastmnist.layers.clusters import cluster_hook

_MASKED = ("weight_orig", "weight_mask")
_CLUSTERED = ("weight_centroids", "weight_indices")


class KeptWeight(OrderedDict[int, Any]):
    """The forward pre-hooks of such a layer. A copy, or a pickle, holds an ordinary dict.

    Parameters
    ----------
    layer : torch.nn.Module
        A layer whose ``weight`` is pruned or clustered.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__(layer._forward_pre_hooks)
        self._own = layer.__dict__
        self._cluster = cluster_hook(layer)
        # The parameter and the buffer that the weight is computed from.
        self._behind, self._beside = _MASKED if self._cluster is None else _CLUSTERED
        # Both, how often they had been written, and the weight that they made; a look into the
        # memory of the parameter, and what it showed.
        self._kept: tuple[Any, ...] | None = None

    def __bool__(self) -> bool:
        # In every call of the layer: no look-up that can be saved.
        own = self._own
        behind = own["_parameters"].get(self._behind)
        if (
            own["training"]
            or (is_grad_enabled() and (behind is None or behind.requires_grad))
            or len(self) != 1
            or tracing_state() is not None
        ):
            self._kept = None
            return len(self) > 0
        kept = self._kept
        if kept is None:
            return not self._keep()
        known, version, mask, mask_version, weight, address, look, i, at_i, j, at_j = kept
        if (
            behind is known
            and behind._version == version
            and behind.data_ptr() == address
            and look[i] == at_i
            and look[j] == at_j
            and own["_buffers"].get(self._beside) is mask
            and mask._version == mask_version
            and own.get("weight") is weight
        ):
            return False
        return not self._keep()

    def _keep(self) -> bool:
        """Compute the weight; False where only torch's hook can."""
        own, (hook,) = self._own, self.values()
        behind = own["_parameters"].get(self._behind)
        mask = own["_buffers"].get(self._beside)
        plain = type(behind) is nn.Parameter and type(mask) is torch.Tensor
        if (
            not plain
            or not (hook is self._cluster or is_mask_of_weight(hook))
            or not (behind.is_cpu and mask.is_cpu)
            or behind.dtype not in (torch.float32, torch.float64)
            or behind.numel() == 0
            or behind.is_inference()
            or mask.is_inference()
            or torch.compiler.is_compiling()
        ):
            self._kept = None
            return False
        with torch.inference_mode(False), torch.no_grad():
            if self._cluster is not None:
                weight = self._cluster.compute(own["_parameters"], own["_buffers"])
            else:
                weight = mask.to(behind.dtype) * behind
            look = _look_into(behind.detach())
            i, j = _telling(look)
        own["weight"] = weight
        written = behind._version, mask, mask._version
        self._kept = (behind, *written, weight, behind.data_ptr(), look, i, look[i], j, look[j])
        return True

    def __reduce__(self) -> tuple[Any, ...]:
        return OrderedDict, ([*self.items()],)

    def __deepcopy__(self, memo: dict[int, Any]) -> OrderedDict[int, Any]:
        weight = self._own.get("weight")
        if isinstance(weight, torch.Tensor) and not weight.is_leaf:
            # The product of a call with gradients: torch copies no such tensor, and stops.
            memo[id(weight)] = weight.detach().clone()
        return OrderedDict((key, copy.deepcopy(hook, memo)) for key, hook in self.items())


def _look_into(weight: torch.Tensor) -> memoryview:
    """The memory of a weight, as Python reads it fastest; a copy of it, if it is not contiguous."""
    array: Any = weight.numpy().reshape(-1)
    return memoryview(array)


def _telling(look: memoryview) -> tuple[int, int]:
    """Places of the largest number in the first and in the second half, no zeros unless all are."""
    numbers, half = np.abs(np.asarray(look)), max(1, len(look) // 2)
    return int(numbers[:half].argmax()), int(len(look) - half + numbers[-half:].argmax())


def is_mask_of_weight(hook: Any) -> bool:
    """Whether it is torch's, of a mask of ``weight``."""
    return isinstance(hook, prune.BasePruningMethod) and hook._tensor_name == "weight"


def keep_weight(layer: nn.Module) -> None:
    """Let a layer whose weight is pruned or clustered keep it between calls."""
    hooks = layer._forward_pre_hooks
    if not isinstance(hooks, KeptWeight) or hooks._cluster is not cluster_hook(layer):
        layer._forward_pre_hooks = KeptWeight(layer)
