"""One step of a recipe: a configuration of a transform, and how long is trained after it.

A step is written as a word, what it is told, and the epochs that follow::

    prune80(scope=global)@3
    ────┬──────┬─────────┬─
      word  number  options  epochs
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields, replace
from numbers import Real
from typing import Any

from fastmnist.clustering.configs import Clusters, check_clusters
from fastmnist.pruning.methods import CustomMask, checked_integer
from fastmnist.quantization.configs import QAT, Dynamic, Half, Static, check_half, check_int8
from fastmnist.searching.words import Student, Word, word_of

MOST_EPOCHS = 10_000
# These belong to a run, not to a recipe: passed to optimize, never written.
_OF_A_RUN = ("calibration", "batch_fn")


@dataclass(frozen=True)
class Step:
    """A configuration in a recipe, and the training that follows it.

    Attributes
    ----------
    config : Structured, L1Unstructured, Clusters, LowRank, Static, …
        Of a class that :data:`WORDS` knows, or a Distillation or CustomMask.
    epochs : int or None
        Epochs of training after it; None: as many as usual for its word, 0 none.
    lr : float or None
        Learning rate of that training; None: 1e-3.
    augment : bool
        Whether images are moved, turned and bent meanwhile.
    """

    config: Any
    epochs: int | None = None
    lr: float | None = None
    augment: bool = False

    def __post_init__(self) -> None:
        word = word_of(self.config)
        if isinstance(self.config, Static | Dynamic | QAT):
            check_int8(self.config)
        elif isinstance(self.config, Clusters):
            check_clusters(self.config)
        elif isinstance(self.config, Half):
            check_half(self.config.dtype)
        if self.epochs is not None:
            if word.epochs is None:
                raise ValueError("epochs: expected none behind it, as it trains nothing")
            epochs = checked_integer("epochs", self.epochs, 0)
            if epochs > MOST_EPOCHS:
                raise ValueError(f"epochs: expected at most {MOST_EPOCHS:,}, got {epochs:,}")
            if not epochs and word.name in ("train", "distill", "qat"):
                raise ValueError("epochs: expected at least 1, got 0")
        if self.lr is not None and not (
            isinstance(self.lr, Real) and not isinstance(self.lr, bool) and 0 < self.lr <= 10
        ):
            raise ValueError(f"lr: expected a number above 0, at most 10, got {self.lr!r}")
        if (self.lr is not None or self.augment) and not self.trained_epochs:
            raise ValueError(f"lr, augment: expected none where nothing is trained ({word.name})")

    @property
    def word(self) -> Word:
        """The word that stands for it."""
        return word_of(self.config)

    @property
    def trained_epochs(self) -> int:
        """How many epochs are trained after it (of "qat": within it)."""
        return (self.word.epochs or 0) if self.epochs is None else self.epochs

    @property
    def is_writable(self) -> bool:
        """Whether its text says all that it is."""
        return self._options() is not None and not isinstance(self.config, CustomMask)

    def __str__(self) -> str:
        word, number = self.word, ""
        if word.number and not isinstance(self.config, CustomMask):
            value = getattr(self.config, word.number)
            if _is_plain_number(word, value):
                number = f"{_percent(value) if word.percent else value}"
                number = "" if word.default is not None and value == word.default else number
        elif isinstance(self.config, Half):
            number = "16"
        options = self._options()
        texts = ["…"] if options is None else options
        texts += [f"lr={_number(self.lr)}"] if self.lr is not None else []
        texts += ["augment"] if self.augment else []
        inside = f"({','.join(texts)})" if texts else ""
        return f"{word.name}{number}{inside}" + ("" if self.epochs is None else f"@{self.epochs}")

    def _options(self) -> list[str] | None:
        """What differs from the word's defaults, as text; None where text cannot say it."""
        texts: list[str] = []
        config = self.config
        if isinstance(config, CustomMask):
            return None
        if isinstance(config, Student):
            texts += [str(width) for width in config.widths]
            config = config.distillation
        usual = defaults_of(type(config))
        for part in fields(config):
            value = getattr(config, part.name)
            if part.name in _OF_A_RUN or (isinstance(config, Half) and part.name == "dtype"):
                continue
            if part.name == self.word.number and _is_plain_number(self.word, value):
                continue
            if part.name in usual and value == usual[part.name]:
                continue
            if not isinstance(value, str | int | float | bool):
                return None
            texts.append(f"{part.name}={value}")
        return texts


def _is_plain_number(word: Word, value: Any) -> bool:
    """Whether the number behind the word says this value exactly; else it is an option."""
    if isinstance(value, bool):
        return False
    if not word.percent:
        return isinstance(value, int)
    return isinstance(value, float) and float(_percent(value)) / 100 == value


def _percent(share: float) -> str:
    return f"{round(100 * share, 6):.6f}".rstrip("0").rstrip(".")


def _number(value: float) -> str:
    short = f"{value:g}"
    return short if float(short) == value else repr(float(value))


def defaults_of(config: type) -> dict[str, Any]:
    """The fields of a configuration that have defaults, and those."""
    found = {}
    for part in fields(config):
        if part.default is not MISSING:
            found[part.name] = part.default
        elif part.default_factory is not MISSING:
            found[part.name] = part.default_factory()
    return found


def with_epochs(step: Step, epochs: int) -> Step:
    """The same step, trained so long, where anything is trained after it."""
    return step if step.word.epochs is None else replace(step, epochs=epochs)
