"""What was done to a weight that later steps are to keep: zeros of pruning, and shared values.

Masks and clusters are made permanent before a model is quantized: what is left of them is numbers.
So that training on (``fm.prepare_qat`` of a quantized model) keeps them, and quantizing gives
shared values one scale, the layer notes what there was. A note holds as long as the numbers do: a
layer that was trained since without its mask has fewer zeros than the note says, and more values.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from fastmnist.layers.clusters import MOST_VALUES, SCOPES, cluster_hook
from fastmnist.layers.fused import FusedLinear

_ATTRIBUTE = "fastmnist_kept"


@dataclass(frozen=True)
class Kept:
    """What a layer's weights keep.

    Attributes
    ----------
    zeros : int
        How many zeros a mask left; 0 where there was none.
    scope : {"", "layer", "channel"}
        What has a table of its own, where weights share values.
    values : int
        How many values a table has.
    """

    zeros: int = 0
    scope: str = ""
    values: int = 0

    def holds_of(self, weight: npt.NDArray[Any]) -> Kept:
        """What of it is still true of a weight ``[outputs, inputs]``."""
        zeros = self.zeros if 0 < self.zeros <= int((weight == 0).sum()) else 0
        shares = bool(self.scope) and distinct_values(weight, self.scope) <= self.values
        return Kept(zeros, *((self.scope, self.values) if shares else ()))

    def to_json(self) -> dict[str, Any]:
        """The field of a layer's description, empty where there is nothing to say."""
        told = {key: value for key, value in asdict(self).items() if value}
        return {"kept": told} if told else {}

    @classmethod
    def from_json(cls, description: dict[str, Any]) -> Kept:
        """The reverse of :meth:`to_json`, trusting nothing.

        Raises
        ------
        ValueError
            If the field is not as it should be.
        """
        told = description.get("kept", {})
        if not isinstance(told, dict):
            raise ValueError(f"kept: expected a dict, got {type(told).__name__}")
        zeros, scope, values = told.get("zeros", 0), told.get("scope", ""), told.get("values", 0)
        counts = all(type(n) is int and n >= 0 for n in (zeros, values)) and values <= MOST_VALUES
        if not counts or scope not in ("", *SCOPES):
            raise ValueError(f"kept: expected counts and a scope, got {told!r}")
        return cls(zeros, scope, values)


def distinct_values(weight: npt.NDArray[Any], scope: str) -> int:
    """The number of distinct weights; by channel, the largest of any output."""
    if scope == "layer":
        return len(np.unique(weight))
    return max((len(np.unique(row)) for row in weight), default=0)


def note_kept(layer: nn.Module, kept: Kept) -> None:
    """Note on a float layer what its weights are to keep."""
    object.__setattr__(layer, _ATTRIBUTE, asdict(kept))  # plain, so that pickles do not need us


def noted(layer: nn.Module) -> Kept:
    """What was noted, whether it still holds or not."""
    return Kept(**getattr(layer, _ATTRIBUTE, {}))


def shares_values(layer: nn.Module) -> bool:
    """Whether all outputs of a Linear take their weights from one table.

    A norm that is folded in gives each output other values.
    """
    if not isinstance(layer, nn.Linear):
        return False
    hook = cluster_hook(layer)
    if hook is not None:
        fused = isinstance(layer, FusedLinear)
        has_norm = fused and (layer.norm_before is not None or layer.norm_after is not None)
        return hook.scope == "layer" and not has_norm
    kept = noted(layer)
    return kept.scope == "layer" and bool(kept.holds_of(layer.weight.detach().cpu().numpy()).scope)
