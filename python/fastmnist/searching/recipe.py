"""A recipe: what is done to a model, step by step, as objects, as text and as YAML."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import yaml

from fastmnist.clustering.configs import Clusters
from fastmnist.display.words import kind_of
from fastmnist.distillation.config import Distillation
from fastmnist.rewriting.changes import keep_recipe_text, recipe_text
from fastmnist.searching.steps import Step
from fastmnist.searching.words import QUANTIZE, WORDS, Word, made, word_of

_FORMAT, _VERSION = "fastmnist recipe", 1
_MOST_TEXT, _MOST_STEPS, _MOST_SHOWN = 10_000, 32, 80
# name, number, (options), @epochs
_STEP = re.compile(
    r"(?P<name>[a-z]+)(?P<number>\d+(?:\.\d+)?)?(?:\((?P<options>[^()]*)\))?(?:@(?P<epochs>\d+))?",
    re.IGNORECASE,
)
_WHY = {
    1: "it changes how many neurons there are",
    2: "zeros are chosen before values are shared",
    3: "values are shared before they get codes",
}


@dataclass(frozen=True)
class Recipe:
    """Steps that make a model small and fast, with training between them.

    Parameters
    ----------
    steps : tuple
        Configurations in the order of application: ``fm.Student``, ``fm.Structured``,
        ``fm.LowRank``, ``fm.L1Unstructured``, ``fm.RandomUnstructured``, ``fm.Clusters``,
        ``fm.Distillation``, ``fm.Finetune``, ``fm.Static``, ``fm.Dynamic``, ``fm.QAT``,
        ``fm.Half``; or steps as text, such as ``"prune80@3"``. Steps that change weights are
        followed by training, for one epoch by default.
    name, about : str
        The recipe's name, and when it helps.
    max_drop : float or None
        The maximum loss that it is meant for, in points of accuracy.

    Raises
    ------
    TypeError, ValueError
        If a step is none of these, or the order is invalid.

    Examples
    --------
    >>> import fastmnist as fm
    >>> recipe = fm.Recipe((fm.L1Unstructured(0.8), fm.Clusters(16), fm.Static()))
    >>> str(recipe)
    'prune80+cluster16+int8'
    >>> fm.Recipe.parse("prune80+cluster16+int8") == recipe
    True
    """

    steps: tuple[Step, ...]
    name: str = ""
    about: str = ""
    max_drop: float | None = None

    def __post_init__(self) -> None:
        given = self.steps if isinstance(self.steps, tuple | list) else (self.steps,)
        steps = tuple(_step_of(step) for step in given)
        if not steps:
            raise ValueError("recipe: expected at least one step, got none: such as 'int8'")
        if len(steps) > _MOST_STEPS:
            raise ValueError(f"recipe: expected at most {_MOST_STEPS} steps, got {len(steps)}")
        object.__setattr__(self, "steps", steps)
        for what in ("name", "about"):
            if not isinstance(getattr(self, what), str):
                raise TypeError(f"{what}: expected a str, got {type(getattr(self, what)).__name__}")
        if not self.name.isprintable():  # it is a row's name in terminals, too
            raise ValueError(f"name: expected letters of one line, got {_told(self.name)}")
        drop = self.max_drop
        is_number = isinstance(drop, int | float) and not isinstance(drop, bool)
        if drop is not None and not (is_number and 0 <= drop < math.inf):
            raise ValueError(f"max_drop: expected 0 or more, or None, got {_told(drop)}")
        self._check_order()

    def _check_order(self) -> None:
        done: Step | None = None
        for step in self.steps:
            after, before = (_phase(part) if part else 0 for part in (step, done))
            if before == QUANTIZE and done is not None:
                hint = f": write '{self._sorted()}'"
                if after == QUANTIZE:
                    hint = ": a model is quantized once"
                elif not after:
                    hint = ": write 'qat8' to train what is quantized"
                raise ValueError(
                    f"recipe: expected nothing after '{done}', which quantizes, got '{step}' in "
                    f"'{self}'{hint}"
                )
            if after and after < before:
                raise ValueError(
                    f"recipe: expected '{step}' before '{done}', as {_WHY[after]}, got '{self}': "
                    f"write '{self._sorted()}'"
                )
            if isinstance(step.config, Clusters) and after == before:
                raise ValueError(f"recipe: expected to cluster once, got '{self}'")
            if after:
                done = step

    def _sorted(self) -> str:
        """The same steps in an order that can be: each with the training that followed it."""
        groups: list[list[Step]] = []
        for step in self.steps:
            if groups and not _phase(step):
                groups[-1].append(step)
            else:
                groups.append([step])
        groups.sort(key=lambda group: _phase(group[0]))
        moved = [step for group in groups for step in group]
        return "+".join(map(str, moved))

    def __str__(self) -> str:
        return "+".join(map(str, self.steps))

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)

    def __len__(self) -> int:
        return len(self.steps)

    @classmethod
    def parse(cls, text: str) -> Recipe:
        """Parse a recipe of steps joined by "+", or the name of a built-in recipe.

        Raises
        ------
        TypeError, ValueError
            If a word is wrong; the error names it, and the nearest known word.

        Examples
        --------
        >>> import fastmnist as fm
        >>> [str(step) for step in fm.Recipe.parse("neurons50@5 + qat4(observer=mse)")]
        ['neurons50@5', 'qat4(observer=mse)']
        """
        if not isinstance(text, str):
            raise TypeError(f"recipe: expected a str, got {type(text).__name__}")
        if len(text) > _MOST_TEXT:
            raise ValueError(
                f"recipe: expected at most {_MOST_TEXT:,} characters, got {len(text):,}"
            )
        from fastmnist.searching.named import NAMED

        known = {name.lower(): recipe for name, recipe in NAMED.items()}
        if text.strip().lower() in known:
            return known[text.strip().lower()]
        parts = _parts(text)
        if not any(parts):
            raise ValueError("recipe: expected steps such as 'prune80+int8', got an empty text")
        return cls(tuple(_parsed(part, text) for part in parts))

    def to_yaml(self) -> str:
        """Return the recipe as YAML, with the format version.

        Raises
        ------
        ValueError
            If a step cannot be written as text, such as one with your own masks.

        Examples
        --------
        >>> import fastmnist as fm
        >>> print(fm.Recipe.parse("prune80+int8").to_yaml(), end="")
        format: fastmnist recipe
        version: 1
        steps:
        - prune80
        - int8
        """
        for step in self.steps:
            if not step.is_writable:
                raise ValueError(
                    f"recipe: expected steps that text can say, got '{step}' of "
                    f"{type(step.config).__name__}, which holds more than numbers and words"
                )
        content: dict[str, Any] = {"format": _FORMAT, "version": _VERSION}
        content |= {"name": self.name} if self.name else {}
        content |= {"about": self.about} if self.about else {}
        content |= {"max_drop": self.max_drop} if self.max_drop is not None else {}
        content["steps"] = [str(step) for step in self.steps]
        text: str = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)
        return text

    @classmethod
    def from_yaml(cls, text: str) -> Recipe:
        """Read what :meth:`to_yaml` returned. Nothing in it is executed.

        Raises
        ------
        TypeError, ValueError
            If it is not such YAML, or from a later version.
        """
        if not isinstance(text, str):
            raise TypeError(f"recipe: expected YAML as a str, got {type(text).__name__}")
        if len(text) > _MOST_TEXT:
            raise ValueError(
                f"recipe: expected at most {_MOST_TEXT:,} characters of YAML, got {len(text):,}"
            )
        try:
            content = yaml.safe_load(text)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            first = str(error).strip().splitlines()[0]
            raise ValueError(f"recipe: expected YAML, got what is none: {first}") from None
        if not isinstance(content, dict) or content.get("format") != _FORMAT:
            raise ValueError(f"recipe: expected YAML with 'format: {_FORMAT}', got none")
        if content.get("version") != _VERSION or isinstance(content.get("version"), bool):
            got = _told(content.get("version"))
            raise ValueError(
                f"recipe: expected version {_VERSION}, got {got}: a later fastmnist reads it"
            )
        known = {"format", "version", "name", "about", "max_drop", "steps"}
        if unknown := [key for key in content if key not in known]:
            raise ValueError(f"recipe: expected no key {_told(unknown[0])} in it")
        steps = content.get("steps")
        if not isinstance(steps, list) or not all(isinstance(step, str) for step in steps):
            raise ValueError("recipe: expected 'steps', a list of words such as prune80, got none")
        name, about = content.get("name", ""), content.get("about", "")
        return cls(tuple(steps), name, about, content.get("max_drop"))

    @classmethod
    def of(cls, recipe: Any) -> Recipe:
        """Return a recipe from a recipe, its text or name, or a tuple of steps."""
        if isinstance(recipe, Recipe):
            return recipe
        if isinstance(recipe, str):
            return cls.parse(recipe)
        return cls(tuple(recipe) if isinstance(recipe, tuple | list) else (recipe,))

    @classmethod
    def made(cls, model: Any) -> Recipe | None:
        """Return the recipe that made a model, as stored in the model or its file, or None."""
        text = recipe_text(model)
        return None if text is None else cls.from_yaml(text)


def keep_recipe(model: Any, recipe: Recipe) -> None:
    """Let a model, and the file it is saved to, tell what made it."""
    if all(step.is_writable for step in recipe.steps):
        keep_recipe_text(model, recipe.to_yaml())


def _phase(step: Step) -> int:
    return 0 if isinstance(step.config, Distillation) else step.word.phase


def _step_of(step: Any) -> Step:
    if isinstance(step, Step):
        return step
    if isinstance(step, str):
        return _parsed(step.strip(), step)
    word_of(step)  # TypeError for what a recipe can't hold
    return Step(step)


def _parts(text: str) -> list[str]:
    """The steps of a text; a "+" within parentheses or a number (1e+3) joins none."""
    return [part.strip() for part in re.split(r"\+(?![^(]*\))", text)]


def _parsed(part: str, text: str) -> Step:
    match = _STEP.fullmatch(part)
    word = None if match is None else WORDS.get(match["name"].lower())
    if match is None or word is None:
        raise _unknown(part, text)
    options, widths, run = _options(word, match["options"] or "", part)
    if match["epochs"] is not None:
        run["epochs"] = int(match["epochs"][:9])
    try:
        number = None if match["number"] is None else float(match["number"])
        return Step(made(word, number, options, widths), **run)
    except (TypeError, ValueError) as error:
        raise ValueError(f"recipe: '{_short(part)}': {error}") from None


def _options(word: Word, text: str, part: str) -> tuple[dict[str, Any], list[int], dict[str, Any]]:
    """What stands in parentheses: fields of the configuration, widths, and how to train."""
    options: dict[str, Any] = {}
    run: dict[str, Any] = {}
    widths: list[int] = []
    config = Distillation if word.name == "distill" else word.config
    known = [f.name for f in fields(config) if f.name not in ("calibration", "batch_fn", "dtype")]
    known += ["lr", "augment"]
    for given in filter(None, (piece.strip() for piece in text.split(","))):
        name, sign, value = (piece.strip() for piece in given.partition("="))
        if not sign and word.name == "distill" and name.isdecimal():
            widths.append(int(name[:9]))
        elif name == "augment" and not sign:
            run["augment"] = True
        elif not sign or name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f": did you mean '{near[0]}'?" if near else ""
            raise ValueError(
                f"recipe: '{part}': expected an option of {', '.join(known)}, got '{given}'{hint}"
            )
        elif name in options or name in run:
            raise ValueError(f"recipe: '{part}': expected '{name}' once")
        else:
            (run if name in ("lr", "augment") else options)[name] = _value(value)
    return options, widths, run


def _value(text: str) -> Any:
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _unknown(part: str, text: str) -> ValueError:
    """Point at the word, and name the nearest."""
    from fastmnist.searching.named import NAMED

    if not part:
        return ValueError(f"recipe: expected a step on both sides of '+', got '{text}'")
    if part.lower() in NAMED:
        steps = "+".join(map(str, NAMED[part.lower()]))
        return ValueError(f"recipe: expected steps, got the name '{part}': write '{steps}' for it")
    examples = [word.example for word in WORDS.values()]
    match = re.match(r"[a-zA-Z_]*", part)
    name = match[0].lower() if match else ""
    near = difflib.get_close_matches(name, WORDS, n=1, cutoff=0.5)
    whole = difflib.get_close_matches(part, NAMED, n=1, cutoff=0.75)
    if whole:
        best = whole[0]
    elif near:
        rest = part[len(name) :]
        looks = f"{near[0]}{rest}"
        best = looks if _STEP.fullmatch(looks) else WORDS[near[0]].example
    else:
        found = difflib.get_close_matches(part, [*examples, *NAMED], n=1, cutoff=0.3)
        best = found[0] if found else ""
    whole_text, part = map(_short, (text.strip(), part))
    place = f" in '{whole_text}'" if whole_text != part else ""
    hint = f": did you mean '{best}'?" if best else f": steps are {', '.join(examples)}"
    return ValueError(f"recipe: unknown step '{part}'{place}{hint}")


def _short(text: str) -> str:
    half = _MOST_SHOWN // 2
    return text if len(text) <= _MOST_SHOWN else f"{text[:half]}…{text[-half:]}"


def _told(value: Any) -> str:
    """A value of YAML for a message: lists within lists may stand for millions of words."""
    if isinstance(value, str | int | float | bool | None):
        return _short(repr(value))
    return kind_of(value)
