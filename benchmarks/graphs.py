"""Models that are no ReLU chains, as one native call, against ONNX Runtime and torch in eager mode.

    python -m benchmarks.graphs [--data auto] [--threads 1] [--quick] [--isa avx2] [--save]

An autoencoder 784-128-32-128-784 that ends in Sigmoid, on digits, as its speed depends on the zeros
in its rows; on random rows a residual MLP of four blocks of 128 with
LayerNorm and GELU, a tabular network with BatchNorm1d, SiLU and 50 outputs, and an actor-critic
with two heads; all of random weights, at batch 1, 32 and 1,024. ONNX Runtime is given
what torch exports, in float32, quantized statically (QDQ, per channel) and dynamically by its own
tools, by run() and by bound buffers. Every answer is checked against torch's first; times are
medians of interleaved rounds. Takes a minute and a half.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import fastmnist as fm
from benchmarks.batch_tables import batch_table
from benchmarks.command import Benchmark
from benchmarks.measure import FULL, QUICK, seconds_of, turns
from benchmarks.steps import Steps
from fastmnist.display.tables import Table
from fastmnist.measuring.timing import time_interleaved

BATCHES = (1, 32, 1024)
CALIBRATION_ROWS, PIXELS = 512, 784
# Relative root mean square error of int8 outputs, by all libraries.
MOST_ERROR = 0.1
OURS = "fastmnist static int8"
Call = Callable[[], Any]


class Block(nn.Module):
    """``x + fc2(gelu(fc1(norm(x))))``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fc1, self.fc2 = nn.Linear(width, width), nn.Linear(width, width)
        self.act = nn.GELU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.fc2(self.act(self.fc1(self.norm(x))))
        return x + y


class ActorCritic(nn.Module):
    """A trunk with a head for actions, which ends in Softmax, and one for a value."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(24, 128), nn.Tanh(), nn.Linear(128, 128), nn.Tanh())
        self.policy = nn.Sequential(nn.Linear(128, 6), nn.Softmax(dim=-1))
        self.value = nn.Linear(128, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        h = self.trunk(x)
        return self.policy(h), self.value(h)


def autoencoder() -> nn.Module:
    """784-128-32-128-784, ReLU, Sigmoid at the end."""
    widths = (784, 128, 32, 128)
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(128, 784), nn.Sigmoid())


def residual() -> nn.Module:
    """Four blocks of 128."""
    blocks = (Block(128) for _ in range(4))
    return nn.Sequential(nn.Linear(64, 128), *blocks, nn.LayerNorm(128), nn.Linear(128, 10))


def tabular() -> nn.Module:
    """100 columns to 50 outputs, BatchNorm1d before all and behind hidden layers, SiLU."""
    model = nn.Sequential(
        nn.BatchNorm1d(100),
        *(nn.Linear(100, 256), nn.BatchNorm1d(256), nn.SiLU()),
        *(nn.Linear(256, 128), nn.BatchNorm1d(128), nn.SiLU()),
        nn.Linear(128, 50),
    )
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d) and module.running_mean is not None:
            module.running_mean.normal_(0, 0.3)
            assert module.running_var is not None
            module.running_var.uniform_(0.5, 2)
    return model


MODELS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "autoencoder 784-128-32-128-784": (autoencoder, 784),
    "residual MLP, 4 blocks of 128": (residual, 64),
    "tabular 100-256-128-50": (tabular, 100),
    "actor-critic 24-128-128": (ActorCritic, 24),
}


@dataclass(frozen=True)
class Case:
    """One way to run a model: ``prepare(rows)`` gives a call that answers them."""

    name: str
    library: str
    prepare: Callable[[Any], Call]


def main() -> int:
    command = Benchmark("graphs", __doc__, "graphs")
    command.parser.add_argument("--data", default="auto", help="what the autoencoder is given")
    return command.main(run, tables)


def rows_of(width: int, data: fm.Data) -> torch.Tensor:
    """Rows to calibrate on, and behind them rows to run."""
    count = CALIBRATION_ROWS + 2048
    if width != PIXELS:
        return torch.rand(count, width)
    pixels = torch.cat([half.images.flatten(1) for half in (data.train, data.test)])
    return pixels[torch.arange(count) % len(pixels)].float() / 255


def _outputs(answer: Any) -> np.ndarray[Any, Any]:
    parts = answer if isinstance(answer, tuple | list) else (answer,)
    return np.concatenate([np.asarray(torch.as_tensor(part)).reshape(-1) for part in parts])


def our_cases(model: nn.Module, rows: torch.Tensor) -> list[Case]:
    """Ours, each as it is usually called: NumPy in, `out` given."""

    def prepare(net: fm.CompiledModel, x: Any) -> Call:
        x = np.ascontiguousarray(x)
        first = net(x)
        out = tuple(map(np.empty_like, first)) if isinstance(first, tuple) else np.empty_like(first)
        return partial(net, x, out=out)

    nets = {
        OURS: fm.compile(model, rows),
        "fastmnist dynamic int8": fm.compile(model, dynamic=True),
        "fastmnist float32": fm.compile(model),
    }
    return [Case(name, "fastmnist", partial(prepare, net)) for name, net in nets.items()]


def torch_cases(model: nn.Module) -> list[Case]:
    """Torch in eager mode, float32, and our int8 modules in it."""
    return [Case("torch eager float32", "torch", lambda x: partial(model, torch.from_numpy(x)))]


def module_cases(model: nn.Module, rows: torch.Tensor) -> list[Case]:
    """Our quantized module, called by torch."""
    q = fm.quantize(model, fm.Static(rows))
    name = "fastmnist static int8, module"
    return [Case(name, "fastmnist", lambda x: partial(q, torch.from_numpy(x)))]


def onnx_cases(model: nn.Module, rows: torch.Tensor, threads: int, folder: Path) -> list[Case]:
    """ONNX Runtime: what torch exports, and its own int8 forms of that."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    cases = []
    for name, path in _onnx_files(model, rows, folder).items():
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        library = "ONNX Runtime int8" if "int8" in name else "ONNX Runtime"
        usual = partial(_usual, session)
        cases += [
            Case(f"ONNX Runtime {name}", library, usual),
            Case(f"ONNX Runtime {name}, bound", library, partial(_bound, session)),
        ]
    return cases


