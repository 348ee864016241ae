"""The transform: what to remove, from which layers, in which steps."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from torch import nn

from fastmnist.data.augmentation import Augment
from fastmnist.data.batch import BatchFn
from fastmnist.display.words import kind_of
from fastmnist.fusion.fusing import FLOOR
from fastmnist.measuring.metrics import MetricLike
from fastmnist.pruning.empty import remove_empty_neurons
from fastmnist.pruning.finetuning import Plan, check_start, check_trainable, checked_plan
from fastmnist.pruning.masks import MaskPruner
from fastmnist.pruning.methods import (
    CustomMask,
    L1Unstructured,
    Method,
    RandomUnstructured,
    Structured,
    checked_method,
)
from fastmnist.pruning.neurons import NeuronPruner
from fastmnist.pruning.schedules import Schedule
from fastmnist.pruning.targets import Target, find_targets
from fastmnist.rewriting.changes import Change
from fastmnist.rewriting.copies import plain_copy
from fastmnist.rewriting.graph import Graph
from fastmnist.rewriting.masks import hold_weights_of, make_permanent
from fastmnist.rewriting.selection import Names, check_not_prepared, kept
from fastmnist.rewriting.transform import Transform, applies, transformed
from fastmnist.training.finetuning import train_for


def prune(
    model: Any,
    method: Method | Mapping[str, Any],
    *,
    include: Names = None,
    exclude: Names = None,
    amounts: Mapping[str, float | int] | None = None,
    finetune: Any = None,
    schedule: Schedule | None = None,
    epochs: int | None = None,
    inplace: bool = False,
    example: Any = None,
    check: float | None = None,
    max_drop: float | None = None,
    data: Any = None,
    metric: MetricLike = None,
    greater_is_better: bool | None = None,
    batch_fn: BatchFn | None = None,
    augment: Augment = None,
    remove_empty: bool = False,
) -> nn.Module:
    """Return a copy of `model` without its least important weights or neurons.

    Weights are set to zero by torch's own masks (``weight_orig``, ``weight_mask``), so
    ``torch.nn.utils.prune`` and checkpoints understand them and training keeps the zeros.
    :func:`unprune` removes the masks; ``torch.nn.utils.prune.remove`` makes them permanent, and
    quantizing and compiling do so automatically. Neurons (:class:`Structured`) are removed
    permanently: the model becomes smaller.

    Parameters
    ----------
    model : torch.nn.Module
        Left unchanged. Weights that are already masked stay masked and do not count: amounts are
        shares of the others, as in torch, so pruning half twice leaves a quarter. Zeros without a
        mask (after ``remove``) count, and magnitude pruning removes them first: the amount is then
        the final share of zeros.
    method : L1Unstructured, RandomUnstructured, Structured, CustomMask or dict
        A dict of masks by layer is read as a CustomMask.
    include, exclude : str, type, or sequence of them
        Which Linear layers: by name, glob pattern or type, of the layer or of a module that
        contains it. Default: all; with Structured, all but the output layers.
    amounts : dict of str to float or int
        Amounts for individual layers, instead of the method's; 0 skips a layer. A global method
        applies its own amount to all other layers together.
    finetune : data or function, optional
        Trains the remaining weights: data for :func:`fastmnist.train`; or a function that trains
        the given model in place, such as ``lambda m: fm.train(m, data, epochs=1, lr=3e-4)``, called
        once per epoch instead. Create the optimizer inside it: parameters may be replaced at every
        step. After Ctrl-C, the remaining steps prune without training.
    schedule : Cubic or Constant, optional
        Prune in steps, with training in between. Each step chooses again among all weights that
        were unmasked in `model`, so a removed weight returns if others have become smaller;
        randomly removed weights and neurons never do. Default: all at once.
    epochs : int, optional
        Epochs to train after the last step, at least 1 (the default). The zeros stay.
    inplace : bool
        Change `model` itself, and return it: float32 on the CPU, in eval mode. Everything,
        `finetune` included, is done on a copy first, so that an error leaves `model` unchanged.
    example : tensor, tuple of arguments, or dict of keywords, optional
        Rows on which the result is compared with the original with the same weights zeroed.
    check : float, optional
        Minimum signal-to-noise ratio of the outputs there, in dB. Default: warn below 80.
    max_drop, data, metric, greater_is_better
        As for :func:`fastmnist.quantize`: the layers that disturb the outputs most are left
        unpruned.
    batch_fn : callable, optional
        Reads a batch of `data` and of `finetune`, as for :func:`fastmnist.evaluate`.
    augment : Affine, Elastic or a sequence of them, optional
        Augments the images of `finetune`, as for :func:`fastmnist.train`.
    remove_empty : bool
        Finally, remove hidden neurons whose incoming or outgoing weights are all zero; the constant
        outputs of the former move into the next layers' biases. The outputs stay the same, and the
        model becomes smaller, as with Structured. It pays off with many zeros: of LeNet300's 300
        and 100 neurons (MNIST, "global", then one epoch of training), all remained at 50 %, 286 and
        97 at 80 %, 221 and 86 at 95 %.

    Returns
    -------
    torch.nn.Module
        Of the same class, float32 on the CPU, in eval mode.

    Raises
    ------
    TypeError
        If `model` is not a module, `method` is not a pruning method, or another argument is
        invalid.
    ValueError
        If there is no Linear layer, a name is unknown, a mask does not fit, nothing would be
        removed, weights are not finite or are computed (weight_norm), `remove_empty` is set and the
        model cannot be traced, or Structured would have to shrink an output layer that was named,
        or a layer whose neurons are read by anything but Linear layers (a residual sum, a
        concatenation, a layer called twice).
    RuntimeError
        If `finetune` removed masks or layers.

    Examples
    --------
    >>> import fastmnist as fm
    >>> pruned = fm.prune(fm.NeuralNetwork(), fm.L1Unstructured(0.5))
    >>> float((pruned.linear1.weight == 0).float().mean())
    0.5
    >>> fm.prune(fm.NeuralNetwork(), fm.Structured(0.5)).linear2
    Linear(in_features=48, out_features=128, bias=True)
    >>> data = fm.load_dataset("digits")
    >>> tuned = fm.prune(
    ...     fm.NeuralNetwork(), fm.L1Unstructured(0.9), exclude="linear3",
    ...     finetune=data, schedule=fm.Cubic(steps=3), epochs=2,
    ... )
    """
    method = checked_method(method)
    plan = checked_plan(method, finetune, schedule, epochs, batch_fn, augment)
    if not isinstance(remove_empty, bool):
        raise TypeError(f"remove_empty: expected a bool, got {kind_of(remove_empty)}")
    how = Pruning(method, plan, amounts, remove_empty=remove_empty)
    how.include, how.exclude = kept(include), kept(exclude)
    return transformed(
        model,
        how,
        inplace=inplace,
        example=example,
        check=check,
        max_drop=max_drop,
        data=data,
        metric=metric,
        greater_is_better=greater_is_better,
        batch_fn=batch_fn,
    )


class Pruning(Transform):
    """What :func:`prune` does. It selects by itself: a name that is given is taken at its word."""

    floor = FLOOR
    include: Names = None
    exclude: Names = None

    def __init__(
        self, method: Method, plan: Plan, amounts: Any = None, *, remove_empty: bool = False
    ) -> None:
        self._method, self._plan, self._amounts = method, plan, amounts
        self._pruner: MaskPruner | NeuronPruner | None = None
        self._remove_empty = remove_empty
        # What was left before empty neurons were removed.
        self._whole: nn.Module | None = None
        self.sizes_change = isinstance(method, Structured) or remove_empty
        self.renames_weights = not isinstance(method, Structured)

    def find(self, root: nn.Module) -> dict[str, nn.Module]:
        if self.sizes_change:
            check_not_prepared(root)  # observers know how many neurons there were
        if self._remove_empty and (why_not := Graph.of(root)[1]):
            raise ValueError(
                f"remove_empty: expected a forward that torch.fx can trace, got one that it cannot "
                f"({why_not}): what reads a layer's neurons has to be known; leave it out"
            )
        targets = self._targets(root)
        check_start(self._plan.schedule, targets)
        if not isinstance(self._method, Structured):
            check_trainable(self._plan.finetune, targets)
        return {target.name: target.layer for target in targets}

    def _targets(self, root: nn.Module) -> list[Target]:
        return find_targets(root, self._method, self.include, self.exclude, self._amounts)

    def apply(
        self, root: nn.Module, names: Collection[str], why: str
    ) -> tuple[nn.Module, list[Change]]:
        targets = [target for target in self._targets(root) if target.name in names]
        pruner: MaskPruner | NeuronPruner
        if isinstance(self._method, Structured):
            pruner = NeuronPruner(root, self._method, targets, self.norms_apart)
        else:
            pruner = MaskPruner(self._method, targets)
        _run(root, pruner, self._plan)
        self._pruner = pruner
        done = pruner.changes()
        if self._remove_empty:
            self._whole = plain_copy(root)
            done += remove_empty_neurons(root, self.norms_apart)
        return root, done

    def reference(self, original: nn.Module, result: nn.Module) -> nn.Module | None:
        # The original with exactly the remaining weights.
        original = plain_copy(original)
        if isinstance(self._pruner, NeuronPruner):
            make_permanent(original)
            return self._pruner.blind(original) if self._plan.finetune is None else None
        weights = plain_copy(result) if self._whole is None else self._whole
        return hold_weights_of(original, weights)


for _method in (L1Unstructured, RandomUnstructured, Structured, CustomMask):
    applies(_method)(lambda method: Pruning(method, checked_plan(method, None, None, None)))


def _run(model: nn.Module, pruner: MaskPruner | NeuronPruner, plan: Plan) -> None:
    schedule = plan.schedule
    for step in range(1, schedule.steps + 1):
        is_last = step == schedule.steps
        pruner.step(lambda final, step=step: schedule.amount(final, step))  # type: ignore[misc]
        if plan.finetune is None:
            continue
        epochs = plan.epochs if is_last else schedule.every
        going_on = train_for(model, plan.finetune, epochs, plan.batch_fn, augment=plan.augment)
        pruner.check_kept(model)
        if not going_on and not is_last:
            # Stopped from the keyboard: the result still is as sparse as requested.
            pruner.step(lambda final: final)
            return
