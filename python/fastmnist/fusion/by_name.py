"""Fuse modules that are named, as ``torch.ao.quantization.fuse_modules`` does."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import Any

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from fastmnist.display.words import kind_of
from fastmnist.fusion.fusing import FLOOR
from fastmnist.int8.network import NO_CLAMP, compose
from fastmnist.layers.batchnorm import is_foldable
from fastmnist.layers.fused import FusedLinear
from fastmnist.layers.linear import is_known_linear
from fastmnist.layers.quiet import Identity
from fastmnist.rewriting.changes import FUSED, Change
from fastmnist.rewriting.copies import check_module
from fastmnist.rewriting.graph import Graph
from fastmnist.rewriting.hooks import move_hooks, watched_inside
from fastmnist.rewriting.masks import make_permanent
from fastmnist.rewriting.steps import Kind, module_clamp
from fastmnist.rewriting.transform import Transform, transformed

_CONVOLUTIONS: dict[type, type] = {
    nn.Conv1d: nn.BatchNorm1d,
    nn.Conv2d: nn.BatchNorm2d,
    nn.Conv3d: nn.BatchNorm3d,
    nn.ConvTranspose1d: nn.BatchNorm1d,
    nn.ConvTranspose2d: nn.BatchNorm2d,
    nn.ConvTranspose3d: nn.BatchNorm3d,
}
# Norms whose activation is where it was: nothing is gained by joining the two.
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def fuse_modules(
    model: Any,
    modules_to_fuse: Sequence[str] | Sequence[Sequence[str]],
    inplace: bool = False,
    fuser_func: Any = None,
    fuse_custom_config_dict: Any = None,
) -> nn.Module:
    """``torch.ao.quantization.fuse_modules``, with the same signature.

    Rarely needed: :func:`fastmnist.quantize` and :func:`fastmnist.prepare` find what can be fused
    by themselves. Known sequences are Linear + ReLU (ReLU6, Hardtanh), Linear + BatchNorm1d (+
    activation) and, so that scripts for CNNs run unchanged, Conv + BatchNorm (+ ReLU).

    Parameters
    ----------
    model : torch.nn.Module
    modules_to_fuse : list of str, or list of them
        Names of consecutive modules: ``[["linear1", "relu1"], …]``.
    inplace : bool
        Change `model` itself, and return it.
    fuser_func, fuse_custom_config_dict : None
        Present for compatibility; only torch.ao's own default and an empty dict are accepted.

    Returns
    -------
    torch.nn.Module
        The first module of each sequence does the work of all; ``Identity`` replaces the others. In
        training mode a BatchNorm1d after a Linear is kept, inside the fused layer, and sequences
        with a Conv stay unchanged.

    Raises
    ------
    TypeError, ValueError
        If modules do not exist or cannot be fused; the error names them, and nothing is changed.

    Examples
    --------
    >>> import fastmnist as fm
    >>> fm.fuse_modules(fm.NeuralNetwork().eval(), [["linear1", "relu1"]]).linear1.clamp
    (0.0, inf)
    """
    if fuser_func is not None and getattr(fuser_func, "__name__", "") != "fuse_known_modules":
        raise ValueError(f"fuser_func: expected None, got {kind_of(fuser_func)}")
    told = fuse_custom_config_dict or {}
    if not isinstance(told, dict) or any(told.values()):
        raise ValueError(
            f"fuse_custom_config_dict: expected None or nothing in it, got {told!r}: replace such "
            "modules in the model yourself"
        )
    check_module(model)
    return transformed(model, _ByName(_groups(modules_to_fuse)), inplace=inplace)


class _ByName(Transform):
    """What :func:`fuse_modules` does."""

    floor = FLOOR
    keeps_device = True

    def __init__(self, groups: list[list[str]]) -> None:
        self._groups = groups

    def find(self, root: nn.Module) -> dict[str, nn.Module]:
        graph, _ = Graph.of(root)
        for group in self._groups:
            _check(root, group)
            if graph is not None:
                _check_order(graph, group)
        return {group[0]: root.get_submodule(group[0]) for group in self._groups}

    def apply(
        self, root: nn.Module, names: Collection[str], why: str
    ) -> tuple[nn.Module, list[Change]]:
        done = []
        for group in self._groups:
            _fuse(root, group)
            done += [Change(group[0], FUSED, after=name) for name in group[1:]]
        return root, done


def _groups(modules_to_fuse: Any) -> list[list[str]]:
    if isinstance(modules_to_fuse, str) or not isinstance(modules_to_fuse, Sequence):
        raise TypeError(
            f"modules_to_fuse: expected lists of names such as [['linear1', 'relu1']], got "
            f"{modules_to_fuse!r}"
        )
    if all(isinstance(entry, str) for entry in modules_to_fuse):
        return [[*map(str, modules_to_fuse)]] if modules_to_fuse else []
    groups = []
    for entry in modules_to_fuse:
        is_list = isinstance(entry, Sequence) and not isinstance(entry, str)
        if not is_list or not all(isinstance(name, str) for name in entry):
            raise TypeError(f"modules_to_fuse: expected a list of names, got {entry!r}")
        groups.append([*entry])
    return groups


def _check(root: nn.Module, group: list[str]) -> None:
    modules = []
    for name in group:
        try:
            modules.append(root.get_submodule(name))
        except AttributeError:
            raise ValueError(
                f"modules_to_fuse: expected names of the model's modules, got '{name}'"
            ) from None
    kinds = " + ".join(type(m).__name__ for m in modules)
    error = ValueError(
        f"modules_to_fuse: expected Linear or Conv, then BatchNorm, then an activation, got "
        f"{group}: {kinds}"
    )
    if len(modules) < 2:
        raise error
    hooked = watched_inside(dict(zip(group, modules, strict=True)))
    if hooked is not None:
        raise ValueError(
            "modules_to_fuse: expected hooks only before the first and after the last module, got "
            f"one on '{hooked}', which would not run any more"
        )
    first, rest = modules[0], modules[1:]
    norm_type: type = (
        nn.BatchNorm1d if is_known_linear(first) else _CONVOLUTIONS.get(type(first), int)
    )
    if isinstance(rest[0], norm_type):
        norm = rest.pop(0)
        if isinstance(first, FusedLinear) and first.clamp != NO_CLAMP:
            raise ValueError(
                f"modules_to_fuse: expected '{group[1]}' to follow '{group[0]}' itself, got one "
                "that follows its activation"
            )
        if (
            isinstance(norm, nn.BatchNorm1d)
            and is_known_linear(first)
            and not is_foldable(norm, first.out_features)
        ):
            raise ValueError(
                f"modules_to_fuse: expected '{group[1]}' to have running statistics of "
                f"{first.out_features} features, got {norm.num_features}"
            )
    is_known = is_known_linear(first) or type(first) in (*_CONVOLUTIONS, *_NORMS)
    if not is_known or len(rest) > 1 or any(module_clamp(m) is None for m in rest):
        raise error


def _check_order(graph: Graph, group: list[str]) -> None:
    """Raise ValueError where forward does not hand the value of each module to the next one."""
    steps = {step.path: step for step in graph.steps if step.path}
    for name, other in pairwise(group):
        at, last = steps.get(name), steps.get(other)
        if at is None or last is None:
            continue  # forward does not call it; another method may
        once = all(graph.calls[id(step.module)] == 1 for step in (at, last))
        while len(at.users) == 1 and at.users[0].kind in (Kind.PASS, Kind.DROPOUT):
            at = at.users[0]
        if at.users != [last] or at.is_kept or not once:
            raise ValueError(
                f"modules_to_fuse: expected '{other}' alone to read what '{name}' gives, once, got "
                "a forward where it does not: leave the two as they are"
            )


def _fuse(root: nn.Module, group: list[str]) -> None:
    first = root.get_submodule(group[0])
    for name in group[1:]:
        module = root.get_submodule(name)
        if is_known_linear(first):
            fused = first if isinstance(first, FusedLinear) else FusedLinear.of(first, NO_CLAMP)
            clamp = module_clamp(module)
            if clamp is not None:
                fused.clamp = compose(fused.clamp, clamp)
            elif isinstance(module, nn.BatchNorm1d):
                fused.norm_after, fused.follows_norm, fused.name = module, True, group[0]
                if not module.training:
                    make_permanent(fused)  # masks: what is folded is what they leave
                    fused.fold_norms()
        elif module_clamp(module) is not None or module.training:
            continue  # a Conv stays torch's, its activation where it is, and a norm that trains
        else:
            transposed = type(first).__name__.startswith("ConvTranspose")
            first = fuse_conv_bn_eval(first, module, transposed)  # type: ignore[type-var, arg-type]
            root.set_submodule(group[0], first)
        if name == group[-1]:
            move_hooks(module, first)
        root.set_submodule(name, Identity().train(module.training))
