"""The pad, without a browser: what is drawn is answered."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

import fastmnist as fm
from fastmnist.data import centred

pytest.importorskip("anywidget")

from fastmnist.notebook import DigitPad

SIZE = 112


@pytest.fixture(scope="module")
def models(digits):
    torch.manual_seed(0)
    model = fm.NeuralNetwork()
    fm.train(model, digits, epochs=3, seed=0)
    return {"original": model, "compiled int8": fm.compile(model, digits.train)}


@pytest.fixture
def pad(models):
    return DigitPad(models)


def seven() -> np.ndarray:
    picture = np.zeros((SIZE, SIZE), np.uint8)
    picture[20:28, 20:70] = 255
    for row in range(20, 90):
        picture[row, 65 - (row - 20) // 2 : 73 - (row - 20) // 2] = 255
    return picture


def test_at_first_nothing_is_drawn(pad):
    assert pad.answers == {}
    assert not pad.image.any()
    assert pad.names == ["original", "compiled int8"]
    assert pad.classes == [*"0123456789"]


def test_what_the_page_sends_is_answered(pad, models):
    pad.set_state({"drawing": memoryview(seven().tobytes())})
    image = centred(seven())
    assert np.array_equal(pad.image, image)
    compiled = models["compiled int8"].predict_proba(image[None])
    assert np.allclose(pad.answers["compiled int8"], compiled[0], atol=1e-6)
    with torch.no_grad():
        rows = torch.from_numpy(image)[None, None] / 255
        logits = models["original"].eval()(rows)
    assert np.allclose(pad.answers["original"], logits.softmax(1)[0], atol=1e-6)
    for shares in pad.answers.values():
        assert sum(shares) == pytest.approx(1)


def test_what_is_erased_is_gone(pad):
    whole, part = seven(), seven()
    part[:28] = 0
    pad.set_trait("drawing", whole.tobytes())
    before = pad.answers
    pad.set_trait("drawing", part.tobytes())
    assert np.array_equal(pad.image, centred(part))
    assert pad.answers != before
    pad.set_trait("drawing", bytes(SIZE * SIZE))  # all of it
    assert pad.answers == {}
    assert not pad.image.any()


def test_clear(pad):
    pad.draw(seven())
    assert pad.answers
    pad.clear()
    assert pad.answers == {}
    assert pad.drawing == b""
    pad.draw(seven())
    assert pad.answers


def test_images_of_any_size(pad, digits):
    image = digits.test.images[0, 0]
    pad.draw(image)
    assert len(pad.drawing) == SIZE * SIZE
    assert np.array_equal(pad.image, centred(image))
    pad.draw(seven()[:, :60])
    assert np.array_equal(np.frombuffer(pad.drawing, np.uint8).reshape(SIZE, SIZE)[:, 26:86],
                          seven()[:, :60])  # fmt: skip
    pad.draw(np.zeros((5, 5), np.uint8))
    assert pad.answers == {}
    with pytest.raises(TypeError, match="image: expected uint8"):
        pad.draw(torch.rand(28, 28))
    with pytest.raises(ValueError, match="drawing: expected 112 × 112 bytes, got 784"):
        pad.drawing = bytes(784)


def test_models_stay_as_they_were(models):
    model = models["original"].train()
    DigitPad(models).draw(seven())
    assert model.training
    assert all(p.grad is None for p in model.parameters())


def test_models_of_other_kinds(models):
    torch.manual_seed(0)
    flat = nn.Sequential(nn.Linear(784, 10))
    pad = DigitPad(
        {
            "rows": flat,
            "probabilities": nn.Sequential(flat, nn.Softmax(1)),
            "logarithms": nn.Sequential(flat, nn.LogSoftmax(1)),
            "function": lambda x: flat(x.flatten(1)),
        },
        classes=[f"class {i}" for i in range(10)],
    )
    pad.draw(seven())
    answers = np.array([*pad.answers.values()])
    assert np.allclose(answers, answers[0], atol=1e-6)
    assert pad.classes[3] == "class 3"


def test_normalized_pixels():
    torch.manual_seed(0)
    flat = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    rows = torch.rand(64, 1, 28, 28)
    net = fm.compile(flat, rows, mean=0.5, std=0.25)
    pad = DigitPad({"compiled": net, "float": flat})  # which knows of no pixels: as the other does
    pad.draw(seven())
    assert np.allclose(pad.answers["compiled"], pad.answers["float"], atol=0.05)


def test_tables_and_pictures(pad):
    pytest.importorskip("pandas")
    pytest.importorskip("matplotlib")
    assert pad.plot().axes
    pad.draw(seven())
    frame = pad.to_frame()
    assert [*frame.columns] == pad.names
    assert [*frame.index] == pad.classes
    assert np.allclose(frame.sum(), 1)
    assert len(pad.plot().axes) == 3


@pytest.mark.parametrize(
    ("models", "error", "says"),
    [
        ({}, ValueError, "at least one"),
        (fm.NeuralNetwork(), TypeError, "a dict such as"),
        ({1: fm.NeuralNetwork()}, TypeError, "names, got 1"),
        ({"a": fm.NeuralNetwork}, TypeError, "a model as 'a'"),
        ({"a": lambda x: x}, ValueError, "'a' to answer one image with .1, classes."),
        ({"a": nn.Flatten(), "b": fm.NeuralNetwork()}, ValueError, "784 of 'a' and 10 of 'b'"),
    ],
)
def test_what_it_refuses(models, error, says):
    with pytest.raises(error, match=f"^models: expected .*{says}"):
        DigitPad(models)


def test_names_of_classes_are_as_many(models):
    with pytest.raises(ValueError, match="classes: expected 10 names, got 2"):
        DigitPad(models, classes=["a", "b"])


def test_without_anywidget_it_says_what_to_install():
    code = """
