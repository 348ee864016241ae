"""A search over recipes, by successive halving, that ends when it was told to.

At rung 0 every candidate is trained a little; a third of them goes on to the next rung, where it is
trained three times as long (K. Jamieson, A. Talwalkar, "Non-stochastic best arm identification and
hyperparameter optimization", AISTATS 2016, with eta = 3). What candidates share is made once
(:mod:`fastmnist.searching.workshop`). Costs are measured, not guessed, beside plain static int8.
"""

from __future__ import annotations

import hashlib
import math
import os
import time
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from fastmnist.data.batch import BatchFn
from fastmnist.data.batches import count_samples
from fastmnist.data.bundle import Data
from fastmnist.display.callers import callers_level
from fastmnist.display.progress import ProgressBar
from fastmnist.measuring.metrics import MetricLike, metric_of, unit_of
from fastmnist.measuring.scoring import LossFn
from fastmnist.rewriting.copies import plain_copy
from fastmnist.runtime.cpu import cpu_info
from fastmnist.searching.budget import seconds_of
from fastmnist.searching.folder import Folder
from fastmnist.searching.judging import Judge, costs
from fastmnist.searching.optimizing import check_max_drop, told_model
from fastmnist.searching.recipe import Recipe
from fastmnist.searching.result import Search
from fastmnist.searching.shared import Store, opened
from fastmnist.searching.space import candidates
from fastmnist.searching.splitting import split_rows
from fastmnist.searching.trial import OBJECTIVES, Trial, best, latest, pareto, survivors
from fastmnist.searching.tuning import OutOfTime, Tuning
from fastmnist.searching.workshop import ETA, Workshop, part_of, rounded_unit

PLAIN = "int8"
_RUNGS = 3
_SHARE, _MOST_JUDGED = 1 / 6, 10_000  # of rows without a test half, that are kept apart
_SPENT = 0.7  # share of the budget that all rungs are planned to take
_OVERHEAD = 0.25  # share of the budget that rung 0 may take beside training
_TRIALS = 1.5  # trials a candidate, of all rungs
_FEWEST = 8
_END = 0.04  # share of the budget that is left for the end
_MOST_UNIT, _LEAST_STEPS = 10.0, 8  # epochs, batches: of a first training
_PROBED = 4096  # rows, of which the time of an epoch is measured


