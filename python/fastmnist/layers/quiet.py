"""Modules called straight to their forward while no hook is registered.

``nn.Module.__call__`` takes longer to find out that a module has no hooks than a small layer takes
to run. What derives from :class:`QuietModule` asks the same questions in one condition, and leaves
everything else to ``nn.Module.__call__``: hooks of the module's own or of all modules, anything
but a plain tensor (torch.fx's symbols, fake tensors), a ``forward`` or compiled form of the
instance's own, tools that replace ``nn.Module.__call__``, subclasses.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn.modules import module as _module

from fastmnist.layers.registry import Arrays, Description, Kind, register

# torch's private names, as old as hooks; torch changes these objects in place, never replaces them.
_HOOKS = (
    "_global_forward_hooks",
    "_global_forward_pre_hooks",
    "_global_backward_hooks",
    "_global_backward_pre_hooks",
)
# In a torch without them a hook is taken to be there always.
_ALWAYS_HOOKED: dict[str, Any] = {"": None}
_forward, _forward_pre, _backward, _backward_pre = (
    getattr(_module, k, _ALWAYS_HOOKED) for k in _HOOKS
)
_Module = nn.Module
_call = nn.Module.__call__
# What an instance holds of itself: one with more may have a forward of its own, or a compiled one.
_ATTRIBUTES = len(vars(nn.Identity()))


class Missing:
    """Stands for an argument that was not given."""


class QuietModule(nn.Module):
    """A module with a short ``__call__``, which subclasses do not inherit."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__call__" not in vars(cls):
            cls.__call__ = _Module.__call__  # type: ignore[method-assign]

    def is_quiet(self) -> bool:
        """Whether ``nn.Module.__call__`` would do no more than to call the class's forward.

        Where nothing requires grad, that is: hooks of gradients are not looked for.
        """
        own = self.__dict__
        return not (
            own["_forward_hooks"]
            or own["_forward_pre_hooks"]
            or _forward
            or _forward_pre
            or "forward" in own
            or "_compiled_call_impl" in own
            or _Module.__call__ is not _call
        )


class Identity(QuietModule, nn.Identity):
    """What stands under the names of layers that were folded into others."""

    def __call__(self, input: Any = Missing, /, *args: Any, **kwargs: Any) -> Any:
        own = self.__dict__
        # Written out: a call of is_quiet would take as long again.
        if (
            type(input) is Tensor
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
            and len(own) == _ATTRIBUTES
            and _Module.__call__ is _call
        ):
            return input
        if input is not Missing:
            args = (input, *args)
        return _Module.__call__(self, *args, **kwargs)


class QuantStub(Identity):
    """``torch.ao.quantization.QuantStub``: where floats became codes. Here, nothing."""

    def __init__(self, qconfig: Any = None) -> None:
        super().__init__()


class DeQuantStub(Identity):
    """``torch.ao.quantization.DeQuantStub``: where codes became floats. Here, nothing."""

    def __init__(self, qconfig: Any = None) -> None:
        super().__init__()


def _describe_identity(layer: nn.Module) -> Description:
    return {"type": "identity"}


def _rebuild_identity(description: Description, prefix: str, arrays: Arrays) -> Identity:
    return Identity()


for _cls in (nn.Identity, Identity, QuantStub, DeQuantStub):
    register(_cls, Kind("identity", _describe_identity, _rebuild_identity))
