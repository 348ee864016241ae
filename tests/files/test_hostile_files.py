"""Files that nobody should trust: a ValueError, never a crash, never much memory."""

from __future__ import annotations

import contextlib
import json
import struct

import c_library as c
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file
from saved_kinds import KINDS, X, mlp, table

import fastmnist as fm


def test_no_file(tmp_path):
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(FileNotFoundError, match="path: expected a model file"):
            fm.load(path)


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("good") / "m.safetensors"
    models = {
        "float": table(), "fused": fm.fuse(table()), "pruned": KINDS["pruned"](),
        "static": KINDS["static"](), "affine": KINDS["affine"](),
        "net": KINDS["compiled dynamic"](), "graph": KINDS["compiled graph"](),
    }  # fmt: skip
    fm.save(path, models)
    return path.read_bytes()


def load_all(path) -> bool:
    """Load everything; ValueError is the only error that is allowed. True if nothing raised."""
    try:
        loaded = fm.load(path)
    except ValueError:
        with contextlib.suppress(c.Failed):
            c.Model(path)
        return False
    fine = True
    for name in loaded:
        with contextlib.suppress(c.Failed):  # by itself: whatever Python says of it
            c.Model(path, name).predict(X.numpy())
        try:
            model = loaded[name]
            with torch.no_grad():
                model(X)
        except ValueError:
            fine = False
    return fine


def test_cut_files(good, tmp_path):
    path = tmp_path / "cut"
    path.write_bytes(good)
    assert load_all(path)
    for size in {*range(16), *np.linspace(16, len(good) - 1, 50).astype(int).tolist()}:
        path.write_bytes(good[:size])
        with pytest.raises(
            ValueError, match="expected a safetensors file, got another, or one cut short"
        ):
            fm.load(path)
    path.write_bytes(good + b"more")
    assert not load_all(path)


def test_foreign_files(tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "foreign"
    save_file({"a": torch.zeros(3)}, path)
    with pytest.raises(ValueError, match=r"expected a file that fm.save wrote"):
        fm.load(path)
    torch.save(mlp(), path)
    with pytest.raises(ValueError, match=r"expected a file that fm.save wrote, got a whole module"):
        fm.load(path)
    path.write_text("hello")
    with pytest.raises(ValueError, match="expected a safetensors file"):
        fm.load(path)


def test_flipped_bytes(good, tmp_path):
    """In the header almost everything is refused; numbers of a tensor may often be others."""
    header = 8 + struct.unpack("<Q", good[:8])[0]
    path = tmp_path / "flipped"
    taken = []

    @settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.data())
    def fuzz(data):
        content = bytearray(good)
        first, last = data.draw(st.sampled_from([(0, header - 1), (header, len(content) - 1)]))
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(first, last))] = data.draw(st.integers(0, 255))
        path.write_bytes(bytes(content))
        taken.append(load_all(path))

    fuzz()
    assert any(taken)
    assert not all(taken)


def rewrite(good: bytes, path, change_description=None, change_tensors=None) -> None:
    """Write the file again, its description or tensors changed."""
    from safetensors.numpy import load, save

    header = json.loads(good[8 : 8 + struct.unpack("<Q", good[:8])[0]])
    description = json.loads(header["__metadata__"]["fastmnist"])
    del description["checksums"]  # as files had none before: what they say would come first
    result = None
    tensors = dict(load(good))
    if change_description is not None:
        result = change_description(description)
    text = result if isinstance(result, str) else json.dumps(description)
    if change_tensors is not None:
        change_tensors(tensors)
    path.write_bytes(save(tensors, {"fastmnist": text}))


def at(description, path):
    *front, last = path
    for key in front:
        description = description[key]
    return description, last


