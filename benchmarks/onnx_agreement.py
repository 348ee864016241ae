"""Exported to ONNX: how many test digits other runtimes decide otherwise than we do.

    python -m benchmarks.onnx_agreement [--data mnist] [--isa avx2]
        [--emulator "qemu-x86_64 -cpu Haswell-noTSX"]

784-96-256-10 is trained and exported: float32, static int8 (float and uint8 rows), weights of 4
bits, rows by their own range. ONNX Runtime and OpenVINO run the files on the whole test set; their
answers are held against ours. Where a processor has no VNNI, they add products of uint8 and int8 up
in 16 bits, where sums may saturate, unless they are told otherwise: ONNX Runtime can be. OpenVINO
heeds a variable that caps its instruction set; ONNX Runtime heeds CPUID alone, so that it is run by
an emulator where CPUID cannot be masked.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import fastmnist as fm
from benchmarks import accuracy
from fastmnist.display.tables import Table

F32 = npt.NDArray[np.float32]
Run = Callable[[Any], F32]
# By name in the report: what people call it, and what it is told.
RUNTIMES = {
    "ONNX Runtime": "as it comes",
    "ONNX Runtime, exact": "session.x64quantprecision=1",
    "OpenVINO": "as it comes",
    "OpenVINO, float32": "INFERENCE_PRECISION_HINT=f32",
}


NOT_CAPPED = "not capped here"


@dataclass(frozen=True)
class Variant:
    """A compiled model, and in which form its rows go into the file."""

    net: fm.CompiledModel
    input: str


def variants(model: fm.NeuralNetwork, data: fm.Data) -> dict[str, Variant]:
    """Make what is exported."""
    static = fm.compile(fm.quantize(model, fm.Static(data.train)))
    seven = fm.compile(fm.quantize(model, fm.Static(data.train, weight_bits=7)))
    few = fm.compile(fm.quantize(model, fm.Static(data.train, weight_bits=4)))
    dynamic = fm.compile(fm.quantize(model, fm.Dynamic()))
    return {
        "float32": Variant(fm.compile(model), "float32"),
        "static int8": Variant(static, "float32"),
        "static int8, uint8 rows": Variant(static, "uint8"),
        "weights of 7 bits": Variant(seven, "float32"),
        "weights of 4 bits": Variant(few, "float32"),
        "dynamic int8": Variant(dynamic, "float32"),
    }


def onnx_runtime(path: Path, threads: int, *, exact: bool) -> Run:
    """Open a file in ONNX Runtime."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    if exact:
        options.add_session_config_entry("session.x64quantprecision", "1")
    opened = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda rows: opened.run(None, {"input": rows})[0]


def openvino(path: Path, threads: int, *, exact: bool) -> Run:
    """Open a file in OpenVINO."""
    import openvino as ov

    config = {"INFERENCE_NUM_THREADS": str(threads)}
    if exact or "ONEDNN_MAX_CPU_ISA" in os.environ:  # it would take bfloat16 all the same, and fail
        config["INFERENCE_PRECISION_HINT"] = "f32"
    compiled = ov.Core().compile_model(str(path), "CPU", config)
    return lambda rows: np.asarray(compiled(rows)[0])


