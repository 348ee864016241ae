"""Which classes a model takes for which others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from fastmnist.comparison.predicting import labels_of, predictions_of
from fastmnist.data.batch import BatchFn
from fastmnist.display.drawing import SMALL, new_figure, quiet, shortened
from fastmnist.display.tables import Table, Tabled, pandas

_MOST_COLUMNS = 20  # classes for which the table and the picture show all numbers
_MOST_PAIRS = 20
_MOST_CLASSES = 2**14  # whose matrix takes 2 GB


@dataclass(frozen=True, repr=False, eq=False)
class Confusion(Tabled):
    """A confusion matrix; prints as a table.

    Attributes
    ----------
    matrix : numpy.ndarray, int64, shape [classes, classes]
        ``matrix[i, j]``: rows of class i that the model predicts as class j.
    labels : tuple of str
    """

    matrix: npt.NDArray[np.int64]
    labels: tuple[str, ...]

    @property
    def n(self) -> int:
        """Number of rows."""
        return int(self.matrix.sum())

    @property
    def accuracy(self) -> float:
        """Share of rows predicted correctly, 0…1."""
        return int(self.matrix.trace()) / self.n

    @property
    def recall(self) -> npt.NDArray[np.float64]:
        """Recall per class; NaN for a class that no row has."""
        return _shares(self.matrix.diagonal(), self.matrix.sum(axis=1))

    @property
    def precision(self) -> npt.NDArray[np.float64]:
        """Precision per class; NaN for a class that was never predicted."""
        return _shares(self.matrix.diagonal(), self.matrix.sum(axis=0))

    def pairs(self) -> list[tuple[str, str, int]]:
        """Return the confused pairs, most frequent first: class, predicted class, count.

        Examples
        --------
        >>> Confusion(np.array([[3, 1], [2, 4]]), ("cat", "dog")).pairs()
        [('dog', 'cat', 2), ('cat', 'dog', 1)]
        """
        return [(self.labels[i], self.labels[j], int(self.matrix[i, j])) for i, j in self._wrong()]

    def _wrong(self) -> npt.NDArray[np.int64]:
        """Places beside the diagonal that are not 0, the largest first."""
        wrong = self.matrix.copy()
        np.fill_diagonal(wrong, 0)
        where = np.argwhere(wrong)
        return where[np.argsort(-wrong[tuple(where.T)], kind="stable")]

    def __len__(self) -> int:
        return len(self.labels)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Confusion):
            return NotImplemented
        return self.labels == other.labels and np.array_equal(self.matrix, other.matrix)

    __hash__ = None  # type: ignore[assignment]

    def table(self) -> Table:
        """Return the printed table: all counts or, with many classes, the largest."""
        title = f"{self.n:,} rows of {len(self)} classes, accuracy {self.accuracy:.2%}"
        if len(self) > _MOST_COLUMNS:
            return self._table_of_pairs(title)
        table = Table(title, ["class \\ taken for", *self.labels, "recall"])
        for label, row, recall in zip(self.labels, self.matrix, self.recall, strict=True):
            table.row(label, *(f"{count:,}" if count else "·" for count in row), _percent(recall))
        table.row("precision", *map(_percent, self.precision), "")
        return table

    def _table_of_pairs(self, title: str) -> Table:
        table = Table(title, ["class", "taken for", "rows", "of the class"])
        wrong, sizes = self._wrong(), self.matrix.sum(axis=1)
        for i, j in wrong[:_MOST_PAIRS]:
            count = self.matrix[i, j]
            table.row(self.labels[i], self.labels[j], f"{count:,}", f"{count / sizes[i]:.2%}")
        if len(wrong) > _MOST_PAIRS:
            left = self.matrix[tuple(wrong[_MOST_PAIRS:].T)].sum()
            table.note(f"and {len(wrong) - _MOST_PAIRS:,} pairs more, {left:,} rows")
        return table

    def to_frame(self) -> Any:
        """Return the matrix as a pandas DataFrame, one row per class.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        pd = pandas()
        columns = pd.Index(self.labels, name="taken for")
        return pd.DataFrame(self.matrix, pd.Index(self.labels, name="class"), columns)

    def plot(self) -> Any:
        """Draw the matrix in a matplotlib Figure; darker cells are larger shares of their class.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        numbers = len(self) <= _MOST_COLUMNS
        side = min(max(3.6, 0.42 * len(self) + 1.4), 9.0) if numbers else 6.4
        figure = new_figure(side, side)
        axes = figure.subplots()
        sizes = np.maximum(self.matrix.sum(axis=1, keepdims=True), 1)
        wrong = self.matrix / sizes
        np.fill_diagonal(wrong, 0.0)  # what is right would leave no shade for what is not
        axes.imshow(wrong, cmap="Reds", vmin=0.0, vmax=max(float(wrong.max()) * 1.6, 1e-9))
        quiet(axes)
        if numbers:
            for (i, j), count in np.ndenumerate(self.matrix):
                if count:
                    weight = "bold" if i == j else "normal"
                    text = f"{count:,}" if count < 10_000 else f"{count / 1000:.0f}k"
                    axes.text(
                        j, i, text, ha="center", va="center", fontsize=SMALL, fontweight=weight
                    )
            names = [shortened(label, 14) for label in self.labels]
            axes.set_xticks([*range(len(self))], names, rotation=90 if _long(names) else 0)
            axes.set_yticks([*range(len(self))], names)
        axes.set_xlabel("taken for")
        axes.set_ylabel("class")
        axes.set_title(f"{self.n:,} rows, accuracy {self.accuracy:.2%}", fontsize=SMALL + 2)
        return figure


def _long(names: Sequence[str]) -> bool:
    return max(map(len, names)) > 3


def _shares(parts: Any, wholes: Any) -> npt.NDArray[np.float64]:
    shares: npt.NDArray[np.float64] = np.full(len(wholes), np.nan)
    np.divide(parts, wholes, out=shares, where=wholes > 0)
    return shares


def _percent(share: float) -> str:
    return "–" if np.isnan(share) else f"{share:.1%}"


def confusion(
    model: nn.Module | Callable[..., Any],
    data: Any,
    *,
    labels: Sequence[Any] | None = None,
    batch_size: int = 1024,
    batch_fn: BatchFn | None = None,
    pixels: str | None = None,
    mean: Any = None,
    std: Any = None,
) -> Confusion:
    """Compute the confusion matrix of a model; for a bundle, on its test half.

    Parameters
    ----------
    model : nn.Module, CompiledModel or callable
        With one output per class, or returning classes.
    data : Data, Split, DataLoader, Dataset, (x, y), list of batches
        With targets that are classes.
    labels : list of str, optional
        Names of the classes. Default: those of the data (``classes``), else numbers.
    batch_size : int
        Samples per batch; a DataLoader keeps its own.
    batch_fn, pixels, mean, std
        As for :func:`fastmnist.evaluate`.

    Returns
    -------
    Confusion
        With ``matrix``, ``recall``, ``precision``, ``pairs()``; prints as a table.

    Raises
    ------
    TypeError, ValueError
        If outputs or targets are not classes, or there are too few `labels`.

    Examples
    --------
    >>> import torch
    >>> x, y = torch.eye(3), torch.tensor([0, 1, 1])
    >>> confusion(nn.Identity(), (x, y)).matrix
    array([[1, 0, 0],
           [0, 1, 1],
           [0, 0, 0]])
    """
    counted: dict[tuple[int, int], int] = {}
    least = 0
    for said in predictions_of(
        [model],
        ["model"],
        data,
        purpose="tell what is confused",
        batch_size=batch_size,
        batch_fn=batch_fn,
        pixels=pixels,
        mean=mean,
        std=std,
    ):
        assert said.targets is not None
        pairs = np.stack([said.targets.numpy(), said.classes[0].numpy()], axis=1)
        if pairs.size and (pairs.min() < 0 or pairs.max() >= _MOST_CLASSES):
            raise ValueError(
                f"data: expected classes from 0 to {_MOST_CLASSES - 1:,}, got {pairs.min()} to "
                f"{pairs.max()}"
            )
        for (i, j), count in zip(*np.unique(pairs, axis=0, return_counts=True), strict=True):
            counted[int(i), int(j)] = counted.get((int(i), int(j)), 0) + int(count)
        least = max(least, said.known, 1 + int(pairs.max(initial=0)))
    names = labels_of(data, labels, least)
    matrix = np.zeros((len(names), len(names)), np.int64)
    for (i, j), count in counted.items():
        matrix[i, j] = count
    return Confusion(matrix, names)
