"""What each technique costs or brings in accuracy, with the digits network and several seeds.

Whatever is trained further is held against the same network that was trained as much further
without it: more epochs alone change accuracy, too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

import fastmnist as fm
from benchmarks.compressing.halves import Halves
from benchmarks.compressing.records import teachers_of
from benchmarks.compressing.stages import Stages
from benchmarks.compressing.teaching import (
    BATCH,
    Lesson,
    TeacherRecipe,
    falling,
    steps_of,
    taught,
)


@dataclass(frozen=True)
class Lengths:
    """Epochs of each part."""

    original: int = 10
    further: int = 5
    distilled: int = 25


@dataclass(frozen=True)
class Comparison:
    """One technique's row: its name, what it is held against, and the points that are wanted."""

    key: str
    name: str
    against: str
    asked: float
    goal: float
    run: Callable[[Run], dict[str, float]]


@dataclass(frozen=True)
class Run:
    """All that a comparison with one seed is made from."""

    halves: Halves
    stages: Stages
    teachers: tuple[TeacherRecipe, ...]
    lengths: Lengths
    seed: int

    @property
    def key(self) -> tuple[Any, ...]:
        return self.halves.key, self.lengths, self.seed

    def original(self) -> nn.Module:
        """The digits network, trained alone."""
        key = (self.halves.key, self.lengths.original, self.seed)
        return self.stages.model(f"original-{self.seed}", key, self._trained).eval()

    def settled(self) -> nn.Module:
        """The same, trained further: what techniques are applied to."""
        return self.stages.model(
            f"settled-{self.seed}", self.key, lambda: self.further(self.original())
        ).eval()

    def longer(self) -> nn.Module:
        """The same, trained further once more, as they are."""
        return self.stages.model(
            f"longer-{self.seed}", self.key, lambda: self.further(self.settled())
        ).eval()

    def further(self, model: nn.Module, rate: float = 1e-3) -> nn.Module:
        """Train on, in place, without dropout: the model has learnt, and is to settle."""
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        half, epochs = self.halves.whole, self.lengths.further
        optimizer = falling(rate, rate / 50, steps_of(half, epochs))
        fm.train(
            model,
            half,
            epochs,
            batch_size=BATCH,
            optimizer=optimizer,
            seed=self.seed,
            progress=False,
        )
        return model.eval()

    def accuracy(self, model: nn.Module) -> float:
        """On the test images; int8 as compiled."""
        is_int8 = any(hasattr(module, "weight_int8") for module in model.modules())
        return float(fm.evaluate(fm.compile(model) if is_int8 else model, self.halves.test))

    def _trained(self) -> nn.Module:
        torch.manual_seed(self.seed)
        model = fm.NeuralNetwork()
        fm.train(model, self.halves.whole, self.lengths.original, seed=self.seed, progress=False)
        return model.eval()


def distilled(run: Run) -> dict[str, float]:
    """Half the weights, taught by the wide network; the full one was trained alone."""
    torch.manual_seed(run.seed)
    student = nn.Sequential(
        *[nn.Flatten(), nn.Linear(784, 50), nn.ReLU(), nn.Linear(50, 128), nn.ReLU()],
        nn.Linear(128, 10),
    )
    teachers = teachers_of(run.teachers, run.halves, run.stages)
    lesson = Lesson(run.lengths.distilled, 2e-3, 2e-5, moved=0.5)
    made = taught(student, teachers, run.halves.train, lesson, run.seed)
    return {"ours": run.accuracy(made), "against": run.accuracy(run.original())}


def four_bits(run: Run) -> dict[str, float]:
    """4 and 8 bits, each by quantization-aware training."""
    made = {}
    for name, bits in (("ours", 4), ("against", 8)):
        prepared = fm.prepare_qat(run.settled(), fm.QAT(weight_bits=bits))
        made[name] = run.accuracy(fm.convert(run.further(prepared)))
    return made


def clustered(run: Run) -> dict[str, float]:
    """16 values a layer, fine-tuned to say what the network said before."""
    whole = run.settled()
    model = fm.cluster(whole, fm.Clusters(16), epochs=0)
    lesson = Lesson(run.lengths.further, 1e-3, 2e-5, moved=0.0)
    made = taught(model, [whole], run.halves.whole, lesson, run.seed)
    return {"ours": run.accuracy(made), "against": run.accuracy(run.longer())}


def low_rank(run: Run) -> dict[str, float]:
    """Half the products."""
    model = fm.factorize(run.settled(), fm.LowRank(ratio=0.5), run.halves.whole, epochs=0)
    return {"ours": run.accuracy(run.further(model)), "against": run.accuracy(run.longer())}


COMPARISONS = (
    Comparison(
        "distilled", "half the weights, distilled", "the full network alone", 0.0, 0.5, distilled
    ),
    Comparison("four-bits", "4 bits, QAT", "8 bits, QAT", -0.1, 0.0, four_bits),
    Comparison(
        "clustered", "16 clusters, taught by itself", "trained on as long", -0.1, 0.0, clustered
    ),
    Comparison(
        "low-rank", "low rank, half the products", "trained on as long", -0.3, 0.0, low_rank
    ),
)
