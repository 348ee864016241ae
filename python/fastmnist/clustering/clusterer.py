"""The transform: plain Linear layers become clustered ones, and back."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from fastmnist.clustering.configs import Clusters, check_clusters
from fastmnist.clustering.tables import Table, cluster_weight
from fastmnist.data.augmentation import Augment
from fastmnist.data.batch import BatchFn
from fastmnist.display.progress import ProgressBar
from fastmnist.fusion.fusing import FLOOR
from fastmnist.layers.clusters import (
    ClusterHook,
    cluster_hook,
    has_weights_behind,
    put_clusters,
    remove_clusters,
    values_of,
)
from fastmnist.layers.kept import distinct_values
from fastmnist.measuring.metrics import MetricLike
from fastmnist.rewriting.changes import CLUSTERED, UNCLUSTERED, Change
from fastmnist.rewriting.copies import plain_copy
from fastmnist.rewriting.graph import Traces
from fastmnist.rewriting.kept_weights import keep_weight
from fastmnist.rewriting.masks import apply_masks, hold_weights_of, make_permanent
from fastmnist.rewriting.selection import (
    Names,
    check_has_linear,
    check_not_prepared,
    not_read,
    quantizable,
)
from fastmnist.rewriting.transform import Transform, applies, transformed
from fastmnist.training.finetuning import Finetuning, check_finite


def cluster(
    model: Any,
    config: Clusters,
    data: Any = None,
    *,
    epochs: int | None = None,
    lr: float = 1e-3,
    finetune: Any = None,
    include: Names = None,
    exclude: Names = None,
    inplace: bool = False,
    example: Any = None,
    check: float | None = None,
    max_drop: float | None = None,
    metric: MetricLike = None,
    greater_is_better: bool | None = None,
    batch_fn: BatchFn | None = None,
    augment: Augment = None,
) -> nn.Module:
    """Return a copy of `model` whose Linear layers have few distinct weights.

    One-dimensional k-means with linear initialization finds the values of a layer that minimize the
    squared error (S. Han, H. Mao, W. Dally, "Deep compression", ICLR 2016, section 3). Training
    updates the values; the assignment of weights to values is fixed. The gradient of a value is the
    sum over the weights that share it (section 3.3 there), so any training loop can fine-tune a
    clustered model. :func:`quantize` keeps the clusters: each layer has one scale, and each value
    one code. :func:`uncluster` restores the weights.

    It helps where size matters: 16 values become 4-bit indices in files. With ``scope="layer"``,
    small batches also read them from memory in that form, which takes half the time of int8 for
    layers too large for the cache. It hurts where a layer is small compared with its tables, and
    below 16 values without fine-tuning; nothing becomes faster until the model is quantized. Prune
    first: zeros are kept.

    Parameters
    ----------
    model : torch.nn.Module
        Left unchanged. Masks become permanent.
    config : Clusters
    data : Data, DataLoader, Dataset, (x, y), optional
        Data for fine-tuning and for measuring `max_drop`.
    epochs : int, optional
        Epochs of fine-tuning on `data`; 0 for none. Default: 1, or 0 with `max_drop`.
    lr : float
        Learning rate of the fine-tuning (Adam).
    finetune : data or function, optional
        As for :func:`prune`: instead of `data` for training, or a function that trains the given
        model in place, called once per epoch instead.
    include, exclude, inplace, example, max_drop, metric, greater_is_better, batch_fn
        As for :func:`fastmnist.quantize`.
    check : float, optional
        Minimum signal-to-noise ratio, in dB, of the outputs on `example` against a model with
        exactly the clustered weights. Default: warn below 80.
    augment : Affine, Elastic or a sequence of them, optional
        Augments the images used for fine-tuning, as for :func:`fastmnist.train`.

    Returns
    -------
    torch.nn.Module
        Of the same class, float32 on the CPU, in eval mode. A clustered layer has
        ``weight_centroids`` (float32 ``[n]`` or ``[outputs, n]``, a Parameter) and
        ``weight_indices`` (uint8 ``[outputs, inputs]``) in place of ``weight``, which is computed
        from them. Create the optimizer afterwards: an earlier one still refers to the old weights.

    Raises
    ------
    TypeError
        If `model` is not a module or `config` is not a ``Clusters``.
    ValueError
        If there is no Linear layer to cluster, a layer has fewer distinct weights than `config`
        requests, weights are not finite, or the model is already quantized or prepared (cluster the
        float model first).

    Examples
    --------
    >>> import fastmnist as fm
    >>> clustered = fm.cluster(fm.NeuralNetwork(), fm.Clusters(16))
    >>> len(clustered.linear1.weight.unique())
    16
    >>> [*clustered.linear1.weight_centroids.shape]
    [16]
    """
    config = check_clusters(config)
    tuning = Finetuning.checked(data, finetune, epochs, lr, max_drop, batch_fn, augment)
    return transformed(
        model,
        Clustering(config, tuning),
        include=include,
        exclude=exclude,
        inplace=inplace,
        example=example,
        check=check,
        max_drop=max_drop,
        data=data if max_drop is not None else None,
        metric=metric,
        greater_is_better=greater_is_better,
        batch_fn=batch_fn,
    )


class Clustering(Transform):
    """What :func:`cluster` does."""

    floor = FLOOR
    renames_weights = True

    def __init__(self, config: Clusters, tuning: Finetuning) -> None:
        self._config, self._tuning = config, tuning
        self._tables: dict[str, Table] = {}

    def find(self, root: nn.Module) -> dict[str, nn.Module]:
        check_not_prepared(root, "cluster the float model, then prepare it")
        make_permanent(root)
        layers = quantizable(root)
        check_has_linear(root, layers, "cluster", "cluster the float model, then quantize it")
        return layers

    def narrow(self, chosen: dict[str, nn.Module], traces: Traces) -> dict[str, nn.Module]:
        left = not_read(traces.read, chosen)
        for name, layer in left.items():
            weight = layer.get_parameter("weight")
            if not bool(torch.isfinite(weight).all()):
                raise ValueError(
                    f"layer '{name}': expected finite numbers in its weight, got NaN or inf"
                )
            array = weight.detach().numpy()
            if len(np.unique(array[:1])) >= self._config.n:
                continue  # in one output alone: no need to sort them all
            distinct = distinct_values(array, self._config.scope)
            if distinct < self._config.n:
                raise ValueError(
                    f"n: expected at most the {distinct} distinct weights that '{name}' has"
                    f"{' in an output' * (self._config.scope == 'channel')}, got {self._config.n}: "
                    f"ask for fewer, or leave it out with exclude=['{name}']"
                )
        return left

    def begin(self, root: nn.Module, layers: Mapping[str, nn.Module]) -> None:
        weights = {name: layer.get_parameter("weight") for name, layer in layers.items()}
        of: dict[int, Table] = {}
        with ProgressBar("clustering", sum(w.numel() for w in weights.values())) as bar:
            for name, weight in weights.items():
                if id(weight) not in of:  # one that layers share is clustered once
                    array = np.ascontiguousarray(weight.detach().numpy())
                    of[id(weight)] = cluster_weight(array, self._config, bar)
                self._tables[name] = of[id(weight)]

    def apply(
        self, root: nn.Module, names: Collection[str], why: str
    ) -> tuple[nn.Module, list[Change]]:
        make_permanent(root)
        shared: dict[int, tuple[nn.Parameter, torch.Tensor]] = {}
        done = []
        for name in names:
            layer, table = root.get_submodule(name), self._tables[name]
            weight = layer.get_parameter("weight")
            if id(weight) not in shared:
                centroids = torch.from_numpy(table.centroids.copy())
                shared[id(weight)] = (
                    nn.Parameter(centroids, weight.requires_grad),
                    torch.from_numpy(table.indices.copy()),
                )
            hook = ClusterHook(self._config.scope, table.holds_zero)
            put_clusters(layer, *shared[id(weight)], hook)
            keep_weight(layer)
            done.append(Change(name, CLUSTERED, weight.numel(), values_of(layer)))
        self._tuning.train(root)
        for name in names:
            check_finite(name, root.get_submodule(name))
        return root, done

    def reference(self, original: nn.Module, result: nn.Module) -> nn.Module | None:
        # The original with exactly the clustered weights.
        return hold_weights_of(plain_copy(original), plain_copy(result))


@applies(Clusters)
def _clustering(config: Clusters) -> Transform:
    return Clustering(check_clusters(config), Finetuning())


def uncluster(model: Any, *, inplace: bool = False) -> nn.Module:
    """Return a copy of `model` without clusters, with its earlier weights restored.

    Biases, and everything else that was fine-tuned, stay unchanged. To keep the shared values as
    plain weights instead, quantize or fuse the model, or save it.

    Parameters
    ----------
    model : torch.nn.Module
        Clustered by :func:`cluster`; left unchanged.
    inplace : bool
        Change `model` itself, and return it: float32 on the CPU, in eval mode.

    Returns
    -------
    torch.nn.Module
        Of the same class, float32 on the CPU, in eval mode.

    Raises
    ------
    TypeError
        If `model` is not a module.
    ValueError
        If nothing in it is clustered, or the earlier weights are gone: files and state_dicts do not
        contain them.

    Examples
    --------
    >>> import fastmnist as fm, torch
    >>> model = fm.NeuralNetwork()
    >>> back = fm.uncluster(fm.cluster(model, fm.Clusters(4)))
    >>> torch.equal(back.linear1.weight, model.linear1.weight)
    True
    """
    return transformed(model, _Unclustering(), inplace=inplace)


class _Unclustering(Transform):
    """What :func:`uncluster` does."""

    def find(self, root: nn.Module) -> dict[str, nn.Module]:
        clustered = {n: m for n, m in root.named_modules() if cluster_hook(m) is not None}
        if not clustered:
            raise ValueError(
                "model: expected clustered layers, got a model without any: what was quantized or "
                "fused has no weights behind it that could come back"
            )
        for name, layer in clustered.items():
            if not has_weights_behind(layer):
                raise ValueError(
                    f"model: expected the weights from before clustering, got none behind '{name}':"
                    " files do not hold them"
                )
        return clustered

    def apply(
        self, root: nn.Module, names: Collection[str], why: str
    ) -> tuple[nn.Module, list[Change]]:
        done = []
        shared: dict[nn.Parameter, nn.Parameter] = {}
        for name in names:
            layer = root.get_submodule(name)
            centroids = layer.get_parameter("weight_centroids")
            remove_clusters(layer, bring_back=True)
            layer.weight = shared.setdefault(centroids, layer.get_parameter("weight"))
            done.append(Change(name, UNCLUSTERED, after="weight"))
        apply_masks(root)
        return root, done
