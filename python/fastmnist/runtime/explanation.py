"""What a compiled network runs, as a table. Free of torch."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import fastmnist._core as _core
from fastmnist.int8.network import ZEROS_OF, QuantizedLayer, QuantizedNetwork
from fastmnist.runtime.break_even import break_even, shapes_of
from fastmnist.runtime.cpu import sparse_note
from fastmnist.runtime.layer_table import LayerTable, LayerTime
from fastmnist.runtime.limits import SKIPS_ZEROS, Limits
from fastmnist.runtime.measurements import note
from fastmnist.runtime.packing import Packed, pack
from fastmnist.runtime.planning import ROWS, Plan, Times, layer_times, pack_and_plan

_ABOUT = ("layer", "shape", "activation", "input", "weights")
_FASTER = "*"  # marks the ratio of a kernel that is faster
_MEASURED = ("rows", "kernel", "tile", "µs", "of limit")
_SPARSE = ("dense µs", "sparse µs", "sparse pays from")
_OTHERS = "others: × slower"
_MOST_OTHERS = 3
_UNKNOWN = "–"
_NIBBLE_VALUES = 16
_WORTH_ASKING = 0.3  # share of zeros from which layers are told about sparse kernels


def explained(network: QuantizedNetwork, plan: Plan, rows: Sequence[int]) -> LayerTable:
    """See :meth:`fastmnist.CompiledModel.explain`."""
    return explained_parts(
        [(network, plan)],
        rows,
        f"{network.inputs} → {network.outputs}, {network.kind}, plan: {plan.mode}, "
        f"kernels up to {_core.cpu_info()['isa']}, blocks of {plan.block_rows} rows",
    )


def explained_parts(
    parts: Sequence[tuple[QuantizedNetwork, Plan]], rows: Sequence[int], title: str
) -> LayerTable:
    """A line per layer and batch, of one network or of several that are parts of a graph."""
    rows = checked_rows(rows)
    isa = _core.cpu_info()["isa"]
    # With all forms of weights, including those that the plan does not use.
    packed = [pack(network) for network, _ in parts]
    ruled = [pack_and_plan(network, "fixed")[1] for network, _ in parts]
    kept = [plan.made_for == own.made_for for (_, plan), own in zip(parts, ruled, strict=True)]
    plans = [
        plan if as_made else own for (_, plan), own, as_made in zip(parts, ruled, kept, strict=True)
    ]
    networks = [network for network, _ in parts]
    zeros = [[float((la.weight == 0).mean()) for la in network.layers] for network in networks]
    asks = max(max(shares) for shares in zeros) >= _WORTH_ASKING
    pruned = asks and has_sparse_kernels()
    table = LayerTable(title, [*_ABOUT, *_MEASURED, *(_SPARSE if pruned else ()), _OTHERS])
    limits = Limits.measured(isa)
    timed = [
        [layer_times(whole, i) for i in range(len(network.layers))]
        for network, whole in zip(networks, packed, strict=True)
    ]
    for network, times_of, shares in zip(networks, timed, zeros, strict=True):
        for layer, by_class, share in zip(network.layers, times_of, shares, strict=True):
            limits.learn(layer, share, by_class)
    marked = False
    totals = {n: [0.0, 0.0] for n in rows}
    for network, plan, times_of, shares in zip(networks, plans, timed, zeros, strict=True):
        for i, (layer, shape) in enumerate(zip(network.layers, shapes_of(network), strict=True)):
            by_class = times_of[i]
            about = [layer.name, f"{layer.inputs} → {layer.outputs}", layer.activation or "none"]
            about += [input_rule(network, i), _weights(layer, shares[i])]
            even = break_even(shape) if pruned and shares[i] >= _WORTH_ASKING else {}
            for n in rows:
                c = next((c for c, most in enumerate(ROWS) if n <= most), len(ROWS) - 1)
                chosen, times = plan.kernels[i][c], by_class[c]
                least = limits.least(limits.work(layer, shares[i], ROWS[c], chosen))
                totals[n] = [totals[n][0] + times[chosen], totals[n][1] + least]
                others = _others(times, chosen)
                marked = marked or _FASTER in others
                table.times.append(
                    LayerTime(layer.name, _rows_told(n), _shown(chosen), times[chosen])
                )
                table.row(
                    *about,
                    _rows_told(n),
                    chosen.isa,
                    _tile(chosen),
                    f"{times[chosen]:,.2f}",
                    _of_limit(least, times[chosen]),
                    *(_sparse_cells(times, even.get(ROWS[c])) if pruned else ()),
                    others,
                )
                about = [""] * len(about)
    for i, (n, (time, least)) in enumerate(totals.items()):
        cells = dict.fromkeys(table.columns, "")
        cells |= {"layer": "total" if i == 0 else "", "rows": _rows_told(n)}
        cells |= {"µs": f"{time:,.2f}", "of limit": _of_limit(least, time)}
        table.row(*cells.values())
    table.part("what runs", {name: name for name in ("shape", "rows", *_MEASURED[1:])})
    table.part("layers", {name: name for name in _ABOUT[2:]})
    if pruned:
        table.part("zeros", {"rows": "rows", **{name: name for name in _SPARSE}})
    table.part("kernels that were not taken", {"rows": "rows", _OTHERS: "× slower"})
    pixels = [_about_pixels(networks[0])] if len(networks) == 1 else []
    for text in [*pixels, *_notes(networks, packed, plans, limits, marked)]:
        table.note(text)
    if asks and not pruned:
        table.note(sparse_note([]))
    if not all(kept):
        table.note("the plan was made for another instruction set: here the rule decides")
    return table


def _about_pixels(network: QuantizedNetwork) -> str:
    if network.pixels is None:
        return "uint8 rows are refused: the model does not know what a pixel stands for"
    return f"uint8 rows: pixel p stands for {network.pixels.formula}"


def input_rule(network: QuantizedNetwork, i: int) -> str:
    """How a layer's inputs become codes."""
    layer = network.layers[i]
    if network.kind == "dynamic":
        return "scale per row"
    if i == 0 and network.kind == "affine":
        return "multiplier and offset per feature"
    return f"scale {layer.input_scale:.4g}, zero point {layer.input_zero_point}"