PLACES = [
    ("format",), ("models",), ("single",),
    ("models", "static"), ("models", "static", "type"), ("models", "static", "replaced"),
    ("models", "static", "replaced", "0"), ("models", "static", "replaced", "0", "type"),
    ("models", "static", "replaced", "0", "kind"), ("models", "static", "replaced", "3"),
    ("models", "static", "replaced", "0", "pixels"),
    ("models", "static", "replaced", "0", "clamp"),
    ("models", "static", "replaced", "0", "name"),
    ("models", "static", "chain"), ("models", "static", "chain", 0),
    ("models", "static", "chain", 0, "type"), ("models", "static", "chain", 0, "path"),
    ("models", "static", "pixels"), ("models", "static", "masked"), ("models", "static", "changes"),
    ("models", "static", "class"),
    ("models", "float", "chain", 0), ("models", "float", "chain", 0, "features"),
    ("models", "float", "chain", 0, "eps"), ("models", "float", "chain", 1, "shape"),
    ("models", "float", "chain", 1, "bias"), ("models", "float", "chain", 3, "p"),
    ("models", "fused", "replaced", "1", "shape"), ("models", "fused", "replaced", "1", "clamp"),
    ("models", "pruned", "masked"), ("models", "pruned", "masked", 0),
    ("models", "net", "network"), ("models", "net", "network", "layers"),
    ("models", "net", "network", "pixels"), ("models", "net", "network", "pixels", "mean"),
    ("models", "net", "network", "pixels", "std"),
    *((("models", "graph", "graph", *rest)) for rest in (
        (), ("values",), ("values", 0), ("values", 0, "shape"),
        ("inputs",), ("inputs", 0), ("inputs", 0, "name"), ("inputs", 0, "value"),
        ("inputs", 0, "pixels"), ("inputs", 0, "any_shape"),
        ("steps",), ("steps", 0), ("steps", 0, "kind"), ("steps", 0, "name"),
        ("steps", 0, "operands"), ("steps", 0, "value"), ("steps", 0, "network"),
        ("steps", 1, "epsilon"), ("steps", 1, "kind"), ("steps", 3, "operands"),
        ("steps", 4, "function"), ("steps", 4, "clamp"), ("outputs",), ("structure",),
    )),
]  # fmt: skip
VALUES = [
    None, True, 0, -1, 3, 10**9, 10**30, 10**400, 1e308, float("nan"), float("inf"), "", "x",
    "inf", "..", "forward", [], [1], [[]], [1, 2], [2, 1], ["inf", "-inf"], [None, None],
    [10**400, 0], [12, 16], [1.0, 16.0], ["weight", "0"], [["0", "forward"]], [["", "weight"]],
    [["nothing", "weight"]], [3], {}, {"type": "identity"}, {"type": "quantized"}, {"type": "int8"},
    {"type": "linear", "path": "0", "shape": [10**9, 10**9], "bias": True},
    {"mean": [0.0] * 5, "std": [1.0] * 5}, {"mean": [0.0] * 300_000, "std": [1.0] * 300_000},
    {"mean": [float("nan")], "std": [0]}, {"mean": "x", "std": [1]}, [[0]] * 2000,
    [{"name": "0", "clamp": ["-inf", "inf"]}] * 2000,
]  # fmt: skip


