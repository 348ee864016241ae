"""What a command is about: a trained model, its data, and how both are read and judged."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

from torch import nn

from fastmnist.command.losses import loss_of
from fastmnist.command.models import agreed_pixels, make_model, take_weights
from fastmnist.command.references import find
from fastmnist.command.sources import Source, check_digits, source_of
from fastmnist.command.words import told
from fastmnist.data.bundle import Data
from fastmnist.measuring.metrics import Metric, metric_of
from fastmnist.network import NeuralNetwork
from fastmnist.pixels import PixelNormalization, explicit_pixels
from fastmnist.runtime.cpu import set_num_threads
from fastmnist.runtime.planning import check_environment
from fastmnist.searching.splitting import split_rows
from fastmnist.training.loop import train


@dataclass(frozen=True)
class Subject:
    """A trained model and its data.

    Attributes
    ----------
    model : nn.Module
    source : Source
        Rows to learn and to measure on.
    metric, loss_fn, batch_fn
        As the library takes them.
    found : str or None
        What was found in the file of weights.
    is_trained_here : bool
        Whether the command trained it, on all of `source.train`.
    """

    model: nn.Module
    source: Source
    metric: Metric | None
    loss_fn: Any
    batch_fn: Any
    found: str | None = None
    is_trained_here: bool = False

    @property
    def options(self) -> dict[str, Any]:
        """How rows are read and outputs judged, for the library's functions."""
        return {"metric": self.metric, "loss_fn": self.loss_fn, "batch_fn": self.batch_fn}

    def halves(self, seed: int) -> tuple[Any, Any, Any]:
        """Rows to train on; to judge candidates by (None: parted from those); to report on."""
        source = self.source
        if isinstance(source.train, Data) or source.train is source.test:
            return source.train, None, None
        reported, judged = split_rows(source.test, share=0.5, seed=seed)
        return source.train, judged, reported


def prepare(options: argparse.Namespace) -> Subject:
    """Make the model, find the data, and train unless it is trained already.

    Raises
    ------
    OSError, TypeError, ValueError
        If an option is none, or does not fit the others.
    """
    for name, needed in (("weights", "model"), ("trained", "model"), ("weights_key", "weights")):
        if getattr(options, name) and not getattr(options, needed):
            option = f"--{name.replace('_', '-')}"
            raise ValueError(f"{option}: expected --{needed} with it, got none")
    pixels, batch_fn = set_up(options)
    metric = _metric(options)
    model = make_model(options.model) if options.model else NeuralNetwork()
    found = take_weights(model, options.weights, options.weights_key) if options.weights else None
    if found:
        print(found)
    source = source_of(options.data, options.root, agreed_pixels(model, pixels), model, batch_fn)
    if not options.model:
        check_digits(source)
    loss_fn = loss_of(options.loss, source.train, batch_fn)
    is_trained_here = not (found or options.trained)
    if is_trained_here:
        trained(model, source, options, batch_fn, loss_fn)
    return Subject(model, source, metric, loss_fn, batch_fn, found, is_trained_here)


def set_up(options: argparse.Namespace) -> tuple[PixelNormalization | None, Any]:
    """Check what can be before it costs minutes; give what pixels are, and who reads batches."""
    import torch

    check_environment()  # a wrong FASTMNIST_ISA is an error now, not after minutes of training
    if options.threads is not None:
        set_num_threads(options.threads)
        torch.set_num_threads(options.threads)
    pixels = explicit_pixels(options.mean, options.std, options.pixels)
    torch.manual_seed(options.seed)
    batch_fn = options.batch_fn and find(options.batch_fn, "--batch-fn", "PKG.MOD:FN")
    return pixels, batch_fn


def trained(
    model: nn.Module,
    source: Source,
    options: argparse.Namespace,
    batch_fn: Any,
    loss_fn: Any = None,
) -> Any:
    """Train a model in place; give the history.

    Raises
    ------
    ValueError
        If model and data do not fit.
    KeyboardInterrupt
        After Ctrl-C: train() leaves a usable model, for notebooks; a command just stops.
    """
    epochs = options.epochs or (1 if options.quick else 10)
    try:
        history = train(model, source.train, epochs=epochs, batch_fn=batch_fn, loss_fn=loss_fn)
    except (RuntimeError, LookupError, AttributeError) as error:
        raise ValueError(
            f"--model: it does not fit the data ({source.name}): {told(error)}"
        ) from None
    if len(history) < epochs:
        raise KeyboardInterrupt
    return history


def _metric(options: argparse.Namespace) -> Metric | None:
    metric, is_greater = options.metric, options.greater_is_better
    if metric and ":" in metric:
        metric = find(metric, "--metric", "PKG.MOD:FN")
        metric = metric() if isinstance(metric, type) else metric
    return metric_of(metric, None if is_greater is None else is_greater == "yes")
