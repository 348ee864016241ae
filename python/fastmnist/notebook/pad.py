"""A pad to draw a digit on, and the models' predictions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import torch
import traitlets
from torch import Tensor, nn

from fastmnist.data.centring import Image, centred, checked_image, resized
from fastmnist.data.meaning import meaning_of
from fastmnist.display.drawing import BLUE, ORANGE, bars, new_figure, quiet
from fastmnist.display.tables import pandas
from fastmnist.measuring.evaluation import device_of, in_mode
from fastmnist.runtime.compiled import CompiledModel

_FOLDER = Path(__file__).parent
_SIZE = 112  # pixels of a side that are sent: four for each of an image
_SIDE = 28
_FEWEST_CLASSES = 2


class DigitPad(anywidget.AnyWidget):
    """A pad to draw a digit on; at every stroke, models show their probabilities as bars.

    The drawing is converted to an image like MNIST's (:func:`fastmnist.data.centred`), which the
    small picture beside the pad shows. Draw with mouse, pen or finger.

    Parameters
    ----------
    models : dict of str to nn.Module or CompiledModel
        They take images of 28 × 28, or rows of 784, and return one value per class: logits, their
        log-softmax, or probabilities. Compiled models that take pixels get uint8.
    classes : sequence of str, optional
        Names of the classes. Default: 0, 1, …

    Attributes
    ----------
    answers : dict of str to list of float
        The class probabilities of each model; empty while nothing is drawn.

    Raises
    ------
    TypeError, ValueError
        If there are no models, or one does not return one value per class for an image.

    Examples
    --------
    >>> import fastmnist as fm
    >>> from fastmnist.notebook import DigitPad
    >>> model = fm.NeuralNetwork()
    >>> pad = DigitPad({"original": model, "int8": fm.quantize(model, fm.Dynamic(mean=0, std=1))})
    >>> pad.draw(fm.load_dataset("digits").test.images[0, 0])
    >>> len(pad.answers["original"])
    10
    """

    _esm = _FOLDER / "pad.js"
    _css = _FOLDER / "pad.css"

    # From the page come memoryviews, which the trait would refuse.
    drawing = traitlets.Bytes().tag(sync=True, from_json=lambda value, _: bytes(value))
    size = traitlets.Int(_SIZE, read_only=True).tag(sync=True)
    seen = traitlets.Bytes().tag(sync=True)
    answers = traitlets.Dict().tag(sync=True)
    names = traitlets.List(traitlets.Unicode(), read_only=True).tag(sync=True)
    classes = traitlets.List(traitlets.Unicode(), read_only=True).tag(sync=True)

    def __init__(self, models: Mapping[str, Any], *, classes: Sequence[str] | None = None) -> None:
        _check(models)
        blank = np.zeros((_SIDE, _SIDE), np.uint8)
        self._models = dict(models)
        counts = {name: len(self._ask(name, blank)) for name in models}
        (first, known), *others = counts.items()
        for name, count in others:
            if count != known:
                raise ValueError(
                    f"models: expected as many classes of each, got {known} of '{first}' and "
                    f"{count} of '{name}'"
                )
        if isinstance(classes, str) or not (classes is None or isinstance(classes, Sequence)):
            raise TypeError(f"classes: expected a list of names, got {classes!r}")
        labels = [*map(str, range(known) if classes is None else classes)]
        if len(labels) != known:
            raise ValueError(f"classes: expected {known} names, got {len(labels)}")
        super().__init__()
        self.set_trait("names", [*models])
        self.set_trait("classes", labels)

    @property
    def image(self) -> Image:
        """The image that the models see: uint8 [28, 28]; zeros while nothing is drawn."""
        pixels = np.frombuffer(self.seen.ljust(_SIDE**2, b"\0"), np.uint8)[: _SIDE**2]
        image: Image = pixels.reshape(_SIDE, _SIDE).copy()
        return image

    def draw(self, image: Any) -> None:
        """Put an image on the pad, as if it had been drawn.

        Parameters
        ----------
        image : array or tensor, uint8 [H, W]
            Ink is bright; it is scaled to fill the pad.

        Raises
        ------
        TypeError, ValueError
            If it is not such an image.
        """
        given = checked_image(image)
        longest = max(given.shape)
        square = np.zeros((longest, longest), np.uint8)
        top, left = ((longest - length) // 2 for length in given.shape)
        square[top : top + given.shape[0], left : left + given.shape[1]] = given
        self.drawing = resized(square, _SIZE, _SIZE).tobytes()

    def clear(self) -> None:
        """Clear the pad."""
        self.drawing = b""

    def to_frame(self) -> Any:
        """Return the answers as a pandas DataFrame, with a row per class and a column per model.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        return pandas().DataFrame(self.answers, index=[*self.classes], columns=[*self.names])

    def plot(self) -> Any:
        """Draw the image and the models' answers in a matplotlib Figure, where no widget is shown.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        wide = 2.2 * len(self.names)
        figure = new_figure(2.2 + wide, 0.2 * len(self.classes) + 0.6)
        picture, *charts = figure.subplots(1, 1 + len(self.names))
        picture.imshow(self.image, cmap="gray_r", vmin=0, vmax=255)
        picture.set_title("what the models see")
        picture.set_xticks([])
        picture.set_yticks([])
        quiet(picture)
        for axes, name in zip(charts, self.names, strict=True):
            shares = [100 * share for share in self.answers.get(name, [0.0] * len(self.classes))]
            bars(axes, shares, [f"{share:.0f} %" for share in shares], BLUE)
            if name in self.answers:
                axes.patches[int(np.argmax(shares))].set_color(ORANGE)
            axes.set_xlim(0, 140)
            axes.set_yticks([*range(len(self.classes))], [*map(_plain, self.classes)])
            axes.invert_yaxis()
            axes.set_title(_plain(name))
            quiet(axes)
        return figure

    @traitlets.validate("drawing")
    def _checked(self, proposal: Any) -> bytes:
        drawing: bytes = proposal["value"]
        if len(drawing) not in (0, _SIZE**2):
            raise ValueError(
                f"drawing: expected {_SIZE} × {_SIZE} bytes, got {len(drawing):,}: draw(image) "
                "takes images of any size"
            )
        return drawing

    @traitlets.observe("drawing")
    def _answer(self, change: Any) -> None:
        pixels = np.frombuffer(change["new"], np.uint8)
        # Together, and nothing where a model fails: the page never shows answers to another image.
        with self.hold_sync():
            self.seen, self.answers = b"", {}
            if not pixels.any():
                return
            try:
                image = centred(pixels.reshape(_SIZE, _SIZE))
            except ValueError:
                return  # too little ink to be seen is none
            answers = {name: self._ask(name, image) for name in self._models}
            self.seen, self.answers = image.tobytes(), answers

    def _ask(self, name: str, image: Image) -> list[float]:
        model = self._models[name]
        pixels = torch.from_numpy(image.copy())[None, None]
        meaning = meaning_of(pixels, model, *self._models.values()).pixels
        raw = isinstance(model, CompiledModel) and model.pixels is not None
        rows = pixels if raw or meaning is None else meaning.to_float(pixels)
        outputs = _outputs(model, name, rows)
        return _probabilities(outputs[0].detach().cpu().double()).tolist()


def _plain(text: str) -> str:
    """Keep matplotlib from reading a name as mathematics."""
    return text.replace("$", r"\$")


def _check(models: Any) -> None:
    if not isinstance(models, Mapping):
        raise TypeError(
            f'models: expected a dict such as {{"original": model}}, got {type(models).__name__}'
        )
    if not models:
        raise ValueError("models: expected at least one, got an empty dict")
    for name, model in models.items():
        if not isinstance(name, str):
            raise TypeError(f"models: expected names, got {name!r}")
        if not callable(model) or isinstance(model, type):
            raise TypeError(f"models: expected a model as '{name}', got {model!r}")


def _outputs(model: Callable[[Any], Any], name: str, rows: Tensor) -> Tensor:
    """Call a model with one image, or with one flat row if it does not take images."""
    module = model if isinstance(model, nn.Module) else None
    home = torch.device("cpu") if module is None else device_of(module)
    with torch.no_grad(), in_mode(module, training=False):
        try:
            outputs = model(rows.to(home))
        except (RuntimeError, ValueError) as error:
            try:
                outputs = model(rows.flatten(1).to(home))
            except (RuntimeError, ValueError):
                raise ValueError(
                    f"models: expected '{name}' to take an image {[*rows.shape]} or a row "
                    f"[1, {_SIDE**2}] of {rows.dtype}, got {type(error).__name__}: {error}"
                ) from error
    outputs = torch.from_numpy(outputs) if isinstance(outputs, np.ndarray) else outputs
    got = f"{[*outputs.shape]}" if isinstance(outputs, Tensor) else type(outputs).__name__
    is_row = isinstance(outputs, Tensor) and outputs.ndim == 2 and outputs.shape[0] == 1
    if not is_row or outputs.shape[1] < _FEWEST_CLASSES:
        raise ValueError(
            f"models: expected '{name}' to answer one image with [1, classes], got {got}"
        )
    if bool((outputs.isnan() | outputs.isposinf()).any()):
        raise ValueError(f"models: expected finite outputs of '{name}', got NaN or infinity")
    return outputs


def _probabilities(outputs: Tensor) -> Tensor:
    """The softmax, unless they are probabilities already; of its logarithms it is the same."""
    if bool((outputs >= 0).all()) and abs(float(outputs.sum()) - 1) < 1e-4:
        return outputs
    return outputs.softmax(0)
