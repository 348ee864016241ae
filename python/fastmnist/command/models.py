"""The model that a command is about: made, given its weights, told what its pixels are."""

from __future__ import annotations

import os

from torch import nn

from fastmnist.command.references import call
from fastmnist.pixels import PixelNormalization, model_pixels, set_model_pixels
from fastmnist.saving.checkpoints import read_checkpoint
from fastmnist.saving.fitting import load_weights


def make_model(reference: str) -> nn.Module:
    """Make a model of the user's: of a class or a function without arguments, or one that is there.

    Raises
    ------
    TypeError, ValueError
        If it cannot be made, or is no module.
    """
    model = call(reference, "--model", "PKG.MOD:NET")
    if not isinstance(model, nn.Module):
        raise TypeError(f"--model: expected a torch.nn.Module, got {type(model).__name__}")
    return model


def take_weights(model: nn.Module, path: str, key: str | None) -> str:
    """Load a checkpoint into a model; give a line that says what was found in it.

    What the file knows of pixels is kept on the model.

    Raises
    ------
    ValueError
        If it holds no weights for the model.
    """
    try:
        fit = load_weights(model, read_checkpoint(path), key)
    except ValueError as error:
        raise ValueError(f"--weights: {error}") from None
    set_model_pixels(model, fit.state.pixels or model_pixels(model))
    return f"{os.path.basename(path)}: {fit}"


def agreed_pixels(model: nn.Module, given: PixelNormalization | None) -> PixelNormalization | None:
    """What a pixel stands for: as options say, or as the model knows.

    Raises
    ------
    ValueError
        If they say different things.
    """
    own = model_pixels(model)
    if own is not None and given is not None and own != given:
        raise ValueError(
            f"--mean, --std, --pixels: expected what the model was trained with, {own.formula}, "
            f"got {given.formula}: leave them out"
        )
    return given or own