def has_sparse_kernels() -> bool:
    """Whether kernels for sparse weights are among those that are used here."""
    return any(kernel.is_sparse for kernel in _core.linear_kernels())


def _weights(layer: QuantizedLayer, zeros: float) -> str:
    """How large they are as int8, and what is special about them."""
    text = f"{layer.weight.nbytes / 1024:.1f} KB"
    bits, values = layer.bits, layer.values
    if bits < 8:
        text += f", {bits} bits"
    elif values <= _NIBBLE_VALUES:
        text += f", {values} values"
    return text + (f", {zeros:.0%} zeros" if zeros >= 0.01 else "")


def _sparse_cells(times: Times, pays_from: float | None) -> tuple[str, str, str]:
    """Best time of either kind, and from which share of zeros sparse weights win."""
    best = [[t for k, t in times.items() if k.is_sparse == kind] for kind in (False, True)]
    dense, sparse = (f"{min(t):,.2f}" if t else "" for t in best)
    if pays_from is None:
        return dense, sparse, ""
    return dense, sparse, "never" if pays_from > 1 else f"{pays_from:.0%} zeros"


def checked_rows(rows: Any) -> list[int]:
    """The batches to speak of; ValueError where they are no positive integers."""
    try:
        numbers = [operator.index(n) for n in (rows if isinstance(rows, Iterable) else [rows])]
    except TypeError:
        numbers = []
    if not numbers or min(numbers) < 1:
        raise ValueError(f"rows: expected positive integers, got {rows!r}")
    return numbers


def _others(times: Times, chosen: _core.Kernel) -> str:
    lost = []
    for kernel, time in sorted(times.items(), key=lambda item: item[1])[: _MOST_OTHERS + 1]:
        if kernel != chosen:
            ratio = time / times[chosen]
            mark = _FASTER if ratio < 0.97 else ""
            lost.append(f"{_shown(kernel)}: {ratio:.1f}{mark}")
    return ", ".join(lost[:_MOST_OTHERS]) or "none"


def _rows_told(n: int) -> str:
    return f"{n:,}" if n <= ROWS[-2] else f"{ROWS[-1]} of {n:,}"


def _of_limit(least: float, time: float) -> str:
    """The share; none of kernels that leave out more than is known of."""
    share = least / time if time > 0 else 0.0
    return f"{share:.0%}" if share <= 1 + 1e-9 else _UNKNOWN


def _differences(network: QuantizedNetwork, plan: Plan) -> str:
    """Which kernels serve shares of several threads, where they are others."""
    parts = [
        f"{layer.name} with {rows} rows each goes by {_shown(many)}"
        for layer, ones, manys in zip(network.layers, plan.kernels, plan.threaded, strict=True)
        for rows, one, many in zip(ROWS, ones, manys, strict=True)
        if one != many
    ]
    return ", ".join(parts)


def _empty(network: QuantizedNetwork) -> str:
    """How many neurons of each hidden layer have no weights, before or behind them."""
    found = []
    for layer, reader in itertools.pairwise(network.layers):
        dead = ~layer.weight.any(axis=1) | ~reader.weight.any(axis=0)
        if dead.any():
            found.append(f"{layer.name} {int(dead.sum())} of {layer.outputs}")
    return ", ".join(found)


