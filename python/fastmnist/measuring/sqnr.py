"""How far the outputs of one model are from those of another, in dB."""

from __future__ import annotations

import math
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from fastmnist.data.arguments import run_model
from fastmnist.data.batches import iter_batches
from fastmnist.data.meaning import meaning_of
from fastmnist.measuring.evaluation import in_mode


def outputs_of(
    models: list[Any], data: Any, max_samples: int = 2048, batch_fn: Any = None
) -> list[Tensor]:
    """Outputs of several models on the same rows, in eval mode."""
    found: list[list[Tensor]] = [[] for _ in models]
    pixels = meaning_of(data, *models).pixels
    with torch.no_grad(), ExitStack() as modes:
        for model in models:
            if isinstance(model, nn.Module):
                modes.enter_context(in_mode(model, training=False))
        for batch in iter_batches(
            data,
            split="test",
            batch_size=256,
            max_samples=max_samples,
            pixels=pixels,
            batch_fn=batch_fn,
            model=models[0],
        ):
            for outputs, model in zip(found, models, strict=True):
                y = run_model(model, batch, "data")
                if not isinstance(y, Tensor) and not hasattr(y, "__array__"):
                    raise TypeError(
                        f"outputs: expected a tensor or array, got {type(y).__name__}: compare a "
                        "model, or a function, that returns the one output that counts"
                    )
                outputs.append(torch.as_tensor(y).float())
    return [torch.cat(outputs) for outputs in found]


def sqnr(reference: Tensor, noisy: Tensor) -> float:
    """``10 log10(Σ reference² / Σ (reference - noisy)²)``; infinite where they are equal.

    Examples
    --------
    >>> import torch
    >>> sqnr(torch.tensor([10.0, 0.0]), torch.tensor([10.0, 1.0]))
    20.0
    """
    noise = float((reference.double() - noisy.double()).square().sum())
    signal = float(reference.double().square().sum())
    if math.isnan(noise) or math.isinf(noise):
        return -math.inf
    if noise == 0 or signal == 0:
        return math.inf if noise == 0 else -math.inf
    return 10 * math.log10(signal / noise)
