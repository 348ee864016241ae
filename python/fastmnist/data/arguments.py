"""How the inputs of a batch become the arguments of a model: by what its forward takes."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from fastmnist.data.batch import Batch, as_input


class Arguments:
    """Fits batches to a model.

    ``((a, b), y)`` are two arguments, or one pair where forward takes no two. Where no target is
    wanted, and forward cannot do without it, the last item of ``(a, b)`` is an argument too.

    Parameters
    ----------
    model : nn.Module, callable or None
        None: nothing is known of it.
    wants_target : bool
        Whether there has to be a target.
    by_function : bool
        Whether a batch_fn read the batches: then they are what it says, or do not fit.
    name : str
        What errors call the data.
    """

    def __init__(self, model: Any, wants_target: bool, by_function: bool, name: str) -> None:
        self._wants_target, self._by_function, self._name = wants_target, by_function, name
        self._signature = None if model is None else _signature_of(model)
        # A hook may add what forward needs.
        self._is_sure = not _has_hooks_before(model)

    def fit(self, batch: Batch) -> Batch:
        """Give the batch with its arguments as the model takes them.

        Raises
        ------
        TypeError
            If it takes them in no way.
        """
        nested = len(batch.args) == 1 and type(batch.args[0]) in (tuple, list)
        nested = nested and not self._by_function
        flat = replace(batch, args=tuple(batch.args[0])) if nested else batch
        if self._signature is None:
            return flat
        ways = [flat, batch] if nested else [batch]
        if not (batch.target is None or self._wants_target or self._by_function):
            last = as_input(batch.target, None)
            ways.append(replace(flat, args=(*flat.args, last), target=None))
        for way in ways:
            try:
                self._signature.bind(*way.args, **way.kwargs)
            except TypeError:
                continue
            return way
        if not self._is_sure:
            return flat
        raise self._unfit(flat)

    def _unfit(self, batch: Batch) -> TypeError:
        assert self._signature is not None
        got = f"{len(batch.args)} by position"
        if batch.kwargs:
            got += f" and {', '.join(batch.kwargs)} by name"
        target = "no target" if batch.target is None else "a target, its last item"
        return TypeError(
            f"{self._name}: expected what forward{self._signature} takes, got batches with inputs "
            f"{got}, and {target}: give batch_fn=, a function from a batch to (inputs, target), "
            "where inputs is a tuple of arguments or a dict of keywords"
        )


def run_model(model: Any, batch: Batch, name: str) -> Any:
    """Call `model` with the inputs of a batch of the data that errors call `name`.

    Raises
    ------
    RuntimeError, TypeError, ValueError, AttributeError, IndexError, KeyError
        As the model does, with what it was given, and how batches of another form are read.
    """
    try:
        return model(*batch.args, **batch.kwargs)
    except Exception as error:
        if type(error) not in _ERRORS_OF_SHAPES:
            raise
        parts = [*batch.args, *batch.kwargs.values()]
        given = ", ".join(f"{p.dtype} {[*p.shape]}" for p in parts if isinstance(p, Tensor))
        raise type(error)(
            f"{name}: expected rows that the model takes, got {given or 'no tensor'}: {error} (if "
            "inputs are not where they should be, as the last item of a batch is its target: give "
            "batch_fn=, a function from a batch to (inputs, target))"
        ) from error


# What models raise of inputs that are not theirs; kinds of these say something else.
_ERRORS_OF_SHAPES = (RuntimeError, TypeError, ValueError, AttributeError, IndexError, KeyError)


def _signature_of(model: Any) -> inspect.Signature | None:
    try:
        return inspect.signature(model.forward if isinstance(model, nn.Module) else model)
    except (TypeError, ValueError, AttributeError):
        return None


def _has_hooks_before(model: Any) -> bool:
    hooks = getattr(model, "_forward_pre_hooks", None) if isinstance(model, nn.Module) else None
    return any(not getattr(hook, "only_looks", False) for hook in (hooks or {}).values())
