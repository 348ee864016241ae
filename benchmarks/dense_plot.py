"""The README's plot: µs per call by batch, fastmnist beside the best case of each library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.dense_tables import OURS, best_library, find, find_library
from benchmarks.peers.description import ONEDNN

OURS_UINT8 = f"{OURS} compiled, uint8 rows, out="
OURS_FLOAT32 = f"{OURS} compiled, float32 rows, out="
# Shown as a line across the bars of a batch size.
LIMIT = "limit of the core (uint8 rows)"
# Colours that stay apart for colour-blind readers; ours are the warm ones.
COLORS = {
    "fastmnist, uint8 rows": "#d1495b",
    "fastmnist, float32 rows": "#edae49",
    ONEDNN: "#2e4057",
    "ONNX Runtime": "#30638e",
    "OpenVINO": "#4f9d94",
    "torch": "#7b6d8d",
    "torch.ao": "#a79bbd",
    "torchao": "#d2c9e0",
    "NumPy": "#b7a99a",
}


def dense_plot(report: dict[str, Any]) -> Any:
    """Draw one panel per network.

    Parameters
    ----------
    report : dict
        The JSON of benchmarks.dense.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    networks = report["networks"]
    figure = Figure(figsize=(10, 3.3 * len(networks) + 0.9), layout="constrained")
    figure.patch.set_facecolor("white")
    for axis, network in zip(
        figure.subplots(len(networks), squeeze=False)[:, 0], networks, strict=True
    ):
        _panel(axis, network)
    about = report["about"]
    figure.suptitle(
        f"µs per call, log scale: lower is better ({about['isa']}, {about['threads']} thread(s))\n"
        "each library by its fastest case on rows that it likes best; above our bars: times faster "
        "than the best library\n(above float32 rows: than the best that takes float32)",
        fontsize=11,
    )
    handles: list[Any] = [Patch(color=color, label=name) for name, color in COLORS.items()]
    handles.append(Line2D([], [], color="black", linewidth=1.2, linestyle=(0, (3, 2)), label=LIMIT))
    figure.legend(handles=handles, loc="outside lower center", ncols=5, fontsize=9, frameon=False)
    return figure


def _panel(axis: Any, network: dict[str, Any]) -> None:
    batches = network["batches"]
    width = 0.86 / len(COLORS)
    for place, batch in enumerate(batches):
        for j, (name, color) in enumerate(COLORS.items()):
            case = _case(batch, name)
            if case is None:
                continue
            x = place + (j - (len(COLORS) - 1) / 2) * width
            axis.bar(x, case["microseconds"], width * 0.92, color=color)
            best = best_library(batch, rows="float32" if "float32" in name else "")
            if case["library"] == OURS and best:
                faster = best["slower_than_ours"] / case["slower_than_ours"]
                axis.annotate(
                    f"{faster:.1f}",
                    (x, case["microseconds"]),
                    (0, 2),
                    textcoords="offset points",
                    ha="center",
                    fontsize=8,
                    fontweight="bold",
                    color=color,
                )
        limit = batch["limits"]["uint8"]["microseconds"]
        style = {"color": "black", "linewidth": 1.2, "linestyle": (0, (3, 2))}
        axis.plot([place - 0.45, place + 0.45], [limit, limit], **style)
    axis.set_yscale("log")
    lowest = min(b["limits"]["uint8"]["microseconds"] for b in batches)
    axis.set_ylim(bottom=lowest / 1.6)
    axis.margins(x=0.02, y=0.1)
    axis.set_xticks(range(len(batches)), [f"batch {b['batch']:,}" for b in batches])
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}")
    axis.tick_params(axis="x", length=0)
    axis.grid(axis="y", color="#e4e4e4", linewidth=0.7)
    axis.set_axisbelow(True)
    axis.set_ylabel("µs")
    axis.spines[["top", "right"]].set_visible(False)
    axis.set_title(network["name"], fontsize=10.5, loc="left", fontweight="bold")


def _case(batch: dict[str, Any], name: str) -> Any:
    ours = {"fastmnist, uint8 rows": OURS_UINT8, "fastmnist, float32 rows": OURS_FLOAT32}
    return find(batch, ours[name]) if name in ours else find_library(batch, name)


def write_plot(report: dict[str, Any], path: Path) -> None:
    """Write the plot as SVG, the same bytes for the same figures."""
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": "fastmnist"}):
        dense_plot(report).savefig(path, metadata={"Date": None})
