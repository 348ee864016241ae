"""Pruned layers that cost what plain ones do: the masked weight is kept until it changes.

``torch.nn.utils.prune`` multiplies weight and mask anew in a pre-hook of every call, which takes
longer than a small layer itself. Here the hook stays torch's own, so that everything of torch's
goes on; only the dict that holds it says that it is empty while there is nothing to do::

    call in eval mode, no gradients:   bool(hooks) ── numbers as they were? ──► False: no hook runs
                                                  └── else: weight = orig * mask, kept ──► False
    any other call:                    bool(hooks) ──► True: torch's hook runs; nothing is kept

Numbers "as they were" are the same tensors, written as often as before (torch's version counters).
What is written through ``.data`` is not counted; any call in training mode, or with gradients,
forgets what was kept, so that a training loop is safe with any optimizer.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from typing import Any

import torch
from torch import is_grad_enabled, nn
from torch._C import _get_tracing_state as tracing_state  # of torch.jit.trace
from torch.nn.utils import prune


class MaskHooks(OrderedDict[int, Any]):
    """The forward pre-hooks of a pruned layer. A copy, or a pickle, holds an ordinary dict.

    Parameters
    ----------
    layer : torch.nn.Module
        A layer whose ``weight`` is pruned.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__(layer._forward_pre_hooks)
        self._own = layer.__dict__
        # weight_orig and weight_mask, how often they had been written, and their product.
        self._kept: tuple[Any, int, Any, int, Any] | None = None

    def __bool__(self) -> bool:
        # In every call of the layer: no look-up that can be saved.
        own = self._own
        if own["training"] or is_grad_enabled() or len(self) != 1 or tracing_state() is not None:
            self._kept = None
            return len(self) > 0
        kept = self._kept
        if kept is None:
            return not self._keep()
        behind, version, mask, mask_version, weight = kept
        if (
            own["_parameters"].get("weight_orig") is behind
            and behind._version == version
            and own["_buffers"].get("weight_mask") is mask
            and mask._version == mask_version
            and own.get("weight") is weight
        ):
            return False
        return not self._keep()

    def _keep(self) -> bool:
        """Compute the weight; False where only torch's hook can."""
        own, (hook,) = self._own, self.values()
        behind, mask = own["_parameters"].get("weight_orig"), own["_buffers"].get("weight_mask")
        plain = type(behind) is nn.Parameter and type(mask) is torch.Tensor
        if (
            not plain
            or not isinstance(hook, prune.BasePruningMethod)
            or hook._tensor_name != "weight"
            or not (behind.is_cpu and mask.is_cpu)
            or behind.is_inference()
            or mask.is_inference()
            or torch.compiler.is_compiling()
        ):
            self._kept = None
            return False
        with torch.inference_mode(False), torch.no_grad():
            weight = mask.to(behind.dtype) * behind
        own["weight"] = weight
        self._kept = (behind, behind._version, mask, mask._version, weight)
        return True

    def __reduce__(self) -> tuple[Any, ...]:
        return OrderedDict, ([*self.items()],)

    def __deepcopy__(self, memo: dict[int, Any]) -> OrderedDict[int, Any]:
        return OrderedDict((key, copy.deepcopy(hook, memo)) for key, hook in self.items())


def keep_masked(layer: nn.Module) -> None:
    """Let a layer whose weight is pruned keep its product with the mask between calls."""
    if not isinstance(layer._forward_pre_hooks, MaskHooks):
        layer._forward_pre_hooks = MaskHooks(layer)
