"""Find a model's weights in a checkpoint: wrappers' prefixes, masks and copies are seen through.

What was done is said in a line. Where it is not certain which tensors are meant, none are taken.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from fastmnist.layers.clusters import looked_up
from fastmnist.pixels import unwrap
from fastmnist.saving.checkpoints import (
    WRAPPERS,
    Checkpoint,
    CheckpointError,
    StateDict,
    some,
)

# Names that wrappers of inner modules (torch.compile, FSDP, activation checkpointing) leave in
# keys.
_INSIDE = re.compile(r"(?<![^.])(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
_AVERAGED = re.compile(r"(^|[._])(ema|swa|averaged|avg|shadow)", re.IGNORECASE)
# Tensors that tools leave in a state_dict, and no layer needs: AveragedModel's, EMA's, thop's.
_COUNTERS = ("n_averaged", "num_updates", "decay", "total_ops", "total_params")


@dataclass
class Fit:
    """A model's tensors as a state_dict of a checkpoint holds them, or what is wrong with them."""

    state: StateDict
    prefix: str = ""
    tensors: dict[str, Tensor] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    shapes: list[str] = field(default_factory=list)
    beside: list[str] = field(default_factory=list)

    @property
    def fits(self) -> bool:
        """Whether it holds just what the model needs."""
        return not (self.missing or self.unexpected or self.shapes)

    @property
    def is_sure(self) -> bool:
        """Whether nothing speaks against its being the whole model."""
        return not self.beside or set(self.prefix[:-1].split(".")) <= WRAPPERS

    @property
    def name(self) -> str:
        """By which ``key`` it is asked for."""
        return ".".join((*self.state.where, *filter(None, [self.prefix[:-1]])))

    def answers_to(self, key: str) -> bool:
        return key in (self.name, ".".join(self.state.where), self.prefix[:-1])

    def __str__(self) -> str:
        return ", ".join([str(self.state), *self.notes])

    @property
    def faults(self) -> str:
        """What does not fit, and a few names of each kind."""
        kinds = (
            ("missing", self.missing),
            ("unexpected", self.unexpected),
            ("of another shape or type", self.shapes),
        )
        return "; ".join(f"{what} {some(names)}" for what, names in kinds if names)


def load_weights(model: nn.Module, checkpoint: Checkpoint, key: str | None = None) -> Fit:
    """Load into `model` the weights that a checkpoint holds for it.

    Parameters
    ----------
    model : torch.nn.Module
        Left unchanged if anything does not fit.
    checkpoint : Checkpoint
        What :func:`~fastmnist.saving.checkpoints.read_checkpoint` gave.
    key : str, optional
        Which weights are meant where a file holds several: the name of a container, a prefix.

    Returns
    -------
    Fit
        ``str`` of it says what was found and done: "state_dict under 'net', prefix 'module.' taken
        off".

    Raises
    ------
    CheckpointError
        If none fit: which names are missing, not expected, or of another shape or type. If it is
        not certain which are meant: which there are.

    Examples
    --------
    >>> from fastmnist.saving.checkpoints import Checkpoint
    >>> wrapped = {f"module.{k}": v for k, v in nn.Linear(2, 1).state_dict().items()}
    >>> file = Checkpoint("weights.pt", "torch", [StateDict(("net",), wrapped)])
    >>> print(load_weights(nn.Linear(2, 1), file))
    state_dict under 'net', prefix 'module.' taken off
    """
    inner: nn.Module = unwrap(model)
    wanted = {k: v for k, v in inner.state_dict().items() if isinstance(v, Tensor)}
    tried = [fit for state in checkpoint.states for fit in _fits(state, wanted)]
    chosen = _chosen(tried, checkpoint, key, type(inner).__name__)
    before = {name: tensor.clone() for name, tensor in wanted.items()}
    try:
        inner.load_state_dict(chosen.tensors)
    except (RuntimeError, TypeError, AttributeError, ValueError) as error:
        inner.load_state_dict(before, strict=False)
        lines = str(error).split("\n")
        raise _refused(
            checkpoint, f"one that does not fit the model {type(inner).__name__}: {lines[-1]}"
        ) from None
    return chosen


def _chosen(tried: list[Fit], checkpoint: Checkpoint, key: str | None, model: str) -> Fit:
    if key is not None:
        named = [fit for fit in tried if fit.answers_to(key)]
        if not named:
            names = sorted({fit.name for fit in tried if fit.name})
            raise _refused(checkpoint, f"none under key='{key}'; there is {some(names, 9)}")
        tried = named
    fits = [fit for fit in tried if fit.fits]
    if not fits:
        # The nearest one is the most informative.
        nearest = min(tried, key=lambda fit: len(fit.missing) + len(fit.shapes))
        raise _refused(
            checkpoint, f"a {nearest} that does not fit the model {model}: {nearest.faults}"
        )
    if key is None:
        sure = [fit for fit in fits if fit.is_sure]
        if not sure:
            names = sorted({fit.name for fit in fits})
            raise _refused(
                checkpoint,
                f"more than the model {model}: {some(names)} would fit, with "
                f"{some(fits[0].beside)} beside: say that it is meant by key='{names[0]}'",
            )
        fits = sure
    first = fits[0]
    others = [fit for fit in fits[1:] if not _same(first.tensors, fit.tensors)]
    if not others or checkpoint.form == "fastmnist":
        return _noting(first, others)
    # Trained weights beside their average: training continued with the former.
    plain = [fit for fit in (first, *others) if not _AVERAGED.search(fit.name)]
    if len(plain) != 1:
        rivals = plain or fits
        names = [fit.name or "the outermost" for fit in rivals]
        key = next(fit.name for fit in rivals if fit.name)
        raise _refused(
            checkpoint,
            f"several that fit the model {model} ({some(names, 9)}): say which, key='{key}'",
        )
    return _noting(plain[0], [fit for fit in (first, *others) if fit is not plain[0]])


