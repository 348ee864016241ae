"""What a pixel stands for: with and without a normalization, however it comes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from models import MyModel, quality, same
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, TensorDataset

import fastmnist as fm
from fastmnist.data import Data, Split

MEAN, STD = (0.1307,), (0.3081,)


def normalized(images, mean=MEAN, std=STD):
    """ToTensor and Normalize as torchvision has them."""
    m = torch.tensor(mean).view(-1, 1, 1)
    s = torch.tensor(std).view(-1, 1, 1)
    return images.float().div(255).sub(m).div(s)


@pytest.fixture(scope="module")
def bundle() -> Data:
    return fm.load_dataset("digits", mean=MEAN, std=STD)


@pytest.fixture(scope="module")
def network(bundle) -> fm.NeuralNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = fm.NeuralNetwork()
    fm.train(model, bundle, epochs=8, seed=0, batch_size=64)
    return model.eval()


def by_hand(model):
    """The same network, as it comes from somebody who never heard of fastmnist."""
    foreign = fm.NeuralNetwork().eval()
    foreign.load_state_dict(model.state_dict())
    return foreign


def check_all_paths(q, images, floats):
    """uint8 and float rows, module and compiled: the same bits. Returns the logits."""
    net = fm.compile(q)
    expected = q(floats)
    assert torch.equal(q(images), expected)
    for x in (images, floats):
        assert torch.equal(net(x), expected)
        assert np.array_equal(net(x.numpy()), expected.numpy())
        assert torch.equal(net(x.flatten(1)), expected)
    return expected


@pytest.mark.parametrize("config", ["static", "dynamic"])
def test_bundle_with_mean_and_std(bundle, network, config, isa):
    q = fm.quantize(network, fm.Static(calibration=bundle) if config == "static" else fm.Dynamic())
    images = bundle.test.images
    logits = check_all_paths(q, images, normalized(images))
    reference = fm.evaluate(network, bundle)
    accuracy = fm.evaluate(q, bundle)
    assert abs(accuracy - reference) < 0.01
    assert (logits.argmax(1) == bundle.test.labels).float().mean() == pytest.approx(accuracy)
    raw = (images, bundle.test.labels)
    assert fm.evaluate(q, raw) == accuracy  # the model remembers what pixels stand for
    assert fm.evaluate(fm.compile(q), raw) == accuracy
    assert fm.evaluate(q, raw, raw=True) == accuracy
    assert fm.evaluate(fm.compile(q), raw, raw=True) == accuracy


def test_foreign_floats_normalized_by_hand(bundle, network):
    model = by_hand(network)
    images = bundle.test.images
    floats = normalized(bundle.train.images[:400])
    expected = check_all_paths(
        fm.quantize(network, fm.Static(calibration=bundle, max_samples=400)),
        images,
        normalized(images),
    )
    given = fm.Static(calibration=floats, mean=0.1307, std=0.3081, max_samples=400)
    for mean, std in ((0.1307, 0.3081), (MEAN, STD), (np.array(MEAN), torch.tensor(STD))):
        config = fm.Static(calibration=floats, mean=mean, std=std, max_samples=400)
        q = fm.quantize(model, config)
        got = check_all_paths(q, images, normalized(images))
        # Scales of floats differ in their last bit from those of pixels. That may round a hidden
        # code in a row or two the other way: which, depends on the weights that training made.
        same_codes = torch.isclose(got, expected, rtol=1e-5, atol=1e-4).all(1)
        assert same_codes.float().mean() > 0.98
        assert (got - expected).abs().max() < 0.05
    net = fm.compile(model, floats, mean=0.1307, std=0.3081, max_samples=400)
    assert torch.equal(net(images), fm.quantize(model, given)(images))
    dynamic = fm.quantize(model, fm.Dynamic(mean=MEAN, std=STD))
    check_all_paths(dynamic, images, normalized(images))
    net = fm.compile(model, dynamic=True, mean=MEAN, std=STD)
    assert torch.equal(net(images), dynamic(images))


def test_without_mean_and_std_floats_are_floats(bundle, network):
    """They are no k/255, so uint8 rows are refused rather than misread."""
    q = fm.quantize(by_hand(network), fm.Static(normalized(bundle.train.images[:400])))
    images = bundle.test.images[:5]
    with pytest.raises(ValueError, match="calibration saw no pixels"):
        q(images)
    with pytest.raises(ValueError, match=r"uint8|pixel"):
        fm.compile(q)(images)
    q(normalized(images))
    dynamic = fm.quantize(by_hand(network), fm.Dynamic())
    with pytest.raises(ValueError, match="give mean= and std="):
        dynamic(images)
    with pytest.raises(ValueError, match=r"uint8|pixel"):
        fm.compile(dynamic)(images)


@pytest.mark.parametrize("rows", ["uint8", "floats", "half", "loader", "tensors", "permuted"])
def test_pixels_are_known_however_they_come(digits, rows):
    train = digits.train
    floats = train.images[:200] / 255
    data = {
        "uint8": (train.images, train.labels),
        "floats": floats,
        "half": train,
        "loader": DataLoader(train, batch_size=32),
        "tensors": TensorDataset(train.images, train.labels),
        # As a photo comes from NumPy: channels last in memory.
        "permuted": floats.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2).transpose(2, 3),
    }[rows]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = MyModel()
    q = fm.quantize(model, fm.Static(calibration=data))
    images = digits.test.images
    check_all_paths(q, images, images / 255)


def test_three_channels(tmp_path):
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (300, 3, 6, 6), dtype=torch.uint8, generator=generator)
    labels = (images[:, 0].float().mean((1, 2)) > images[:, 2].float().mean((1, 2))).long()
    data = Data(
        "rgb",
        Split(images[:200], labels[:200], mean=mean, std=std),
        Split(images[200:], labels[200:], mean=mean, std=std),
    )
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(108, 32), nn.ReLU(), nn.Linear(32, 2))
    fm.train(model, data, epochs=5, seed=0)
    rows = images[200:]
    static = fm.quantize(model, fm.Static(data))
    dynamic = fm.quantize(model, fm.Dynamic())
    floats = normalized(rows, mean, std)
    for q in (static, dynamic):
        expected = check_all_paths(q, rows, floats)
        assert (expected - model.eval()(floats)).abs().max() < 0.1
    fm.save(tmp_path / "rgb.safetensors", {"static": static, "net": fm.compile(dynamic)})
    loaded = fm.load(tmp_path / "rgb.safetensors")
    assert torch.equal(loaded["static"](rows), static(floats))
    assert torch.equal(loaded["net"](rows), dynamic(floats))
    for config in (fm.Static(rows, mean=mean[:2], std=std[:2]), fm.Dynamic(mean=mean, std=std[:2])):
        with pytest.raises(ValueError, match=r"channels|length"):
            fm.quantize(model, config)
    with pytest.raises(ValueError, match="multiple of the 3 channels"):
        fm.quantize(nn.Linear(10, 2), fm.Dynamic(mean=mean, std=std))


def test_it_travels_through_everything(bundle, network, tmp_path):
    q = fm.quantize(network, fm.Static(bundle))
    path = tmp_path / "all.safetensors"
    fm.save(path, {"original": network, "int8": q, "net": fm.compile(q)})
    loaded = fm.load(path)
    images = bundle.test.images
    assert torch.equal(loaded["int8"](images), q(images))
    assert torch.equal(loaded["net"](images), q(images))
    # The float model came back knowing its pixels too, so calibrating needs no mean.
    again = fm.quantize(loaded["original"], fm.Static((bundle.train.images, bundle.train.labels)))
    assert torch.equal(again(images), q(images))
    variants = {"original": loaded["original"], "int8": loaded["int8"], "net": loaded["net"]}
    report = fm.compare(variants, (images, bundle.test.labels), rounds=1)
    assert [row.rows for row in report] == ["float32", "float32", "float32", "uint8"]
    assert report[1].accuracy == report[2].accuracy == report[3].accuracy
    assert report[0].accuracy > 0.85
    from_bundle = fm.compare(variants, bundle, rounds=1)
    assert [row.accuracy for row in from_bundle] == [row.accuracy for row in report]


@pytest.mark.slow
def test_mnist_normalized(mnist_root):
    data = fm.load_dataset("mnist", mnist_root, mean=MEAN, std=STD)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = fm.NeuralNetwork()
    fm.train(model, data.train.subset(8000), epochs=1, seed=0)
    images, labels = data.test.images, data.test.labels
    reference = fm.evaluate(model, data)
    assert reference > 0.85
    for config in (fm.Static(data), fm.Dynamic()):
        q = fm.quantize(model, config)
        expected = check_all_paths(q, images, normalized(images))
        accuracy = (expected.argmax(1) == labels).double().mean().item()
        assert abs(accuracy - reference) < 0.003


class _InPlace(nn.Module):
    """Normalizes its input in place, so its first layer is not given the pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(784, 10)

    def forward(self, x):
        x = x.flatten(1)
        x -= 0.1307
        x /= 0.3081
        return self.fc(x)


