"""Run a prepared model on calibration data, so that its layers see what they will be given."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from fastmnist.data.arguments import run_model
from fastmnist.data.batch import tree_map
from fastmnist.data.batches import count_samples, iter_batches
from fastmnist.data.meaning import Meaning
from fastmnist.display.callers import callers_level
from fastmnist.display.progress import ProgressBar
from fastmnist.layers.simulated import SimulatedLinear
from fastmnist.measuring.readings import Readings
from fastmnist.pixels import PixelNormalization
from fastmnist.rewriting.graph import Graph
from fastmnist.rewriting.verify import Rows

_FAR_APART = 8  # times: three of eight bits are lost then


def calibrate(
    model: nn.Module,
    data: Any,
    *,
    meaning: Meaning,
    max_samples: int,
    batch_fn: Callable[[Any], Any] | None = None,
) -> tuple[int, Rows]:
    """Run a prepared `model` on up to `max_samples` rows of `data`.

    Parameters
    ----------
    meaning : Meaning
        What uint8 rows stand for. Where nobody said so, a reading under which the model is clearly
        better is spoken of in a warning.

    Returns
    -------
    int, Rows
        How many rows there were, and the first of them as the model takes them.

    Raises
    ------
    ValueError
        If the model does not take the rows.
    """
    expected = count_samples(data, "train", "calibration")
    total = max_samples if expected is None else min(expected, max_samples)
    seen = 0
    first: Rows | None = None
    readings = Readings(meaning.is_told)
    with torch.no_grad(), ProgressBar("calibrating", total) as bar:
        for batch in iter_batches(
            data,
            split="train",
            batch_size=64,
            batch_fn=batch_fn,
            max_samples=max_samples,
            pixels=meaning.pixels or PixelNormalization(),
            model=model,
            name="calibration",
        ):
            # Contiguous: flattened inputs are then views, by which layers know them as inputs.
            args, kwargs = tree_map(Tensor.contiguous, (batch.args, batch.kwargs))
            try:
                run_model(model, replace(batch, args=args, kwargs=kwargs), "calibration")
            except (RuntimeError, LookupError) as error:
                raise ValueError(str(error)) from error
            if first is None:
                first = Rows.first_of(batch, "calibration")
            readings.add(batch)
            seen += batch.size
            bar.advance(batch.size)
        with _unobserved(model):
            readings.warn(model)
    assert first is not None  # data without a row is an error
    return seen, first


@contextmanager
def _unobserved(model: nn.Module) -> Iterator[None]:
    """Let a prepared model run without its layers noting what they are given."""
    layers = [m for m in model.modules() if isinstance(m, SimulatedLinear) and m.observing]
    try:
        for layer in layers:
            layer.observing = False
        yield
    finally:
        for layer in layers:
            layer.observing = True


def check_all_observed(layers: Mapping[str, SimulatedLinear], samples: int | None) -> None:
    """Raise ValueError, naming the first layer that never saw a row."""
    for name, layer in layers.items():
        if layer.observer.started:
            continue
        if samples is not None:
            raise ValueError(
                f"calibration: expected data that reaches every layer, got {samples} samples of "
                f"which layer '{name}' never saw data: give some that do, leave it in float with "
                f"exclude=['{name}'], or use Dynamic()"
            )
        how = (
            "train it for a few steps (in training mode: model.train())"
            if layer.settings.training
            else "run it on calibration data"
        )
        raise ValueError(
            f"model: expected layers that saw data, got '{name}', which never saw data: {how} "
            f"before fm.convert, or leave the layer in float with exclude=['{name}']"
        )


def warn_of_ranges_apart(root: nn.Module, layers: Mapping[str, SimulatedLinear]) -> None:
    """Warn of layers that one forward calls at ranges so far apart that one scale cannot serve."""
    apart = {}
    for name, layer in layers.items():
        spans = [span for span in layer.observer.spans() if span > 0]
        if len(spans) > 1 and max(spans) > _FAR_APART * min(spans):
            apart[name] = (len(spans), max(spans) / min(spans))
    graph = Graph.of(root)[0] if apart else None
    for name, (calls, ratio) in apart.items():
        if graph is not None and graph.calls[id(graph.root.get_submodule(name))] < 2:
            continue  # somebody called the layer itself
        warnings.warn(
            f"layer '{name}' is called {calls} times at ranges up to {ratio:.0f} times apart, and "
            f"one scale serves them all: the smallest has {math.log2(ratio):.1f} bits less. Use "
            f"Dynamic(), whose scales are per row, leave it in float with exclude=['{name}'], or "
            "give each call a layer of its own",
            UserWarning,
            stacklevel=callers_level(),
        )