def _noting(fit: Fit, others: list[Fit]) -> Fit:
    names = [other.name for other in others if other.name]
    if names:
        fit.notes.append(f"not taken: {some(names, 9)} (key='{names[0]}')")
    return fit


def _refused(checkpoint: Checkpoint, got: str) -> CheckpointError:
    return CheckpointError(f"expected a state_dict in '{checkpoint.path}', got {got}")


def _same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def _fits(state: StateDict, wanted: Mapping[str, Tensor]) -> list[Fit]:
    """Hold a state_dict against what a model wants, under each prefix that may be meant."""
    notes: list[str] = []
    tensors = state.tensors
    if not any(_INSIDE.search(name) for name in wanted):
        found = sorted({m for name in tensors for m in _INSIDE.findall(name)})
        bare = {_INSIDE.sub("", name): tensor for name, tensor in tensors.items()}
        if found and len(bare) == len(tensors):
            tensors = bare
            notes.append(f"{', '.join(repr(f'{name}.') for name in found)} taken off")
    if not any(name.endswith("_orig") for name in wanted):
        tensors, masked = _without_masks(tensors)
        if masked:
            notes.append(f"masks applied to {some(masked)}")
        tensors, clustered = _without_clusters(tensors)
        if clustered:
            notes.append(f"shared values looked up for {some(clustered)}")
    return [
        _fit(state, prefix, tensors, wanted, notes) for prefix in _prefixes([*tensors], [*wanted])
    ]


def _without_masks(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Multiply what torch.nn.utils.prune parted: ``weight_orig`` and ``weight_mask``."""
    whole, masked = dict(tensors), []
    for name in tensors:
        bare = name.removesuffix("_orig")
        if bare != name and f"{bare}_mask" in tensors and bare not in tensors:
            whole[bare] = whole.pop(name) * whole.pop(f"{bare}_mask")
            masked.append(bare)
    return whole, masked


def _without_clusters(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Look up what :func:`fastmnist.cluster` parted: ``weight_centroids``, ``weight_indices``."""
    whole, clustered = dict(tensors), []
    for name in tensors:
        bare = name.removesuffix("_centroids")
        if bare != name and f"{bare}_indices" in tensors and bare not in tensors:
            whole[bare] = looked_up(whole.pop(name), whole.pop(f"{bare}_indices"))
            clustered.append(bare)
    return whole, clustered


def _prefixes(names: list[str], wanted: list[str]) -> list[str]:
    """What may stand before the model's names: "" or text that ends in a point.

    "-model." stands for what the model has before its names, and the file has not.
    """
    if not wanted:
        return [""]
    for anchor in wanted:
        ends = [n for n in names if n == anchor or n.endswith(f".{anchor}")]
        if ends:
            return [name[: len(name) - len(anchor)] for name in ends]
    first, _, _ = wanted[0].partition(".")
    if all(name.startswith(f"{first}.") for name in wanted) and first in WRAPPERS:
        return [f"-{first}."]
    return [""]


def _fit(
    state: StateDict,
    prefix: str,
    tensors: dict[str, Tensor],
    wanted: Mapping[str, Tensor],
    notes: list[str],
) -> Fit:
    if prefix.startswith("-"):
        added = prefix[1:]
        fit = Fit(state, "", notes=[*notes, f"prefix '{added}' put before"])
        given = {f"{added}{name}": tensor for name, tensor in tensors.items()}
    else:
        fit = Fit(state, prefix, notes=[*notes])
        if prefix:
            fit.notes.append(f"prefix '{prefix}' taken off")
        given = {
            name[len(prefix) :]: tensor
            for name, tensor in tensors.items()
            if name.startswith(prefix)
        }
        outside = [name for name in tensors if not name.startswith(prefix)]
        fit.beside = [name for name in outside if not _is_counter(name)]
        if outside:
            fit.notes.append(f"left out: {some(outside)}")
    for name, own in wanted.items():
        tensor = given.get(name)
        if tensor is None:
            tensor = _tied(name, wanted, given)
        if tensor is None:
            # Files from before torch 0.4.1 have no such counters, and torch does without them.
            if not name.endswith("num_batches_tracked"):
                fit.missing.append(name)
        elif own.is_floating_point() and not tensor.is_floating_point():
            fit.shapes.append(f"{name} {tensor.dtype} for {own.dtype}")
        elif tensor.shape != own.shape:
            fit.shapes.append(f"{name} {[*tensor.shape]} for {[*own.shape]}")
        else:
            fit.tensors[name] = tensor
    extra = [name for name in given if name not in wanted]
    fit.unexpected = [name for name in extra if not _is_counter(name)]
    return fit


def _is_counter(name: str) -> bool:
    return name.rpartition(".")[2] in _COUNTERS


def _tied(name: str, wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> Tensor | None:
    """Another name of the same tensor: files of safetensors keep one of several."""
    own = wanted[name]
    for other, tensor in wanted.items():
        same = tensor.data_ptr() == own.data_ptr() and tensor.shape == own.shape
        if other != name and other in given and same and own.numel():
            return given[other]
    return None