def search(
    model: nn.Module,
    data: Any,
    max_drop: float = 0.3,
    objective: str = "latency",
    budget: str | float = "5 min",
    storage: Any = None,
    *,
    folder: str | os.PathLike[str] | None = None,
    validation: Any = None,
    recipes: Sequence[Any] | None = None,
    batch_size: int = 128,
    loss_fn: LossFn | None = None,
    metric: MetricLike = None,
    greater_is_better: bool | None = None,
    batch_fn: BatchFn | None = None,
    pixels: str | None = None,
    mean: Any = None,
    std: Any = None,
    seed: int = 0,
    progress: bool | None = None,
) -> Search:
    """Look for the recipe that makes a model fastest, or smallest, within a loss and a time.

    Parameters
    ----------
    model : torch.nn.Module
        A trained float model; left as it was.
    data : Data, Split, DataLoader, Dataset, (x, y), …
        With targets. A bundle's training half trains and calibrates, one half of its test rows
        judges the candidates, and :meth:`Search.report` measures on the other. Of other data a
        sixth, at most 10,000 rows, is kept apart to judge by: rows that the model was trained on
        flatter it, so that less is found than there is; give `validation` then.
    max_drop : float
        How much may be lost: accuracy in points, another metric in its own unit. A recipe meets it
        if it does so by more than the standard error of what it loses.
    objective : {"latency", "throughput", "size"}
        What is to be small: the time of a call with one row; the time a row takes in batches of
        1,024; the bytes of the file.
    budget : str or float
        Wall time in all, such as "5 min", "90 s", or seconds; one that went on counts what it had.
    storage : str or optuna storage, optional
        Share the work between processes or machines: an Optuna storage, such as
        ``"sqlite:///search.db"`` (needs the extra ``fastmnist[search]``). All are given the
        same arguments; each takes what nobody has begun.
    folder : path, optional
        Where trials are kept: a search that was stopped, or killed, goes on there.
    validation : data, optional
        Rows to judge candidates by, which the model was not trained on.
    recipes : list of recipes, optional
        What is tried, instead of what is usual for such a model. How long they train is up to the
        search; "@0" stays.
    batch_size, loss_fn, metric, greater_is_better, batch_fn, pixels, mean, std, seed, progress
        As for :func:`fastmnist.optimize`.

    Returns
    -------
    Search
        ``recipe``, ``model``, ``best``, ``met``, ``trials``, ``pareto``, ``report()``. Never what
        is slower and larger than plain static int8. Where nothing meets the goal, ``met`` is False
        and the nearest is given, with a warning. Stopped by Ctrl-C, what was found so far.

    Raises
    ------
    TypeError, ValueError
        If an argument is none of the above, there is nothing to quantize, or there are no targets.
    ImportError
        If `storage` is given and Optuna is not installed.

    Examples
    --------
    >>> import fastmnist as fm
    >>> data = fm.load_dataset("digits")
    >>> model = fm.NeuralNetwork()
    >>> history = fm.train(model, data, epochs=3, seed=0)
    >>> found = fm.search(model, data, max_drop=2.0, budget="5 s", recipes=["int8", "prune50+int8"])
    >>> found.met, len(found.trials) >= 2
    (True, True)
    """
    began = time.monotonic()
    seconds = seconds_of(budget)
    check_max_drop(max_drop)
    if objective not in OBJECTIVES:
        raise ValueError(f"objective: expected {', '.join(OBJECTIVES)}, got {objective!r}")
    told = told_model(model, pixels, mean, std)
    given = None if recipes is None else [Recipe.of(recipe) for recipe in recipes]
    fit, judged, reported, what_reported = _parts(data, validation, seed)
    judge = Judge(
        told,
        judged,
        metric=metric_of(metric, greater_is_better),
        loss_fn=loss_fn,
        batch_fn=batch_fn,
    )
    tuning = Tuning.of(
        fit,
        told,
        batch_size=batch_size,
        loss_fn=loss_fn,
        batch_fn=batch_fn,
        seed=seed,
        progress=False,
    )
    settings = {
        "max_drop": max_drop,
        "objective": objective,
        "metric": judge.metric.name,
        "rows judged": judge.n,
        "seed": seed,
        "model": _digest(told),
        "recipes": None if given is None else [str(recipe) for recipe in given],
    }
    with ExitStack() as stack:
        stored = None
        if folder is not None:
            stored = Folder(folder, settings)
            stack.callback(stored.close)
        run = _Run(told, judge, tuning, max_drop, objective, stored, opened(storage, settings))
        run.begin(began, seconds)
        with (
            warnings.catch_warnings(),
            ProgressBar("searching", math.ceil(seconds), show=progress) as bar,
        ):
            warnings.simplefilter("ignore")  # of what a recipe costs; here it is measured
            run.bar = bar
            run.all_rungs(given)
        chosen, met = run.choose()
        result = run.model_of(chosen)
        plain = run.model_of(run.plain) if run.plain is not None else None
    about = {
        "objective": objective,
        "max_drop": max_drop,
        "metric": judge.metric.name,
        "score": judge.score,
        "n": judge.n,
        "budget": seconds,
        "seconds": run.elapsed(),
        "isa": cpu_info()["isa"],
        "cpu": cpu_info()["model"],
        "torch": str(torch.__version__),
        "reported": what_reported,
        "notes": run.notes,
    }
    compared = {"original": model}
    compared |= {"static int8": plain} if plain is not None else {}
    compared |= {"best": result} if chosen.key != PLAIN else {}
    options = {"batch_fn": batch_fn, "loss_fn": loss_fn, "metric": judge.metric}
    trials = tuple(run.trials)
    front = tuple(pareto(trials))
    found = Search(chosen, met, result, trials, front, about, compared, reported, options)
    if not met:
        unit = "points" if unit_of(judge.metric.name) == 100 else judge.metric.name
        warnings.warn(
            f"nothing lost at most {max_drop:g} {unit}: the nearest is '{chosen.recipe}' with "
            f"{chosen.drop:.3g}: allow more, or give more time",
            UserWarning,
            stacklevel=callers_level(),
        )
    return found


