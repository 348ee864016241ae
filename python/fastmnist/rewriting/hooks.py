"""The user's hooks: whether there are any, and moved along with a layer."""

from __future__ import annotations

from torch import nn
from torch.nn.utils import prune

from fastmnist.ranges.model_inputs import ModelInputs


def has_hooks(module: nn.Module) -> bool:
    """Whether calling the module runs anything of the user's besides its forward."""
    return bool(
        module._forward_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or any(
            not isinstance(hook, prune.BasePruningMethod | ModelInputs)
            for hook in module._forward_pre_hooks.values()
        )
    )


def move_hooks(source: nn.Module, target: nn.Module) -> None:
    """Let the forward hooks of one module run on another; those of backward have nothing to see."""
    for kind in (
        "_forward_hooks",
        "_forward_hooks_with_kwargs",
        "_forward_hooks_always_called",
        "_forward_pre_hooks",
        "_forward_pre_hooks_with_kwargs",
    ):
        getattr(target, kind).update(getattr(source, kind))
