"""The transform: Linear layers become two thin ones, where that saves."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fastmnist.data.augmentation import Augment
from fastmnist.data.batch import BatchFn
from fastmnist.data.batches import check_repeatable
from fastmnist.factorization.allocation import ranks_within
from fastmnist.factorization.config import LowRank
from fastmnist.factorization.moments import Moments, moments_of
from fastmnist.factorization.svd import Decomposition
from fastmnist.fusion.fusing import FLOOR
from fastmnist.int8.network import NO_CLAMP
from fastmnist.layers.clusters import cluster_hook
from fastmnist.layers.fused import FusedLinear
from fastmnist.layers.linear import is_float_linear
from fastmnist.layers.low_rank import LowRankLinear
from fastmnist.measuring.metrics import MetricLike
from fastmnist.rewriting.changes import FACTORIZED, LEFT, Change
from fastmnist.rewriting.copies import plain_copy
from fastmnist.rewriting.graph import Traces
from fastmnist.rewriting.masks import make_permanent, untie
from fastmnist.rewriting.selection import (
    Names,
    check_has_linear,
    check_not_prepared,
    not_read,
    quantizable,
    switch_off_transformer_fast_path,
    unknown,
)
from fastmnist.rewriting.swapping import put
from fastmnist.rewriting.transform import Transform, applies, transformed
from fastmnist.training.finetuning import Finetuning, check_finite

_MANY_ZEROS = 0.1  # share of zeros whose loss is worth a note


def factorize(
    model: Any,
    config: LowRank,
    data: Any = None,
    *,
    epochs: int | None = None,
    lr: float = 1e-3,
    finetune: Any = None,
    augment: Augment = None,
    include: Names = None,
    exclude: Names = None,
    inplace: bool = False,
    example: Any = None,
    check: float | None = None,
    max_drop: float | None = None,
    metric: MetricLike = None,
    greater_is_better: bool | None = None,
    batch_fn: BatchFn | None = None,
) -> nn.Module:
    """Return a copy of `model` with Linear layers split into two thin ones, where that saves.

    A layer of N outputs and K inputs costs ``N * K`` products; at rank r, ``r * (N + K)``. A
    :class:`~fastmnist.layers.low_rank.LowRankLinear` with two Linear layers, `first` and `second`,
    takes its path; state-dict keys are ``<path>.first.weight``, ``<path>.second.weight`` and
    ``<path>.second.bias``. They can be pruned, quantized, distilled and compiled like any others.

    It helps wide layers whose outputs vary in few directions, above all those that read the model's
    inputs; pass `data`, with which much less is lost. It hurts narrow layers, the last one most of
    all. Small layers may not become faster, because each product has its own overhead. Measured on
    MNIST with the digits network 784-96-256-10, 98.0 % (two seeds): ``LowRank(ratio=0.5)`` gave
    97.2 % without data and 97.8 % with it; a ratio of 0.25 gave 92.7 and 96.8 %. Three epochs of
    training raised the latter to 97.3 % and lowered the former to 97.5 %.

    Parameters
    ----------
    model : torch.nn.Module
        Left unchanged. Masks are made permanent first; factorized layers lose their zeros.
    config : LowRank
    data : optional
        As for :func:`fastmnist.train`. The factors are then chosen to change the layers' outputs
        least on up to 10,000 of its rows; targets are needed only for `epochs` and `max_drop`.
    epochs : int, optional
        Epochs of fine-tuning on `data`. Default: 0, or 1 with `finetune`.
    lr : float
        Learning rate of the fine-tuning (Adam).
    finetune : data or function, optional
        As for :func:`fastmnist.prune`: instead of `data` for training, or a function that trains
        the given model in place, called once per epoch instead.
    augment : Affine, Elastic or a sequence of them, optional
        Augments the images used for fine-tuning, as for :func:`fastmnist.train`.
    include, exclude, inplace
        As for :func:`fastmnist.quantize`.
    example : tensor, tuple of arguments, or dict of keywords, optional
        Rows on which the result is compared with the original, with the factors' products as its
        weights. Default: the first rows of `data`.
    check : float, optional
        Minimum signal-to-noise ratio of the outputs there, in dB. Default: warn below 80.
    max_drop, metric, greater_is_better
        As for :func:`fastmnist.quantize`, measured on `data`; of a bundle on its test half.
    batch_fn : callable, optional
        Reads a batch of `data`.

    Returns
    -------
    torch.nn.Module
        Of the same class, float32 on the CPU, in eval mode. :func:`fastmnist.changes` lists the
        layers that were skipped, and why.

    Raises
    ------
    TypeError
        If `model` is not a module, `config` is not a LowRank, or another argument is invalid.
    ValueError
        If there is no float Linear layer (factorize before quantizing), a rank exceeds a layer's
        smaller dimension, weights are not finite, no layer would become smaller, or `data` never
        reaches a layer.

    Examples
    --------
    >>> import fastmnist as fm
    >>> thin = fm.factorize(fm.NeuralNetwork(), fm.LowRank(rank={"linear1": 32}))
    >>> thin.linear1.rank, thin.linear1.first, thin.linear1.second.out_features
    (32, Linear(in_features=784, out_features=32, bias=False), 96)
    >>> half = fm.factorize(thin, fm.LowRank(ratio=0.5), include="linear2")
    >>> print(fm.changes(half)[-2])
    linear2: factorized: 11,968 of 24,576 weights are left: rank 34
    """
    if not isinstance(config, LowRank):
        raise TypeError(f"config: expected a LowRank, got {type(config).__name__}")
    if epochs is None and finetune is None:
        epochs = 0  # with data, the factors are already good
    tuning = Finetuning.checked(data, finetune, epochs, lr, max_drop, batch_fn, augment)
    how = Factorization(config, tuning)
    how.is_told_which = not (include is None and exclude is None and config.is_one_for_all)
    if data is not None:
        if max_drop is not None or tuning.epochs:
            check_repeatable(data, "data", "as it is gone through more than once")
        how.data, how.begins_on_copy = data, True
    if data is None and max_drop is not None:
        raise ValueError("max_drop: expected data= with it, to measure on")
    return transformed(
        model,
        how,
        include=include,
        exclude=exclude,
        inplace=inplace,
        example=example,
        check=check,
        max_drop=max_drop,
        data=None if max_drop is None else data,
        metric=metric,
        greater_is_better=greater_is_better,
        batch_fn=batch_fn,
    )


@dataclass(frozen=True)
class _Layer:
    """What becomes of one layer: its factors, or why it is left."""

    decomposition: Decomposition
    rank: int
    zeros: float

    @property
    def before(self) -> int:
        return self.decomposition.weight.numel()

    @property
    def after(self) -> int:
        return self.rank * sum(self.decomposition.weight.shape)

    @property
    def why_not(self) -> str:
        if self.after < self.before:
            return ""
        return f"rank {self.rank} would save nothing: {self.after:,} weights for {self.before:,}"


@applies(LowRank)
class Factorization(Transform):
    """What :func:`factorize` does."""

    floor = FLOOR
    data: Any = None
    is_told_which = True

    def __init__(self, config: LowRank, tuning: Finetuning | None = None) -> None:
        self._config, self._tuning = config, tuning or Finetuning()
        self._layers: dict[str, _Layer] = {}

    def find(self, root: nn.Module) -> dict[str, nn.Module]:
        check_not_prepared(root)
        for name, module in root.named_modules():
            if cluster_hook(module) is not None:
                raise ValueError(
                    f"model: expected weights of their own, got '{name}', which is clustered: "
                    "factorize first, then cluster (fm.uncluster brings the weights back)"
                )
        make_permanent(root)
        layers = quantizable(root)
        check_has_linear(root, layers, "factorize", "factorize before quantizing")
        done = tuple(f"{n}." for n, m in root.named_modules() if isinstance(m, LowRankLinear))
        left = {name: m for name, m in layers.items() if not name.startswith(done)}
        if done and left and not self.is_told_which:
            raise ValueError(
                f"model: expected no layer that is factorized already, got '{done[0][:-1]}': name "
                "the others that you mean with include=, or factorize the model that it was made "
                "from"
            )
        if not left:
            raise ValueError(
                "model: expected a layer that is not factorized already, got none: factorize the "
                "model that it was made from, at the rank that you want"
            )
        return left

    def narrow(self, chosen: dict[str, nn.Module], traces: Traces) -> dict[str, nn.Module]:
        if not chosen:
            raise ValueError("model: expected a layer to factorize among those selected, got none")
        ranks = self._config.rank
        if isinstance(ranks, Mapping):
            for name in ranks:
                if name not in chosen:
                    raise ValueError(f"rank: {unknown(name, chosen)} (of those selected)")
            chosen = {name: layer for name, layer in chosen.items() if name in ranks}
        left = not_read(traces.read, chosen)
        for name, layer in left.items():
            assert is_float_linear(layer)
            rank = ranks[name] if isinstance(ranks, Mapping) else ranks
            smaller = min(layer.in_features, layer.out_features)
            if rank is not None and rank > smaller:
                raise ValueError(
                    f"rank: expected at most {smaller} for '{name}', the smaller of its "
                    f"{layer.in_features} inputs and {layer.out_features} outputs, got {rank}: "
                    f"leave it as it is with exclude=['{name}'], or give ranks by layer, "
                    f"rank={{'{name}': …}}"
                )
            if not bool(torch.isfinite(layer.weight).all()):
                raise ValueError(f"model: expected finite weights, got NaN or infinity in '{name}'")
        return left

    def begin(self, root: nn.Module, layers: Mapping[str, nn.Module]) -> None:
        moments: dict[str, Moments] = {}
        if self.data is not None:
            moments, self.rows = moments_of(root, layers, self.data, self._tuning.batch_fn)
        self._layers = self._decomposed(layers, moments)
        if all(layer.why_not for layer in self._layers.values()):
            name, first = next(iter(self._layers.items()))
            raise ValueError(
                f"model: expected a layer that becomes smaller, got none: of '{name}', "
                f"{first.why_not}; give a lower rank, or leave the model as it is"
            )

    def _decomposed(
        self, layers: Mapping[str, nn.Module], moments: Mapping[str, Moments]
    ) -> dict[str, _Layer]:
        linear = {name: layer for name, layer in layers.items() if is_float_linear(layer)}
        found = {
            name: Decomposition.of(layer.weight, moments.get(name), has_bias=layer.bias is not None)
            for name, layer in linear.items()
        }
        ranks = self._config.rank
        if self._config.ratio is not None:
            sides = {name: (*d.weight.shape, d.singular) for name, d in found.items()}
            ranks = ranks_within(sides, self._config.ratio)
        elif not isinstance(ranks, Mapping):
            ranks = {name: self._config.rank_of(d.singular) for name, d in found.items()}
        return {
            name: _Layer(found[name], ranks[name], float((layer.weight == 0).float().mean()))
            for name, layer in linear.items()
        }

    def apply(
        self, root: nn.Module, names: Collection[str], why: str
    ) -> tuple[nn.Module, list[Change]]:
        make_permanent(root)
        done: list[Change] = []
        layers = quantizable(root)
        if not self._layers:  # nothing was begun, where there is no copy to begin on
            self._layers = self._decomposed({name: layers[name] for name in names}, {})
        for name, found in layers.items():
            layer = self._layers.get(name) if name in names else None
            if layer is None or layer.why_not:
                done.append(Change(name, LEFT, why=why if layer is None else layer.why_not))
                continue
            assert is_float_linear(found)
            root = put(root, name, _in_two(found, *layer.decomposition.factors(layer.rank)))
            about = f"rank {layer.rank}"
            if layer.zeros > _MANY_ZEROS:
                about += f", without the {layer.zeros:.0%} that were 0"
            done.append(Change(name, FACTORIZED, layer.before, layer.after, about))
        switch_off_transformer_fast_path(root)
        root = root.cpu().float().eval()
        self._tuning.train(root)
        for change in done:
            if change.kind == FACTORIZED:
                check_finite(change.layer, root.get_submodule(change.layer))
        return root, done

    def called(self, names: Collection[str]) -> Collection[str]:
        return [name for name in names if name in self._layers and not self._layers[name].why_not]

    def reference(self, original: nn.Module, result: nn.Module) -> nn.Module | None:
        # The original with the factors' products as weights.
        original = plain_copy(original)
        make_permanent(original)
        for module in original.modules():
            if isinstance(module, FusedLinear):
                module.fold_norms()
        weights = dict(result.state_dict())
        for name, module in result.named_modules(remove_duplicate=False):
            if isinstance(module, LowRankLinear):
                prefix = f"{name}." if name else ""
                weights |= _as_one(prefix, module)
        kept = {key: weights[key] for key in original.state_dict() if key in weights}
        untie(original, kept)
        original.load_state_dict(kept, strict=False)
        return original


def _as_one(prefix: str, layer: LowRankLinear) -> dict[str, Tensor]:
    bias = layer.bias
    told = {f"{prefix}weight": layer.weight.detach()}
    return told if bias is None else {**told, f"{prefix}bias": bias.detach()}


def _in_two(
    layer: nn.Linear, first: Tensor, second: Tensor, gained: Tensor | None
) -> LowRankLinear:
    """The two layers in the place of one, with what was fused with it."""
    rank, inputs = first.shape
    outputs, has_bias = len(second), layer.bias is not None
    before: nn.Linear = nn.Linear(inputs, rank, bias=False, dtype=torch.float32)
    after: nn.Linear = nn.Linear(rank, outputs, bias=has_bias, dtype=torch.float32)
    if isinstance(layer, FusedLinear):
        if layer.columns_differ or layer.follows_norm:
            fused = FusedLinear.of(before, NO_CLAMP, layer.columns_differ)
            fused.follows_norm, fused.name = layer.follows_norm, layer.name
        after = FusedLinear.of(after, layer.clamp)
    with torch.no_grad():
        before.weight.copy_(first)
        after.weight.copy_(second)
        if layer.bias is not None:
            bias = layer.bias.detach().double()
            after.bias.copy_(bias if gained is None else bias + gained)
    trainable = layer.weight.requires_grad
    made = LowRankLinear(before, after).requires_grad_(trainable)
    return made.train(layer.training)
