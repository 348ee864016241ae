"""Masks: torch's own (``weight_orig``, ``weight_mask``), computed and kept up to date."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import prune as torch_prune

from fastmnist.pruning.methods import CustomMask, L1Unstructured, RandomUnstructured
from fastmnist.pruning.targets import Target, own_weight
from fastmnist.rewriting.changes import PRUNED, Change
from fastmnist.rewriting.kept_weights import keep_weight
from fastmnist.rewriting.masks import apply_masks, is_pruned
from fastmnist.training.finetuning import check_finite

# From the final amount to that of the present step.
AmountNow = Callable[[float], float]


def mask_of(layer: nn.Module) -> Tensor:
    """Which weights the layer has left, as booleans; all of them where it has no mask."""
    mask = layer._buffers.get("weight_mask")
    if mask is not None:
        return mask.detach() != 0
    weight = own_weight(layer)
    assert weight is not None
    return torch.ones(weight.shape, dtype=torch.bool)


def put_mask(layer: nn.Module, keep: Tensor) -> None:
    """Give the layer this mask, instead of the one that it has."""
    if layer._buffers.get("weight_mask") is None:
        # Holds no second copy of the mask, as CustomFromMask does.
        torch_prune.identity(layer, "weight")
    mask = layer._buffers["weight_mask"]
    assert mask is not None
    mask.copy_(keep)
    apply_masks(layer)
    keep_weight(layer)


class MaskPruner:
    """Sets weights of some layers to zero, in one step or several.

    Every step masks the share of that step afresh, from the weights behind the masks as they are
    then; what was masked before the first step stays masked, and counts for nothing.
    """

    def __init__(
        self, method: L1Unstructured | RandomUnstructured | CustomMask, targets: list[Target]
    ) -> None:
        self._method = method
        self._targets = targets
        self._before = [mask_of(target.layer) for target in targets]
        self._leaders = self._find_leaders()
        self._groups = self._find_groups()
        self._check()
        self._random: dict[int, Tensor] = {}
        self._now: dict[int, Tensor] = {}  # the masks of the last step

    def _find_leaders(self) -> list[int]:
        """For each target the first one that has the same parameter: they get the same mask."""
        first: dict[int, int] = {}
        leaders = []
        for i, target in enumerate(self._targets):
            leader = first.setdefault(id(own_weight(target.layer)), i)
            if isinstance(self._method, CustomMask):
                one, other = (self._method.masks[t.name] for t in (self._targets[leader], target))
                if not torch.equal(one, other):
                    raise ValueError(
                        f"masks: expected the same mask for '{self._targets[leader].name}' and "
                        f"'{target.name}', which share one weight, got different ones"
                    )
            elif target.amount != self._targets[leader].amount:
                raise ValueError(
                    f"amounts: expected the same for '{self._targets[leader].name}' and "
                    f"'{target.name}', which share one weight, got "
                    f"{self._targets[leader].amount} and {target.amount}"
                )
            leaders.append(leader)
        return leaders

    def _find_groups(self) -> list[list[int]]:
        """Targets of which a share is taken together."""
        own = [i for i, leader in enumerate(self._leaders) if i == leader]
        if getattr(self._method, "scope", "layer") != "global":
            return [[i] for i in own]
        together = [i for i in own if not self._targets[i].alone]
        return [[i] for i in own if self._targets[i].alone] + ([together] if together else [])

    def _check(self) -> None:
        if isinstance(self._method, CustomMask):
            news = (
                int((before & ~self._method.masks[target.name]).sum())
                for target, before in zip(self._targets, self._before, strict=True)
            )
            if not any(news):
                raise ValueError(
                    "masks: expected masks that remove weights, got masks that remove none"
                )
            return
        for target, before in zip(self._targets, self._before, strict=True):
            if target.explicit and target.amount > 0 and not before.any():
                raise ValueError(
                    f"amounts, include: expected layers with weights left, got '{target.name}', "
                    "all of whose weights are masked"
                )
        if not sum(self._count(group, self._amount(group)) for group in self._groups):
            raise ValueError(
                f"method: expected an amount that removes weights, got {self._method.amount}, "
                "which removes none"
            )

    def _amount(self, group: list[int]) -> float:
        """The share of its weights that a group is to lose."""
        amount, left = self._targets[group[0]].amount, self._left(group)
        if isinstance(amount, float):
            return amount
        if amount > left:
            raise ValueError(
                f"amount: expected at most the {left} weights that "
                f"'{self._targets[group[0]].name}' has left, got {amount}: an int is a "
                "number of weights, a float a share of them"
            )
        return amount / left if left else 0.0

    def _left(self, group: list[int]) -> int:
        return sum(int(self._before[i].sum()) for i in group)

    def _count(self, group: list[int], amount: float) -> int:
        # As torch counts: Python's round, of the weights that are left.
        return round(amount * self._left(group))

    def step(self, now: AmountNow) -> None:
        """Mask what this step asks for."""
        masks: dict[int, Tensor] = {}
        with torch.no_grad():
            if isinstance(self._method, CustomMask):
                for i, target in enumerate(self._targets):
                    masks[i] = self._before[i] & self._method.masks[target.name]
            else:
                generator = self._generator()
                for group in self._groups:
                    masks |= self._smallest(group, now(self._amount(group)), generator)
                for i, leader in enumerate(self._leaders):
                    masks[i] = self._before[i] & masks[leader]
            for i, target in enumerate(self._targets):
                put_mask(target.layer, masks[i])
        self._now = masks

    def _generator(self) -> torch.Generator | None:
        seed = getattr(self._method, "seed", None)
        return None if seed is None else torch.Generator().manual_seed(seed)

    def _smallest(
        self, group: list[int], amount: float, generator: torch.Generator | None
    ) -> dict[int, Tensor]:
        """The masks of a group without its share of lowest rank, among the weights it had left."""
        before = torch.cat([self._before[i].flatten() for i in group])
        count = self._count(group, amount)
        if isinstance(self._method, RandomUnstructured):
            # Drawn once: what a step removes, the next ones remove too.
            if group[0] not in self._random:
                self._random[group[0]] = torch.rand(int(before.sum()), generator=generator)
            removed = torch.topk(self._random[group[0]], count).indices
        else:
            weights = [own_weight(self._targets[i].layer) for i in group]
            flat = torch.cat([w.detach().flatten() for w in weights if w is not None])
            removed = torch.topk(flat[before].abs(), count, largest=False).indices
        left = torch.ones(int(before.sum()), dtype=torch.bool)
        left[removed] = False
        flat_mask = torch.zeros_like(before)
        flat_mask[before] = left
        sizes = [self._before[i].numel() for i in group]
        parts = flat_mask.split(sizes)
        return {i: part.view_as(self._before[i]) for i, part in zip(group, parts, strict=True)}

    def check_kept(self, root: nn.Module) -> None:
        """Raise RuntimeError if training took away masks, layers, or all sense."""
        modules: dict[str, Any] = dict(root.named_modules(remove_duplicate=False))
        for i, target in enumerate(self._targets):
            there = modules.get(target.name) is target.layer and is_pruned(target.layer)
            if not there or not torch.equal(mask_of(target.layer), self._now[i]):
                raise RuntimeError(
                    f"finetune: expected to find '{target.name}' as it was, with its mask, after "
                    "training; finetune must train the model that it is given in place"
                )
            check_finite(target.name, target.layer)

    def changes(self) -> list[Change]:
        """What became of each layer."""
        done = []
        for target, before in zip(self._targets, self._before, strict=True):
            if int(mask_of(target.layer).sum()) < int(before.sum()):
                weight = target.layer.weight
                zeros, total = int((weight == 0).sum()), weight.numel()
                done.append(Change(target.name, PRUNED, total, zeros))
        return done
