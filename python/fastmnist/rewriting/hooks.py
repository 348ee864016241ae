"""The user's hooks: whether there are any, and moved along with a layer."""

from __future__ import annotations

from collections.abc import Mapping

from torch import fx, nn
from torch.nn.modules import module as _module
from torch.nn.utils import prune

from fastmnist.layers.clusters import ClusterHook
from fastmnist.layers.quiet import QuietModule
from fastmnist.ranges.model_inputs import ModelInputs

# torch's private names; torch changes these objects in place, never replaces them.
_FOR_ALL: list[dict[int, object]] = [
    getattr(_module, "_global_forward_hooks", {}),
    getattr(_module, "_global_forward_pre_hooks", {}),
]


def has_hooks(module: nn.Module) -> bool:
    """Whether calling the module runs anything of the user's besides its forward.

    A hook of its own, one for all modules, or a ``__call__`` of its class.
    """
    cls = type(module)
    return (
        any(_FOR_ALL)
        or (cls.__call__ is not nn.Module.__call__ and not _has_known_call(cls))
        or bool(module._forward_hooks)
        or _has_backward(module)
        or _has_before(module)
    )


def _has_known_call(cls: type[nn.Module]) -> bool:
    """Whether a class's own ``__call__`` is ours, or fx's, which words errors of generated code."""
    if issubclass(cls, QuietModule):
        return True
    wrapped = vars(cls).get("_wrapped_call")
    return (
        issubclass(cls, fx.GraphModule)
        and getattr(wrapped, "cls_call", cls) is None  # else fx's goes on to the class's
        and cls.__call__.__module__ == fx.graph_module.__name__
    )


def watched_inside(modules: Mapping[str, nn.Module]) -> str | None:
    """Of modules that become one, by name: the first whose hooks would not run any more.

    Those before the first module and after the last one go on.
    """
    names = [*modules]
    for name, module in modules.items():
        if (
            _has_backward(module)
            or (name != names[0] and _has_before(module))
            or (name != names[-1] and module._forward_hooks)
        ):
            return name
    return None


def _has_backward(module: nn.Module) -> bool:
    return bool(module._backward_hooks or module._backward_pre_hooks)


def _has_before(module: nn.Module) -> bool:
    return any(
        not isinstance(hook, prune.BasePruningMethod | ClusterHook | ModelInputs)
        for hook in module._forward_pre_hooks.values()
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
