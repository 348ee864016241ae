"""_core.Model as a Python type: its arguments, its life, classes made of it."""

from __future__ import annotations

import copy
import gc
import inspect
import os
import pickle
import sys
import threading
import weakref
from typing import Any

import numpy as np
import pytest
import torch
from oracle import assert_same_bits, random_network
from torch.utils._python_dispatch import TorchDispatchMode

import fastmnist as fm
from fastmnist import _core

NETWORK = random_network(1, (12, 20, 5), pixels=True)
X = np.random.default_rng(0).normal(size=(7, 12)).astype(np.float32)


@pytest.fixture
def model() -> Any:
    return _core.Model(NETWORK.packed)


def test_compiled_models_are_called_natively() -> None:
    """No Python method, and no look-up of one, stands between the caller and the native code."""
    assert "__call__" not in vars(fm.CompiledModel)
    assert fm.CompiledModel.__call__ is _core.Model.__call__
    assert type(fm.CompiledModel.__call__) is type(object.__init__)  # the slot itself
    assert "__new__" not in vars(fm.CompiledModel)


def test_arguments_by_position_and_by_name(model: Any) -> None:
    expected = model(X)
    out, name = np.empty_like(expected), "".join(["o", "ut"])
    for call in (
        lambda: model(X, out),
        lambda: model(X, out=out),
        lambda: model(x=X, out=out),
        lambda: model(out=out, x=X),
        lambda: model(X, **{name: out}),
        lambda: model(*[X], out=out),
        lambda: type(model).__call__(model, X, out),
        lambda: model.__call__(X, out=out),
    ):
        out[...] = np.nan
        assert call() is out
        assert_same_bits(out, expected)
    for call in (lambda: model(x=X), lambda: model(X, None), lambda: model(X, out=None)):
        assert_same_bits(call(), expected)
    classes = np.empty(7, np.int64)
    for call in (
        lambda: model.predict(X, classes),
        lambda: model.predict(X, out=classes),
        lambda: model.predict(out=classes, x=X),
    ):
        classes[...] = -1
        assert call() is classes
        assert_same_bits(classes, expected.argmax(1))


@pytest.mark.parametrize("how", ["call", "slot", "predict"])
@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((), {}, r"missing required argument: 'x'"),
        ((), {"out": X}, r"missing required argument: 'x'"),
        ((X, None, 3), {}, r"at most 2 positional arguments \(3 given\)"),
        ((X,), {"x": X}, "multiple values for argument 'x'"),
        ((X, None), {"out": X}, "multiple values for argument 'out'"),
        ((X,), {"into": X}, "unexpected keyword argument 'into'"),
        ((X,), {"Out": X}, "unexpected keyword argument 'Out'"),
        ((X,), {"": X}, "unexpected keyword argument ''"),
        ((X,), {"\ud800": X}, "argument|surrogate"),
    ],
)
def test_wrong_arguments(
    model: Any, how: str, args: tuple[Any, ...], kwargs: dict[str, Any], message: str
) -> None:
    def call() -> Any:
        if how == "predict":
            return model.predict(*args, **kwargs)
        return (
            model(*args, **kwargs)
            if how == "call"
            else type(model).__call__(model, *args, **kwargs)
        )

    with pytest.raises(TypeError, match=message):
        call()


def test_names_that_are_no_text(model: Any) -> None:
    for function in (model, model.predict):
        with pytest.raises(TypeError):
            function(X, **{3: X})  # type: ignore[misc]


PREDICT_OUT: dict[str, tuple[Any, type[Exception], str]] = {
    "shape": (lambda: np.zeros(6, np.int64), ValueError, r"shape \[7\], got \[6\]"),
    "2 dimensions": (lambda: np.zeros((7, 1), np.int64), ValueError, r"shape \[7\], got \[7, 1\]"),
    "float32": (lambda: np.zeros(7, np.float32), TypeError, "contiguous int64 array"),
    "int32": (lambda: torch.zeros(7, dtype=torch.int32), TypeError, r"got torch\.int32"),
    "uint64": (lambda: np.zeros(7, np.uint64), TypeError, "got uint64"),
    "big-endian": (lambda: np.zeros(7, ">i8"), TypeError, "got >i8"),
    "strided": (lambda: np.zeros(14, np.int64)[::2], TypeError, "not contiguous"),
    "none such": (lambda: [0] * 7, TypeError, "class 'list'"),
    "x itself": (lambda: X, TypeError, "contiguous int64"),
}


@pytest.mark.parametrize(("make", "error", "message"), PREDICT_OUT.values(), ids=PREDICT_OUT.keys())
def test_predict_refuses_an_out_that_does_not_fit(
    model: Any, make: Any, error: Any, message: str
) -> None:
    with pytest.raises(error, match=message):
        model.predict(X, out=make())


