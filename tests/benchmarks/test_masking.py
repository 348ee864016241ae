"""A process that takes this CPU for a smaller one: everybody in it does, and answers stay right."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

import fastmnist as fm
from benchmarks.masking.processes import (
    TOLD,
    call_masked,
    masked_command,
    masked_environment,
    native_isa,
    refusal,
)

ISAS = [rung["isa"] for rung in fm.cpu_info()["ladder"]]
MODEL = """
import numpy as np, torch
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(100, 40), torch.nn.ReLU(), torch.nn.Linear(40, 10))
rows = np.random.default_rng(0).integers(0, 256, (33, 100)).astype(np.uint8)
import fastmnist as fm
# On the same codes: torch's float sums differ from one instruction set to the other.
quantized = fm.quantize(model.eval(), fm.Static(torch.from_numpy(rows), mean=0.0, std=1.0))
net = fm.compile(quantized)
"""
REPORT = """
import hashlib, json, threading
isas = []
thread = threading.Thread(target=lambda: isas.append(fm.cpu_info()["ladder"]))
thread.start(); thread.join()
from numpy._core._multiarray_umath import __cpu_features__ as features
print(json.dumps({
    "isa": fm.cpu_info()["isa"],
    "thread": [rung["isa"] for rung in isas[0] if not rung["why_not"]][0],
    "torch": torch.backends.cpu.get_cpu_capability(),
    "numpy": sorted(n for n, has in features.items() if has and n.startswith("AVX512")),
    "outputs": hashlib.sha256(net(rows).tobytes()).hexdigest(),
}))
"""


def run(isa: str, code: str, *options: str) -> subprocess.CompletedProcess[str]:
    command, environment = masked_command(isa, [sys.executable, *options, "-c", code])
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture
def masked() -> str:
    """Give the set to mask to; skip where the CPU has no more, or CPUID can't be masked."""
    if TOLD in os.environ or native_isa() in ("avx2", "scalar"):
        pytest.skip("this CPU has no more than AVX2")
    if refusal():
        pytest.skip(f"CPUID cannot be masked here: {refusal()}")
    return "avx2"


@pytest.mark.slow
def test_everybody_in_the_process_believes_it_and_computes_the_same(masked):
    ran = run(masked, MODEL + REPORT)
    assert ran.returncode == 0, ran.stderr
    report = json.loads(ran.stdout)
    assert report["isa"] == report["thread"] == masked
    assert report["torch"] == "AVX2"
    assert report["numpy"] == []
    made: dict[str, object] = {}
    exec(MODEL, made)
    outputs = made["net"](made["rows"])  # type: ignore[operator]
    assert report["outputs"] == hashlib.sha256(outputs.tobytes()).hexdigest()


def test_only_amx_is_left_out_for_avx512_vnni(masked):
    if native_isa() != "amx_int8":
        pytest.skip("this CPU has no AMX")
    ran = run("avx512_vnni", "from fastmnist import _core; print(_core.cpu_info()['isa'])")
    assert ran.stdout.strip() == "avx512_vnni", ran.stderr


def test_a_child_of_the_process_is_masked_too(masked):
    code = (
        "import subprocess, sys; subprocess.run([sys.executable, '-c', "
        "\"from fastmnist import _core; print(_core.cpu_info()['isa'])\"])"
    )
    assert run(masked, code).stdout.strip() == masked


def test_other_faults_end_the_process_as_ever(masked):
    ran = run(masked, "import ctypes; ctypes.string_at(0)")
    assert ran.returncode == -signal.SIGSEGV


def test_handlers_of_others_are_called_for_other_faults(masked):
    ran = run(masked, "import ctypes; ctypes.string_at(0)", "-X", "faulthandler")
    assert ran.returncode == -signal.SIGSEGV
    assert "Segmentation fault" in ran.stderr
    assert "string_at" in ran.stderr


def test_a_handler_installed_later_leaves_cpuid_masked(masked):
    code = """
import os, signal
signal.signal(signal.SIGSEGV, lambda *_: print("caught", flush=True))
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGSEGV, signal.SIGUSR1})
from fastmnist import _core
print(_core.cpu_info()["isa"], flush=True)
os.kill(os.getpid(), signal.SIGSEGV)
"""
    ran = run(masked, code)
    assert ran.stdout.split() == [masked, "caught"], ran.stderr


def test_an_unknown_set_is_refused_by_the_library(masked):
    environment = os.environ | masked_environment(masked) | {"FASTMNIST_MASK_CPUID": "mmx"}
    ran = subprocess.run(
        [sys.executable, "-c", ""], env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 125
    assert "expected avx2 or avx512_vnni" in ran.stderr


def test_where_cpuid_cannot_be_masked_the_report_says_so(monkeypatch):
    if native_isa() in ("avx2", "scalar"):
        pytest.skip("this CPU has no more than AVX2")
    monkeypatch.delenv(TOLD, raising=False)
    monkeypatch.setattr("benchmarks.masking.processes.refusal", lambda: "no such call")
    made = masked_environment("avx2")
    assert made["FASTMNIST_ISA"] == made["ATEN_CPU_CAPABILITY"] == "avx2"
    assert "LD_PRELOAD" not in made
    told = json.loads(made[TOLD])
    assert (told["as"], told["native"]) == ("avx2", native_isa())
    assert "do not heed" in told["by"]
    assert "no such call" in told["by"]


def test_what_the_cpu_has_anyway_needs_no_mask(monkeypatch):
    monkeypatch.delenv(TOLD, raising=False)
    assert masked_environment(native_isa()) == {}
    assert call_masked(native_isa(), "benchmarks.dense", []) is None
    assert call_masked(None, "benchmarks.dense", []) is None


def test_more_than_the_cpu_has_is_refused():
    if native_isa() == ISAS[0]:
        pytest.skip("this CPU has all that there is")
    with pytest.raises(ValueError, match="which this CPU has"):
        masked_environment(ISAS[0])


def test_the_model_answers_at_all():
    made: dict[str, object] = {}
    exec(MODEL, made)
    outputs = made["net"](made["rows"])  # type: ignore[operator]
    with torch.inference_mode():
        x = torch.from_numpy(made["rows"]).float() / 255  # type: ignore[arg-type]
        expected = made["model"](x).numpy()  # type: ignore[operator]
    assert np.linalg.norm(outputs - expected) < 0.05 * np.linalg.norm(expected)
