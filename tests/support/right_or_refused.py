"""What must hold of a transformed model, whatever the model: right, or refused with advice."""

from __future__ import annotations

import copy
import pickle
import re
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from c_library import assert_answers_like
from random_models import Drawn
from torch import Tensor, nn

import fastmnist as fm
from fastmnist.layers.native import Native
from fastmnist.measuring.sqnr import sqnr
from fastmnist.rewriting.graph import Graph
from fastmnist.rewriting.steps import Kind

# Words with which a refusal tells what to do.
_ADVICE = re.compile(
    r"\b(assign|call|calibrate|define|exclude|flatten|give|leave|let|load|make|pass|reach|remove|set"
    r"|use)\b|exclude=|fm\.\w"
)
FUSED, INT8, FEW, SAME, HALF = 100.0, 20.0, 8.0, 80.0, 25.0
FLOAT, COMPILED = 90.0, 60.0


class Refusals(Counter[str]):
    """Which transforms refused how many models."""


def run(model: Callable[..., Any], rows: tuple[Tensor, ...]) -> Tensor:
    """All outputs, as one flat tensor."""
    with torch.no_grad():
        outputs = model(*rows)
    if isinstance(outputs, dict):
        outputs = tuple(outputs.values())
    parts = outputs if isinstance(outputs, tuple) else (outputs,)
    return torch.cat([torch.as_tensor(part).double().flatten() for part in parts])


def noise_floor(drawn: Drawn, bits: int = 8) -> float:
    """dB that the float model keeps under noise of the size of int8's roundings.

    With fewer `bits` for weights, as where the largest one has the largest code.

    Models that cancel, or saturate, lose more than others; what is asked of int8 depends on it.
    """
    want = run(drawn.make(), drawn.rows)
    found = []
    ranges = input_ranges(drawn)
    for draw in range(5):
        generator = torch.Generator().manual_seed(draw)
        noisy = drawn.make()
        steps = {
            module: ranges[name] / 255 for name, module in noisy.named_modules() if name in ranges
        }

        def disturb(
            layer: nn.Module,
            args: tuple[Tensor, ...],
            generator: torch.Generator = generator,
            steps: dict[nn.Module, float] = steps,
        ) -> Any:
            noise = torch.rand(args[0].shape, generator=generator) - 0.5
            return (args[0] + steps[layer] * noise,)

        for module in {id(m): m for m in noisy.modules() if isinstance(m, nn.Linear)}.values():
            with torch.no_grad():
                step = module.weight.abs().amax(1, keepdim=True) / (2 ** (bits - 1) - 1)
                own = torch.rand(module.weight.shape, generator=generator) - 0.5
                module.weight = nn.Parameter(module.weight + step * own)
            module.register_forward_pre_hook(disturb)
        found.append(sqnr(want, run(noisy, drawn.rows)))
    return min(found)


def input_ranges(drawn: Drawn) -> dict[str, float]:
    """The width of the range of each layer's inputs, over all its calls."""
    model, found = drawn.make(), dict[str, tuple[float, float]]()
    handles = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):

            def note(layer: nn.Module, args: tuple[Tensor, ...], name: str = name) -> None:
                lo, hi = found.get(name, (0.0, 0.0))
                found[name] = min(lo, float(args[0].min())), max(hi, float(args[0].max()))

            handles.append(module.register_forward_pre_hook(note))
    run(model, drawn.rows)
    return {name: hi - lo for name, (lo, hi) in found.items()}


def close(want: Tensor, got: Tensor, floor: float, what: str) -> None:
    """Both outputs are alike, to so many dB."""
    assert want.shape == got.shape, f"{what}: {[*got.shape]} outputs, expected {[*want.shape]}"
    quality = sqnr(want, got)
    assert quality >= floor, f"{what}: {quality:.1f} dB, expected at least {floor:.1f}"


