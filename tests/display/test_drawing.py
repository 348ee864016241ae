"""Everything that draws: it fits its figure, its letters can be read, none covers another."""

from __future__ import annotations

import itertools
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from models import MyModel
from torch import nn

import fastmnist as fm
from fastmnist.comparison.rows import BatchTiming, Row

X = torch.randn(90, 12, generator=torch.Generator().manual_seed(0))
Y = torch.arange(90) % 4


def small():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 4)).eval()


def draw(figure):
    """Draw it: a figure's own canvas draws nothing."""
    FigureCanvasAgg(figure).draw()


def check_readable(figure):
    """Hold a figure against its size: letters of 8 points, inside, and not over each other."""
    assert figure.get_size_inches()[0] <= 9.4
    boxes = []
    draw_text = Text.draw

    def noted(text, renderer, *args, **kwargs):
        if text.get_visible() and text.get_text().strip():
            assert text.get_fontsize() >= 8, text.get_text()
            boxes.append((text.get_text(), text.get_window_extent(renderer)))
        return draw_text(text, renderer, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:  # what is drawn, not labels outside of the axes
        patch.setattr(Text, "draw", noted)
        draw(figure)
    assert boxes
    whole = figure.bbox
    for name, box in boxes:
        inside = box.x0 >= -2 and box.x1 <= whole.x1 + 2 and box.y0 >= -2 and box.y1 <= whole.y1 + 2
        assert inside, f"'{name}' is cut off"
    for (one, a), (other, b) in itertools.combinations(boxes, 2):
        apart = min(a.x1, b.x1) - max(a.x0, b.x0) < 1.5 or min(a.y1, b.y1) - max(a.y0, b.y0) < 1.5
        assert apart, f"'{one}' over '{other}'"


def reported(names, **fields):
    timing = BatchTiming(1, 1e-5, 2e-5, 3e-5, 1.0, 0.1, 1e5)
    rows = [
        Row(
            f"{name} {i}", "float32", 0.97 - i / 3000, -i / 3000, None, None,
            (replace(timing, p50=1e-5 * 1.7**i),), 1000, 400_000 // (i + 1), 0,
        )
        for i, name in enumerate(names)
    ]  # fmt: skip
    rows = [replace(row, **fields) for row in rows]
    return fm.Report(rows, {"data": "mnist", "n": 10_000, "metric": "accuracy", "threads": 2})


@pytest.mark.parametrize("n", [1, 2, 15, 30])
@pytest.mark.parametrize("name", ["int8", "pruned 80 % + clustered 16 + int8 (uint8 rows)"])
def test_reports_can_be_read(n, name):
    report = reported([name] * n)
    figure = report.plot()
    check_readable(figure)
    assert [axes.get_title() for axes in figure.axes] == [
        "µs for 1 row (p50)", "accuracy (%)", "file",
    ]  # fmt: skip


def test_reports_without_figures_are_drawn():
    nan = float("nan")
    for fields in ({"timings": ()}, {"disk": None}, {"score": nan, "difference": nan}):
        figure = reported(["a", "b"], **fields).plot()
        draw(figure)
        assert "–" in {text.get_text() for text in figure.findobj(Text)}


def test_names_are_no_formulas():
    figure = reported(["$x^2$", "a_b \\frac $"]).plot()
    draw(figure)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert [label.replace("\\$", "$") for label in labels] == ["$x^2$ 0", "a_b \\frac $ 1"]


def test_histories():
    history = fm.train(small(), (X, Y), epochs=12, validation=(X, Y), progress=False)
    figure = history.plot()
    check_readable(figure)
    lines = figure.axes[0].lines
    assert [*lines[0].get_ydata()] == history.loss
    assert [*lines[1].get_ydata()] == history.val_loss
    assert figure.axes[1].get_title() == "accuracy (%)"
    assert [*figure.axes[1].lines[0].get_ydata()] == [100 * value for value in history.accuracy]
    draw(fm.train(small(), (X, X[:, :4]), epochs=1, loss_fn=nn.MSELoss()).plot())


def test_sensitivities():
    table = fm.sensitivity(small(), (X, Y), rounds=1)
    figure = table.plot()
    check_readable(figure)
    sqnr = [bar.get_width() for bar in figure.axes[0].patches]
    assert sqnr == [row.sqnr for row in table]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [
        row.layer for row in table
    ]


def test_explanations():
    net = fm.compile(small(), X)
    table = net.explain(rows=(1, 32, 1024))
    assert [(t.layer, t.rows) for t in table.times] == [
        (layer, rows) for layer in ("0", "2") for rows in ("1", "32", "96 of 1,024")
    ]
    figure = table.plot()
    check_readable(figure)
    assert [axes.get_title() for axes in figure.axes] == [
        "µs for 1 row", "µs for 32 rows", "µs for 96 of 1,024 rows",
    ]  # fmt: skip
    widths = [bar.get_width() for bar in figure.axes[0].patches]
    assert widths == [t.time for t in table.times if t.rows == "1"]
    draw(net.explain(rows=1).plot())


class TwoWays(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.other = nn.Linear(12, 4), nn.Linear(12, 4)

    def forward(self, x):
        return self.one(x) + self.other(x)


def test_explanations_of_graphs():
    model = TwoWays().eval()
    table = fm.compile(model, X).explain(rows=(1, 8))
    check_readable(table.plot())
    floats = fm.compile(model, example=X)
    with pytest.raises(ValueError, match="expected a graph with int8 layers, got none"):
        floats.explain().plot()


def test_weights_before_and_after(digits):
    model = MyModel()
    for after in (
        fm.prune(model, fm.L1Unstructured(0.8)),
        fm.quantize(model, fm.Static(digits.train, weight_bits=4)),
        fm.compile(fm.quantize(model, fm.Static(digits.train))),
        fm.prune(model, fm.Structured(0.5)),
    ):
        figure = fm.show_weights(model, after)
        check_readable(figure)
        assert [axes.get_title().split(":")[0] for axes in figure.axes] == ["fc1", "fc2"]
    assert "80% zeros" in fm.show_weights(
        model, fm.prune(model, fm.L1Unstructured(0.8))
    ).axes[0].get_title()  # fmt: skip
    clustered = fm.cluster(model, fm.Clusters(16))
    assert "16 values" in fm.show_weights(model, clustered).axes[0].get_title()


def test_weights_that_a_compiled_model_has_are_those_of_the_module():
    from fastmnist.comparison.histograms import _weights_of

    model = small()
    q = fm.quantize(model, fm.Static(X))
    for name, weights in _weights_of(fm.compile(q)).items():
        assert weights == pytest.approx(q.get_submodule(name).weight.numpy().reshape(-1), rel=1e-6)


def test_weights_of_what_is_no_such_model():
    model = small()
    with pytest.raises(TypeError, match=r"model: expected"):
        fm.show_weights(3, model)
    with pytest.raises(TypeError, match=r"q: expected a torch\.nn\.Module or a compiled model"):
        fm.show_weights(model, lambda x: x)
    with pytest.raises(ValueError, match="q: expected a model made of the first one"):
        fm.show_weights(model, MyModel())
    constant = small()
    nn.init.constant_(constant[0].weight, 0.0)
    draw(fm.show_weights(constant, constant))
    many = nn.Sequential(*(nn.Linear(4, 4) for _ in range(20)))
    figure = fm.show_weights(many, fm.prune(many, fm.L1Unstructured(0.5)))
    assert len(figure.axes) == 12
    assert "8 layers more" in figure.get_suptitle()


@pytest.mark.parametrize("n", [2, 10, 20, 50])
def test_confusions(n):
    matrix = np.random.default_rng(0).integers(0, 9999, (n, n))
    for label in ("{}", "a class with a long name, {}"):
        check_readable(fm.Confusion(matrix, tuple(label.format(i) for i in range(n))).plot())


def test_disagreements():
    pictures = torch.rand(40, 1, 8, 8)
    found = fm.disagreements(
        lambda x: x.flatten(1)[:, :10], lambda x: -x.flatten(1)[:, :10], (pictures, Y[:40]),
        labels=[f"a class with a long name, {i}" for i in range(10)],
    )  # fmt: skip
    assert len(found) == 40
    check_readable(found.plot())


def test_figures_are_pictures_in_notebooks():
    png = reported(["a"]).plot()._repr_png_()
    assert png.startswith(b"\x89PNG")


def test_without_matplotlib_there_is_one_clear_error():
    code = """
import sys
sys.modules["matplotlib"] = None
import torch, fastmnist as fm
x, y = torch.rand(8, 4), torch.arange(8) % 2
model = torch.nn.Linear(4, 2)
draws = [
    fm.train(model, (x, y), epochs=1).plot, fm.confusion(model, (x, y)).plot,
    fm.disagreements(model, model, torch.rand(8, 4)).plot, fm.compile(model, x).explain(1).plot,
    lambda: fm.show_weights(model, model), fm.sensitivity(model, (x, y), rounds=1).plot,
    fm.compare({"a": model}, (x, y), rounds=1).plot,
]
for draw in draws:
    try:
        draw()
    except ImportError as error:
        assert "pip install matplotlib" in str(error), error
    else:
        raise AssertionError(draw)
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=300)


def test_bars_say_what_they_are_worth():
    from fastmnist.display.drawing import bars, new_figure

    axes = new_figure(4, 2).subplots()
    bars(axes, [1.0, None, -2.0, float("inf")], ["one", "none", "two", "more"], "black")
    assert [bar.get_width() for bar in axes.patches] == [1.0, 0.0, -2.0, 0.0]
    assert [text.get_text() for text in axes.texts] == ["one", "none", "two", "more"]
    low, high = axes.get_xlim()
    assert low < -2 < 1 < high
    assert np.isfinite([low, high]).all()
