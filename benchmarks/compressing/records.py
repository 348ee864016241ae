"""The files that are made: what is asked of each, and by which recipe it is made."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import torch
from torch import nn

from benchmarks.compressing.halves import Halves
from benchmarks.compressing.ordering import reordered
from benchmarks.compressing.shrinking import Shrinking, lean, shrunk
from benchmarks.compressing.sparse import Pruning, pruned
from benchmarks.compressing.stages import Stages
from benchmarks.compressing.teaching import Lesson, TeacherRecipe, taught, teacher

KB = 1000


@dataclass(frozen=True)
class Target:
    """A size in bytes, and the accuracy that is wanted within it."""

    size: float
    accuracy: float


@dataclass(frozen=True)
class Published:
    """What others have reported."""

    source: str
    size: float
    accuracy: float


@dataclass(frozen=True)
class Record:
    """A file: a name, what it is held against, and how it is made.

    Attributes
    ----------
    asked, goals : Target, tuple of Target
        An accuracy of 0 stands for that of the original less 0.1 points.
    tries : int
        How often another order of neurons is tried in the end.
    """

    name: str
    title: str
    asked: Target
    goals: tuple[Target, ...]
    published: tuple[Published, ...]
    hidden: tuple[int, ...]
    dense: Lesson
    pruning: Pruning
    shrinking: Shrinking
    seed: int = 0
    tries: int = 0


_DENSE = Lesson(epochs=12, first_rate=2e-3, last_rate=3e-4)
_THREE_BITS = Shrinking(bits=3, bias_step=1 / 8, lessons=(Lesson(14, 7e-4, 1e-5, moved=0.5),))
_BITNET = Published("BitNetMCU", 12.3 * KB, 0.9902)

RECORDS = (
    Record(
        name="lenet300",
        title="LeNet-300-100",
        asked=Target(16 * KB, 0.984),
        goals=(Target(8.5 * KB, 0.985),),
        published=(
            Published("Deep Compression", 27 * KB, 0.9842),
            Published("entropy-penalized reparameterization", 8.56 * KB, 0.981),
        ),
        hidden=(300, 100),
        dense=_DENSE,
        pruning=Pruning(weights=9_000, epochs=24, moved=0.5),
        shrinking=_THREE_BITS,
    ),
    Record(
        name="mlp99",
        title="MLP, the smallest",
        asked=Target(12.3 * KB, 0.9902),
        goals=(Target(8 * KB, 0.9902),),
        published=(_BITNET,),
        hidden=(300, 100),
        dense=_DENSE,
        pruning=Pruning(weights=12_900, epochs=32, moved=0.5),
        shrinking=replace(_THREE_BITS, lessons=(Lesson(20, 7e-4, 1e-5, moved=0.35),)),
        tries=6000,
    ),
    Record(
        name="mlp12k",
        title="MLP, the most accurate",
        asked=Target(12.3 * KB, 0.9902),
        goals=(Target(12.3 * KB, 0.992),),
        published=(_BITNET,),
        hidden=(300, 100),
        dense=_DENSE,
        pruning=Pruning(weights=21_800, epochs=32, moved=0.5),
        shrinking=replace(_THREE_BITS, lessons=(Lesson(20, 7e-4, 1e-5, moved=0.35),)),
    ),
    Record(
        name="digits",
        title="784-96-256-10",
        asked=Target(20 * KB, 0.0),
        goals=(Target(10 * KB, 0.0),),
        published=(),
        hidden=(96, 256),
        dense=_DENSE,
        pruning=Pruning(weights=7_000, epochs=24, moved=0.5),
        shrinking=_THREE_BITS,
    ),
)
TEACHERS = (TeacherRecipe(epochs=40),)


def quick(record: Record) -> Record:
    """The same record with an epoch or two of everything: to see that it runs."""
    return replace(
        record,
        dense=replace(record.dense, epochs=2),
        pruning=replace(record.pruning, epochs=3),
        tries=min(record.tries, 20),
        shrinking=replace(
            record.shrinking,
            lessons=tuple(replace(lesson, epochs=1) for lesson in record.shrinking.lessons),
        ),
    )


def quick_teachers() -> tuple[TeacherRecipe, ...]:
    """One of few epochs."""
    return (replace(TEACHERS[0], epochs=4),)


def teachers_of(
    recipes: tuple[TeacherRecipe, ...], halves: Halves, stages: Stages
) -> list[nn.Module]:
    """Train those who teach, or take them from the stages."""
    return [teacher(recipe, halves, stages) for recipe in recipes]


def make(
    record: Record, recipes: tuple[TeacherRecipe, ...], halves: Halves, stages: Stages
) -> nn.Module:
    """Make the int8 model of a record's file, stage by stage."""
    teachers = teachers_of(recipes, halves, stages)
    half, seed = halves.train, record.seed
    inputs, classes = half.images[0].numel(), len(half.classes)
    key: tuple[object, ...] = (halves.key, recipes, record.hidden, seed, record.dense)

    def dense() -> nn.Module:
        return taught(network(record, inputs, classes), teachers, half, record.dense, seed)

    whole = stages.model("dense", key, dense)
    key = (*key, record.pruning)
    sparse = stages.model(
        "pruned", key, lambda: pruned(whole, teachers, half, record.pruning, seed)
    )
    key = (*key, record.shrinking)
    int8 = stages.model("int8", key, lambda: shrunk(sparse, teachers, half, record.shrinking, seed))
    if not record.tries:
        return lean(int8)
    ordered = stages.model(
        "ordered", (*key, record.tries), lambda: reordered(int8, record.tries, seed)
    )
    return lean(ordered)


def network(record: Record, inputs: int, classes: int) -> nn.Sequential:
    """The network of a record, untrained."""
    torch.manual_seed(record.seed)
    sizes = (inputs, *record.hidden, classes)
    steps: list[nn.Module] = [nn.Flatten()]
    for before, after in itertools.pairwise(sizes):
        steps += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*steps[:-1])