def emulated(path: Path, emulator: str, *, exact: bool) -> Run:
    """Open a file in ONNX Runtime, in a process of an emulated CPU."""

    def run(rows: Any) -> F32:
        given, answers = path.with_suffix(".rows.npy"), path.with_suffix(".answers.npy")
        np.save(given, rows)
        script = Path(__file__).with_name("onnx_emulated.py")
        arguments = [script, path, given, answers, str(int(exact))]
        environment = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}
        subprocess.run(
            [*shlex.split(emulator), sys.executable, *arguments],
            check=True, env=environment, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        made: F32 = np.load(answers)
        return made

    return run


def opened(name: str, path: Path, threads: int, emulator: str = "") -> Run:
    """Open a file in the runtime of that name."""
    if emulator and name.startswith("ONNX"):
        return emulated(path, emulator, exact="," in name)
    open_in = onnx_runtime if name.startswith("ONNX") else openvino
    return open_in(path, threads, exact="," in name)


def measure(model: fm.NeuralNetwork, data: fm.Data, options: argparse.Namespace) -> dict[str, Any]:
    """Hold every runtime's answers against ours."""
    images, labels = data.test.images.reshape(-1, 784).numpy(), data.test.labels.numpy()
    real = (images / np.float32(255)).astype(np.float32)
    made: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, variant in variants(model, data).items():
            path = fm.export_onnx(variant.net, Path(folder, "net.onnx"), input=variant.input)
            rows = images if variant.input == "uint8" else real
            ours = variant.net(rows)
            back = fm.compile(fm.import_onnx(path), plan="fixed")(rows)
            made[name] = {
                "bytes": path.stat().st_size,
                "accuracy": float((ours.argmax(1) == labels).mean()),
                "comes_back": bool(np.array_equal(back, ours)),
                "runtimes": {
                    runtime: _held_against(ours, labels, runtime, path, rows, options)
                    for runtime in RUNTIMES
                },
            }
    return {"variants": made, "emulator": options.emulator}


def _held_against(
    ours: F32, labels: Any, runtime: str, path: Path, rows: Any, options: argparse.Namespace
) -> dict[str, Any]:
    if runtime.startswith("ONNX") and "FASTMNIST_ISA" in os.environ and not options.emulator:
        return {"error": NOT_CAPPED}  # CPUID could not be masked, and it knows no variable
    try:
        theirs = opened(runtime, path, options.threads, options.emulator)(rows)
    except Exception as error:  # a runtime that cannot read a file is a result, too
        return {"error": f"{type(error).__name__}: {error}".splitlines()[0][:200]}
    if theirs.shape != ours.shape:
        return {"error": f"gave shape {[*theirs.shape]}"}
    return {
        "otherwise": int((theirs.argmax(1) != ours.argmax(1)).sum()),
        "apart": float(np.abs(theirs - ours).max()),
        "accuracy": float((theirs.argmax(1) == labels).mean()),
    }


def table(report: dict[str, Any]) -> Table:
    """Lay a report out: a row a variant, two columns a runtime."""
    about = report["about"]
    head = ["what is exported", "file", "accuracy here"]
    made = Table(
        f"Of {about['n']:,} test digits of {about['data']}: how many are decided otherwise, and "
        "the largest difference of an output",
        [*head, *RUNTIMES],
    )
    for name, variant in report["variants"].items():
        cells = [f"{variant['bytes'] / 1024:,.0f} KB", f"{variant['accuracy']:.2%}"]
        made.row(name, *cells, *(_cell(variant["runtimes"][runtime]) for runtime in RUNTIMES))
    versions = about["versions"]
    told = "; ".join(f"{name}: {how}" for name, how in RUNTIMES.items())
    made.note(f"onnxruntime {versions['onnxruntime']}, openvino {versions['openvino']}; {told}")
    cells = [found for variant in report["variants"].values()
             for found in variant["runtimes"].values()]  # fmt: skip
    if any(found.get("error") == NOT_CAPPED for found in cells):
        made.note("–: this system cannot mask CPUID, and ONNX Runtime has no variable for it")
    if report["emulator"]:
        made.note(f"ONNX Runtime runs under {report['emulator']}")
    if all(variant["comes_back"] for variant in report["variants"].values()):
        made.note("fm.import_onnx of each file, compiled, gives the exported model's bits")
    return made


def _cell(found: dict[str, Any]) -> str:
    if "error" in found:
        return "–" if found["error"] == NOT_CAPPED else "cannot run it"
    return f"{found['otherwise']}, {found['apart']:.2g}"


def main() -> int:
    add = {"--emulator": {"default": "", "help": "what runs ONNX Runtime: a command of qemu's"}}
    return accuracy.main(
        "onnx", __doc__, measure, lambda report: [table(report)], "onnx_agreement", add
    )


if __name__ == "__main__":
    sys.exit(main())
