"""Images moved, turned and bent: Affine, Elastic, and where they are used."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import fastmnist as fm
from fastmnist.data.augmentation import Augmenter
from fastmnist.pixels import PixelNormalization, set_model_pixels

STILL = {"rotate": 0, "translate": 0, "scale": 0, "shear": 0}


def images(n: int = 40) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.zeros(n, 1, 28, 28, dtype=torch.uint8)
    pixels[:, :, 8:20, 10:18] = torch.randint(1, 256, (n, 1, 12, 8), generator=generator).byte()
    return pixels


def middles(pixels: torch.Tensor) -> torch.Tensor:
    """Where the mass of each image [N, 1, H, W] lies, [N, 2] as x and y."""
    mass = pixels.double()[:, 0]
    total = mass.sum((1, 2))
    x = (mass.sum(1) * torch.arange(pixels.shape[3])).sum(1) / total
    y = (mass.sum(2) * torch.arange(pixels.shape[2])).sum(1) / total
    return torch.stack([x, y], 1)


@pytest.mark.parametrize("still", [fm.Affine(**STILL), fm.Elastic(alpha=0)])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
def test_nothing_asked_for_changes_nothing(still, dtype):
    given = images().to(dtype)
    result = still(given)
    assert result.dtype == dtype
    assert torch.allclose(result.double(), given.double(), atol=0.01)


def test_a_quarter_turn_is_that_of_rot90(monkeypatch):
    square = images(1).float()
    y = torch.arange(28.0) - 13.5
    points = torch.stack(torch.meshgrid(y, y, indexing="ij")[::-1], -1)[None]
    # Every amount at its largest.
    monkeypatch.setattr(torch, "rand", lambda *shape, generator: torch.ones(shape))
    moved = fm.Affine(**{**STILL, "rotate": 90}).move(points, torch.Generator())
    index = (moved[0] + 13.5).round().long()
    turned = square[0, 0][index[..., 1], index[..., 0]]
    assert torch.equal(turned, torch.rot90(square[0, 0], -1))


def test_amounts_are_those_asked_for():
    given = images(400)
    moved = middles(fm.Affine(**{**STILL, "translate": 0.1}, seed=0)(given)) - middles(given)
    assert 2.6 < moved.abs().max() <= 2.8 + 0.05
    assert moved.mean(0).abs().max() < 0.3
    sizes = fm.Affine(**{**STILL, "scale": 0.2}, seed=0)(given.float())
    ratio = sizes.sum((1, 2, 3)) / given.float().sum((1, 2, 3))
    assert 0.8**2 * 0.97 < ratio.min() < 0.72
    assert 1.35 < ratio.max() < 1.2**2 * 1.03


def test_elastic_displaces_by_what_its_docstring_says():
    y = torch.arange(28.0) - 13.5
    points = torch.stack(torch.meshgrid(y, y, indexing="ij")[::-1], -1).expand(500, 28, 28, 2)
    elastic = fm.Elastic(alpha=34, sigma=3)
    moved = elastic.move(points, torch.Generator().manual_seed(0)) - points
    middle = moved[:, 10:18, 10:18]
    assert float(middle.std()) == pytest.approx(0.163 * 34 / 3, rel=0.05)
    # Neighbours move alike, far ones do not.
    a, near, far = middle[:, 0, 0, 0], middle[:, 0, 1, 0], moved[:, 25, 25, 0]
    assert torch.corrcoef(torch.stack([a, near, far]))[0].tolist() == pytest.approx(
        [1, np.exp(-1 / 36), 0], abs=0.12
    )


@pytest.mark.parametrize("how", [fm.Affine(seed=3), fm.Elastic(seed=3)])
def test_a_seed_says_it_all(how):
    given = images(600)
    state = torch.get_rng_state()
    first = how(given)
    assert torch.equal(torch.get_rng_state(), state)
    threads = torch.get_num_threads()
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            assert torch.equal(how(given), first)
    finally:
        torch.set_num_threads(threads)
    assert not torch.equal(type(how)(seed=4)(given), first)
    assert len({image.numpy().tobytes() for image in how(given[:1].expand(20, -1, -1, -1))}) == 20


def test_without_a_seed_it_follows_torch():
    given = images()
    torch.manual_seed(5)
    first, second = fm.Affine()(given), fm.Affine()(given)
    assert not torch.equal(first, second)
    torch.manual_seed(5)
    assert torch.equal(fm.Affine()(given), first)


def test_forms_of_images_are_alike():
    given, how = images(), fm.Affine(seed=0)
    whole = how(given)
    assert torch.equal(how(given[:, 0]), whole[:, 0])
    assert torch.equal(how(given.flatten(1)), whole.flatten(1))
    floats = how(given.float())
    assert torch.equal(floats.round().byte(), whole)
    assert torch.equal(how(given.expand(-1, 3, -1, -1))[:, 2:], whole)
    wide = how(given[:, :, 4:24])
    assert wide.shape == (40, 1, 20, 28)
    assert how(given[:0]).shape == (0, 1, 28, 28)
    assert torch.equal(given, images())


def test_what_comes_in_at_the_border_is_black():
    pixels = PixelNormalization.of(0.1307, 0.3081)
    how = fm.Affine(translate=0.5, seed=0)
    floats = how(pixels.to_float(images()), pixels=pixels)
    assert float(floats.min()) == pytest.approx(-0.1307 / 0.3081, abs=1e-6)
    close = pixels.to_float(how(images())) - floats
    assert float(close.abs().max()) < 0.51 / 255 / 0.3081
    of_channels = PixelNormalization.of((0.1, 0.2, 0.3), 0.5)
    three = of_channels.to_float(images().expand(-1, 3, -1, -1).contiguous())
    result = how(three, pixels=of_channels)
    assert torch.allclose(result.amin((0, 2, 3)), torch.tensor([-0.2, -0.4, -0.6]))
    flat = how(three.flatten(1), pixels=of_channels)
    assert torch.equal(flat, result.flatten(1))
    assert float(fm.Affine(translate=0.5, fill=7, seed=0)(images().float()).max()) <= 255
    white = torch.full((9, 1, 8, 8), 1.0)
    assert torch.allclose(fm.Affine(fill=1.0, seed=0)(white), white)


@pytest.mark.parametrize(
    ("rows", "error", "text"),
    [
        (torch.zeros(3, 783), ValueError, r"augment: .*\[N, H \* H\] \(square\), got \[3, 783\]"),
        (torch.zeros(784), ValueError, r"got \[784\]"),
        (torch.zeros(2, 784, dtype=torch.int64), TypeError, "uint8 or floating images, got torch"),
        (np.zeros((2, 784)), TypeError, "a tensor of images, got ndarray"),
        (torch.full((2, 784), -1.0), ValueError, "below 0 .* give fill="),
        (torch.zeros(2, 1, 0, 28), ValueError, r"got \[2, 1, 0, 28\]"),
    ],
)
def test_what_is_no_image(rows, error, text):
    with pytest.raises(error, match=text):
        fm.Affine()(rows)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: fm.Affine(rotate=-1), "rotate: expected a number of degrees from 0 to 180, got"),
        (lambda: fm.Affine(translate=2), "translate: expected a share"),
        (lambda: fm.Affine(scale=1), "scale: expected a share from 0 to less than 1, got 1"),
        (lambda: fm.Affine(shear=float("nan")), "shear: expected degrees"),
        (lambda: fm.Affine(seed=-1), "seed: expected 0"),
        (lambda: fm.Elastic(sigma=0), "sigma: expected pixels above 0, got 0"),
        (lambda: fm.Elastic(alpha=float("inf")), "alpha: expected pixels"),
        (lambda: fm.Elastic(fill=float("inf")), "fill: expected a finite number"),
        (lambda: fm.Affine(rotate="10"), "rotate: expected a number of degrees .*, got str"),
        (lambda: fm.Affine(seed=0.5), "seed: expected an int or None, got float"),
        (lambda: Augmenter([], None), "augment: expected at least one"),
        (lambda: Augmenter(fm.Affine, None), "augment: expected fm.Affine.*, got Affine"),
        (lambda: Augmenter([torch.relu], None), "augment: expected fm.Affine.*, got list"),
    ],
)
def test_bad_amounts(make, text):
    with pytest.raises((TypeError, ValueError), match=text):
        make()


# --- in training


def first_weights(digits, **options):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = fm.LeNet300()
    history = fm.train(model, digits.train.subset(200), 2, seed=1, progress=False, **options)
    return model.linear1.weight.detach().clone(), history


def test_training_is_repeatable_and_sees_other_images_each_epoch(digits):
    both = [fm.Affine(), fm.Elastic()]
    plain, _ = first_weights(digits)
    once, history = first_weights(digits, augment=both)
    again, _ = first_weights(digits, augment=both)
    assert torch.equal(once, again)
    assert not torch.equal(once, plain)
    assert len(history) == 2
    augmenter = Augmenter(both, None)
    assert not torch.equal(augmenter.images(images()), augmenter.images(images()))


def test_training_sees_whole_pixels_of_the_datas_meaning(digits):
    half = fm.Split(digits.train.images[:64], digits.train.labels[:64], mean=0.5, std=0.5)
    seen = []
    model = fm.NeuralNetwork(use_dropout=False)
    model.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    fm.train(model, half, 1, batch_size=64, augment=fm.Affine(seed=0), progress=False)
    codes = (seen[0].double() * 0.5 + 0.5) * 255
    assert float((codes - codes.round()).abs().max()) < 1e-4
    assert float(seen[0].min()) == -1.0
    assert not torch.equal(seen[0].sort(0)[0], half.pixels.to_float(half.images).sort(0)[0])


def test_floats_of_a_model_that_knows_its_pixels(digits):
    model = fm.NeuralNetwork()
    set_model_pixels(model, PixelNormalization.of(0.5, 0.5))
    rows = digits.train.images[:64].float() / 127.5 - 1
    seen = []
    model.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    fm.train(model, (rows, digits.train.labels[:64]), 1, augment=fm.Affine(), progress=False)
    assert float(torch.cat(seen).min()) == -1.0
    with pytest.raises(ValueError, match=r"augment: .* give fill="):
        fm.train(fm.NeuralNetwork(), (rows, digits.train.labels[:64]), 1, augment=fm.Affine())


def test_keywords_are_no_images():
    class Named(torch.nn.Linear):
        def forward(self, image):
            return super().forward(image)

    data = ({"image": torch.zeros(4, 16)}, torch.zeros(4, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"augment: .* whose first input .*keywords"):
        fm.train(Named(16, 2), data, 1, augment=fm.Affine())


def test_fine_tuning_takes_it_too(digits):
    few = digits.train.subset(64)
    pruned = fm.prune(
        fm.NeuralNetwork(), fm.L1Unstructured(0.5), finetune=few, augment=fm.Elastic(seed=0)
    )
    assert float((pruned.linear1.weight == 0).float().mean()) == 0.5
    for options in ({}, {"finetune": lambda m: None}):
        with pytest.raises(ValueError, match="augment: expected data to fine-tune on"):
            fm.prune(fm.NeuralNetwork(), fm.L1Unstructured(0.5), augment=fm.Affine(), **options)
    with pytest.raises(TypeError, match=r"augment: expected fm\.Affine"):
        fm.train(fm.NeuralNetwork(), few, augment="affine")


def test_lenet300():
    model = fm.LeNet300()
    assert sum(p.numel() for p in model.parameters()) == 266_610
    q = fm.quantize(model, fm.Static(calibration=images().float() / 255))
    with torch.no_grad():
        assert torch.equal(q(images().float() / 255), fm.compile(q)(images().float() / 255))