def _parts(data: Any, validation: Any, seed: int) -> tuple[Any, Any, Any, str]:
    """Rows to train on, to judge by, to report on, and what the last are."""
    if isinstance(data, Data):
        if validation is not None:
            return data, validation, data, "the test half"
        reported, judged = split_rows(data.test, share=0.5, seed=seed)
        return data, judged, reported, "test rows that chose nothing"
    if validation is not None:
        return data, validation, validation, "the rows that chose"
    fit, judged = split_rows(data, share=_SHARE, seed=seed, most=_MOST_JUDGED)
    return fit, judged, judged, "the rows that chose"


class _Run:
    """A search while it goes on."""

    def __init__(
        self,
        original: nn.Module,
        judge: Judge,
        tuning: Tuning,
        max_drop: float,
        objective: str,
        folder: Folder | None,
        store: Store | None,
    ) -> None:
        self.original, self.judge, self.tuning = original, judge, tuning
        self.max_drop, self.objective = max_drop, objective
        self.folder, self.store = folder, store
        self.trials: list[Trial] = [] if folder is None else [*folder.trials]
        self.plain: Trial | None = next((t for t in self.trials if t.key == PLAIN), None)
        self.notes: list[str] = []
        self.bar: ProgressBar | None = None
        self._models: dict[tuple[str, int], nn.Module] = {}
        self._plain_model: nn.Module | None = None
        self._workshop = Workshop(original, tuning, 1.0, None if folder is None else self._kept)
        self._epoch = math.inf  # seconds
        self._began = self._deadline = self._before = 0.0
        self._shown = 0.0

    def begin(self, began: float, seconds: float) -> None:
        """Start the clock, where an earlier run stopped it."""
        stored = {} if self.folder is None else self.folder.settings
        before = [trial.at for trial in self.trials] + [float(stored.get("elapsed", 0.0))]
        self._before, self._began = max(before), began
        self._seconds = seconds
        self._deadline = began + max(seconds - self._before, 0.0) - _END * seconds

    def elapsed(self) -> float:
        """Seconds that the search took, earlier runs among them."""
        return self._before + time.monotonic() - self._began

    def all_rungs(self, given: list[Recipe] | None) -> None:
        """Try everything, until there is nothing left, or no time."""
        try:
            self._rungs(given)
        except OutOfTime:
            self.notes.append("the time ran out before all was tried")
        except KeyboardInterrupt:
            if not self.trials:
                raise
            self.notes.append("interrupted: what was found until then")

    def _rungs(self, given: list[Recipe] | None) -> None:
        plain = Recipe.parse(PLAIN)
        self._try(plain, 0, must=True)
        left = self._deadline - time.monotonic()
        every = given or candidates(self.original, self.judge.first, self.tuning.has_targets)
        every = [recipe for recipe in every if str(recipe) != PLAIN]
        pool = every if given else every[: self._most(left)]
        if not self._plan(pool, left):
            pool = [recipe for recipe in every if not any(s.trained_epochs for s in recipe)]
        promoted = pool
        for rung in range(_RUNGS):
            for recipe in promoted:
                self._try(recipe, rung)
            here = [
                trial
                for trial in latest(self.trials)
                if trial.rung == rung and trial.key in {Workshop.key_of(recipe) for recipe in promoted}
            ]
            by_key = {Workshop.key_of(recipe): recipe for recipe in promoted}
            here = [t for t in here if any(s.trained_epochs for s in by_key[t.key])]
            if rung == _RUNGS - 1 or not here:
                break
            count = max(2, math.ceil(len(here) / ETA))
            chosen = survivors(
                here, self.max_drop, self.objective, _RUNGS - 1 - rung, min(count, len(here))
            )
            promoted = [by_key[trial.key] for trial in chosen]
            self._workshop.forget(rung)

    @property
    def _overhead(self) -> float:
        """Seconds to make and measure a candidate without any training; the first took longer."""
        return max(0.6 * (self.plain.seconds if self.plain else 1.0), 0.02)

    def _most(self, left: float) -> int:
        """How many candidates there is time for at rung 0."""
        return max(_FEWEST, int(_OVERHEAD * left / self._overhead))

    def _plan(self, pool: list[Recipe], left: float) -> bool:
        """Choose how long rung 0 trains; False where there is no time for any training."""
        if not any(step.trained_epochs for recipe in pool for step in recipe):
            return True
        stored = {} if self.folder is None else self.folder.settings
        if "unit" in stored:
            self._workshop.unit, self._epoch = float(stored["unit"]), float(stored["epoch"])
            return self._workshop.unit > 0
        rows = count_samples(self.tuning.data, "train")
        self._epoch = self._epoch_seconds(pool, rows, left)
        self._workshop.unit = 1.0
        epochs = _tree_epochs(pool)
        spare = left - _TRIALS * len(pool) * self._overhead
        unit = _SPENT * max(spare, 0.3 * left) / (_RUNGS * epochs * self._epoch)
        batches = math.inf if rows is None else rows / self.tuning.batch_size
        if unit < 1 and (rows is None or unit * batches < _LEAST_STEPS):
            unit = 0.0
            self.notes.append(
                f"the budget is too short for a training (an epoch takes {self._epoch:.1f} s): "
                "only recipes without one were tried"
            )
        self._workshop.unit = rounded_unit(min(unit, _MOST_UNIT))
        if self.folder is not None:
            epoch = self._epoch if math.isfinite(self._epoch) else 1e9
            self.folder.remember(unit=self._workshop.unit, epoch=epoch)
        return self._workshop.unit > 0

    def _epoch_seconds(self, pool: list[Recipe], rows: int | None, left: float) -> float:
        """How long an epoch takes, measured on some of the rows."""
        augment = any(step.augment for recipe in pool for step in recipe)
        tuning, share = self.tuning, 1.0
        if rows is not None and rows > _PROBED:
            share = _PROBED / rows
            tuning = self.tuning.on(part_of(self.tuning.data, share, 0), 0)
        tuning = tuning.until(time.monotonic() + 0.25 * left)
        start = time.monotonic()
        try:
            tuning.train(plain_copy(self.original), 1, augment=augment)
        except OutOfTime:
            return math.inf
        return max((time.monotonic() - start) / share, 1e-3)

    def _try(self, recipe: Recipe, rung: int, must: bool = False) -> None:
        key = Workshop.key_of(recipe)
        if any(trial.key == key and trial.rung == rung for trial in self.trials):
            return
        shared = None if self.store is None else self.store.result(key, rung)
        if shared is not None:
            self._add(shared, None)
            return
        start = time.monotonic()
        planned = self._workshop.cost(recipe, rung) * self._epoch if not must else 0.0
        if not must and start + planned > self._deadline:
            self._note_once("the time ran out before all was tried")
            return
        if self.store is not None and not self.store.claim(key, rung):
            return
        if self.folder is not None:
            self.folder.remember(elapsed=self.elapsed())
        self._workshop.tuning = self.tuning.until(math.inf if must else self._deadline)
        try:
            model = self._workshop.make(recipe, rung)
            loss = self.judge.loss(model)
            base = self._plain_model or (None if must else self._remade_plain())
            measured = costs([model] if base is None else [base, model], self.judge)
        except (RuntimeError, TypeError, ValueError) as error:
            if must:
                raise
            text = " ".join(str(error).split())
            self.notes.append(f"left out '{recipe}': {text[:200]}")
            return
        seconds = time.monotonic() - start
        text = str(self._workshop.concrete(recipe, rung))
        cost = measured[-1] if self.plain is None else _scaled(measured, self.plain)
        trial = Trial.of(text, key, rung, loss, cost, seconds, self.elapsed())
        if must:
            self.plain, self._plain_model = trial, model
        self._add(trial, model)
        if self.store is not None:
            self.store.add(trial)

    def _remade_plain(self) -> nn.Module:
        """Plain static int8, beside which times are measured; not kept by a run that stopped."""
        self._plain_model = self._workshop.make(Recipe.parse(PLAIN), 0)
        return self._plain_model

    def _add(self, trial: Trial, model: nn.Module | None) -> None:
        self.trials.append(trial)
        if model is not None:
            self._models[trial.key, trial.rung] = model
        front = {(t.key, t.rung) for t in [*pareto(self.trials), self.choose()[0]]}
        if self.folder is not None:
            self.folder.add(trial)
            if model is not None and (trial.key, trial.rung) in front:
                self.folder.save(trial.key, trial.rung, model)
        for name in [*self._models]:
            if name not in front:
                del self._models[name]
                if self.folder is not None:
                    self.folder.drop(*name)
        self._show()

    def _show(self) -> None:
        if self.bar is None:
            return
        elapsed = min(self.elapsed(), self._seconds)
        chosen, met = self.choose()
        faster = 1.0 if self.plain is None else self.plain.latency / chosen.latency
        state = "best" if met else "nearest"
        text = f"{state}: {chosen.recipe} ({faster:.2f} × int8, {chosen.size / 1000:,.0f} KB)"
        whole = int(elapsed) - int(self._shown)
        self._shown = elapsed
        self.bar.advance(max(whole, 0), lambda: text)

    def _note_once(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def choose(self) -> tuple[Trial, bool]:
        """The best trial so far, and whether it meets the goal."""
        return best(self.trials, self.max_drop, self.objective, self.plain)

    def model_of(self, trial: Trial) -> nn.Module:
        """The model that a trial made: kept, stored, or made anew."""
        if (trial.key, trial.rung) in self._models:
            return self._models[trial.key, trial.rung]
        if trial.key == PLAIN and self._plain_model is not None:
            return self._plain_model
        stored: Any = None
        if self.folder is not None:
            stored = self.folder.load(trial.key, trial.rung, self.original)
        if stored is None:
            self._workshop.tuning = self.tuning
            stored = self._workshop.make(Recipe.parse(trial.key), trial.rung)
        made: nn.Module = stored
        return made

    def _kept(self, key: str, rung: int, model: nn.Module | None) -> nn.Module | None:
        assert self.folder is not None
        if model is not None:
            self.folder.save(f"first step {key}", rung, model)
            return None
        found: nn.Module | None = self.folder.load(f"first step {key}", rung, self.original)
        return found


def _scaled(measured: list[Any], plain: Trial) -> Any:
    """Times of a candidate, as ratios to plain int8's beside it, in plain int8's first ones."""
    base, own = measured[0], measured[-1]
    return replace(
        own,
        latency=plain.latency * own.latency / base.latency,
        throughput=plain.throughput * own.throughput / base.throughput,
    )


def _tree_epochs(pool: list[Recipe]) -> float:
    """Epochs of rung 0 for a unit of one, what recipes share counted once."""
    nodes: dict[str, float] = {}
    for recipe in pool:
        for i, step in enumerate(recipe):
            if step.trained_epochs:
                nodes[Workshop.key_of(recipe, i)] = 1.0 if i == 0 else 0.25
    return max(sum(nodes.values()), 1.0)


def _digest(model: nn.Module) -> str:
    """What tells one model from another."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        if isinstance(value, torch.Tensor):
            digest.update(value.detach().cpu().contiguous().float().numpy().tobytes())
    return digest.hexdigest()[:16]