# Where some of the values are as good as what was there; everywhere else none is.
FREE = {
    ("format",),  # a later one may be for readers of today, as "reader" says
    ("single",),
    ("models", "static", "replaced", "0", "clamp"),
    ("models", "static", "replaced", "0", "name"),
    ("models", "static", "chain"), ("models", "static", "pixels"),
    ("models", "static", "changes"), ("models", "static", "class"),
    ("models", "float", "chain", 0), ("models", "float", "chain", 0, "eps"),
    ("models", "float", "chain", 3, "p"), ("models", "fused", "replaced", "1", "clamp"),
    ("models", "pruned", "masked"), ("models", "net", "network", "pixels"),
    ("models", "net", "network", "pixels", "mean"), ("models", "net", "network", "pixels", "std"),
    *((("models", "graph", "graph", *rest)) for rest in (
        ("inputs", 0, "name"), ("inputs", 0, "any_shape"), ("steps", 0, "name"),
        ("steps", 1, "epsilon"), ("steps", 3, "operands"), ("steps", 4, "function"),
        ("steps", 4, "clamp"), ("outputs",),
    )),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("where", PLACES, ids=lambda p: ".".join(map(str, p)))
def test_hostile_descriptions(good, tmp_path, where):
    path = tmp_path / "hostile"
    rewrite(good, path)
    assert load_all(path)
    taken = []
    for value in VALUES:
        was = None

        def change(description, value=value):
            nonlocal was
            record, key = at(description, where)
            was, record[key] = record[key], value

        rewrite(good, path, change)
        if load_all(path) and json.dumps(was) != json.dumps(value):
            taken.append(value)
    assert bool(taken) == (where in FREE), str(taken)[:1000]

    def remove(description):
        record, key = at(description, where)
        del record[key]

    rewrite(good, path, remove)
    load_all(path)


def test_nesting_and_nonsense_instead_of_a_description(good, tmp_path):
    path = tmp_path / "hostile"
    for text in ("", "null", "3", "[]", "{", '"x"', "[" * 200_000, '{"a":' * 100_000, "1" * 10_000):
        rewrite(good, path, lambda _, text=text: text)
        with pytest.raises(ValueError, match="hostile"):
            fm.load(path)


TENSORS = [
    "static/0.weight_int8", "static/3.weight_int8", "static/0.weight_scale",
    "static/0.bias", "static/0.input_scale",
    "static/0.input_zero_point", "affine/1.input_multiplier", "affine/1.input_offset",
    "net/network.layers.0.weight_int8", "net/network.layers.1.weight_scale", "float/1.weight",
    "float/0.running_var", "fused/1.bias", "pruned/0.weight.values", "pruned/0.weight.bitmask",
]  # fmt: skip


@pytest.mark.parametrize("name", TENSORS)
def test_hostile_tensors(good, tmp_path, name):
    path = tmp_path / "hostile"
    model = name.split("/")[0]

    def write(replacement):
        def change(tensors):
            if replacement is None:
                del tensors[name]
            else:
                tensors[name] = replacement

        rewrite(good, path, None, change)

    for replacement in (
        None, np.zeros((0,), np.int8), np.zeros((0, 0), np.int8), np.zeros((4, 70_000), np.int8),
        np.zeros((16, 12), np.float64), np.zeros((3, 3, 3), np.float32),
        np.zeros((16, 12), np.bool_),
        np.zeros((), np.uint64), np.zeros((5, 5), np.int8), np.zeros((1,), np.float16),
    ):  # fmt: skip
        write(replacement)
        with pytest.raises(ValueError, match=f"model '{model}'"):
            fm.load(path)[model]


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [("static/0.input_scale", v, "scale") for v in (float("nan"), float("inf"), 0.0, -1.0, 1e-42)]
    + [("static/0.input_zero_point", v, "zero") for v in (300, -1, 2**31 - 1)]
    + [("static/3.weight_scale", v, "scale") for v in (float("nan"), float("inf"), 0.0, -1.0)]
    + [("static/0.bias", v, "bias") for v in (float("nan"), float("inf"))]
    + [("affine/1.input_multiplier", v, "multiplier") for v in (float("nan"), float("inf"))]
    + [("affine/1.input_offset", v, "offset") for v in (float("nan"), float("inf"))],
)
def test_hostile_numbers(good, tmp_path, name, value, word):
    path = tmp_path / "hostile"
    rewrite(good, path, None, lambda t: t.update({name: np.full_like(t[name], value)}))
    with pytest.raises(ValueError, match=word):
        fm.load(path)[name.split("/")[0]]


def test_extreme_but_valid_codes(good, tmp_path):
    """-128 comes from elsewhere; the kernels take it."""
    path = tmp_path / "hostile"
    name = "net/network.layers.0.weight_int8"
    rewrite(good, path, None, lambda t: t.update({name: np.full_like(t[name], -128)}))
    assert fm.load(path)["net"](X).isfinite().all()


def test_nothing_is_unpickled(tmp_path, monkeypatch):
    import pickle

    def fail(*args, **kwargs):
        raise AssertionError("unpickled")

    fm.save(tmp_path / "m", {name: make() for name, make in KINDS.items()})
    for function in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, function, fail)
    for model in fm.load(tmp_path / "m").values():
        assert model is not None


def described(path, chain, tensors):
    model = {"type": "module", "class": None, "pixels": None, "changes": [], "masked": [],
             "replaced": {}, "chain": chain}  # fmt: skip
    text = json.dumps({"format": 1, "single": False, "models": {"m": model}})
    save_file({f"m/{k}": v for k, v in tensors.items()}, path, {"fastmnist": text})
    return path


def test_long_and_empty_chains_in_files(tmp_path):
    path = tmp_path / "m.safetensors"
    flatten = {"type": "flatten", "path": "a"}
    some = np.zeros(1, np.float32)
    fm.load(described(path, [flatten] * 3000, {"x": some}))["m"]
    with pytest.raises(ValueError, match="at most"):
        fm.load(described(path, [flatten] * 5000, {"x": some}))["m"]
    linear = {"type": "linear", "path": "a", "shape": [0, 2**28], "bias": True}
    weight = np.zeros((2**28, 0), np.float32)
    with pytest.raises(ValueError, match="expected shape"):
        fm.load(described(path, [linear], {"a.weight": weight}))["m"]
