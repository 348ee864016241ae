"""How the weights of each layer are spread, before and after."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from fastmnist.display.drawing import BLUE, ORANGE, SMALL, new_figure, quiet, shortened
from fastmnist.display.words import kind_of
from fastmnist.rewriting.copies import check_module
from fastmnist.runtime.compiled import CompiledModel

_MOST_LAYERS = 12  # in one figure
_COLUMNS = 2
_BINS = 80


def show_weights(model: nn.Module, q: Any) -> Any:
    """Draw histograms of each layer's weights, before and after, in a matplotlib Figure.

    Both use the same bins. Only the first 12 layers that differ are drawn. Zeros, and the number of
    remaining values, are given in the title: as a bar they would dwarf all others.

    Parameters
    ----------
    model : torch.nn.Module
        The original model.
    q : torch.nn.Module or CompiledModel
        The model made from it; layers are matched by name.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    TypeError, ValueError
        If either is not a model, or they share no layer name.
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> import fastmnist as fm
    >>> model = fm.NeuralNetwork()
    >>> figure = fm.show_weights(model, fm.prune(model, fm.L1Unstructured(0.5)))
    >>> [axes.get_title().split(":")[0] for axes in figure.axes[:3]]
    ['linear1', 'linear2', 'linear3']
    """
    before, after = _weights_of(check_module(model)), _weights_of(q, "q")
    names = [name for name in before if name in after]
    if not names:
        raise ValueError(
            "q: expected a model made of the first one, with layers of the same names, got "
            f"{', '.join(after) or 'none'} for {', '.join(before) or 'none'}"
        )
    changed = [name for name in names if not np.array_equal(before[name], after[name])] or names
    shown = changed[:_MOST_LAYERS]
    columns = min(_COLUMNS, len(shown))
    lines = -(-len(shown) // columns)
    figure = new_figure(3.6 * columns + 0.8, 2.1 * lines + 0.5)
    left = f", {len(changed) - len(shown)} layers more" if len(changed) > len(shown) else ""
    figure.suptitle(f"weights before and after{left}", fontsize=SMALL + 2)
    places = list(figure.subplots(lines, columns, squeeze=False).flat)
    for axes, name in zip(places, shown, strict=False):
        _draw(axes, name, before[name], after[name])
    for axes in places[len(shown) :]:
        axes.set_axis_off()
    places[0].legend(fontsize=SMALL, frameon=False)
    return figure


def _draw(axes: Any, name: str, before: npt.NDArray[Any], after: npt.NDArray[Any]) -> None:
    low, high = (f(np.concatenate([before, after])) for f in (np.min, np.max))
    edges = np.linspace(float(low), float(high) or 1e-9, _BINS + 1)
    if not edges[0] < edges[-1]:
        edges = np.linspace(edges[0] - 0.5, edges[0] + 0.5, _BINS + 1)
    # Zeros that were added are told in the title: in the picture they would hide the rest.
    rest = after[after != 0] if (after == 0).mean() > (before == 0).mean() else after
    axes.hist(before, edges, color=BLUE, alpha=0.55, label="before")
    axes.hist(rest, edges, color=ORANGE, histtype="step", linewidth=1.2, label="after")
    values, zeros = len(np.unique(after)), float((after == 0).mean())
    told = [f"{values:,} values"] if values < min(len(after), 4096) else []
    told += [f"{zeros:.0%} zeros"] if zeros >= 0.005 else []
    about = f": {', '.join(told)}" if told else ""
    axes.set_title(f"{shortened(name or 'the layer', 24)}{about}")
    axes.set_yticks([])
    quiet(axes)
    axes.spines["left"].set_visible(False)


def _weights_of(model: Any, name: str = "model") -> dict[str, npt.NDArray[Any]]:
    """The weights of each layer, flat, as the numbers that they stand for."""
    if isinstance(model, CompiledModel):
        # Codes times scales; float layers of a graph have no scale.
        return {
            layer.name: _flat(
                np.asarray(layer.weight, np.float64)
                * np.reshape(np.asarray(getattr(layer, "weight_scale", 1.0)), (-1, 1))
            )
            for layer in model.layers
        }
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"{name}: expected a torch.nn.Module or a compiled model, got {kind_of(model)}"
        )
    found = {}
    with torch.no_grad():
        for path, module in model.named_modules():
            weight = getattr(module, "weight", None)
            if isinstance(weight, Tensor) and weight.ndim >= 2 and weight.numel():
                found[path] = _flat(weight.detach().to("cpu", torch.float64).numpy())
    return found


def _flat(weight: npt.NDArray[Any]) -> npt.NDArray[Any]:
    flat = weight.reshape(-1)
    finite: npt.NDArray[Any] = flat[np.isfinite(flat)]
    return finite
