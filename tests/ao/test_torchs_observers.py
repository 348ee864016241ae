"""Observers and fake quantization, number for number beside torch.ao's own."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch

import fastmnist.ao as tq

ao = pytest.importorskip("torch.ao.quantization")

AFFINE, SYMMETRIC = torch.per_tensor_affine, torch.per_tensor_symmetric
PER_TENSOR = ("MinMaxObserver", "MovingAverageMinMaxObserver", "HistogramObserver")
PER_CHANNEL = ("PerChannelMinMaxObserver", "MovingAveragePerChannelMinMaxObserver")
OPTIONS = [
    {},
    {"reduce_range": True},
    {"quant_min": 0, "quant_max": 127},
    {"quant_min": -8, "quant_max": 7, "dtype": torch.qint8},
    {"eps": 0.5},
    {"dtype": torch.uint8},
    {"dtype": torch.int8},
]


def batches(shape=(4, 6)):
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(*shape, generator=generator) * i + i for i in (1, 2, 3)]


def both(name, **options):
    return getattr(ao, name)(**options), getattr(tq, name)(**options)


def assert_same_qparams(theirs, ours):
    (scale, zero_point), (own_scale, own_zero_point) = (
        o.calculate_qparams() for o in (theirs, ours)
    )
    assert scale.shape == own_scale.shape
    assert torch.allclose(scale, own_scale, rtol=1e-6)
    assert torch.equal(zero_point.float(), own_zero_point.float())


@pytest.mark.filterwarnings("ignore:Please use quant_min")
@pytest.mark.parametrize("name", PER_TENSOR)
@pytest.mark.parametrize("dtype", [torch.quint8, torch.qint8])
@pytest.mark.parametrize("scheme", [AFFINE, SYMMETRIC])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_per_tensor(name, dtype, scheme, options):
    options = {"dtype": dtype, "qscheme": scheme, **options}
    if options.get("reduce_range") and scheme == SYMMETRIC and dtype == torch.quint8:
        for library in (ao, tq) if "Histogram" not in name else (tq,):
            with pytest.raises(NotImplementedError, match="symmetric"):
                getattr(library, name)(**options)
        return
    theirs, ours = both(name, **options)
    for x in batches():
        theirs(x)
        assert ours(x) is x
    assert torch.equal(theirs.min_val, ours.min_val)
    assert torch.equal(theirs.max_val, ours.max_val)
    if "Histogram" in name:
        assert torch.equal(theirs.histogram, ours.histogram)
    assert (theirs.quant_min, theirs.quant_max) == (ours.quant_min, ours.quant_max)
    assert_same_qparams(theirs, ours)


@pytest.mark.parametrize("bins", [3, 16, 256, 2048])
@pytest.mark.parametrize("shape", ["normal", "one-sided", "outliers", "one value", "growing"])
def test_histograms(bins, shape):
    generator = torch.Generator().manual_seed(1)
    theirs, ours = both("HistogramObserver", bins=bins)
    for i in range(4):
        x = torch.randn(500, generator=generator)
        x = {
            "normal": x,
            "one-sided": x.relu(),
            "outliers": torch.cat((x, torch.tensor([40.0 + i]))),
            "one value": torch.full((9,), 3.0) if i < 2 else x,
            "growing": x * 3**i,
        }[shape]
        theirs(x)
        ours(x)
        assert torch.equal(theirs.histogram, ours.histogram)
        assert_same_qparams(theirs, ours)
    ours(torch.tensor([torch.inf, torch.nan, 0.0]))
    assert torch.isfinite(ours.histogram).all()


@pytest.mark.filterwarnings("ignore:Please use quant_min")
@pytest.mark.parametrize("name", PER_CHANNEL)
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("dtype", [torch.quint8, torch.qint8])
@pytest.mark.parametrize(
    "scheme",
    [
        torch.per_channel_affine,
        torch.per_channel_symmetric,
        torch.per_channel_affine_float_qparams,
    ],
)
def test_per_channel(name, axis, dtype, scheme):
    theirs, ours = both(name, ch_axis=axis, dtype=dtype, qscheme=scheme)
    for x in batches((3, 4, 5)):
        theirs(x)
        ours(x)
    assert torch.allclose(theirs.min_val, ours.min_val)
    assert torch.allclose(theirs.max_val, ours.max_val)
    assert_same_qparams(theirs, ours)


@pytest.mark.parametrize("name", [*PER_TENSOR, *PER_CHANNEL])
def test_unseen_empty_reset_and_saved(name):
    ours = getattr(tq, name)()
    buffers = [id(buffer) for buffer in ours.buffers()]
    with pytest.warns(UserWarning, match=f"{name}: expected to have watched data"):
        assert [t.tolist() for t in ours.calculate_qparams()] == [[1.0], [0]]
    ours(torch.zeros(0, 6))
    ours(batches()[0])
    again = getattr(tq, name)()
    buffer = io.BytesIO()
    torch.save(ours.state_dict(), buffer)
    buffer.seek(0)
    again.load_state_dict(torch.load(buffer, weights_only=True))
    for other in (again, copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert_same_qparams(ours, other)
    assert [id(buffer) for buffer in ours.buffers()] == buffers  # changed in place
    ours.reset_min_max_vals()
    with pytest.warns(UserWarning, match="expected to have watched data"):
        ours.calculate_qparams()


def qconfigs():
    named = {name: (getattr(ao, name), getattr(tq, name)) for name in dir(ao) if "qconfig" in name}
    kept = {n: pair for n, pair in named.items() if isinstance(pair[0], ao.QConfig)}
    for backend in ("x86", "fbgemm", "qnnpack", "onednn"):
        pair = (ao.get_default_qconfig(backend), tq.get_default_qconfig(backend))
        kept[f"{backend} static"] = pair
        for version in (0, 1):
            kept[f"{backend} qat {version}"] = (
                ao.get_default_qat_qconfig(backend, version),
                tq.get_default_qat_qconfig(backend, version),
            )
    return kept


def told(made):
    """What an observer, or fake quantization, is set to."""
    inner = getattr(made, "activation_post_process", made)
    names = (
        "dtype", "qscheme", "quant_min", "quant_max", "is_dynamic", "reduce_range", "ch_axis",
        "averaging_constant",
    )  # fmt: skip
    return (
        type(made).__name__,
        type(inner).__name__,
        [getattr(inner, name, None) for name in names],
        float(getattr(inner, "eps", 0)),
    )


@pytest.mark.filterwarnings("ignore:Please use quant_min", "ignore:Default qconfig of oneDNN")
@pytest.mark.parametrize("name", qconfigs())
def test_every_default_qconfig_says_what_torchs_says(name):
    theirs, ours = qconfigs()[name]
    for part in ("activation", "weight"):
        assert told(getattr(ours, part)()) == told(getattr(theirs, part)())


FAKES = [name for name in ao.__all__ if "fake_quant" in name and name.startswith(("d", "fused"))]


@pytest.mark.filterwarnings("ignore:Please use quant_min")
@pytest.mark.parametrize("name", [name for name in FAKES if not name.startswith("disable")])
def test_fake_quantization_and_its_gradient(name):
    theirs, ours = getattr(ao, name)(), getattr(tq, name)()
    buffers = [id(buffer) for buffer in ours.buffers()]
    tolerance = {"rtol": 1e-5, "atol": 1e-5}
    for x in batches():
        pair = [x.clone().requires_grad_() for _ in range(2)]
        y, own = theirs(pair[0]), ours(pair[1])
        assert torch.allclose(y, own, **tolerance)
        y.square().sum().backward()
        own.square().sum().backward()
        assert torch.allclose(pair[0].grad, pair[1].grad, **tolerance)
    ours.disable_observer()
    scale = ours.scale.clone()
    ours(100 * x)
    assert torch.equal(ours.scale, scale)
    ours.disable_fake_quant()
    assert torch.equal(ours(x), x)
    again = getattr(tq, name)()
    again.load_state_dict(ours.state_dict())
    assert torch.equal(again.scale, scale)
    assert [id(buffer) for buffer in ours.buffers()] == buffers  # changed in place


def test_factories_make_new_objects_each_time():
    made = tq.MinMaxObserver.with_args(quant_min=0).with_args(quant_max=127)
    assert made() is not made()
    assert (made().quant_min, made().quant_max) == (0, 127)
    assert made.with_args(quant_max=7)().quant_max == 7
    assert made.p.keywords == {"quant_min": 0, "quant_max": 127}
    count = iter(range(1, 9))
    counted = tq.FixedQParamsObserver.with_callable_args(zero_point=lambda: next(count))
    counted = counted.with_args(scale=0.5)
    assert [int(counted().zero_point) for _ in range(2)] == [1, 2]
    assert int(counted(zero_point=8).zero_point) == 8
    assert tq.MinMaxObserver.with_args(eps=1.0) == tq.MinMaxObserver.with_args(eps=1.0)
    assert tq.qconfig_equals(tq.default_qconfig, tq.QConfig(*tq.default_qconfig))
    assert not tq.qconfig_equals(tq.default_qconfig, tq.default_per_channel_qconfig)
    assert not tq.qconfig_equals(tq.default_qconfig, None)


def test_observers_without_ranges():
    recording = tq.RecordingObserver()
    x = torch.ones(2)
    recording(x)
    x.zero_()
    assert recording.get_tensor_value()[0].tolist() == [1, 1]
    for made in (recording, tq.PlaceholderObserver(), tq.NoopObserver(), tq.ReuseInputObserver()):
        assert made(x) is x
        with pytest.raises(RuntimeError, match=f"got {type(made).__name__}, which has none"):
            made.calculate_qparams()
    fixed = tq.default_fixed_qparams_range_neg1to1_observer()
    assert [float(v) for v in fixed.calculate_qparams()] == [2 / 256, 128]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: tq.MinMaxObserver(dtype=torch.float32),
            ValueError,
            "dtype: expected one of qint8",
        ),
        (lambda: tq.MinMaxObserver(qscheme="affine"), ValueError, "qscheme: expected one of"),
        (
            lambda: tq.MinMaxObserver(qscheme=torch.per_channel_affine),
            NotImplementedError,
            "tensor",
        ),
        (lambda: tq.PerChannelMinMaxObserver(qscheme=AFFINE), NotImplementedError, "per channel"),
        (lambda: tq.MinMaxObserver(quant_min=1, quant_max=9), ValueError, "a range around 0"),
        (lambda: tq.MinMaxObserver(quant_min=0, quant_max=256), ValueError, "at most 256 codes"),
        (lambda: tq.FixedQParamsFakeQuantize(tq.MinMaxObserver), TypeError, "FixedQParamsObserver"),
        (lambda: tq.FusedMovingAvgObsFakeQuantize(tq.MinMaxObserver), TypeError, "moving averages"),
        (lambda: tq.QConfig(tq.MinMaxObserver(), tq.MinMaxObserver), ValueError, "with_args"),
    ],
)
def test_errors(make, error, message):
    with pytest.raises(error, match=message):
        make()
