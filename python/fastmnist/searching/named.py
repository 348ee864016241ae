"""Recipes that come with the library, each with what it is for and how much it may lose."""

from __future__ import annotations

from fastmnist.searching.recipe import Recipe


def _named(name: str, text: str, max_drop: float, about: str) -> tuple[str, Recipe]:
    steps = Recipe.parse(text).steps
    return name, Recipe(steps, name, " ".join(about.split()), max_drop)


# By name; `max_drop` in points of accuracy, with the digits network on MNIST.
NAMED: dict[str, Recipe] = {}
NAMED |= [
    _named(
        "plain",
        "int8",
        0.3,
        """Static int8 without any training: what to begin with. A quarter of the size, and the
        fastest of what keeps the network's shape.""",
    ),
    _named(
        "uncalibrated",
        "dynamic",
        0.3,
        """Dynamic int8: where there are no rows to calibrate on, or their ranges drift.""",
    ),
    _named(
        "sixteen-bit",
        "bf16",
        0.3,
        """bfloat16 by torch's kernels: half of the size, for CPUs that compute in it.""",
    ),
    _named(
        "four-bit",
        "qat4@2",
        0.4,
        """Weights of 4 bits, trained to be so: an eighth of the size. It needs targets, or the
        model itself as a teacher.""",
    ),
    _named(
        "sparse",
        "prune80@4+int8",
        0.4,
        """A fifth of the weights: a small file, and faster where layers are large or memory is
        slow. Pruned in steps, with training between them.""",
    ),
    _named(
        "deep-compression",
        "prune80@4+cluster16@2+int8",
        0.4,
        """Pruned, its weights sharing 16 values, then int8 (Han, Mao and Dally, 2016): about the
        smallest file that keeps the network's shape.""",
    ),
    _named(
        "thin",
        "neurons50@6+int8",
        0.7,
        """Half of each hidden layer's neurons: what makes small networks faster, at every batch
        size and on every CPU.""",
    ),
    _named(
        "low-rank",
        "lowrank50@3+int8",
        0.4,
        """Two thin layers for each that is worth it, half of the weights in all: for wide layers
        whose outputs vary in few directions.""",
    ),
    _named(
        "smallest",
        "neurons50@6+prune50@3+cluster16@2+int8",
        0.8,
        """Half of the neurons, half of their weights, 16 values: where every kilobyte counts.""",
    ),
]