def test_predict_into_overlapping_memory(model: Any) -> None:
    memory = np.zeros(1000, np.uint8)
    pixels = memory[100:184].reshape(7, 12)
    for first in (48, 96, 176):
        with pytest.raises(ValueError, match="memory that overlaps x"):
            model.predict(pixels, out=memory[first : first + 56].view(np.int64))
    model.predict(pixels, out=memory[184:240].view(np.int64))


@pytest.mark.parametrize("rows", [1, 191, 192, 193, 2000, 20_000])
@pytest.mark.parametrize("outputs", [2, 1000])
def test_predict_in_blocks(rows: int, outputs: int) -> None:
    model = _core.Model(random_network(3, (9, outputs)).packed)
    x = np.random.default_rng(rows).normal(size=(rows, 9)).astype(np.float32)
    x[rows // 2] = np.nan
    expected = model(x).argmax(1)
    for threads in (1, 3):
        _core.set_num_threads(threads)
        try:
            assert_same_bits(model.predict(x), expected)
            out = torch.full((rows,), -1)
            assert model.predict(torch.from_numpy(x), out=out) is out
            assert_same_bits(out.numpy(), expected)
        finally:
            _core.set_num_threads(0)


def test_results_are_ordinary_tensors(model: Any) -> None:
    tensor = torch.from_numpy(X)
    y = model(tensor)
    assert (type(y), y.dtype, y.device.type) == (torch.Tensor, torch.float32, "cpu")
    assert y.is_contiguous()
    assert y.stride() == (5, 1)
    assert y.data_ptr() % 64 == 0
    assert not y.requires_grad
    y += 1
    assert torch.equal(y, model(tensor) + 1)
    assert torch.equal(y.T.reshape(-1).sort()[0], y.reshape(-1).sort()[0])
    moved = copy.deepcopy(y).share_memory_()
    assert torch.equal(moved, y)
    storage = y.untyped_storage()
    first = y[0].clone()
    del y
    gc.collect()
    assert torch.equal(torch.empty(0).set_(storage, 0, (5,)), first)  # type: ignore[call-overload]
    kept = [model(tensor[:1]) for _ in range(500)]
    assert all(torch.equal(k, kept[0]) for k in kept)


class Watching(TorchDispatchMode):
    """Sees every operator; may free what it was not given."""

    def __init__(self, victim: torch.Tensor | None = None) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.victim = victim

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.append(str(func))
        if self.victim is not None:
            victim, self.victim = self.victim, None
            victim.set_(torch.zeros(1).untyped_storage(), 0, (1, 1), (1, 1))  # type: ignore[call-overload]
        return func(*args, **(kwargs or {}))


def test_modes_see_new_tensors_and_cannot_free_rows(model: Any) -> None:
    tensor = torch.from_numpy(X)
    expected = model(tensor)
    with Watching() as mode:
        y = model(tensor)
    assert torch.equal(y, expected)
    assert any("empty" in name for name in mode.seen)
    victim = tensor.clone()
    with pytest.raises(RuntimeError, match="changed during the call"), Watching(victim):
        model(victim)


def test_memory_that_nobody_has() -> None:
    if "asan" in os.environ.get("LD_PRELOAD", ""):
        pytest.skip("AddressSanitizer ends the process instead")
    model = _core.Model(random_network(1, (1, 65536), pixels=True).packed)
    rows = np.zeros((2**30, 1), np.uint8)  # one page of zeros, many times: no memory either
    for x in (rows, torch.from_numpy(rows)):
        with pytest.raises(MemoryError):
            model(x)


def test_no_reference_is_lost_or_kept(model: Any) -> None:
    tensor = torch.from_numpy(X)
    for x in (X, tensor):
        out = np.empty((7, 5), np.float32) if x is X else torch.empty(7, 5)
        classes = np.empty(7, np.int64) if x is X else torch.empty(7, dtype=torch.int64)
        counted = (model, x, out, classes, type(model), np.dtype(np.float32), torch.Tensor)

        def calls(x: Any = x, out: Any = out, classes: Any = classes) -> None:
            model(x)
            model(x, out=out)
            model(x=x, out=out)
            model.predict(x)
            model.predict(x, out=classes)
            for wrong in ((x, classes), (x[:, :3],), (None,), (x, x), (x, None, x)):
                with pytest.raises((TypeError, ValueError)):
                    model(*wrong)
            _core.Model(NETWORK.packed)

        calls()
        gc.collect()
        before = [sys.getrefcount(c) for c in counted]
        for _ in range(100):
            calls()
        gc.collect()
        after = [sys.getrefcount(c) for c in counted]
        assert all(abs(a - b) < 20 for a, b in zip(after, before, strict=True)), (before, after)


# Its life.


@pytest.mark.parametrize("make", [_core.Model, lambda p: _core.Model(packed=p)])
def test_init_runs_once(make: Any) -> None:
    model = make(NETWORK.packed)
    expected = model(X)
    other = random_network(2, (12, 3))
    with pytest.raises(RuntimeError, match="initialized already"):
        model.__init__(other.packed)
    assert_same_bits(model(X), expected)
    for wrong in ((), (NETWORK.packed, 3)):
        with pytest.raises(TypeError):
            _core.Model(*wrong)
    with pytest.raises(TypeError):
        _core.Model(bytes=NETWORK.packed)  # type: ignore[call-arg]


def test_init_after_it_failed() -> None:
    model = _core.Model.__new__(_core.Model)
    with pytest.raises(ValueError, match="packed"):
        model.__init__(np.zeros(64, np.uint8))
    with pytest.raises(RuntimeError, match="never initialized"):
        model(X)
    model.__init__(NETWORK.packed)
    assert_same_bits(model(X), NETWORK.expected(X))


def test_init_while_others_call() -> None:
    model = _core.Model.__new__(_core.Model)
    expected = NETWORK.expected(X)
    wrong: list[Any] = []
    done = threading.Event()

    def call() -> None:
        while not done.is_set():
            try:
                wrong.extend([] if np.array_equal(model(X), expected) else ["other bits"])
            except RuntimeError as error:
                wrong.extend([] if "never initialized" in str(error) else [error])

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    succeeded = 0
    for _ in range(200):
        try:
            model.__init__(NETWORK.packed)
            succeeded += 1
        except RuntimeError:
            pass
    done.set()
    for thread in threads:
        thread.join()
    assert succeeded == 1
    assert not wrong


def test_weak_references_and_freeing() -> None:
    for kind in (_core.Model, type("Derived", (_core.Model,), {})):
        model = kind(NETWORK.packed)
        freed: list[int] = []
        reference = weakref.ref(model, lambda _: freed.append(1))  # noqa: B023
        assert reference() is model
        del model
        gc.collect()
        assert reference() is None
        assert freed == [1]
    kinds = weakref.ref(kind)
    del kind
    gc.collect()
    assert kinds() is None


def test_the_type_itself_does_not_pickle(model: Any) -> None:
    for use in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="cannot pickle"):
            use(model)