class Checks:
    """Every check of one model; `refused` counts the refusals."""

    def __init__(self, drawn: Drawn, refused: Refusals) -> None:
        self.drawn, self.refused = drawn, refused
        self.model = drawn.make()
        self.want = run(self.model, drawn.rows)
        self.int8 = min(INT8, noise_floor(drawn) - 6)
        self.few = min(FEW, noise_floor(drawn, bits=4) - 6)
        rows = drawn.rows
        both = dict(zip(("x", "other"), rows, strict=False))
        self.calibration = rows[0] if len(rows) == 1 else both

    def all(self) -> None:
        state = copy.deepcopy(self.model.state_dict())
        self._fuse()
        for name, way in self._quantizers(8).items():
            self._quantize(name, way, self.int8)
        for name, way in self._quantizers(4).items():
            self._quantize(f"{name}, 4 bits", way, self.few)
        self._half()
        self._prune()
        self._shrink()
        self._remove_empty()
        self._factorize()
        for scope in ("layer", "channel"):
            self._cluster(scope)
        self._compile()
        after = self.model.state_dict()
        assert all(torch.equal(after[key], value) for key, value in state.items()), "input changed"
        assert torch.equal(run(self.model, self.drawn.rows), self.want), "input model changed"

    def attempt(self, what: str, way: Callable[[], Any]) -> Any:
        """The result, or None where it was refused as it should be."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return way()
        except (TypeError, ValueError) as error:
            text = " ".join(str(error).split())
            assert _ADVICE.search(text), f"{what}: refused without advice: {text}"
            self.refused[what] += 1
            return None

    def _runs(self, result: Any) -> Any:
        """Run it once: a folded norm refuses rows of a shape that nobody told of."""
        run(result, self.drawn.rows)
        return result

    # ---- transforms ------------------------------------------------------------------------------

    def _fuse(self) -> None:
        result = self.attempt("fuse", lambda: self._runs(fm.fuse(self.model)))
        if result is not None:
            close(self.want, run(result, self.drawn.rows), FUSED, "fuse")
            self._travels("fuse", result)

    def _quantizers(self, bits: int) -> dict[str, Callable[[], nn.Module]]:
        def aware() -> nn.Module:
            how = fm.QAT("minmax", weight_bits=bits)
            prepared = fm.prepare_qat(self.model, how).train()
            for module in prepared.modules():
                if isinstance(module, nn.BatchNorm1d | nn.Dropout):
                    module.eval()
            run(prepared, self.drawn.rows)
            return fm.convert(prepared)

        def prepared() -> nn.Module:
            watching = fm.prepare(self.model, fm.Static(weight_bits=bits))
            run(watching, self.drawn.rows)
            return fm.convert(watching)

        return {
            "Dynamic": lambda: fm.quantize(self.model, fm.Dynamic(weight_bits=bits)),
            "Static": lambda: fm.quantize(
                self.model, fm.Static(self.calibration, weight_bits=bits)
            ),
            "prepare": prepared,
            "QAT": aware,
        }

    def _quantize(self, name: str, way: Callable[[], nn.Module], floor: float) -> None:
        result = self.attempt(name, lambda: self._runs(way()))
        if result is None:
            return
        close(self.want, run(result, self.drawn.rows), floor, name)
        assert any("int8" in str(change) for change in fm.changes(result)), f"{name}: no int8"
        self._travels(name, result)
        self._compile_quantized(name, result)

    def _compile_quantized(self, name: str, result: nn.Module) -> None:
        """Bit for bit what the module gives, but for what torch computes in it."""
        what = f"compile({name})"
        net = self.attempt(what, lambda: self._runs(fm.compile(result, example=self.drawn.rows)))
        if net is None:
            return
        got, want = run(net, self.drawn.rows), run(result, self.drawn.rows)
        if not computed_by_torch(result):
            assert torch.equal(got, want), f"{what}: other bits"
        close(want, got, COMPILED, what)
        self._compiled_travels(what, net)

    def _half(self) -> None:
        result = self.attempt("Half", lambda: self._runs(fm.quantize(self.model, fm.Half())))
        if result is not None:
            close(self.want, run(result, self.drawn.rows), min(HALF, self.int8), "Half")
            self._travels("Half", result)

    def _prune(self) -> None:
        method = fm.L1Unstructured(0.4)
        result = self.attempt("prune", lambda: fm.prune(self.model, method))
        if result is None:
            return
        reference = self.drawn.make()
        mine = dict(result.named_modules(remove_duplicate=False))
        for name, layer in reference.named_modules(remove_duplicate=False):
            if isinstance(layer, nn.Linear):
                # A tensor of its own: a mask is of one use.
                layer.weight = nn.Parameter(mine[name].weight.detach().clone())
        want = run(reference, self.drawn.rows)
        close(want, run(result, self.drawn.rows), SAME, "prune")
        self._travels("prune", result)
        quantized = self.attempt(
            "prune+Dynamic", lambda: self._runs(fm.quantize(result, fm.Dynamic()))
        )
        if quantized is not None:
            floor = min(self.int8, 15.0)
            close(want, run(quantized, self.drawn.rows), floor, "prune+Dynamic")

    def _shrink(self) -> None:
        shrunk = fm.Structured(0.4)
        result = self.attempt("Structured", lambda: self._runs(fm.prune(self.model, shrunk)))
        if result is None:
            return
        reference = self.drawn.make()
        for name, layer in reference.named_modules():
            smaller = result.get_submodule(name)
            if isinstance(layer, nn.Linear) and smaller.in_features < layer.in_features:
                gone = columns_gone(layer.weight.detach(), smaller.weight.detach())
                with torch.no_grad():
                    layer.weight[:, gone] = 0
        close(run(reference, self.drawn.rows), run(result, self.drawn.rows), SAME, "Structured")
        self._travels("Structured", result)

    def _remove_empty(self) -> None:
        method = fm.L1Unstructured(0.9)

        def removed() -> nn.Module:
            return self._runs(fm.prune(self.model, method, remove_empty=True))

        small = self.attempt("remove_empty", removed)
        if small is None:
            return
        whole = fm.prune(self.model, method)
        got = run(small, self.drawn.rows)
        close(run(whole, self.drawn.rows), got, SAME, "remove_empty")
        self._travels("remove_empty", small)

    def _factorize(self) -> None:
        def thin() -> nn.Module:
            return self._runs(fm.factorize(self.model, fm.LowRank(ratio=0.7), self.calibration))

        result = self.attempt("factorize", thin)
        if result is None:
            return
        reference = self.drawn.make()
        mine = dict(result.named_modules(remove_duplicate=False))
        for name, layer in reference.named_modules(remove_duplicate=False):
            if isinstance(layer, nn.Linear):
                for key in ("weight", "bias"):
                    own = getattr(mine[name], key)
                    if own is not None:
                        setattr(layer, key, nn.Parameter(own.detach().clone()))
        want = run(reference, self.drawn.rows)
        close(want, run(result, self.drawn.rows), SAME, "factorize")
        self._travels("factorize", result)
        quantized = self.attempt(
            "factorize+Dynamic", lambda: self._runs(fm.quantize(result, fm.Dynamic()))
        )
        if quantized is not None:
            floor = min(self.int8, 15.0)
            close(want, run(quantized, self.drawn.rows), floor, "factorize+Dynamic")
            self._travels("factorize+Dynamic", quantized)

    def _cluster(self, scope: str) -> None:
        name, config = f"cluster by {scope}", fm.Clusters(3, scope=scope)
        result = self.attempt(name, lambda: self._runs(fm.cluster(self.model, config)))
        if result is None:
            return
        reference = self.drawn.make()
        mine = dict(result.named_modules(remove_duplicate=False))
        for path, layer in reference.named_modules(remove_duplicate=False):
            if isinstance(layer, nn.Linear):
                layer.weight = nn.Parameter(mine[path].weight.detach().clone())
        want = run(reference, self.drawn.rows)
        close(want, run(result, self.drawn.rows), SAME, name)
        self._travels(name, result)
        back = run(fm.uncluster(result), self.drawn.rows)
        close(self.want, back, SAME, f"uncluster({name})")
        quantized = self.attempt(
            f"{name}+Dynamic", lambda: self._runs(fm.quantize(result, fm.Dynamic()))
        )
        if quantized is not None:
            floor = min(self.int8, 15.0)
            close(want, run(quantized, self.drawn.rows), floor, f"{name}+Dynamic")
            self._travels(f"{name}+Dynamic", quantized)

    def _compile(self) -> None:
        rows = self.drawn.rows
        ways: dict[str, tuple[Callable[[], fm.CompiledModel], float]] = {
            "compile": (lambda: fm.compile(self.model, example=rows), FLOAT),
            "compile, static": (lambda: fm.compile(self.model, self.calibration), self.int8),
            "compile, dynamic": (
                lambda: fm.compile(self.model, dynamic=True, example=rows), self.int8
            ),
        }  # fmt: skip
        for name, (way, floor) in ways.items():
            net = self.attempt(name, lambda way=way: self._runs(way()))  # type: ignore[misc]
            if net is not None:
                close(self.want, run(net, rows), floor, name)
                self._compiled_travels(name, net)

    def _compiled_travels(self, name: str, net: fm.CompiledModel) -> None:
        rows, want = self.drawn.rows, run(net, self.drawn.rows)
        again = pickle.loads(pickle.dumps(net))
        assert torch.equal(run(again, rows), want), f"{name}: other bits after pickle"
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "net.safetensors")
            fm.save(path, net)
            assert torch.equal(run(fm.load(path), rows), want), f"{name}: other bits after load"
            assert_answers_like(net, *(x.numpy() for x in rows))

    # ---- what every result must survive ----------------------------------------------------------

    def _travels(self, name: str, result: nn.Module) -> None:
        """Copies, pickles and files compute the same bits."""
        rows, want = self.drawn.rows, run(result, self.drawn.rows)
        assert torch.equal(run(copy.deepcopy(result), rows), want), f"{name}: deepcopy"
        pickled = self._pickled(result)
        if pickled is not None:
            assert torch.equal(run(pickled, rows), want), f"{name}: pickle"
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "model.safetensors")
            saved = self.attempt(f"save({name})", lambda: fm.save(path, result) or True)
            if saved is None:
                return
            loaded = self.attempt(f"load({name})", lambda: fm.load(path, into=self.drawn.make()))
            if loaded is not None:
                assert torch.equal(run(loaded, rows), want), f"{name}: load(into=)"
            alone = self.attempt(f"load alone({name})", lambda: fm.load(path))
            if alone is not None:
                assert torch.equal(run(alone, rows), want), f"{name}: load"

    def _pickled(self, result: nn.Module) -> nn.Module | None:
        try:
            pickle.loads(pickle.dumps(self.model))
        except (AttributeError, pickle.PicklingError):
            return None  # a function of the user's own, that pickle knows no name of
        again: nn.Module = pickle.loads(pickle.dumps(result))
        return again


def computed_by_torch(model: nn.Module) -> bool:
    """Whether some of its steps are rounded by torch: functions that forward calls, float layers.

    Adding, multiplying and moving numbers, and clamping them, is the same everywhere.
    """
    graph, _ = Graph.of(model)
    if graph is None:
        return True
    exact = {Kind.INPUT, Kind.OUTPUT, Kind.INT8, Kind.CLAMP, Kind.ARITHMETIC, Kind.FLATTEN,
             Kind.ROWS, Kind.SIZES, Kind.PASS, Kind.DROPOUT}  # fmt: skip
    moves = {"cat", "getitem", "transpose", "permute", "chunk", "split", "unsqueeze", "squeeze"}
    return not all(
        step.kind in exact or step.function in moves or isinstance(step.module, Native)
        for step in graph.steps
    )


def columns_gone(weight: Tensor, smaller: Tensor) -> Tensor:
    """Which columns a shrunk layer no longer reads: numbers that were drawn are found by value."""
    (rows, columns) = torch.nonzero(weight == smaller[0, 0], as_tuple=True)
    assert len(rows) == 1, "not the only one of its value"
    left = torch.isin(weight[rows[0]], smaller[0])
    assert int(left.sum()) == smaller.shape[1]
    assert bool(left[columns[0]])
    return ~left
