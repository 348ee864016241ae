"""What a uint8 pixel means here: decided once, for calibrating, evaluating and comparing alike.

The first that knows holds: what was *given* for this very call; what the *data* carries (a bundle
of ``load_dataset`` and its halves); what a *model* was trained or calibrated with; for *rows* of
plain uint8 nothing but 0…1; else it is not known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastmnist.data.batches import carried_pixels, data_pixels
from fastmnist.pixels import PixelNormalization, model_pixels
from fastmnist.runtime.compiled import CompiledModel


@dataclass(frozen=True)
class Meaning:
    """What a pixel stands for, and who says so.

    Attributes
    ----------
    pixels : PixelNormalization or None
    source : {"given", "data", "model", "rows", ""}
    rows_are_pixels : bool
        Whether the data's rows are known to be pixels.
    is_told : bool
        Whether the meaning of a pixel was specified: a bundle may have 0…1 only by default.
    """

    pixels: PixelNormalization | None
    source: str
    rows_are_pixels: bool
    is_told: bool = True

    @property
    def known_pixels(self) -> PixelNormalization | None:
        """The same, where it need not be checked whether floats are pixels."""
        sure = self.source in ("given", "data") or self.rows_are_pixels
        return self.pixels if sure else None


def meaning_of(data: Any, *models: Any, given: PixelNormalization | None = None) -> Meaning:
    """Decide what uint8 pixels of `data` mean to `models`.

    Parameters
    ----------
    data : Any
        What :func:`~fastmnist.data.batches.iter_batches` reads.
    models : modules, compiled models, or anything else
        The first that knows counts.
    given : PixelNormalization, optional
        What the user said for this call.

    Examples
    --------
    >>> import torch
    >>> meaning_of(torch.zeros(2, 784, dtype=torch.uint8)).source
    'rows'
    """
    carried, of_rows = carried_pixels(data), data_pixels(data)
    known = next((p for model in models if (p := pixels_of(model)) is not None), None)
    ranked = {"given": given, "data": carried, "model": known, "rows": of_rows}
    source = next((name for name, pixels in ranked.items() if pixels is not None), "")
    by_default = source == "data" and known is None and carried is not None and carried.is_identity
    told = source in ("given", "data", "model") and not by_default
    return Meaning(ranked.get(source), source, of_rows is not None, told)


def pixels_of(model: Any) -> PixelNormalization | None:
    """What a model knows of its pixels: a module, or a compiled one."""
    if isinstance(model, CompiledModel):
        compiled: PixelNormalization | None = model.pixels
        return compiled
    return model_pixels(model)
