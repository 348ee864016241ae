"""The transform: what to remove, from which layers, in which steps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from fastmnist.pruning.finetuning import Plan, check_start, check_trainable, checked_plan, train_for
from fastmnist.pruning.masks import MaskPruner
from fastmnist.pruning.methods import Method, Structured, checked_method
from fastmnist.pruning.neurons import NeuronPruner
from fastmnist.pruning.schedules import Schedule
from fastmnist.pruning.targets import find_targets
from fastmnist.rewriting.changes import record
from fastmnist.rewriting.copies import plain_copy


def prune(
    model: Any,
    method: Method | Mapping[str, Any],
    *,
    include: str | type | Iterable[str | type] | None = None,
    exclude: str | type | Iterable[str | type] | None = None,
    amounts: Mapping[str, float] | None = None,
    finetune: Any = None,
    schedule: Schedule | None = None,
    epochs: int | None = None,
) -> nn.Module:
    """Return a copy of `model` without the weights, or neurons, that matter least.

    Weights are set to zero by torch's own masks (``weight_orig``, ``weight_mask``), so that
    ``torch.nn.utils.prune`` and checkpoints understand them and training keeps the zeros.
    :func:`unprune` takes the masks away again; ``torch.nn.utils.prune.remove`` makes them
    permanent, as quantizing and compiling do by themselves. Neurons (:class:`Structured`) are
    removed for good: the model is a smaller one.

    Parameters
    ----------
    model : torch.nn.Module
        Left as it was. Weights that are masked already stay so, and no longer count: amounts are
        shares of the others, as in torch, so that half and again half leaves a quarter. Zeros
        without a mask (after ``remove``) count, and are the first that magnitude removes: the
        amount is then the share that is zero in the end.
    method : L1Unstructured, RandomUnstructured, Structured, CustomMask or dict
        A dict of masks by layer is a CustomMask.
    include, exclude : str, type, or several of them
        Which Linear layers: by name (or name of a module that holds some), glob pattern, or type
        of the layer or of a module that holds it. Default: all, but for Structured the output
        layers.
    amounts : dict of str to float
        Shares of single layers, from 0 to 1, instead of the method's; 0 leaves a layer alone. A
        global method takes its share of all the other layers together.
    finetune : data or function, optional
        Trains what is left: data for :func:`fastmnist.train`; or a function that trains the
        model it is given in place, such as ``lambda m: fm.train(m, data, epochs=1, lr=3e-4)``,
        called instead of each epoch. Make the optimizer in there: parameters may be new ones
        after every step. Stopped from the keyboard (Ctrl-C), the rest is pruned untrained.
    schedule : Cubic or Constant, optional
        Prunes in steps, with training between them. Each step chooses afresh among all weights
        that `model` had left, so that a removed one comes back where others have become smaller;
        random ones and neurons never do. Default: all at once.
    epochs : int, optional
        Epochs to train after the last step, at least 1 (the default). The zeros stay.

    Returns
    -------
    torch.nn.Module
        Of the same class, float32 on the CPU, in eval mode.

    Raises
    ------
    TypeError
        If `model` is no module, `method` no pruning method, or another argument none of the above.
    ValueError
        If there is no Linear layer, a name is unknown, a mask does not fit, nothing would be
        removed, weights are not finite or are computed (weight_norm), or Structured would have
        to shrink an output layer that was named or a layer whose neurons are not read by Linear
        layers alone (a residual sum, a concatenation, a layer called twice).
    RuntimeError
        If `finetune` took masks or layers away.

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
    plan = checked_plan(method, finetune, schedule, epochs)
    pruned = plain_copy(model)
    targets = find_targets(pruned, method, include, exclude, amounts)
    check_start(plan.schedule, targets)
    pruner: MaskPruner | NeuronPruner
    if isinstance(method, Structured):
        pruner = NeuronPruner(pruned, method, targets)
    else:
        check_trainable(plan.finetune, targets)
        pruner = MaskPruner(method, targets)
    _run(pruned, pruner, plan)
    record(pruned, pruner.changes())
    return pruned


def _run(model: nn.Module, pruner: MaskPruner | NeuronPruner, plan: Plan) -> None:
    schedule = plan.schedule
    for step in range(1, schedule.steps + 1):
        is_last = step == schedule.steps
        pruner.step(lambda final, step=step: schedule.amount(final, step))  # type: ignore[misc]
        if plan.finetune is None:
            continue
        going_on = train_for(model, plan.finetune, plan.epochs if is_last else schedule.every)
        pruner.check_kept(model)
        if not going_on and not is_last:
            # Stopped from the keyboard: what was asked for still holds of the result.
            pruner.step(lambda final: final)
            return
