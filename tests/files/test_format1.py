"""Files of format 1 that were damaged: ValueError, never anything else."""

from __future__ import annotations

import json
import struct

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fastmnist as fm
from golden import FORMAT1
from golden import load as load_golden

KINDS = [
    "chain-static", "chain-affine", "recurrent-lstm", "compiled-affine", "pruned-static",
    "module-static",
]  # fmt: skip
VALUES = [None, True, 0, -1, 3, "", "x", "0", "3", "{i}", "{", [], [1], [[]], {}, [{}], 10**30]


def description_of(content: bytes) -> tuple[dict, bytes]:
    size = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + size]), content[8 + size :]


def load(kind, path=None) -> bool:
    try:
        load_golden(kind, path)
    except ValueError:
        return False
    return True


def places(value, at=()):
    yield at
    items = value.items() if isinstance(value, dict) else ()
    items = enumerate(value) if isinstance(value, list) else items
    for key, part in items:
        yield from places(part, (*at, key))


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_may_hold_anything(kind, tmp_path):
    content = (FORMAT1 / f"{kind}.safetensors").read_bytes()
    header, tensors = description_of(content)
    told = json.loads(header["__metadata__"]["fastmnist"])
    path, taken = tmp_path / "damaged", []
    assert load(kind)

    @settings(max_examples=300, deadline=None)
    @given(st.sampled_from([*places(told)][1:]), st.sampled_from(VALUES), st.booleans())
    def damage(place, value, remove):
        changed = json.loads(json.dumps(told))
        owner = changed
        for key in place[:-1]:
            owner = owner[key]
        if remove:
            del owner[place[-1]]
        else:
            owner[place[-1]] = value
        header["__metadata__"]["fastmnist"] = json.dumps(changed)
        text = json.dumps(header).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + tensors)
        taken.append(load(kind, path))

    damage()
    assert not all(taken)


def test_what_is_loaded_is_written_in_todays_form(tmp_path):
    path = tmp_path / "again.safetensors"
    fm.save(path, fm.load(FORMAT1 / "chain-static.safetensors"))
    header, _ = description_of(path.read_bytes())
    told = json.loads(header["__metadata__"]["fastmnist"])
    assert told["format"] == 2
    replaced = told["models"]["model"]["replaced"]
    assert [part["type"] for part in replaced.values()].count("int8") == 3
    assert {key.split("/")[1] for key in header if "/" in key} >= {"0.weight_int8", "0.bias"}


def test_a_later_format_is_refused(tmp_path):
    content = (FORMAT1 / "chain-static.safetensors").read_bytes()
    header, tensors = description_of(content)
    told = json.loads(header["__metadata__"]["fastmnist"])
    told["format"] = 3
    header["__metadata__"]["fastmnist"] = json.dumps(told)
    text = json.dumps(header).encode()
    (tmp_path / "later").write_bytes(struct.pack("<Q", len(text)) + text + tensors)
    with pytest.raises(ValueError, match="format: expected 1 or 2, got 3"):
        fm.load(tmp_path / "later")
    assert torch.is_tensor(fm.load(FORMAT1 / "chain-static.safetensors")[0].weight_int8)