import sys
sys.modules["anywidget"] = None
import fastmnist.notebook
try:
    from fastmnist.notebook import DigitPad
except ImportError as error:
    print(error)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == 'DigitPad needs anywidget: pip install "fastmnist[notebook]"'


class Moody(nn.Module):
    """Answers until it is told not to."""

    def __init__(self) -> None:
        super().__init__()
        self.outputs = torch.eye(10)[:1]

    def forward(self, rows):
        if self.outputs is None:
            raise RuntimeError("not today")
        return self.outputs


def test_an_error_leaves_no_answers_to_another_image():
    model = Moody()
    pad = DigitPad({"moody": model})
    pad.draw(seven())
    assert pad.answers
    model.outputs = None
    with pytest.raises(ValueError, match=r"expected 'moody' to take an image .* not today"):
        pad.draw(seven().T.copy())
    assert pad.answers == {}
    assert not pad.image.any()


@pytest.mark.parametrize(
    ("outputs", "says"),
    [
        (torch.full((1, 10), torch.nan), "finite outputs of 'moody', got NaN"),
        (torch.zeros(2, 10), r"with \[1, classes\], got \[2, 10\]"),
        (torch.zeros(0, 10), r"with \[1, classes\], got \[0, 10\]"),
    ],
)
def test_outputs_that_are_no_answer(outputs, says):
    model = Moody()
    pad = DigitPad({"moody": model})
    model.outputs = outputs
    with pytest.raises(ValueError, match=says):
        pad.draw(seven())


def test_what_is_no_drawing_does_not_stay(pad):
    pad.draw(seven())
    before = pad.drawing
    with pytest.raises(ValueError, match="drawing: expected"):
        pad.drawing = b"\0"
    assert pad.drawing == before


def test_names_are_no_mathematics(models, tmp_path):
    pad = DigitPad({"$\\bad$": models["original"]}, classes=["$\\bad$"] * 10)
    pad.draw(seven())
    pad.plot().savefig(tmp_path / "pad.png")
    with pytest.raises(TypeError, match="classes: expected a list of names, got 'abcdefghij'"):
        DigitPad(models, classes="abcdefghij")
    with pytest.raises(TypeError, match="classes: expected a list of names, got 10"):
        DigitPad(models, classes=10)