def test_an_input_changed_in_place_is_no_pixel_any_more(digits):
    model = _InPlace()
    q = fm.quantize(model, fm.Static((digits.train.images, digits.train.labels)))
    x = digits.test.images[:50] / 255
    with torch.no_grad():
        assert (q(x.clone()) - model(x.clone())).abs().max() < 0.05
    assert q.fc.pixels is None


class _ImageAndNumbers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Linear(784, 16)
        self.numbers = nn.Linear(3, 16)
        self.head = nn.Linear(16, 10)

    def forward(self, image, numbers):
        return self.head(F.relu(self.image(image.flatten(1)) + self.numbers(numbers)))


def test_only_the_first_input_is_pixels(digits):
    model = _ImageAndNumbers()
    images = digits.train.images[:200]
    numbers = torch.randn(200, 3) * 20
    q = fm.quantize(model, fm.Static((images, numbers, digits.train.labels[:200])))
    with torch.no_grad():
        assert (q(images / 255, numbers) - model(images / 255, numbers)).abs().max() < 0.3
    assert torch.equal(q(images, numbers), q(images / 255, numbers))
    assert q.numbers.pixels is None
    dynamic = fm.quantize(model, fm.Dynamic(mean=0, std=1))
    assert torch.equal(dynamic(images, numbers), dynamic(images / 255, numbers))
    assert dynamic.numbers.pixels is None


