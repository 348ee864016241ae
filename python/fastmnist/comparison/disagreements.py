"""The very rows to which two models give different classes, and who was right."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from fastmnist.comparison.answers import mcnemar
from fastmnist.comparison.predicting import labels_of, predictions_of
from fastmnist.data.batch import Batch, BatchFn
from fastmnist.display.drawing import SMALL, new_figure
from fastmnist.display.markup import cut
from fastmnist.display.pictures import data_uri, image_of, to_png
from fastmnist.display.tables import Table, Tabled, pandas

_MOST_DRAWN = 24
_COLUMNS, _MOST_LETTERS = 6, 18  # of pictures, and of a line above one


@dataclass(frozen=True, repr=False, eq=False)
class Disagreements(Tabled):
    """The rows on which two models differ; prints as a table, in notebooks after the pictures.

    Attributes
    ----------
    indices : torch.Tensor, int64, shape [differing]
        Indices of the rows in the data, from 0.
    a, b : torch.Tensor, int64, shape [differing]
        The class that each model predicts.
    targets : torch.Tensor, int64, or None
        The correct class; None for data without targets.
    rows : torch.Tensor or None
        The inputs, as pixels if the data holds pixels; None if a row is not a single tensor, or
        rows differ in shape.
    labels : tuple of str
        Names of the classes.
    n : int
        Number of rows compared.
    p_value : float or None
        Probability that chance alone gives so large a difference in accuracy: exact McNemar test
        over all rows.
    """

    indices: Tensor
    a: Tensor
    b: Tensor
    targets: Tensor | None
    rows: Tensor | None
    labels: tuple[str, ...]
    n: int
    p_value: float | None

    @property
    def a_right(self) -> int | None:
        """How many of these rows only model a predicts correctly; None without targets."""
        return None if self.targets is None else int((self.a == self.targets).sum())

    @property
    def b_right(self) -> int | None:
        """How many of these rows only model b predicts correctly; None without targets."""
        return None if self.targets is None else int((self.b == self.targets).sum())

    def __len__(self) -> int:
        return len(self.indices)

    def table(self, most: int = _MOST_DRAWN) -> Table:
        """Return the printed table, with a limited number of rows."""
        table = Table(
            f"{len(self):,} of {self.n:,} rows differ ({len(self) / self.n:.2%})",
            ["row", *(["target"] if self.targets is not None else []), "a", "b"],
        )
        for i in range(min(len(self), most)):
            target = [] if self.targets is None else [self._label(self.targets[i])]
            answers = [self._label(own[i]) + self._mark(own, i) for own in (self.a, self.b)]
            table.row(f"{int(self.indices[i]):,}", *target, *answers)
        if len(self) > most:
            table.note(f"and {len(self) - most:,} rows more: .indices, .to_frame()")
        if self.a_right is not None and self.b_right is not None:
            neither = len(self) - self.a_right - self.b_right
            table.note(
                f"a alone is right {self.a_right:,} times, b alone {self.b_right:,} times, neither "
                f"{neither:,} times (McNemar's p = {self.p_value:.3g})"
            )
        return table

    def _label(self, label: Tensor) -> str:
        return self.labels[int(label)]

    def to_frame(self) -> Any:
        """Return a pandas DataFrame of row, target, a and b, with class numbers.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        pd = pandas()
        targets = {} if self.targets is None else {"target": self.targets.numpy()}
        columns = {**targets, "a": self.a.numpy(), "b": self.b.numpy()}
        return pd.DataFrame(columns, index=pd.Index(self.indices.numpy(), name="row"))

    def plot(self, most: int = _MOST_DRAWN) -> Any:
        """Draw the rows as a grid of pictures in a matplotlib Figure.

        Parameters
        ----------
        most : int
            Maximum number of rows to draw.

        Raises
        ------
        ValueError
            If the rows are not images.
        ImportError
            If matplotlib is not installed.
        """
        if not isinstance(most, int) or isinstance(most, bool) or most < 1:
            raise ValueError(f"most: expected an integer of at least 1, got {most!r}")
        pictures = self._pictures(most)
        if len(self) and not pictures:
            form = "several tensors" if self.rows is None else f"rows {[*self.rows.shape[1:]]}"
            raise ValueError(
                f"plot: expected images, [height, width] or [channels, height, width], got {form}: "
                ".table() and .to_frame() tell which rows they are"
            )
        lines = -(-len(pictures) // _COLUMNS) or 1
        captions = [self._caption(i) for i in range(len(pictures))]
        high = 1.35 + 0.15 * max((len(told) for told in captions), default=0)
        figure = new_figure(7.2, high * lines + 0.4)
        figure.suptitle(self.table(0).title, fontsize=SMALL + 2)
        for i, axes in enumerate(figure.subplots(lines, _COLUMNS, squeeze=False).flat):
            axes.set_axis_off()
            if i < len(pictures):
                axes.imshow(pictures[i], cmap="gray", vmin=0, vmax=255)
                told = "\n".join(captions[i]).replace("$", r"\$")
                axes.set_title(told, fontsize=SMALL)
        return figure

    def _pictures(self, most: int) -> list[Any]:
        found = [] if self.rows is None else [image_of(row.numpy()) for row in self.rows[:most]]
        return [] if any(picture is None for picture in found) else found

    def _caption(self, i: int) -> list[str]:
        """What is said of a row, in one line or, where that is too long, several."""
        told = [] if self.targets is None else [f"{self._name(self.targets[i])}:"]
        told += [f"a {self._name(self.a[i])}{self._mark(self.a, i)},"]
        told += [f"b {self._name(self.b[i])}{self._mark(self.b, i)}"]
        line = " ".join(told)
        return [line] if len(line) <= _MOST_LETTERS else told

    def _name(self, label: Tensor) -> str:
        return cut(self._label(label), _MOST_LETTERS - 4)

    def _mark(self, own: Tensor, i: int) -> str:
        return " ✓" if self.targets is not None and own[i] == self.targets[i] else ""

    def _repr_html_(self) -> str:
        figures = "".join(
            f'<figure style="display:inline-block;margin:4px;text-align:center">'
            f'<img alt="row {int(self.indices[i])}" width="56" style="image-rendering:pixelated" '
            f'src="{data_uri(to_png(picture))}"><figcaption><small>'
            f"{'<br>'.join(map(html.escape, self._caption(i)))}</small></figcaption></figure>"
            for i, picture in enumerate(self._pictures(_MOST_DRAWN))
        )
        return f"<div>{figures}</div>{super()._repr_html_()}"


@dataclass
class _Found:
    """What batches gave so far."""

    indices: list[Tensor] = field(default_factory=list)
    classes: tuple[list[Tensor], list[Tensor]] = field(default_factory=lambda: ([], []))
    targets: list[Tensor] = field(default_factory=list)
    right: tuple[list[Tensor], list[Tensor]] = field(default_factory=lambda: ([], []))
    rows: list[Tensor] | None = field(default_factory=list)
    n: int = 0
    least: int = 0


def disagreements(
    a: nn.Module | Callable[..., Any],
    b: nn.Module | Callable[..., Any],
    data: Any,
    *,
    labels: Sequence[Any] | None = None,
    batch_size: int = 1024,
    batch_fn: BatchFn | None = None,
    pixels: str | None = None,
    mean: Any = None,
    std: Any = None,
) -> Disagreements:
    """Find the rows that two models classify differently; for a bundle, in its test half.

    Parameters
    ----------
    a, b : nn.Module, CompiledModel or callable
        With one output per class, or returning classes.
    data : Data, Split, DataLoader, Dataset, (x, y), list of batches, tensor
        Targets are optional; without them, neither model counts as correct.
    labels : list of str, optional
        Names of the classes. Default: those of the data (``classes``), else numbers.
    batch_size : int
        Samples per batch; a DataLoader keeps its own.
    batch_fn, pixels, mean, std
        As for :func:`fastmnist.evaluate`.

    Returns
    -------
    Disagreements
        With ``indices``, ``a``, ``b``, ``targets``, ``rows``; ``plot()`` draws them.

    Raises
    ------
    TypeError, ValueError
        If outputs or targets are not classes, or there are too few `labels`.

    Examples
    --------
    >>> x, y = torch.eye(3), torch.tensor([0, 1, 2])
    >>> found = disagreements(nn.Identity(), lambda x: x.roll(1, 1) * x[:, :1] + x, (x, y))
    >>> len(found), found.n
    (0, 3)
    >>> found = disagreements(nn.Identity(), lambda x: x.roll(1, 1), (x, y))
    >>> found.a.tolist(), found.b.tolist(), found.a_right
    ([0, 1, 2], [1, 2, 0], 3)
    """
    found = _Found()
    for said in predictions_of(
        [a, b],
        ["a", "b"],
        data,
        purpose="",
        batch_size=batch_size,
        batch_fn=batch_fn,
        pixels=pixels,
        mean=mean,
        std=std,
    ):
        first, second = said.classes
        if first.shape != second.shape:
            raise ValueError(
                f"a, b: expected as many answers from both, got {len(first)} and {len(second)}"
            )
        differs = first != second
        where = differs.nonzero().flatten()
        found.indices.append(where + found.n)
        for own, kept in zip((first, second), found.classes, strict=True):
            kept.append(own[where])
        if said.targets is not None:
            found.targets.append(said.targets[where])
            for own, right in zip((first, second), found.right, strict=True):
                right.append(own == said.targets)
        _keep_rows(found, said.batch, where, len(first))
        found.n += len(first)
        found.least = max(
            found.least,
            said.known,
            *(1 + int(part.max()) for part in (first, second, said.targets) if part is not None),
        )
    told = len(found.targets) == len(found.indices)
    return Disagreements(
        torch.cat(found.indices),
        torch.cat(found.classes[0]),
        torch.cat(found.classes[1]),
        torch.cat(found.targets) if told else None,
        torch.cat(found.rows) if found.rows else None,
        labels_of(data, labels, found.least),
        found.n,
        mcnemar(*(torch.cat(own) for own in found.right)) if told else None,
    )


def _keep_rows(found: _Found, batch: Batch, where: Tensor, answers: int) -> None:
    """Keep the inputs themselves, as long as they are one tensor of one shape."""
    if found.rows is None:
        return
    given = batch.pixels
    if given is None and len(batch.args) == 1 and isinstance(batch.args[0], Tensor):
        given = batch.args[0]
    shapes = {row.shape[1:] for row in found.rows}
    fits = given is not None and len(given) == answers and shapes <= {given.shape[1:]}
    if given is None or not fits or batch.kwargs or len(batch.args) != 1:
        found.rows = None
    else:
        found.rows.append(given[where].detach().to("cpu", copy=True))
