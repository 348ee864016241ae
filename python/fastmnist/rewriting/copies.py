"""Copies: what every transform starts from, and what is thrown away again.

A transform leaves its input as it was and works on a float32 CPU copy in eval mode, whatever the
input was: on a GPU, in bfloat16, wrapped by DDP or ``torch.compile``, pruned by
``torch.nn.utils.prune``.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import fx, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from fastmnist.display.words import kind_of
from fastmnist.layers.registry import kind_of as layer_kind
from fastmnist.pixels import unwrap
from fastmnist.rewriting.forwards import bind_forwards, check_functions, is_compiler
from fastmnist.rewriting.masks import is_computed

_DEPTH = 6  # of containers in attributes that are looked through


class CannotCopy(TypeError):
    """The model holds something that cannot be deep-copied."""


def check_module(model: Any) -> nn.Module:
    """Return `model` unwrapped, or raise TypeError if it is no ``nn.Module``."""
    if not isinstance(model, nn.Module):
        hint = ""
        if isinstance(model, type) and issubclass(model, nn.Module):
            hint = f": did you mean {model.__name__}()?"
        raise TypeError(f"model: expected a torch.nn.Module, got {kind_of(model)}{hint}")
    plain = cast("nn.Module", unwrap(model))
    if isinstance(plain, torch.jit.ScriptModule):
        raise ValueError(
            "model: expected a model with Python's forward, got one that torch.jit scripted or "
            "traced, whose layers can't be exchanged: pass the model from before torch.jit.script "
            "or torch.jit.trace"
        )
    if isinstance(plain, fx.GraphModule) and any(
        isinstance(node.target, torch._ops.OpOverload) for node in plain.graph.nodes
    ):
        raise ValueError(
            "model: expected a model of layers, got a graph of operators, as torch.export makes: "
            "pass the model from before torch.export.export"
        )
    return plain


def plain_copy(model: nn.Module) -> nn.Module:
    """Deep-copy `model` as its float32 CPU self in eval mode.

    Raises
    ------
    TypeError
        If `model` is not a module, or holds something that cannot be deep-copied (named).
    ValueError
        If it has tensors without data (a lazy layer that never ran, the meta device), or a
        forward that a copy cannot be told to call with its own layers.
    """
    return checked_copy(check_module(model)).cpu().float().eval()


def checked_copy(model: nn.Module) -> nn.Module:
    """Deep-copy `model` as it is, with the errors of :func:`plain_copy`."""
    _check_has_data(model)
    return _copied(model, {})


def throwaway_copy(model: nn.Module) -> nn.Module:
    """A copy that shares the weights, to trace or run: its attributes and counters are its own.

    Raises
    ------
    TypeError, ValueError
        As :func:`plain_copy`.
    """
    shared: dict[int, Any] = {}
    for module in model.modules():
        if is_computed(module) or isinstance(module, parametrize.ParametrizationList):
            continue  # making those permanent writes into the parameter itself
        kept: list[torch.Tensor | None] = [*module._parameters.values()]
        kind = layer_kind(module)
        if kind is not None and kind.is_frozen:  # ours: nothing in it ever counts
            kept += module._buffers.values()
        shared |= {id(tensor): tensor for tensor in kept if tensor is not None}
    return _copied(model, shared)


def scratch_copy(model: nn.Module) -> nn.Module:
    """A plain copy whose weights are only read: shared, where the model is plain already."""
    _check_has_data(model)
    tensors = [*model.parameters(), *model.buffers()]
    is_plain = all(
        t.device.type == "cpu" and (t.dtype == torch.float32 or not t.is_floating_point())
        for t in tensors
    )
    return throwaway_copy(model).eval() if is_plain else plain_copy(model)


def _copied(model: nn.Module, memo: dict[int, Any]) -> nn.Module:
    check_functions(model)
    # torch.nn.utils.prune keeps `weight` as the result of a product, which deepcopy refuses.
    # Code that keeps what it computed has others, in lists as well.
    with torch.no_grad():
        for module in model.modules():
            for value in _computed(vars(module), _DEPTH):
                memo[id(value)] = value.detach().clone()
    try:
        copied = copy.deepcopy(model, memo)
    except Exception as error:
        raise CannotCopy(
            f"model: {_uncopyable(model)} cannot be deep-copied ({type(error).__name__}: {error}): "
            "remove it or give it a __deepcopy__"
        ) from error
    if isinstance(model, fx.GraphModule):  # whose copies hold what its graph reads, and no more
        notes = {k: v for k, v in vars(model).items() if k.startswith("fastmnist_")}
        vars(copied).update({k: v for k, v in notes.items() if k not in vars(copied)})
    bind_forwards(model, copied, memo)
    return without_compilers(copied)


def _computed(value: Any, depth: int) -> Iterator[torch.Tensor]:
    """Tensors in nested attributes that are results of a graph, which deepcopy refuses."""
    if isinstance(value, torch.Tensor):
        if not value.is_leaf:
            yield value
    elif depth and isinstance(value, dict | list | tuple | set | deque):
        for part in [*value.values()] if isinstance(value, dict) else value:
            yield from _computed(part, depth - 1)
    elif depth and not isinstance(value, nn.Module | type) and hasattr(value, "__dict__"):
        yield from _computed(vars(value), depth - 1)


def without_compilers(model: nn.Module) -> nn.Module:
    """Put what ``torch.compile`` wrapped in the places of its wrappers, in `model` itself."""
    for owner in [*model.modules()]:
        for name, inner in [*owner._modules.items()]:
            while inner is not None and is_compiler(inner):
                inner = inner._modules["_orig_mod"]
            owner._modules[name] = inner
    return model


def _check_has_data(model: nn.Module) -> None:
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if is_lazy(tensor):
            raise ValueError(
                f"model: expected layers with weights, got '{name}' of a lazy layer that never "
                "ran: call the model on one batch first"
            )
        if tensor.is_meta:
            raise ValueError(
                f"model: expected weights in memory, got '{name}' on device 'meta', which holds "
                "none: use model.to_empty(device='cpu') and load a state_dict"
            )


def has_computed_weights(model: nn.Module) -> str | None:
    """The first name of a layer with weight_norm, spectral_norm or another parametrization."""
    for name, module in model.named_modules():
        hooks = module._forward_pre_hooks.values()
        if parametrize.is_parametrized(module) or any(
            isinstance(hook, WeightNorm | SpectralNorm) for hook in hooks
        ):
            return str(name)
    return None


def _uncopyable(model: nn.Module) -> str:
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            if name in ("_modules", "_parameters", "_buffers"):
                continue
            try:
                copy.deepcopy(value)
            except Exception:
                return f"attribute '{f'{path}.{name}' if path else name}'"
    return "it"