def test_properties_cannot_be_set(model: Any) -> None:
    for name in ("nbytes", "in_features", "out_features", "takes_pixels", "other"):
        with pytest.raises(AttributeError):
            setattr(model, name, 3)


@pytest.mark.parametrize("layer", [-1, 2, 10**30, -(10**30)])
def test_unpack_no_such_layer(model: Any, layer: int) -> None:
    with pytest.raises(ValueError, match="layer: expected 0 to 1"):
        model.unpack(layer)
    for nonsense in (1.0, "0", None):
        with pytest.raises(TypeError):
            model.unpack(nonsense)


# Classes made of it.


def test_classes_with_a_call_of_their_own() -> None:
    class Doubled(_core.Model):
        def __call__(self, x: Any, out: Any = None) -> Any:
            return super().__call__(x, out) * 2

    assert_same_bits(Doubled(NETWORK.packed)(X), NETWORK.expected(X) * 2)

    class Plain(_core.Model):
        pass

    model = Plain(NETWORK.packed)
    assert_same_bits(model(X), NETWORK.expected(X))
    # Replaced while instances live, as a mock does, and put back.
    Plain.__call__ = lambda self, x, *, scale=1: (self, scale)  # type: ignore[method-assign,assignment]
    assert model(X) == (model, 1)
    assert model(X, scale=3) == (model, 3)
    assert Plain(NETWORK.packed)(X)[1] == 1
    del Plain.__call__
    assert_same_bits(model(X), NETWORK.expected(X))
    out = np.empty((7, 5), np.float32)
    assert model(X, out=out) is out


def test_layouts_that_do_not_mix() -> None:
    with pytest.raises(TypeError):
        type("Both", (_core.Model, dict), {})


def test_what_it_says_of_itself() -> None:
    assert str(inspect.signature(_core.Model)) == (
        "(packed, *, inputs=None, outputs=None, structure=None, positional_out=True)"
    )
    assert str(inspect.signature(_core.Model.predict)) == "(self, /, x, out=None)"
    assert callable(_core.Model(NETWORK.packed))
    assert "out : optional" in (_core.Model.__doc__ or "")
    assert "int64" in (_core.Model.predict.__doc__ or "")
    assert "model(x, out=None)" in (fm.CompiledModel.__doc__ or "")
    assert "predict(self" in pydoc_of(fm.CompiledModel)


def pydoc_of(thing: Any) -> str:
    import pydoc

    return pydoc.render_doc(thing, renderer=pydoc.plaintext)


def test_instances_without_init():
    empty = fm.CompiledModel.__new__(fm.CompiledModel)
    row = np.zeros((1, 3), np.float32)
    uses = (lambda: empty(row), lambda: empty.predict(row), lambda: empty.unpack(0))
    for use in (*uses, lambda: empty.in_features):
        with pytest.raises(RuntimeError, match="never initialized"):
            use()
    assert empty.nbytes == 0
    with pytest.raises(ValueError, match="initialized"):
        _core.pack([_core.Layer.__new__(_core.Layer)], "static")
