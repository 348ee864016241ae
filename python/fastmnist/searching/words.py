"""The words of recipes: what each means, and how much training follows it.

A word stands for one configuration class of a transform; :data:`WORDS` is the whole vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from fastmnist.clustering.configs import Clusters
from fastmnist.display.words import kind_of
from fastmnist.distillation.config import Distillation
from fastmnist.factorization.config import LowRank
from fastmnist.pruning.methods import (
    CustomMask,
    L1Unstructured,
    RandomUnstructured,
    Structured,
    checked_integer,
)
from fastmnist.quantization.configs import QAT, Dynamic, Half, Static


@dataclass(frozen=True)
class Fuse:
    """Fold norms and activations into the Linear layers, as :func:`fastmnist.fuse` does."""


@dataclass(frozen=True)
class Finetune:
    """Train further, without changing the structure, for the step's number of epochs.

    Examples
    --------
    >>> import fastmnist as fm
    >>> str(fm.Recipe((fm.L1Unstructured(0.8), fm.Finetune(), fm.Static())))
    'prune80+train+int8'
    """


@dataclass(frozen=True)
class Student:
    """A narrower network of the same class, taught by the model that the recipe starts from.

    Parameters
    ----------
    widths : tuple of int
        Neurons of each hidden layer, in the order of execution; no more than now. The student
        starts from new weights, so it learns only from the teacher and the data.
    distillation : Distillation
        How it is taught.

    Examples
    --------
    >>> import fastmnist as fm
    >>> str(fm.Recipe((fm.Student((96, 64)), fm.Static())))
    'distill(96,64)+int8'
    """

    widths: tuple[int, ...]
    distillation: Distillation = field(default_factory=Distillation)

    def __post_init__(self) -> None:
        widths = tuple(checked_integer("widths", width, 1) for width in self.widths)
        if not widths:
            raise ValueError("widths: expected at least one, got none")
        object.__setattr__(self, "widths", widths)


@dataclass(frozen=True)
class Word:
    """The meaning of a word of a recipe.

    Attributes
    ----------
    name : str
    config : type
    about : str
        What it does, in a few words.
    phase : int
        Steps of a recipe never go back to an earlier phase; 0 may stand anywhere before
        quantization.
    epochs : int
        Default number of epochs to train after it; None: never.
    number : str
        Which field the number after the word sets, or "".
    percent : bool
        Whether that number is a percentage.
    default : int or None
        The number if none is given; None: a number is required.
    example : str
    """

    name: str
    config: type
    about: str
    phase: int
    epochs: int | None = None
    number: str = ""
    percent: bool = False
    default: int | None = None
    example: str = ""


STRUCTURE, PRUNE, CLUSTER, QUANTIZE = 1, 2, 3, 4

WORDS = {
    word.name: word
    for word in (
        Word("fuse", Fuse, "fold norms and activations into the layers", 0, example="fuse"),
        Word("train", Finetune, "train on", 0, epochs=1, example="train@3"),
        Word(
            "distill",
            Student,
            "a narrower student of these widths; without them: taught on by the original",
            STRUCTURE,
            epochs=10,
            example="distill(96,64)",
        ),
        Word(
            "neurons",
            Structured,
            "remove this percentage of each hidden layer's neurons",
            STRUCTURE,
            epochs=3,
            number="amount",
            percent=True,
            example="neurons50",
        ),
        Word(
            "lowrank",
            LowRank,
            "two thin layers for one, with this percentage of the weights",
            STRUCTURE,
            epochs=1,
            number="ratio",
            percent=True,
            example="lowrank50",
        ),
        Word(
            "rank",
            LowRank,
            "two thin layers for one, of this rank",
            STRUCTURE,
            epochs=1,
            number="rank",
            example="rank32",
        ),
        Word(
            "energy",
            LowRank,
            "two thin layers for one, that keep this percentage of the variance",
            STRUCTURE,
            epochs=1,
            number="energy",
            percent=True,
            example="energy95",
        ),
        Word(
            "prune",
            L1Unstructured,
            "set this percentage of the weights to zero, the smallest",
            PRUNE,
            epochs=1,
            number="amount",
            percent=True,
            example="prune80",
        ),
        Word(
            "random",
            RandomUnstructured,
            "set this percentage of the weights to zero, at random",
            PRUNE,
            epochs=1,
            number="amount",
            percent=True,
            example="random50",
        ),
        Word(
            "cluster",
            Clusters,
            "let each layer's weights share this many values",
            CLUSTER,
            epochs=1,
            number="n",
            example="cluster16",
        ),
        Word(
            "int",
            Static,
            "static quantization, weights of this many bits",
            QUANTIZE,
            number="weight_bits",
            example="int8",
        ),
        Word(
            "dynamic",
            Dynamic,
            "dynamic quantization, weights of 8 bits, or of this many",
            QUANTIZE,
            number="weight_bits",
            default=8,
            example="dynamic",
        ),
        Word(
            "qat",
            QAT,
            "quantization-aware training, then static; weights of this many bits",
            QUANTIZE,
            epochs=1,
            number="weight_bits",
            default=8,
            example="qat4",
        ),
        Word("bf", Half, "weights and products in bfloat16", QUANTIZE, example="bf16"),
        Word("fp", Half, "weights and products in float16", QUANTIZE, example="fp16"),
    )
}
_HALVES = {"bf": torch.bfloat16, "fp": torch.float16}


def word_of(config: Any) -> Word:
    """The word for a configuration; TypeError where a recipe can't hold it."""
    if isinstance(config, Distillation):
        return WORDS["distill"]
    if isinstance(config, CustomMask):
        return WORDS["prune"]
    if isinstance(config, LowRank):
        names = ("rank", "energy", "ratio")
        given = next(name for name in names if getattr(config, name) is not None)
        return WORDS["lowrank" if given == "ratio" else given]
    if isinstance(config, Half):
        return WORDS["fp" if config.dtype == torch.float16 else "bf"]
    for word in WORDS.values():
        if type(config) is word.config:
            return word
    known = "L1Unstructured(0.8), Clusters(16), Static(), Finetune() or a text such as 'prune80'"
    raise TypeError(f"recipe: expected steps such as {known}, got {kind_of(config)}")


def made(word: Word, number: float | None, options: Mapping[str, Any], widths: list[int]) -> Any:
    """The configuration that a word, its number and its options say.

    Raises
    ------
    TypeError, ValueError
        In the words of the configuration.
    """
    if word.config is Half:
        if number != 16:
            raise ValueError(f"{word.name}: expected '{word.name}16', got {number}")
        return Half(_HALVES[word.name], **options)
    if word.name == "distill":
        teaching = Distillation(**options)
        return Student(tuple(widths), teaching) if widths else teaching
    given = dict(options)
    if number is not None:
        if not word.number:
            raise ValueError(f"{word.name}: expected no number behind it, got {number:g}")
        if word.percent and not 0 <= number <= 100:
            raise ValueError(f"expected 0 to 100 (per cent), got {number:g}")
        if word.percent:
            given[word.number] = number / 100
        elif not number.is_integer():
            raise ValueError(f"{word.name}: expected a whole number, got {number:g}")
        else:
            given[word.number] = int(number)
    elif word.number and word.default is None and word.number not in given:
        raise ValueError(f"{word.name}: expected a number behind it, as in '{word.example}'")
    elif word.number and word.number not in given:
        given[word.number] = word.default
    make: Callable[..., Any] = word.config
    return make(**given)
