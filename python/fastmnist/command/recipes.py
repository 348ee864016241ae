"""The commands about recipes: which there are, what one makes, and which is best."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from fastmnist.command.outputs import check_writable
from fastmnist.command.subject import Subject, prepare
from fastmnist.command.words import told
from fastmnist.display.progress import can_show
from fastmnist.display.tables import Table
from fastmnist.files.atomic import write_atomically
from fastmnist.measuring.evaluation import Evaluation, evaluate
from fastmnist.measuring.metrics import metric_of, shown, unit_of
from fastmnist.saving.save_load import save
from fastmnist.searching.budget import seconds_of
from fastmnist.searching.named import NAMED
from fastmnist.searching.optimizing import optimize
from fastmnist.searching.recipe import Recipe
from fastmnist.searching.searching import search
from fastmnist.searching.words import WORDS

ORIGINAL = "original"  # the first row of a comparison


def list_recipes(options: argparse.Namespace) -> int:
    """Print the recipes that come with the library, and the words for one's own."""
    check_writable(options.json)
    table = Table("recipes: fastmnist optimize --recipe NAME", ["name", "may lose", "steps"])
    for name, recipe in NAMED.items():
        table.row(name, f"{recipe.max_drop:g} points", str(recipe))
    words = Table("steps of your own, joined by +: prune80@3+cluster16+int8", ["step", "what"])
    for word in WORDS.values():
        words.row(word.example, word.about)
    words.note("@3: trained for three epochs after it; (augment): images are moved meanwhile")
    words.note("in parentheses: the fields of its configuration, prune80(scope=global)")
    if options.json:
        content = {
            "recipes": [
                {
                    "name": name,
                    "steps": str(recipe),
                    "max_drop": recipe.max_drop,
                    "about": recipe.about,
                }
                for name, recipe in NAMED.items()
            ],
            "steps": {word.example: word.about for word in WORDS.values()},
        }
        write_atomically(options.json, f"{json.dumps(content, indent=2)}\n".encode())
    print(table)
    for name, recipe in NAMED.items():
        print(f"{name}: {recipe.about}")
    print(f"\n{words}")
    return 0


def run_optimize(options: argparse.Namespace) -> int:
    """Carry out one recipe; save what it makes: 0, or 1 if it loses more than allowed."""
    for path in (options.output, options.json):
        check_writable(path)
    recipe = recipe_of_option(options.recipe)
    subject = prepare(options)
    source = subject.source
    made = optimize(
        subject.model,
        source.train,
        recipe,
        seed=options.seed,
        loss_fn=subject.loss_fn,
        batch_fn=subject.batch_fn,
    )
    save(options.output, made)
    before, after = (
        evaluate(model, source.test, **subject.options) for model in (subject.model, made)
    )
    if options.json:
        content = {
            "recipe": str(recipe),
            "data": source.name,
            "n": after.n,
            "metric": after.metric,
            "before": float(before),
            "after": float(after),
            "file": options.output,
            "bytes": Path(options.output).stat().st_size,
        }
        write_atomically(options.json, f"{json.dumps(content, indent=2)}\n".encode())
    size = Path(options.output).stat().st_size / 1000
    print(
        f"{recipe}: {source.name}, {shown(before.metric, before)} → {shown(after.metric, after)} "
        f"of {after.n:,} rows; {size:,.1f} KB, saved to {options.output}"
    )
    for note in source.notes:
        print(note)
    return _status(subject, before, after, options.max_drop)


def _status(subject: Subject, before: Evaluation, after: Evaluation, max_drop: float | None) -> int:
    """1, and a sentence, if more is lost than allowed; what was made is saved all the same."""
    if max_drop is None:
        return 0
    metric = subject.metric or metric_of(before.metric)
    assert metric is not None
    lost = metric.loss_of(before, after)
    if lost <= max_drop:
        return 0
    unit = "points" if unit_of(metric.name) == 100 else f"of {metric.name}"
    print(
        f"fastmnist: --max-drop: expected a loss of at most {max_drop:g} {unit}, got {lost:.3g}: "
        "train longer (prune80@5), remove less, or let fastmnist search look for a recipe",
        file=sys.stderr,
    )
    return 1


