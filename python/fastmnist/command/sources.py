"""The data that a command is about: a set by name, or what a function of the user's returns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.utils.data import DataLoader, Dataset

from fastmnist.command.references import call
from fastmnist.data import load_dataset
from fastmnist.data.batch import Batch, is_array
from fastmnist.data.batches import carried_pixels, iter_batches
from fastmnist.data.bundle import Data, Split
from fastmnist.pixels import PixelNormalization, set_model_pixels

_TESTS = ("test", "val", "valid", "validation")


@dataclass(frozen=True)
class Source:
    """Rows to learn or calibrate on, and rows to measure on; a bundle is both.

    Attributes
    ----------
    train, test : Any
        What the library reads.
    name : str
        What tables call it.
    """

    train: Any
    test: Any
    name: str

    @property
    def notes(self) -> list[str]:
        """What a reader of the table has to know."""
        if self.train is not self.test or isinstance(self.train, Data):
            return []
        return [f"{self.name}: calibrated and measured on the same rows"]


def source_of(
    name: str,
    root: str | None,
    pixels: PixelNormalization | None,
    model: nn.Module,
    batch_fn: Any = None,
) -> Source:
    """Load the data that `name` says.

    Parameters
    ----------
    name : str
        A name that :func:`fastmnist.load_dataset` knows, or a reference to a function that
        returns data: a bundle, ``(train, test)``, ``{"train": …, "test": …}``, or rows for both.
    root : str or None
        The folder of the files of a set.
    pixels : PixelNormalization or None
        What uint8 pixels stand for, if that was said.
    model : nn.Module
        Where it is kept if the data has no place for it.
    batch_fn : callable, optional
        Who reads its batches.

    Raises
    ------
    ValueError
        If there is no such data, or it is none of pixels although something was said of them.
    """
    if ":" not in name and not name.endswith(".py"):
        if pixels is None:
            bundle = load_dataset(name, root)
        else:
            bundle = load_dataset(name, root, mean=_plain(pixels.mean), std=_plain(pixels.std))
        return Source(bundle, bundle, bundle.name)
    if root is not None:
        raise ValueError(f"--root: expected none with --data {name}, got '{root}': leave it out")
    made = call(name, "--data", "PKG.MOD:FN")
    if made is None:
        raise ValueError(f"--data: expected data from '{name}', got None: return it")
    train, test = _halves(made)
    is_one = train is test
    train = _with_pixels(train, pixels, model, batch_fn)
    test = train if is_one else _with_pixels(test, pixels, model, batch_fn)
    return Source(train, test, getattr(train, "name", None) or name)


def check_digits(source: Source) -> None:
    """Raise ValueError where a bundle is not for the digits network: 28x28 pixels, 10 classes."""
    if isinstance(source.train, Data):
        images, classes = source.train.train.images, source.train.classes
        if images[0].numel() != 784 or len(classes) > 10:
            raise ValueError(
                "--data: expected images of 784 values in 10 classes, as the digits network takes, "
                f"got {' x '.join(map(str, images.shape[1:]))} in {len(classes)} ({source.name}): "
                "compare a model of your own by --model"
            )


def first_rows(data: Any, batch_fn: Any) -> Batch | None:
    """Look at the beginning of rows; None where that would take it away."""
    if isinstance(data, Iterator):
        return None
    batches = iter_batches(
        data, split="train", batch_size=32, batch_fn=batch_fn, max_samples=32, raw=True
    )
    return next(batches)


def _halves(data: Any) -> tuple[Any, Any]:
    if isinstance(data, Mapping) and "train" in data:
        for other in _TESTS:
            if len(data) == 2 and other in data:
                return data["train"], data[other]
        raise ValueError(
            f'--data: expected {{"train": …, "test": …}}, got the keys {", ".join(map(str, data))}'
        )
    if isinstance(data, (tuple, list)) and len(data) == 2:
        loaders = all(isinstance(part, (DataLoader, Dataset)) for part in data)
        # A list of two would be two batches; a tuple of two is what train and test come in.
        pairs = isinstance(data, tuple) and all(map(_is_pair, data))
        if loaders or pairs:
            return data[0], data[1]
    return data, data


def _is_pair(part: Any) -> bool:
    return isinstance(part, (tuple, list)) and len(part) >= 2 and all(map(is_array, part))


def _with_pixels(
    data: Any, pixels: PixelNormalization | None, model: nn.Module, batch_fn: Any
) -> Any:
    """The same data, its pixels standing for what was said."""
    if pixels is None or (carried := carried_pixels(data)) == pixels:
        return data
    if isinstance(data, Data):
        return Data(data.name, _split(data.train, pixels), _split(data.test, pixels))
    if isinstance(data, Split):
        return _split(data, pixels)
    if carried is not None:
        raise ValueError(
            f"--mean, --std, --pixels: expected what the data says, {carried.formula}, got "
            f"{pixels.formula}: leave them out, or change it there"
        )
    first = first_rows(data, batch_fn)
    if first is not None and first.pixels is None:
        raise ValueError(
            "--mean, --std, --pixels: expected data of uint8 pixels with them, got rows that are "
            "none: leave them out, as such rows are taken as they are"
        )
    set_model_pixels(model, pixels)
    return data


def _split(half: Split, pixels: PixelNormalization) -> Split:
    return Split(
        half.images,
        half.labels,
        mean=_plain(pixels.mean),
        std=_plain(pixels.std),
        classes=half.classes,
        name=half.name,
        split=half.split,
    )


def _plain(values: tuple[float, ...]) -> float | tuple[float, ...]:
    return values[0] if len(values) == 1 else values
