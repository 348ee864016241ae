"""What `train` returns: a record of every epoch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

from fastmnist.display.drawing import BLUE, ORANGE, SMALL, new_figure, quiet
from fastmnist.display.tables import Table, Tabled, frame_of
from fastmnist.measuring.metrics import ACCURACY, unit_of
from fastmnist.measuring.scored import Scored


@dataclass(frozen=True)
class EpochRecord(Scored):
    """One epoch of training.

    Scores are also available under the metric's name: ``record.accuracy``, ``record.val_mae``.

    Parameters
    ----------
    epoch : int
        From 1.
    loss : float
        Mean per sample over the epoch, in training mode (while the weights change).
    score : float or None
        The metric over all outputs of the epoch, likewise; None if it cannot be computed.
    seconds : float
        Duration of the epoch, without validation.
    val_loss, val_score : float or None
        On the validation data after the epoch, in eval mode; None without such data.
    metric : str
        Name of the metric.
    """

    epoch: int
    loss: float
    score: float | None
    seconds: float
    val_loss: float | None = None
    val_score: float | None = None
    metric: str = ACCURACY.name


class History(Tabled, Sequence[EpochRecord]):
    """The epochs of one training, as a sequence of `EpochRecord`.

    Attributes
    ----------
    interrupted : bool
        Whether training was stopped from the keyboard; only whole epochs are recorded.

    Examples
    --------
    >>> history = History([EpochRecord(1, 0.5, 0.75, 1.0), EpochRecord(2, 0.25, 0.875, 1.0)])
    >>> history.loss, history[-1].accuracy
    ([0.5, 0.25], 0.875)
    """

    def __init__(self, records: Sequence[EpochRecord] = (), *, interrupted: bool = False) -> None:
        self._records = list(records)
        self.interrupted = interrupted

    @property
    def loss(self) -> list[float]:
        """Training loss of each epoch, mean per sample."""
        return [record.loss for record in self]

    @property
    def metric(self) -> str:
        """Name of the metric: "accuracy", except for regressions or if another one was given."""
        return self[-1].metric if self else ACCURACY.name

    @property
    def score(self) -> list[float | None]:
        """Training metric of each epoch; None if not computable."""
        return [record.score for record in self]

    @property
    def accuracy(self) -> list[float | None]:
        """Training accuracy of each epoch, 0…1; None with another metric, or if not computable."""
        return [getattr(record, "accuracy", None) for record in self]

    @property
    def val_loss(self) -> list[float | None]:
        """Validation loss after each epoch; None without validation."""
        return [record.val_loss for record in self]

    @property
    def val_score(self) -> list[float | None]:
        """Validation metric after each epoch; None without validation."""
        return [record.val_score for record in self]

    @property
    def val_accuracy(self) -> list[float | None]:
        """Validation accuracy after each epoch, 0…1; None with another metric, or without data."""
        return [getattr(record, "val_accuracy", None) for record in self]

    @property
    def seconds(self) -> float:
        """Total duration of all epochs in seconds, without validation."""
        return sum(record.seconds for record in self)

    def plot(self) -> Any:
        """Draw loss and metric over the epochs in a matplotlib Figure.

        Raises
        ------
        ImportError
            If matplotlib is not installed.

        Examples
        --------
        >>> figure = History([EpochRecord(1, 0.5, 0.75, 1.0)]).plot()
        >>> [axes.get_title() for axes in figure.axes]
        ['loss', 'accuracy (%)']
        """
        figure = new_figure(7.2, 2.8)
        factor = unit_of(self.metric)
        parts: list[tuple[str, Sequence[float | None], Sequence[float | None], float]] = [
            ("loss", self.loss, self.val_loss, 1.0),
            (f"{self.metric}{' (%)' * (factor == 100)}", self.score, self.val_score, factor),
        ]
        epochs = [record.epoch for record in self]
        for axes, (title, training, validation, unit) in zip(
            figure.subplots(1, 2), parts, strict=True
        ):
            for label, values, color in (
                ("training", training, BLUE),
                ("validation", validation, ORANGE),
            ):
                known = [math.nan if value is None else value * unit for value in values]
                if not all(map(math.isnan, known)):
                    axes.plot(epochs, known, "o-", color=color, markersize=3, label=label)
            axes.set_title(title)
            axes.set_xlabel("epoch")
            axes.xaxis.get_major_locator().set_params(integer=True)
            quiet(axes)
            if axes.lines:
                axes.legend(fontsize=SMALL, frameon=False)
        return figure

    def append(self, record: EpochRecord) -> None:
        """Append an epoch."""
        self._records.append(record)

    def to_frame(self) -> Any:
        """Return a pandas DataFrame with one row per epoch.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        return frame_of(self, EpochRecord)

    @overload
    def __getitem__(self, index: int) -> EpochRecord: ...
    @overload
    def __getitem__(self, index: slice) -> History: ...
    def __getitem__(self, index: int | slice) -> EpochRecord | History:
        if isinstance(index, slice):
            return History(self._records[index], interrupted=self.interrupted)
        return self._records[index]

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[EpochRecord]:
        return iter(self._records)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, History):
            return NotImplemented
        return self._records == other._records and self.interrupted == other.interrupted

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        text = f"History({len(self)} epochs"
        if self:
            text += f", {_describe(self[-1])}, {self.seconds:.1f} s"
        return text + (", interrupted)" if self.interrupted else ")")

    def table(self) -> Table:
        """Return the printed table."""
        validated = any(r.val_loss is not None or r.val_score is not None for r in self)
        columns = ["epoch", "loss", self.metric, "seconds"]
        columns += ["val_loss", f"val_{self.metric}"] * validated
        table = Table("training", columns)
        for r in self:
            cells = [str(r.epoch), f"{r.loss:.4f}", _number(r.score), f"{r.seconds:.1f}"]
            table.row(*[*cells, _number(r.val_loss), _number(r.val_score)][: len(columns)])
        if self.interrupted:
            table.note("interrupted")
        return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _describe(record: EpochRecord) -> str:
    text = f"loss {record.loss:.4f}"
    if record.score is not None:
        text += f", {record.metric} {record.score:.4f}"
    if record.val_score is not None:
        text += f", val_{record.metric} {record.val_score:.4f}"
    return text
