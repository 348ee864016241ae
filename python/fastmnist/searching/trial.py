"""One recipe that was tried, and what is best among many."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, TypeAlias, get_args

from fastmnist.searching.judging import Cost, Loss

Objective: TypeAlias = Literal["latency", "throughput", "size"]
OBJECTIVES: tuple[str, ...] = get_args(Objective)
_SURE = 1.0  # standard errors by which a drop must stay below the limit
_TIE = 1.03  # ratio up to which times count as equal
_EXPECTED = 1 / 3  # of the loss beyond the goal, expected after training three times as long


@dataclass(frozen=True)
class Trial:
    """The result of one recipe.

    Attributes
    ----------
    recipe : str
        The recipe, with the epochs that it was trained for.
    key : str
        The recipe without epochs, which identifies it from rung to rung.
    rung : int
        How often it was promoted; each promotion trains three times as long.
    score, drop, error : float
        Its metric on the held-out rows, how much worse that is than the original's (accuracy in
        points, other metrics in their unit), and the standard error of the difference.
    latency : float
        Seconds of a call with one row.
    throughput : float
        Rows per second in large batches.
    size : int
        Bytes of its file.
    is_compiled : bool
        Whether these times are for one native call; otherwise for the module.
    seconds : float
        Time to make and measure it.
    at : float
        Seconds from the start of the search to the end of the trial.
    """

    recipe: str
    key: str
    rung: int
    score: float
    drop: float
    error: float
    latency: float
    throughput: float
    size: int
    is_compiled: bool
    seconds: float
    at: float

    @classmethod
    def of(
        cls, recipe: str, key: str, rung: int, loss: Loss, cost: Cost, seconds: float, at: float
    ) -> Trial:
        """Join what was measured."""
        return cls(
            recipe,
            key,
            rung,
            loss.score,
            loss.drop,
            loss.error,
            cost.latency,
            cost.throughput,
            cost.size,
            cost.is_compiled,
            seconds,
            at,
        )

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the drop."""
        return self.drop - 1.96 * self.error, self.drop + 1.96 * self.error

    def cost(self, objective: str) -> float:
        """What is to be small."""
        if objective == "size":
            return float(self.size)
        return self.latency if objective == "latency" else 1.0 / self.throughput

    def is_surely_within(self, max_drop: float) -> bool:
        """Whether it loses no more than allowed, with a margin for chance."""
        return self.drop + _SURE * self.error <= max_drop

    def is_worse_in_all(self, other: Trial, objective: str) -> bool:
        """Whether it is slower and larger than another."""
        timed = "throughput" if objective == "throughput" else "latency"
        slower = self.cost(timed) > _TIE * other.cost(timed)
        return slower and self.size > other.size

    def as_record(self) -> dict[str, Any]:
        """Give all fields, for JSON: what is infinite or no number is null."""
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in asdict(self).items()
        }

    @classmethod
    def of_record(cls, record: dict[str, Any]) -> Trial:
        """Read what :meth:`as_record` gave.

        Raises
        ------
        ValueError
            If it is none.
        """
        values: dict[str, Any] = {}
        for part in fields(cls):
            value = record.get(part.name)
            wanted = {"str": str, "int": int, "bool": bool}.get(str(part.type), (int, float))
            if value is None and part.type == "float":
                value = math.inf
            if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
                raise ValueError(f"trial: expected '{part.name}', got {value!r}")
            values[part.name] = (
                float(value) if isinstance(value, int) and part.type == "float" else value
            )
        return cls(**values)


def latest(trials: Iterable[Trial]) -> list[Trial]:
    """Of each recipe what came of its longest training."""
    found: dict[str, Trial] = {}
    for trial in trials:
        if trial.key not in found or trial.rung >= found[trial.key].rung:
            found[trial.key] = trial
    return [*found.values()]


def pareto(trials: Iterable[Trial]) -> list[Trial]:
    """Those that no other one equals in drop, latency and size and beats in one of them."""
    every = latest(trials)

    def axes(trial: Trial) -> tuple[float, float, int]:
        return trial.drop, trial.latency, trial.size

    def beats(one: Trial, other: Trial) -> bool:
        pairs = [*zip(axes(one), axes(other), strict=True)]
        return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)

    front = [trial for trial in every if not any(beats(other, trial) for other in every)]
    return sorted(front, key=lambda trial: trial.latency)


def best(
    trials: Iterable[Trial], max_drop: float, objective: str, plain: Trial | None
) -> tuple[Trial, bool]:
    """The one to take, and whether it meets the goal; else the nearest.

    Nothing that is slower *and* larger than `plain`, static int8.
    """
    every = latest(trials)
    fit = [t for t in every if plain is None or not t.is_worse_in_all(plain, objective)] or every
    for within in (
        [trial for trial in fit if trial.is_surely_within(max_drop)],
        [trial for trial in fit if trial.drop <= max_drop],
    ):
        if within:
            # Of those that the objective can't tell apart, the smallest.
            least = min(trial.cost(objective) for trial in within)
            ties = [trial for trial in within if trial.cost(objective) <= _TIE * least]
            return min(ties, key=lambda trial: (trial.size, trial.cost(objective))), True
    return min(fit, key=lambda trial: trial.drop), False


def survivors(
    trials: Sequence[Trial], max_drop: float, objective: str, rungs_left: int, count: int
) -> list[Trial]:
    """Those worth training three times as long.

    A longer training is taken to leave a third of what a recipe loses beyond the goal. Of those
    that would then meet it the best by the objective, then those that come nearest.
    """

    def expected(trial: Trial) -> float:
        beyond = max(trial.drop - max_drop, 0.0)
        return beyond * float(_EXPECTED**rungs_left)

    def rank(trial: Trial) -> tuple[bool, float]:
        hopeful = expected(trial) <= 0.5 * trial.error + 0.25 * max_drop
        return not hopeful, trial.cost(objective) if hopeful else trial.drop

    return sorted(trials, key=rank)[:count]