class _Wrapped(Dataset):
    def __len__(self):
        return 64

    def __getitem__(self, i):
        return torch.full((12,), i % 7 / 10), i % 2


def test_a_dataset_of_other_floats_holds_no_pixels():
    q = fm.quantize(nn.Linear(12, 2), fm.Static(_Wrapped()))
    assert q.pixels is None


@pytest.mark.parametrize("size", [3e-6, 1e-5, 1e-3])
@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_small_floats_are_no_pixels(size, shift):
    torch.manual_seed(0)
    model = nn.Linear(8, 3)
    nn.init.uniform_(model.weight, -1 / size, 1 / size)
    x = (torch.rand(200, 8) - shift) * size
    quantized = fm.quantize(model, fm.Static(calibration=x))
    with torch.no_grad():
        assert (quantized(x) - model(x)).abs().max() < 0.05
    with pytest.raises(ValueError, match="saw no pixels"):
        quantized(torch.zeros(1, 8, dtype=torch.uint8))


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (0.1307, 0.3081), (0.5, 0.5)])
def test_floats_of_pixels_still_are(mean, std):
    pixels = torch.arange(256, dtype=torch.uint8).reshape(4, 64)
    floats = pixels.float().div(255).sub(mean).div(std)
    config = fm.Static(calibration=floats, mean=mean, std=std)
    quantized = fm.quantize(nn.Sequential(nn.Linear(64, 3)), config)
    assert torch.equal(quantized(pixels), quantized(floats))
    if (mean, std) == (0.0, 1.0):
        found = fm.quantize(nn.Sequential(nn.Linear(64, 3)), fm.Static(calibration=floats))
        assert torch.equal(found(pixels), found(floats))


PIXELS = torch.randint(0, 256, (96, 12), generator=torch.Generator().manual_seed(4)).to(torch.uint8)


def test_channels_of_rows_that_are_not_flattened():
    images = torch.randint(0, 256, (40, 3, 4, 12), dtype=torch.uint8)
    mean, std = (0.1, 0.5, 0.9), (0.1, 0.3, 0.6)
    floats = (images / 255 - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    model = nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Flatten(), nn.Linear(96, 4)).eval()
    static = fm.quantize(model, fm.Static(images, mean, std))
    dynamic = fm.quantize(model, fm.Dynamic(mean, std))
    for q in (static, dynamic):
        assert quality(model, q, floats) > 25
        with pytest.raises(ValueError, match="uint8"):
            q(images)
    flat = nn.Sequential(nn.Flatten(), nn.Linear(144, 4)).eval()
    q = fm.quantize(flat, fm.Static(images, mean, std))
    assert same(q(images), q(floats))
    assert quality(flat, q, floats) > 30


class InPlace(nn.Module):
    """Normalizes its own input, in place."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(12, 4)

    def forward(self, x):
        x = x.flatten(1)
        x.sub_(0.5).mul_(20)
        return self.fc(x)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_inputs_that_forward_changes_are_no_pixels(mode):
    prepared = fm.prepare(InPlace())
    with mode():
        prepared(PIXELS.float() / 255)
    assert fm.convert(prepared).fc.pixels is None
