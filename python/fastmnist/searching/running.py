"""A search while it goes on: what was tried, what is next, and whether there is time for it.

At rung 0 every candidate is trained a little; a third of them goes on to the next rung, where it is
trained three times as long (K. Jamieson, A. Talwalkar, "Non-stochastic best arm identification and
hyperparameter optimization", AISTATS 2016, with eta = 3). What candidates share is made once
(:mod:`fastmnist.searching.workshop`). Costs are measured, not guessed, beside plain static int8.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import Any

from torch import nn

from fastmnist.data.batches import count_samples
from fastmnist.display.progress import ProgressBar
from fastmnist.rewriting.copies import plain_copy
from fastmnist.searching.folder import Folder
from fastmnist.searching.judging import Judge, Runner, costs
from fastmnist.searching.recipe import Recipe
from fastmnist.searching.shared import Store
from fastmnist.searching.space import candidates, other_ends
from fastmnist.searching.trial import Trial, best, latest, pareto, survivors
from fastmnist.searching.tuning import OutOfTime, Tuning
from fastmnist.searching.workshop import ETA, Workshop, part_of, rounded_unit

PLAIN = "int8"
_RUNGS = 3
_SPENT = 0.7  # share of the budget that all rungs are planned to take
_OVERHEAD = 0.25  # share of the budget that rung 0 may take beside training
_TRIALS = 1.5  # trials a candidate, of all rungs
_FEWEST = 8
_END = 0.04  # share of the budget that is left for the end
_MOST_UNIT, _LEAST_STEPS = 10.0, 8  # epochs, batches: of a first training
_PROBED = 4096  # rows, of which the time of an epoch is measured


class Run:
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
        self._lost: set[tuple[str, int]] = set()  # whose models are not here
        self._plain_model: nn.Module | None = None
        self._plain_runner: Runner | None = None
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
        promoted, rung = pool, 0
        while promoted:
            for recipe in promoted:
                self._try(recipe, rung)
            by_key = {Workshop.key_of(recipe): recipe for recipe in promoted}
            trained = {k for k, recipe in by_key.items() if any(s.trained_epochs for s in recipe)}
            here = [t for t in latest(self.trials) if t.rung == rung and t.key in trained]
            if rung == _RUNGS - 1 or not here:
                break
            count = min(max(2, math.ceil(len(here) / ETA)), len(here))
            chosen = survivors(here, self.max_drop, self.objective, _RUNGS - 1 - rung, count)
            promoted, rung = [by_key[trial.key] for trial in chosen], rung + 1
            self._workshop.forget(rung - 1)
        if not given:
            self._ends(promoted, rung)
        if not self.notes and time.monotonic() < self._deadline - 0.1 * self._seconds:
            self.notes.append("all was tried before the time was over")

    def _ends(self, promoted: list[Recipe], rung: int) -> None:
        """The shapes that came so far, their weights stored in other ways, the best ones first."""
        by_key = {Workshop.key_of(recipe): recipe for recipe in promoted}
        done = [t for t in latest(self.trials) if t.key in by_key and t.rung == rung]
        for trial in survivors(done, self.max_drop, self.objective, 0, len(done)):
            for recipe in other_ends(by_key[trial.key]):
                self._try(recipe, rung)

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
                f"the budget is too short for a training (an epoch takes {self._told_epoch}): "
                "only recipes without one were tried"
            )
        self._workshop.unit = rounded_unit(min(unit, _MOST_UNIT))
        if self.folder is not None:
            epoch = self._epoch if math.isfinite(self._epoch) else 1e9
            self.folder.remember(unit=self._workshop.unit, epoch=epoch)
        return self._workshop.unit > 0

    @property
    def _told_epoch(self) -> str:
        known = math.isfinite(self._epoch)
        return f"{self._epoch:.2g} s" if known else "longer than was left to measure it"

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
        if self.store is not None and not self.store.claim(key, rung) and not must:
            return
        if self.folder is not None:
            self.folder.remember(elapsed=self.elapsed())
        self._workshop.tuning = self.tuning.until(math.inf if must else self._deadline)
        try:
            model = self._workshop.make(recipe, rung)
            loss = self.judge.loss(model)
            own = Runner.of(model, self.judge)
            measured = costs([own] if must else [self._base(), own], self.judge)
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
            self._plain_model, self._plain_runner = model, own
        self._add(trial, model)
        if self.store is not None:
            self.store.add(trial)

    def _base(self) -> Runner:
        """What others are timed beside."""
        if self._plain_runner is None:
            plain = self._plain_model or self._remade_plain()
            self._plain_runner = Runner.of(plain, self.judge)
        return self._plain_runner

    def _remade_plain(self) -> nn.Module:
        """Plain static int8, beside which times are measured; not kept by a run that stopped."""
        self._plain_model = self._workshop.make(Recipe.parse(PLAIN), 0)
        return self._plain_model

    def _add(self, trial: Trial, model: nn.Module | None) -> None:
        self.trials.append(trial)
        if trial.key == PLAIN and self.plain is None:
            self.plain = trial
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
        here = [trial for trial in self.trials if (trial.key, trial.rung) not in self._lost]
        return best(here, self.max_drop, self.objective, self.plain)

    def result(self) -> tuple[Trial, bool, nn.Module]:
        """The best trial, whether it meets the goal, and its model.

        What another process made, or an earlier run did not keep, is made anew, and judged anew:
        its weights are others. Where there is no time for that, it is left out, with a note.
        """
        while True:
            chosen, met = self.choose()
            model = self.kept(chosen)
            if model is not None:
                return chosen, met, model
            try:
                self._make_anew(chosen)
            except OutOfTime:
                self._lost.add((chosen.key, chosen.rung))
                self.notes.append(
                    f"'{chosen.recipe}' was better, but its model is not here, and there was no "
                    "time to make it again"
                )

    def _make_anew(self, trial: Trial) -> None:
        deadline = max(self._deadline, time.monotonic()) + _END * self._seconds
        self._workshop.tuning = self.tuning.until(deadline)
        recipe = Recipe.parse(trial.key)
        model = self._workshop.make(recipe, trial.rung)
        loss = self.judge.loss(model)
        text = str(self._workshop.concrete(recipe, trial.rung))
        again = replace(trial, recipe=text, score=loss.score, drop=loss.drop, error=loss.error)
        self.trials[self.trials.index(trial)] = again
        self.plain = again if trial == self.plain else self.plain
        self._models[trial.key, trial.rung] = model

    def kept(self, trial: Trial) -> nn.Module | None:
        """The model that a trial made, as it is here or in the folder."""
        if (trial.key, trial.rung) in self._models:
            return self._models[trial.key, trial.rung]
        stored: nn.Module | None = None
        if self.folder is not None:
            stored = self.folder.load(trial.key, trial.rung, self.original)
        return stored

    def plain_model(self) -> nn.Module | None:
        """Plain static int8, if it could be made."""
        if self.plain is None or self._plain_model is not None:
            return self._plain_model
        kept = self.kept(self.plain)
        return self._remade_plain() if kept is None else kept

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
