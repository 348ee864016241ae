"""What a search found."""

from __future__ import annotations

import json
import os
from typing import Any

from torch import nn

from fastmnist.comparison.comparing import compare
from fastmnist.comparison.report import Report
from fastmnist.display.tables import Table, Tabled, frame_of
from fastmnist.files.atomic import write_atomically
from fastmnist.measuring.metrics import shown, unit_of
from fastmnist.searching.judging import example_of, runnable
from fastmnist.searching.recipe import Recipe
from fastmnist.searching.trial import Trial

_MOST_ROWS = 12


class Search(Tabled):
    """The recipes that a search tried, and the best one; prints as a table.

    Attributes
    ----------
    recipe : Recipe
        The best by the objective among those that lose no more than allowed; if there is none, the
        one that loses least.
    model : torch.nn.Module
        The model that this recipe made, in eval mode.
    best : Trial
        Its measurements: ``drop``, ``interval`` (95 %), ``latency``, ``size``, …
    met : bool
        Whether it loses no more than allowed.
    trials : tuple of Trial
        All trials, in order.
    pareto : tuple of Trial
        The trials that no other one beats in loss, latency and size, the fastest first.
    about : dict
        Goal, original, rows, seconds, machine.
    """

    def __init__(
        self,
        best: Trial,
        met: bool,
        model: nn.Module,
        trials: tuple[Trial, ...],
        pareto: tuple[Trial, ...],
        about: dict[str, Any],
        compared: dict[str, nn.Module],
        report_rows: Any,
        options: dict[str, Any],
    ) -> None:
        self.best, self.met, self.model = best, met, model
        self.recipe = Recipe.parse(best.recipe)
        self.trials, self.pareto, self.about = trials, pareto, about
        self._compared, self._rows, self._options = compared, report_rows, options

    def table(self) -> Table:
        """Return the printed table: the Pareto set, with the best one marked."""
        about = self.about
        is_share = unit_of(about["metric"]) == 100
        unit = "points" if is_share else about["metric"]
        table = Table(
            f"search: least {_objective(about['objective'])}, losing at most "
            f"{about['max_drop']:g} {unit}",
            ["recipe", about["metric"], "lost", "95 %", "µs", "rows/s", "KB"],
        )
        plain: Trial | None = next((t for t in self.trials if t.key == "int8"), None)
        shown_ones = [*self.pareto]
        if plain is not None and plain not in shown_ones:
            shown_ones.append(plain)
        if self.best not in shown_ones:
            shown_ones.append(self.best)
        for trial in _some(shown_ones, self.best):
            low, high = trial.interval
            mark = "→ " if trial == self.best else ""
            table.row(
                f"{mark}{trial.recipe}",
                shown(about["metric"], trial.score),
                _signed(trial.drop),
                f"{_signed(low)} … {_signed(high)}",
                f"{trial.latency * 1e6:.2f}",
                f"{trial.throughput:,.0f}",
                f"{trial.size / 1000:,.1f}",
            )
        table.note(
            f"of {about['n']:,} rows that no candidate was trained on; the original: "
            f"{shown(about['metric'], about['score'])}; {len(self.trials)} trials in "
            f"{about['seconds']:.0f} s, {about['isa']}"
        )
        table.note(f"lost: {unit}, less than 0 where it is better than the original")
        if not self.met:
            table.note(
                f"nothing met the goal: '{self.best.recipe}' comes nearest; allow more, or give "
                "more time"
            )
        elif not self.best.is_surely_within(about["max_drop"]):
            table.note(
                f"{about['n']:,} rows are few: what the best loses is within the goal, but no "
                "further from it than chance may be"
            )
        for text in about["notes"]:
            table.note(text)
        return table

    def report(self, data: Any = None, **options: Any) -> Report:
        """Compare the original, plain static int8 and the best model on held-out rows.

        Parameters
        ----------
        data : optional
            Default: for a bundle, the half of its test rows that the search did not use; for other
            data, the rows that candidates were judged on, as a note then says.
        options
            As for :func:`fastmnist.compare`.

        Returns
        -------
        Report
            With all models but the original compiled to one native call, where possible.
        """
        rows = self._rows if data is None else data
        example = example_of(rows, self.model, self._options.get("batch_fn"))
        named = {
            name: model if name == "original" else runnable(model, example)[0]
            for name, model in self._compared.items()
        }
        report = compare(named, rows, **{**self._options, **options})
        if data is None and self.about["reported"] == "the rows that chose":
            report.about.setdefault("notes", []).append(
                "measured on the rows that the best recipe was chosen by, so a little flattered"
            )
        return report

    def plot(self) -> Any:
        """Draw each trial's loss against its latency and its size in a matplotlib Figure.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        from fastmnist.searching.plots import plot_search

        return plot_search(self)

    def to_frame(self) -> Any:
        """Return a pandas DataFrame of all trials.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        return frame_of(self.trials, Trial)

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return goal, trials, Pareto set and best trial as JSON; write it to `path` if given."""
        content = {
            "format": "fastmnist search",
            "version": 1,
            "about": self.about,
            "met": self.met,
            "best": self.best.as_record(),
            "pareto": [trial.as_record() for trial in self.pareto],
            "trials": [trial.as_record() for trial in self.trials],
        }
        text = json.dumps(content, indent=2)
        if path is not None:
            write_atomically(path, (text + "\n").encode())
        return text


def _objective(objective: str) -> str:
    return {"throughput": "time a row in large batches"}.get(objective, objective)


def _signed(value: float) -> str:
    return f"{value:+.2f}" if abs(value) >= 0.01 or value == 0 else f"{value:+.2g}"


def _some(trials: list[Trial], best: Trial) -> list[Trial]:
    """Not too many to read: the best one and its neighbours among them."""
    if len(trials) <= _MOST_ROWS:
        return trials
    at = trials.index(best)
    start = min(max(0, at - _MOST_ROWS // 2), len(trials) - _MOST_ROWS)
    return trials[start : start + _MOST_ROWS]
