"""Files of earlier versions load, and answer what they answered then: for ever, in CI.

int8 layers give the same bits. Layers in float run torch's own kernels, whose rounding depends on
the CPU: there the stored numbers are held to a few roundings of float32 (of bfloat16 in ``half``).
"""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

import fastmnist as fm
from golden import CLASSES, FLOAT, FORMAT1, KINDS, folder_of, load


def assert_answers(kind: str, got: torch.Tensor, want: torch.Tensor) -> None:
    if kind in FLOAT:
        assert (got - want).abs().max() <= FLOAT[kind] * want.abs().max()
    else:
        assert torch.equal(got.view(torch.int32), want.view(torch.int32))


def test_all_kinds_are_there():
    assert len(KINDS) == 38 + 5 + 12 + 9
    assert set(CLASSES) <= set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_it_answers_as_it_did(kind, isa):
    stored = load_file(folder_of(kind) / f"{kind}.rows.safetensors")
    model = load(kind)
    with torch.no_grad():
        assert_answers(kind, torch.as_tensor(model(stored["rows"])), stored["outputs"])
        if "pixels" in stored:
            answer = torch.as_tensor(model(stored["pixels"]))
            assert_answers(kind, answer, stored["pixel_outputs"])


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_saved_again_and_answers_the_same(kind, tmp_path):
    stored = load_file(folder_of(kind) / f"{kind}.rows.safetensors")
    model = load(kind)
    fm.save(tmp_path / "again.safetensors", model)
    into = CLASSES[kind]().eval() if kind in CLASSES else None
    again = fm.load(tmp_path / "again.safetensors", into=into)
    with torch.no_grad():
        first, second = (torch.as_tensor(m(stored["rows"])) for m in (model, again))
    assert torch.equal(first, second)


def test_several_models_in_one_file():
    stored = load_file(FORMAT1 / "several.rows.safetensors")
    loaded = fm.load(FORMAT1 / "several.safetensors")
    assert [*loaded] == ["original", "int8"]
    with torch.no_grad():
        assert_answers("chain-float", loaded["original"](stored["rows"]), stored["original"])
    assert_answers("int8", loaded["int8"](stored["rows"]), stored["int8"])


RUNTIME = ("chain-", "compiled-", "compressed-", "indexed-")


@pytest.mark.parametrize("kind", [k for k in KINDS if k.startswith(RUNTIME)])
def test_the_runtime_reads_chains_of_int8(kind):
    from fastmnist import runtime

    stored = load_file(folder_of(kind) / f"{kind}.rows.safetensors")
    if kind in FLOAT and "program" not in kind:
        with pytest.raises(ValueError, match="torch"):
            runtime.load(folder_of(kind) / f"{kind}.safetensors")
        return
    path = folder_of(kind) / f"{kind}.safetensors"
    answer = runtime.load(path)(stored["rows"].numpy())
    assert_answers(kind, torch.from_numpy(answer), stored["outputs"])