def run_search(options: argparse.Namespace) -> int:
    """Search, save the best, print what was found: 0 if it meets the goal, else 1."""
    for path in (options.output, options.json, options.html):
        check_writable(path)
    seconds_of(options.budget)
    recipes = None
    if options.recipes:
        recipes = [recipe_of_option(text) for text in options.recipes]
    subject = prepare(options)
    fit, judged, reported = subject.halves(options.seed)
    found = search(
        subject.model,
        fit,
        options.max_drop,
        options.objective,
        options.budget,
        options.storage,
        folder=options.folder,
        validation=judged,
        recipes=recipes,
        seed=options.seed,
        progress=can_show(),
        **subject.options,
    )
    save(options.output, found.model)
    if options.json:
        found.to_json(options.json)
    if options.html:
        report = found.report(reported, name=subject.source.name)
        report.to_html(options.html)
    print(found)
    if judged is None and subject.source.train is subject.source.test and subject.is_trained_here:
        print(
            "the original was trained on all rows, those that candidates are judged by among them, "
            "which flatters it: less is found than there is; let --data return two sets"
        )
    print(f"{found.recipe}: saved to {options.output}")
    if any(note.startswith("interrupted") for note in found.about["notes"]):
        if options.folder:
            print(f"the same command goes on in {options.folder}")
        return 130
    return 0 if found.met else 1


def recipe_of_option(text: str) -> Recipe:
    """Read a recipe of a command: text, a name, or a YAML file.

    Raises
    ------
    OSError, ValueError
        If it is none.
    """
    if text.endswith((".yaml", ".yml")):
        with open(text, encoding="utf-8") as file:
            return Recipe.from_yaml(file.read(100_000))
    return Recipe.parse(text)


def recipes_of_option(texts: list[str]) -> dict[str, Recipe]:
    """Read the recipes of a comparison, each by the name of its row; "all" are the library's.

    Raises
    ------
    OSError, ValueError
        If one is none, or two rows would have one name.
    """
    if texts == ["all"]:
        return {**NAMED}
    found: dict[str, Recipe] = {}
    for text in texts:
        recipe = recipe_of_option(text)
        name = recipe.name or str(recipe)
        if name == ORIGINAL or name in found:
            raise ValueError(f"--recipes: expected a name for each row, got '{name}' twice")
        if name in NAMED and recipe != NAMED[name]:
            raise ValueError(
                f"--recipes: expected another name in '{text}', got '{name}', which is a recipe "
                "that comes with the library"
            )
        found[name] = recipe
    return found


def made_by_recipes(
    subject: Subject, recipes: dict[str, Recipe], seed: int, must: bool
) -> tuple[dict[str, Any], list[str]]:
    """Variants for a comparison: the original, and what each recipe makes as it would run.

    Of recipes that nobody asked for by name (not `must`), those that can't be done to this model
    are left out, and notes say why.
    """
    from fastmnist.searching.judging import example_of, runnable

    example = example_of(subject.source.test, subject.model, subject.batch_fn)
    variants: dict[str, Any] = {ORIGINAL: subject.model}
    notes = []
    for name, recipe in recipes.items():
        try:
            made = optimize(
                subject.model,
                subject.source.train,
                recipe,
                seed=seed,
                loss_fn=subject.loss_fn,
                batch_fn=subject.batch_fn,
            )
        except (TypeError, ValueError) as error:
            if must:
                raise
            notes.append(f"left out '{name}': {told(error)}")
            continue
        variants[name] = runnable(made, example)[0]
    if not variants.keys() - {ORIGINAL}:
        raise ValueError(f"--recipes: expected one that can be done to this model: {notes[0]}")
    return variants, notes


def promises(rows: Any, metric: str) -> list[str]:
    """Notes on recipes that lost more than they say."""
    notes = []
    for row in rows:
        recipe = NAMED.get(row.name)
        if recipe is None or recipe.max_drop is None or unit_of(metric) != 100:
            continue
        if -100 * row.difference > recipe.max_drop:
            notes.append(f"'{row.name}' lost more than the {recipe.max_drop:g} points that it says")
    return notes
