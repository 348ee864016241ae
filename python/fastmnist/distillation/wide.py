"""A wide network trained from scratch, to teach small ones; kept in the user's cache."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fastmnist.data.augmentation import Affine
from fastmnist.data.bundle import Data
from fastmnist.data.loading import load_dataset
from fastmnist.files.cache import cache_folder
from fastmnist.measuring.evaluation import evaluate
from fastmnist.saving.save_load import load, save
from fastmnist.training.loop import train

_WIDTH, _DROPOUT, _BATCH = 800, 0.2, 128
_EPOCHS, _QUICK_EPOCHS = 40, 5
_AUGMENT = Affine(rotate=10, translate=0.08, scale=0.1, shear=5)
# Part of the cache's key: to be raised when training changes in ways that its numbers don't show.
_RECIPE = 1


def teacher(
    data: str | Data = "mnist",
    *,
    epochs: int | None = None,
    quick: bool = False,
    seed: int = 0,
    root: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
) -> nn.Module:
    """Return a wide network (800-800 ReLU neurons, dropout), trained on augmented images.

    It is trained once per data, `epochs` and `seed`, and kept in the user's cache; its accuracy on
    the test half, which training never sees, is written to stderr. It serves
    :func:`fastmnist.distill`; it is too large to be useful by itself. On MNIST it reached 99.31 %
    in five minutes on one core.

    Parameters
    ----------
    data : "mnist", "digits" or Data
        A name for :func:`fastmnist.load_dataset`, or what it returned.
    epochs : int, optional
        Default: 40, the last quarter of them at a tenth of the learning rate.
    quick : bool
        Train for 5 epochs instead.
    seed : int
        Makes training reproducible.
    root : path, optional
        As for :func:`fastmnist.load_dataset`, if `data` is a name.
    progress : bool, optional
        Show progress, and the accuracy; None shows progress in a terminal or a notebook.

    Returns
    -------
    torch.nn.Module
        In eval mode; its outputs are logits.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid.

    Examples
    --------
    >>> import fastmnist as fm
    >>> net = fm.teacher("digits", epochs=1, progress=False)
    >>> fm.evaluate(net, fm.load_dataset("digits")) > 0.5
    True
    """
    if isinstance(data, str):
        data = load_dataset(data, root)
    if not isinstance(data, Data):
        raise TypeError(
            f"data: expected 'mnist', 'digits' or what load_dataset returns, got "
            f"{type(data).__name__}"
        )
    if epochs is not None and quick:
        raise ValueError("quick: expected False with epochs=: leave one of them out")
    if epochs is None:
        epochs = _QUICK_EPOCHS if quick else _EPOCHS
    if isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 1:
        raise ValueError(f"epochs: expected an integer of at least 1, got {epochs!r}")
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise ValueError(f"seed: expected an integer from 0 to less than 2**63, got {seed!r}")
    path = _cache_path(data, epochs, seed)
    model = _cached(path)
    if model is None:
        model, is_whole = _trained(data, epochs, seed, progress)
        if is_whole and path is not None:
            with contextlib.suppress(OSError):  # do without a cache that cannot be written
                path.parent.mkdir(parents=True, exist_ok=True)
                save(path, model)
    if progress is not False:
        accuracy = evaluate(model, data, progress=False)
        print(
            f"fastmnist: teacher of {data.name}: {100 * accuracy:.2f} % of {accuracy.n:,} test "
            "images",
            file=sys.stderr,
        )
    return model.eval()


def _trained(data: Data, epochs: int, seed: int, progress: bool | None) -> tuple[nn.Module, bool]:
    """The trained network, and whether training ran to its end."""
    inputs = data.train.images[0].numel()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _wide(inputs, len(data.classes))
    last = epochs // 4
    for phase, (n, lr) in enumerate(((epochs - last, 1e-3), (last, 1e-4))):
        if n:
            history = train(
                model,
                data,
                n,
                batch_size=_BATCH,
                lr=lr,
                seed=seed + phase,
                augment=_AUGMENT,
                progress=progress,
            )
            if history.interrupted:
                return model, False
    return model, True


def _wide(inputs: int, classes: int) -> nn.Module:
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(inputs, _WIDTH),
        nn.ReLU(),
        nn.Dropout(_DROPOUT),
        nn.Linear(_WIDTH, _WIDTH),
        nn.ReLU(),
        nn.Dropout(_DROPOUT),
        nn.Linear(_WIDTH, classes),
    )


def _cache_path(data: Data, epochs: int, seed: int) -> Path | None:
    """Where the network of this very training lies: its name holds a hash of all that counts."""
    folder = cache_folder()
    if folder is None:
        return None
    half = data.train
    told: list[Any] = [_RECIPE, _WIDTH, _DROPOUT, _BATCH, _AUGMENT, epochs, seed]
    told += [half.pixels, [*half.images.shape], len(data.classes)]
    digest = hashlib.sha256(repr(told).encode())
    for tensor in (half.images, half.labels):
        digest.update(tensor.contiguous().numpy().tobytes())
    return folder / "teachers" / f"{digest.hexdigest()[:32]}.safetensors"


def _cached(path: Path | None) -> nn.Module | None:
    """The network in the cache; None where there is none, or no good one."""
    try:
        model = None if path is None else load(path)
    except (OSError, ValueError):
        return None
    return model if isinstance(model, nn.Module) else None
