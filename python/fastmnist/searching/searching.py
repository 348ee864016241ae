"""Look for the best recipe, within a loss and a time."""

from __future__ import annotations

import hashlib
import math
import os
import time
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn

from fastmnist.data.batch import BatchFn
from fastmnist.data.bundle import Data
from fastmnist.display.callers import callers_level
from fastmnist.display.progress import ProgressBar
from fastmnist.display.words import kind_of
from fastmnist.measuring.metrics import MetricLike, metric_of, unit_of
from fastmnist.measuring.scoring import LossFn
from fastmnist.runtime.cpu import cpu_info
from fastmnist.searching.budget import seconds_of
from fastmnist.searching.folder import Folder
from fastmnist.searching.judging import Judge
from fastmnist.searching.optimizing import check_max_drop, told_model
from fastmnist.searching.recipe import Recipe
from fastmnist.searching.result import Search
from fastmnist.searching.running import PLAIN, Run
from fastmnist.searching.shared import opened
from fastmnist.searching.splitting import split_rows
from fastmnist.searching.trial import OBJECTIVES, pareto
from fastmnist.searching.tuning import Tuning, seeded

USUAL_DROP = {"accuracy": 0.3, "r2": 0.005, "f1": 0.005, "auc": 0.005}
_SHARE, _MOST_JUDGED = 1 / 6, 10_000  # of rows without a test half, that are kept apart


def search(
    model: nn.Module,
    data: Any,
    max_drop: float | None = None,
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
    """Search for the recipe that makes a model fastest or smallest, within a loss and a time.

    Parameters
    ----------
    model : torch.nn.Module
        A trained float model; left unchanged.
    data : Data, Split, DataLoader, Dataset, (x, y), …
        With targets. A bundle's training half is used for training and calibration, one half of its
        test rows to judge the candidates, and the other by :meth:`Search.report`. For other data, a
        sixth, at most 10,000 rows, is held out to judge the candidates. If the model was trained on
        these rows, its own score on them is too high, and the search finds less than it could: pass
        `validation` then.
    max_drop : float, optional
        How much may be lost: accuracy in points (default: 0.3), another metric in its own unit
        (default for R², F1, AUC: 0.005; required for others). A recipe meets the limit if it stays
        below it by more than the standard error of its loss.
    objective : {"latency", "throughput", "size"}
        What to minimize: the time of a call with one row; the time per row in batches of 1,024; the
        size of the file.
    budget : str or float
        Total wall time, such as "5 min" or "90 s", or seconds; a resumed search counts the time
        already used.
    storage : str or optuna storage, optional
        Share the work between processes or machines: an Optuna storage, such as
        ``"sqlite:///search.db"`` (needs the extra ``fastmnist[search]``). Give all of them the same
        arguments; each takes trials that no other has started.
    folder : path, optional
        Where trials are stored: a search that was stopped or killed resumes from there.
    validation : data, optional
        Rows to judge candidates on that the model was not trained on.
    recipes : list of recipes, optional
        Recipes to try, instead of the usual ones for such a model. The search decides how long they
        train, except for "@0".
    batch_size, loss_fn, metric, greater_is_better, batch_fn, pixels, mean, std, seed, progress
        As for :func:`fastmnist.optimize`.

    Returns
    -------
    Search
        ``recipe``, ``model``, ``best``, ``met``, ``trials``, ``pareto``, ``report()``. The result
        is never both slower and larger than plain static int8. If nothing meets the goal, ``met``
        is False and the closest is returned, with a warning. After Ctrl-C, the result so far is
        returned.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid, there is nothing to quantize, or there are no targets.
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
    given = _given(recipes)
    with ExitStack() as stack:
        stack.enter_context(seeded(seed))  # a DataLoader that shuffles draws numbers, too
        fit, judged, reported, what_reported = _parts(data, validation, seed)
        judge = Judge(
            told,
            judged,
            metric=metric_of(metric, greater_is_better),
            loss_fn=loss_fn,
            batch_fn=batch_fn,
        )
        max_drop = _allowed(max_drop, judge.metric.name)
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
            "batch_size": batch_size,
            "rows judged": judge.n,
            "seed": seed,
            "model": _digest(told),
            "recipes": None if given is None else [str(recipe) for recipe in given],
            "rows": judge.digest,
        }
        stored = None
        if folder is not None:
            stored = Folder(folder, settings)
            stack.callback(stored.close)
        run = Run(told, judge, tuning, max_drop, objective, stored, opened(storage, settings))
        run.begin(began, seconds)
        with (
            warnings.catch_warnings(),
            ProgressBar("searching", math.ceil(seconds), show=progress) as bar,
        ):
            warnings.simplefilter("ignore")  # of what a recipe costs; here it is measured
            run.bar = bar
            run.all_rungs(given)
        chosen, met, result = run.result()
        plain = run.plain_model()
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
    compared |= {f"best: {chosen.recipe}": result} if chosen.key != PLAIN else {}
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


def _allowed(max_drop: float | None, metric: str) -> float:
    """How much may be lost by default."""
    if max_drop is not None:
        return max_drop
    if metric not in USUAL_DROP:
        raise ValueError(
            f"max_drop: expected how much worse '{metric}', whose unit is its own, may become, got "
            "none: give max_drop= in that unit"
        )
    return USUAL_DROP[metric]


def _given(recipes: Sequence[Any] | None) -> list[Recipe] | None:
    """Recipes to try, read; None: those that are usual."""
    if recipes is None:
        return None
    if isinstance(recipes, str | Recipe) or not isinstance(recipes, Sequence):
        raise TypeError(
            f"recipes: expected a list such as ['prune80+int8', 'qat4'], got {kind_of(recipes)}"
        )
    if not recipes:
        raise ValueError("recipes: expected at least one, or None for the usual ones, got none")
    found = [Recipe.of(recipe) for recipe in recipes]
    for step in (step for recipe in found for step in recipe):
        if not step.is_writable:  # trials are told apart, stored and shared by their text
            raise ValueError(
                f"recipes: expected steps that text can say, got '{step}' of "
                f"{type(step.config).__name__}, which holds more than numbers and words: give it "
                "to fm.optimize"
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


def _digest(model: nn.Module) -> str:
    """What tells one model from another."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        if isinstance(value, torch.Tensor):
            digest.update(value.detach().cpu().contiguous().float().numpy().tobytes())
    return digest.hexdigest()[:16]