def _zeros(network: QuantizedNetwork) -> str:
    """How many inputs of each layer were zero, where that is known."""
    return ", ".join(
        f"{layer.name} {float(layer.input_zeros.mean()) / ZEROS_OF:.0%}"
        for layer in network.layers
        if layer.input_zeros is not None
    )


def _shown(kernel: _core.Kernel) -> str:
    return f"{kernel.isa} {_tile(kernel)}"


def _tile(kernel: _core.Kernel) -> str:
    """Its loop, rows × panels, and the form of weights that it reads, where those need a word."""
    form = kernel.form if kernel.form != "dense" else ""
    return " ".join(filter(None, (kernel.loop, f"{kernel.rows}×{kernel.panels}", form)))


def _about_nibbles(
    few: list[str], layers: Sequence[QuantizedLayer], chosen: Sequence[Sequence[_core.Kernel]]
) -> str:
    """In what form layers of at most 16 values are held."""
    held: dict[str, list[str]] = {"4 bits": [], "both 4 bits and bytes": [], "bytes": []}
    for layer, kernels in zip(layers, chosen, strict=True):
        forms = {kernel.form for kernel in kernels}
        how = "bytes" if "nibbles" not in forms else "both 4 bits and bytes"
        if layer.name in few:
            held["4 bits" if forms == {"nibbles"} else how].append(layer.name)
    told = ", ".join(f"{', '.join(names)} as {how}" for how, names in held.items() if names)
    return (
        f"weights of at most {_NIBBLE_VALUES} values are held as 4 bits where they come from "
        f"beyond the second-level cache and that is faster: here {told}"
    )


def _of_all(about: Callable[[QuantizedNetwork], str], networks: Sequence[QuantizedNetwork]) -> str:
    return ", ".join(filter(None, map(about, networks)))


def _notes(
    networks: Sequence[QuantizedNetwork],
    packed: Sequence[Packed],
    plans: Sequence[Plan],
    limits: Limits,
    marked: bool,
) -> list[str]:
    notes = [
        "tile: rows × panels of 16 outputs; before it the loop, behind it the form of weights, "
        "where there are several (csrc/README.md names them)",
        "µs: these rows through one layer alone, one thread, codes in cache; a number of rows is "
        f"timed as the next of {', '.join(map(str, ROWS))}, which stands for larger batches, too",
        f"limit: {limits.products / 1e9:,.0f} G products/s, weights read at "
        f"{limits.reads['l1'] / 1e9:.0f} GB/s from L1, {limits.reads['l2'] / 1e9:.0f} from L2, "
        f"{limits.reads['l3'] / 1e9:.0f} from L3: the best that probes and these kernels reached",
        "total: one layer behind the other, without what lies between them",
    ]
    if zeros := _of_all(_zeros, networks):
        skips = any(kernel.loop == SKIPS_ZEROS for kernel in _core.linear_kernels())
        notes.append(
            f"these rows have as many zeros as calibration saw ({zeros})"
            + "; loops that leave them out ('live') are held against the rest" * skips
        )
    if empty := _of_all(_empty, networks):
        notes.append(
            f"empty neurons, whose weights are all 0 before or behind them: {empty}; "
            "fm.prune(…, remove_empty=True) removes those that are so in the float model"
        )
    every = [layer for network in networks for layer in network.layers]
    kernels = [chosen for plan in plans for chosen in plan.kernels]
    if few := [layer.name for layer in every if layer.values <= _NIBBLE_VALUES]:
        notes.append(_about_nibbles(few, every, kernels))
    if any(kernel.is_sparse for layer in kernels for kernel in layer):
        notes.append("of limit: sparse weights are held against those that are not 0")
    if any(plan.threaded != plan.kernels for plan in plans):
        pairs = zip(networks, plans, strict=True)
        told = filter(None, (_differences(network, plan) for network, plan in pairs))
        notes.append("batches that several threads share: " + ", ".join(told))
    if plans[0].mode == "fixed":
        notes.append("the kernels were chosen by rule (plan='fixed'), not by these times")
        if marked:
            notes.append(f"{_FASTER} faster: a measured plan may take it")
    elif any(len(_core.layer_kernels(whole, 0, ROWS[-1])) > 1 for whole in packed):
        notes.append(
            "the others lost because they were slower, or not faster by more than the noise (3 %)"
        )
        if marked and any("amx" in kernel.isa for kernel in _core.linear_kernels()):
            notes.append(f"{_FASTER} setting up the tile unit would have cost more than it saved")
        notes.append(f"times are remembered from when they were first measured: {note()}")
    return notes