def _onnx_files(model: nn.Module, rows: torch.Tensor, folder: Path) -> dict[str, Path]:
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantType,
        quantize_dynamic,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    logging.getLogger().setLevel(logging.ERROR)

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches = iter([{"x": rows.numpy()}])

        def get_next(self) -> Any:
            return next(self.batches, None)

    paths = {name: folder / f"{name}.onnx" for name in ("float32", "ready", "static", "dynamic")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (rows[:2],),
            str(paths["float32"]),
            input_names=["x"],
            dynamic_axes={"x": {0: "n"}},
            opset_version=17,
            dynamo=False,
        )
        quant_pre_process(str(paths["float32"]), str(paths["ready"]))
        quantize_static(
            str(paths["ready"]),
            str(paths["static"]),
            Reader(),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        quantize_dynamic(str(paths["ready"]), str(paths["dynamic"]), weight_type=QuantType.QInt8)
    return {
        "float32": paths["float32"],
        "static int8": paths["static"],
        "dynamic int8": paths["dynamic"],
    }


def _usual(session: Any, x: Any) -> Call:
    return partial(session.run, None, {"x": x})


def _bound(session: Any, x: Any) -> Call:
    first = session.run(None, {"x": x})
    outputs = [np.empty_like(part) for part in first]
    binding = session.io_binding()
    binding.bind_input("x", "cpu", 0, x.dtype, x.shape, x.ctypes.data)
    for described, y in zip(session.get_outputs(), outputs, strict=True):
        binding.bind_output(described.name, "cpu", 0, np.float32, y.shape, y.ctypes.data)

    def call() -> Any:
        session.run_with_iobinding(binding)
        return outputs

    return call


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure all."""
    effort = QUICK if options.quick else FULL
    torch.manual_seed(0)
    data = fm.load_dataset(options.data)
    report: dict[str, Any] = {"missing": {}, "models": [], "about": {"data": data.name}}
    with Steps(len(MODELS) * (1 + len(BATCHES))) as steps:
        for name, (make, width) in MODELS.items():
            model = make().eval().requires_grad_(False)
            rows = rows_of(width, data)
            calibration, rest = rows[:CALIBRATION_ROWS], rows[CALIBRATION_ROWS:].numpy()
            with tempfile.TemporaryDirectory() as folder:
                with steps.step(f"building {name}"):
                    cases = our_cases(model, calibration) + module_cases(model, calibration)
                    cases += torch_cases(model)
                    try:
                        cases += onnx_cases(model, calibration, options.threads, Path(folder))
                    except ImportError as error:
                        report["missing"]["ONNX Runtime"] = str(error)
                batches = []
                for batch in BATCHES:
                    with steps.step(f"{name}, batch {batch:,}"):
                        batches.append(
                            {"batch": batch, **_measure(model, cases, rest, batch, effort)}
                        )
            report["models"].append({"name": name, "batches": batches})
    return report


def _measure(
    model: nn.Module, cases: list[Case], rows: Any, batch: int, effort: Any
) -> dict[str, Any]:
    """Check, then time, all cases on some rows of that batch size."""
    starts = np.linspace(0, len(rows) - batch, 8 if batch < 100 else effort.row_sets)
    parts = [np.ascontiguousarray(rows[int(s) : int(s) + batch]) for s in starts]
    ready, failed = [], {}
    with torch.inference_mode():
        expected = [_outputs(model(torch.from_numpy(x))) for x in parts]
        for case in cases:
            calls = [case.prepare(x) for x in parts]
            wrong = max(
                float(np.linalg.norm(_outputs(call()) - want) / np.linalg.norm(want))
                for call, want in zip(calls, expected, strict=True)
            )
            if wrong > MOST_ERROR:
                failed[case.name] = f"outputs are {wrong:.1%} off"
                continue
            ready.append((case, calls, seconds_of(calls[-1])))
        rounds, per_round, warm_up = turns(sum(s for *_, s in ready), len(ready), effort)
        timings = time_interleaved(
            [calls for _, calls, _ in ready],
            rounds=rounds,
            calls_per_round=per_round,
            warm_up=warm_up,
            what=f"batch {batch:,}",
        )
    results = [
        {
            "name": case.name,
            "library": case.library,
            "microseconds": timing.p50 * 1e6,
            "slower_than_ours": 1 / timing.ratio,
        }
        for (case, *_), timing in zip(ready, timings, strict=True)
    ]
    return {"cases": results, "failed": failed}


def tables(report: dict[str, Any]) -> list[Table]:
    """One table a model."""
    made = []
    for model in report["models"]:
        batches = model["batches"]
        table = batch_table(f"{model['name']}, µs per call", batches, OURS)
        table.row("best of ONNX Runtime int8 and torch", *map(_best, batches))
        for name, why in {k: v for b in batches for k, v in b["failed"].items()}.items():
            table.note(f"{name} left out: {why}")
        made.append(table)
    return made


def _best(batch: dict[str, Any]) -> str:
    peers = [c for c in batch["cases"] if c["library"] in ("ONNX Runtime int8", "torch")]
    return f"{min(c['slower_than_ours'] for c in peers):.2f} ×" if peers else "–"


if __name__ == "__main__":
    sys.exit(main())
