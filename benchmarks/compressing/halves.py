"""Which images may decide what: those that are learnt from, those held out, and the test images."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch

import fastmnist as fm
from fastmnist.data import Split

_SHARE = 12  # one of so many training images is held out: 5,000 of MNIST's 60,000
_SEED = 7


@dataclass(frozen=True)
class Halves:
    """A data set with a part of its training images held out.

    Attributes
    ----------
    whole : Split
        All training images, for networks of which nothing is chosen.
    train : Split
        Learnt from, and calibrated on.
    held_out : Split
        Every choice is made by these.
    test : Split
        Read for the figures of what is finished, and for nothing else.
    key : str
        Tells these images from all others.
    """

    whole: Split
    train: Split
    held_out: Split
    test: Split
    key: str


def split(data: fm.Data) -> Halves:
    """Hold out a twelfth of the training images, the same ones each time."""
    whole = data.train
    order = torch.randperm(len(whole), generator=torch.Generator().manual_seed(_SEED))
    n = len(whole) // _SHARE
    digest = hashlib.sha256(whole.images.numpy().tobytes()).hexdigest()[:8]
    return Halves(whole, _part(whole, order[n:]), _part(whole, order[:n]), data.test, digest)


def _part(whole: Split, chosen: torch.Tensor) -> Split:
    return Split(
        whole.images[chosen],
        whole.labels[chosen],
        classes=whole.classes,
        name=whole.name,
        split="train",
    )
