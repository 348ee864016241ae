"""Modules that are called by the shortest way while nobody listens.

``nn.Module.__call__`` takes longer to find out that a module has no hooks than a small layer takes
to run. :class:`Identity` and :class:`~fastmnist.modules.QuantizedChain` ask the same questions in
one condition, and leave everything else to it: hooks of the module's own or of all modules,
anything but a plain tensor (torch.fx's symbols, fake tensors), a ``forward`` or compiled form
of the instance's own, tools that replace ``nn.Module.__call__``.
"""

from __future__ import annotations

from typing import Any, Final

from torch import Tensor, nn
from torch.nn.modules import module as _module

# Private names of torch's, as old as hooks. They are changed in place, never replaced.
_HOOKS = (
    "_global_forward_hooks",
    "_global_forward_pre_hooks",
    "_global_backward_hooks",
    "_global_backward_pre_hooks",
)
_nobody: dict[int, Any] = {}
_forward, _forward_pre, _backward, _backward_pre = (getattr(_module, k, _nobody) for k in _HOOKS)
_call: Final = nn.Module.__call__
# What an instance holds of itself: more is a forward of its own, say, or a compiled one.
_ATTRIBUTES = len(vars(nn.Identity()))
if not all(hasattr(_module, name) for name in _HOOKS):  # another torch: never the short way
    _ATTRIBUTES = -1


class Missing:
    """Stands for an argument that was not given."""


def is_listened_to(module: nn.Module) -> bool:
    """Whether ``nn.Module.__call__`` would do more for this module than to call its forward."""
    own = module.__dict__
    return bool(
        own["_forward_hooks"]
        or own["_forward_pre_hooks"]
        or own["_backward_hooks"]
        or own["_backward_pre_hooks"]
        or _forward
        or _forward_pre
        or _backward
        or _backward_pre
        or "forward" in own
        or "_compiled_call_impl" in own
        or nn.Module.__call__ is not _call
        or _ATTRIBUTES < 0
    )


class Identity(nn.Identity):
    """What stands under the names of layers that were folded into others."""

    def __call__(self, input: Any = Missing, /, *args: Any, **kwargs: Any) -> Any:
        own = self.__dict__
        # is_listened_to, written out: a call of it would cost as much again.
        if (
            type(input) is Tensor
            and len(own) == _ATTRIBUTES
            and not (
                own["_forward_hooks"]
                or own["_forward_pre_hooks"]
                or own["_backward_hooks"]
                or own["_backward_pre_hooks"]
                or _forward
                or _forward_pre
                or _backward
                or _backward_pre
                or args
                or kwargs
            )
            and nn.Module.__call__ is _call
            and type(self) is Identity
        ):
            return input
        if input is not Missing:
            args = (input, *args)
        return super().__call__(*args, **kwargs)
