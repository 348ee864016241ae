"""What quantizing each layer alone costs, and what it gains."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from fastmnist.data.batches import BatchFn, check_repeatable
from fastmnist.display.drawing import BLUE, GREEN, RED, bars, new_figure, quiet, shortened
from fastmnist.display.progress import ProgressBar
from fastmnist.display.tables import Table, Tabled, frame_of
from fastmnist.layers.linear import is_float_linear
from fastmnist.measuring.evaluation import Evaluation, evaluate
from fastmnist.measuring.metrics import (
    ACCURACY,
    Metric,
    MetricLike,
    direction_note,
    metric_of,
    shown,
    shown_difference,
    unit_of,
)
from fastmnist.measuring.scored import Scored
from fastmnist.measuring.sqnr import outputs_of, sqnr
from fastmnist.measuring.timing import time_interleaved
from fastmnist.quantization.configs import Config, Static, check_config
from fastmnist.quantization.posttraining import post_training
from fastmnist.rewriting.copies import check_module, plain_copy
from fastmnist.rewriting.transform import Maker


@dataclass(frozen=True)
class LayerSensitivity(Scored):
    """One layer, quantized alone.

    Attributes
    ----------
    layer : str
    shape : str
        ``inputs → outputs``.
    score, difference : float
        The metric of the model with only this layer quantized, and its difference from the float
        model's. The score is also available under the metric's name: ``row.accuracy``, ``row.mae``.
    sqnr : float
        Signal to quantization noise of the model's outputs, in dB.
    float_time, time : float
        Seconds for `batch_size` rows through this layer alone, in float and quantized.
    speedup : float
        Median over interleaved rounds.
    metric : str
        Name of the metric.
    """

    layer: str
    shape: str
    score: float
    difference: float
    sqnr: float
    float_time: float
    time: float
    speedup: float
    metric: str = ACCURACY.name


class Sensitivity(Tabled, Scored, Sequence[LayerSensitivity]):
    """The sensitivity of each layer, the most sensitive first; prints as a table.

    Attributes
    ----------
    rows : tuple of LayerSensitivity
    score : float
        The metric of the float model; if that is accuracy, also available as ``accuracy``.
    metric : str
    greater_is_better : bool or None
    batch_size : int
    """

    def __init__(
        self, rows: Iterable[LayerSensitivity], all_float: Evaluation, batch_size: int
    ) -> None:
        self.rows = tuple(sorted(rows, key=lambda row: row.sqnr))
        self.score, self.metric = float(all_float), all_float.metric
        self.greater_is_better, self.batch_size = all_float.greater_is_better, batch_size

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, str):
            for row in self.rows:
                if row.layer == index:
                    return row
            raise KeyError(
                f"layer: expected one of {', '.join(r.layer for r in self.rows)}, got '{index}'"
            )
        return self.rows[index]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[LayerSensitivity]:
        return iter(self.rows)

    def table(self) -> Table:
        """Return the printed table."""
        table = Table(
            "what each layer alone costs and gains",
            [
                "layer",
                "shape",
                self.metric,
                "difference",
                "SQNR dB",
                "float µs",
                "quantized µs",
                "speed-up",
            ],
        )
        for row in self.rows:
            table.row(
                row.layer,
                row.shape,
                shown(self.metric, row.score),
                shown_difference(self.metric, row.difference),
                f"{row.sqnr:.1f}",
                f"{row.float_time * 1e6:.1f}",
                f"{row.time * 1e6:.1f}",
                f"{row.speedup:.2f} ×",
            )
        all_float = shown(self.metric, self.score)
        table.note(f"all in float: {all_float}; the most sensitive layer, by SQNR, first")
        if note := direction_note(self.metric, self.greater_is_better):
            table.note(note)
        table.note(f"times of the layer alone, as a module, for {self.batch_size} rows")
        return table

    def to_frame(self) -> Any:
        """Return a pandas DataFrame, one row per layer (seconds, dB, 0…1).

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        return frame_of(self.rows, LayerSensitivity, "layer")

    def plot(self) -> Any:
        """Draw SQNR, difference and speed-up of each layer in a matplotlib Figure.

        The most sensitive layer is on top.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        figure = new_figure(8.4, 0.32 * len(self) + 1.3)
        points = self.metric == ACCURACY.name
        factor = unit_of(self.metric)
        columns = [
            ("SQNR (dB)", [row.sqnr for row in self], "{:.1f}", RED),
            (
                "points lost" if points else f"difference in {self.metric}",
                [row.difference * (-factor if points else 1.0) + 0.0 for row in self],  # no -0.00
                "{:.2f}" if points else "{:+.3g}",
                BLUE,
            ),
            ("speed-up", [row.speedup for row in self], "{:.2f} ×", GREEN),
        ]
        every = figure.subplots(1, 3, sharey=True)
        for axes, (title, values, form, color) in zip(every, columns, strict=True):
            bars(axes, values, [form.format(value) for value in values], color)
            axes.set_title(title)
            quiet(axes)
        every[0].set_yticks([*range(len(self))], [shortened(row.layer, 28) for row in self])
        every[0].invert_yaxis()
        return figure


def sensitivity(
    model: Any,
    data: Any,
    config: Config | None = None,
    *,
    include: str | type | Iterable[str | type] | None = None,
    exclude: str | type | Iterable[str | type] | None = None,
    metric: MetricLike = None,
    greater_is_better: bool | None = None,
    batch_fn: BatchFn | None = None,
    batch_size: int = 64,
    rounds: int = 15,
) -> Sensitivity:
    """Quantize each layer alone, and measure what that costs and gains.

    Parameters
    ----------
    model : torch.nn.Module
        A float model; left unchanged.
    data : Data, Split, DataLoader, Dataset or (x, y)
        With targets; for a bundle, its test half, with the training half for calibration.
    config : Static, Dynamic or Half, optional
        Default: ``Static(calibration=data)``.
    include, exclude : str, type, or sequence of them
        As for :func:`fastmnist.quantize`.
    metric, greater_is_better
        As for :func:`fastmnist.evaluate`. Layers are ordered by SQNR, whatever the metric.
    batch_fn : callable, optional
        Converts batches of `data`, as for :func:`fastmnist.evaluate`.
    batch_size : int
        Rows per timed call.
    rounds : int
        How often float and quantized layer take turns.

    Returns
    -------
    Sensitivity
        A sequence of layers, the most sensitive first; prints as a table.

    Raises
    ------
    TypeError, ValueError
        As for :func:`fastmnist.quantize` and :func:`fastmnist.evaluate`.

    Examples
    --------
    >>> import fastmnist as fm
    >>> data = fm.load_dataset("digits")
    >>> table = fm.sensitivity(fm.NeuralNetwork(), data, rounds=2)
    >>> sorted(row.layer for row in table)
    ['linear1', 'linear2', 'linear3']
    """
    for what, value in (("batch_size", batch_size), ("rounds", rounds)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{what}: expected an integer of at least 1, got {value!r}")
    chosen = metric_of(metric, greater_is_better)
    config = check_config(Static(calibration=data, batch_fn=batch_fn) if config is None else config)
    own = check_module(model)
    check_repeatable(data, "data", "for each layer")
    before = evaluate(own, data, metric=chosen, batch_fn=batch_fn)
    used = chosen or metric_of(before.metric)
    maker = Maker(own, post_training(config), include=include, exclude=exclude)
    rows = []
    with ProgressBar("quantizing layer by layer", len(maker.layers)) as bar:
        for name in maker.layers:
            rows.append(
                _measure(own, maker, name, data, before, used, batch_fn, batch_size, rounds)
            )
            bar.advance(1)
    return Sensitivity(rows, before, batch_size)


def _measure(
    model: nn.Module,
    maker: Maker,
    name: str,
    data: Any,
    before: Evaluation,
    metric: Metric | None,
    batch_fn: BatchFn | None,
    batch_size: int,
    rounds: int,
) -> LayerSensitivity:
    alone = maker.make([name])
    after = float(evaluate(alone, data, metric=metric, batch_fn=batch_fn))
    layer = maker.layers[name]
    in_float = _float_layer(layer)
    quantized = alone.get_submodule(name) if name else alone
    inputs, outputs = _sizes(layer)
    generator = torch.Generator().manual_seed(0)
    shape = (batch_size, inputs) if is_float_linear(layer) else (1, batch_size, inputs)
    x = torch.rand(shape, generator=generator, dtype=torch.float32)
    with torch.inference_mode():
        timing = time_interleaved(
            [[lambda: in_float(x)], [lambda: quantized(x)]],
            rounds=rounds,
            calls_per_round=8,
            what=name or "the layer",
        )
    return LayerSensitivity(
        name,
        f"{inputs} → {outputs}",
        after,
        after - float(before),
        sqnr(*outputs_of([model, alone], data, batch_fn=batch_fn)),
        timing[0].p50,
        timing[1].p50,
        timing[1].quotient,
        before.metric,
    )


def _float_layer(layer: nn.Module) -> nn.Module:
    """The layer as the float model has it: without what a prepared one does besides."""
    if not is_float_linear(layer):
        return plain_copy(layer)
    plain = nn.Linear(layer.in_features, layer.out_features, dtype=layer.weight.dtype)
    plain.eval().requires_grad_(False)
    plain.weight.copy_(layer.weight.detach())
    if layer.bias is not None:
        plain.bias.copy_(layer.bias.detach())
    clamp = getattr(layer, "clamp", None)
    if clamp == (0.0, float("inf")):
        return nn.Sequential(plain, nn.ReLU())
    return plain


def _sizes(layer: nn.Module) -> tuple[int, int]:
    if is_float_linear(layer):
        return layer.in_features, layer.out_features
    assert isinstance(layer, nn.RNNBase)
    return layer.input_size, layer.proj_size or layer.hidden_size
