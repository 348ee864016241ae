"""What fastmnist keeps in its ONNX files besides, because ONNX has no place for it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fastmnist.int8.graph import NetworkGraph
from fastmnist.onnx.reading import File, Unreadable
from fastmnist.pixels import PixelNormalization

KEY = "fastmnist.model"


@dataclass(frozen=True)
class About:
    """What is known of a file's model.

    Attributes
    ----------
    pixels : dict of str to PixelNormalization
        What a pixel of an input stands for.
    structure : None, "tuple", "list" or list of str
        How outputs are handed back: the single one, in order, or as a dict with these keys.
    flattened : set of str
        Inputs whose rows may have any shape of as many numbers.
    """

    pixels: Mapping[str, PixelNormalization] = field(default_factory=dict)
    structure: str | list[str] | None = None
    flattened: frozenset[str] = frozenset()


def described(graph: NetworkGraph, inputs: Sequence[str], outputs: Sequence[str]) -> str:
    """Tell it of a graph whose inputs and outputs are called so."""
    ports = [*zip(inputs, graph.inputs, strict=True)]
    pixels = {
        name: {"mean": [*given.pixels.mean], "std": [*given.pixels.std]}
        for name, given in ports
        if given.pixels is not None
    }
    structure = graph.structure
    return json.dumps(
        {
            "pixels": pixels,
            "outputs": [*structure] if isinstance(structure, tuple) else structure,
            "output_names": [*outputs],
            "flattened": [name for name, given in ports if given.any_shape],
        }
    )


def about_of(file: File) -> About:
    """Read it, trusting nothing; of files of others nothing is known.

    Raises
    ------
    ValueError
        If it is not what we write, or speaks of other outputs.
    """
    if (text := file.about.get(KEY)) is None:
        return About()
    try:
        about = json.loads(text)
        pixels = {
            str(name): PixelNormalization(tuple(value["mean"]), tuple(value["std"]))
            for name, value in about["pixels"].items()
        }
        structure = about["outputs"]
        flattened = frozenset(str(name) for name in about["flattened"])
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise Unreadable(
            f"expected what fastmnist writes of its model, got something else: {error}"
        ) from None
    count = len(file.outputs)
    fits = structure in ("tuple", "list") or (structure is None and count == 1)
    if isinstance(structure, list):
        fits = all(isinstance(key, str) for key in structure)
        fits = fits and len(structure) == count == len({*structure})
    if not fits:
        raise Unreadable(f"expected how {count} outputs are handed back, got {structure!r}")
    return About(pixels, structure, flattened)
