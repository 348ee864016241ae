"""Hidden layers of a student brought near to those of its teacher."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Values = dict[str, Tensor]


@contextmanager
def watched(model: nn.Module, names: Mapping[str, str], whose: str) -> Iterator[Values]:
    """Note what the named layers give while the model is called.

    `names` maps what the values are to be called to the layers' names.

    Raises
    ------
    ValueError
        If there is no such layer.
    """
    seen: Values = {}
    modules = dict(model.named_modules(remove_duplicate=False))

    def note(key: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            if not isinstance(output, Tensor):
                raise ValueError(
                    f"layers: expected layers that give one tensor, got '{names[key]}' of the "
                    f"{whose}, which gives {type(output).__name__}"
                )
            seen[key] = output

        return hook

    for name in names.values():
        if name not in modules or name == "":
            known = ", ".join(f"'{other}'" for other in [*modules][1:20])
            raise ValueError(f"layers: expected one of the {whose}'s, {known}, got '{name}'")
    handles = [modules[name].register_forward_hook(note(key)) for key, name in names.items()]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


class Hints:
    """The named pairs of layers, and what makes their values comparable.

    Parameters
    ----------
    layers : mapping
        The student's names to the teacher's.
    student, teacher : dict
        What those layers gave for the same rows, both by the student's names.

    Raises
    ------
    ValueError
        If a layer was not called, or the values of a pair differ in more than their last dimension.
    """

    def __init__(self, layers: Mapping[str, str], student: Values, teacher: Values) -> None:
        self.regressors: dict[str, nn.Linear] = {}
        for name, other in layers.items():
            for whose, key, seen in (("student", name, student), ("teacher", other, teacher)):
                if name not in seen:
                    raise ValueError(
                        f"layers: expected layers that are called, got '{key}' of the {whose}, "
                        "which was not on the first rows of data"
                    )
            mine, theirs = student[name], teacher[name]
            if mine.ndim < 2 or mine.shape[:-1] != theirs.shape[:-1]:
                raise ValueError(
                    "layers: expected values of shapes that differ in their last dimension at "
                    f"most, got {[*mine.shape]} of '{name}' and {[*theirs.shape]} of '{other}'"
                )
            if mine.shape != theirs.shape:
                self.regressors[name] = nn.Linear(mine.shape[-1], theirs.shape[-1])

    def parameters(self) -> list[nn.Parameter]:
        """What is learnt and thrown away."""
        return [p for layer in self.regressors.values() for p in layer.parameters()]

    def loss(self, student: Values, teacher: Values) -> Tensor:
        """The mean squared difference, averaged over the pairs."""
        losses = []
        for name, mine in student.items():
            if name in self.regressors:
                mine = self.regressors[name].to(mine.device)(mine)
            losses.append(F.mse_loss(mine, teacher[name].to(mine)))
        return torch.stack(losses).mean()
