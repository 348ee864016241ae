"""A graph as a picture: an SVG for notebooks, from inputs at the top to outputs. Free of torch.

Steps stand in rows by how many steps come before them at least, and in columns so that what belongs
together is near: each goes under the middle of what it reads, as far as that is free.
"""

from __future__ import annotations

import html
from dataclasses import dataclass

from fastmnist.int8.graph import JOINS, NetworkGraph
from fastmnist.runtime.graph_tree import shape_text, what

_WIDTH, _HEIGHT, _ACROSS, _DOWN, _MARGIN = 190, 40, 24, 28, 10
_MOST_LETTERS = 29
# By kind: fill and border, readable on light and dark pages alike.
_COLOURS = {
    "input": ("#eeeeee", "#888888"),
    "output": ("#eeeeee", "#888888"),
    "int8": ("#d5e8d4", "#5b8c58"),
    "float": ("#dae8fc", "#5b7fae"),
    "join": ("#ffe6cc", "#c58b2a"),
    "other": ("#fff8dc", "#a89f68"),
}


@dataclass
class _Box:
    title: str
    text: str
    kind: str
    row: int
    column: float = 0.0


def picture(graph: NetworkGraph) -> str:
    """The SVG, as text."""
    boxes, edges = _boxes(graph)
    _place(boxes, edges)
    left = min(box.column for box in boxes)
    columns = max(box.column for box in boxes) - left + 1
    rows = max(box.row for box in boxes) + 1
    width = int(2 * _MARGIN + columns * (_WIDTH + _ACROSS) - _ACROSS)
    height = 2 * _MARGIN + rows * (_HEIGHT + _DOWN) - _DOWN

    def corner(box: _Box) -> tuple[float, float]:
        x = _MARGIN + (box.column - left) * (_WIDTH + _ACROSS)
        return x, _MARGIN + box.row * (_HEIGHT + _DOWN)

    parts = []
    for start, end in edges:
        (x0, y0), (x1, y1) = corner(boxes[start]), corner(boxes[end])
        x0, x1, y0 = x0 + _WIDTH / 2, x1 + _WIDTH / 2, y0 + _HEIGHT
        bend = _DOWN
        if boxes[end].row - boxes[start].row > 1 and abs(x0 - x1) < 1:
            side = x0 + 2 * _WIDTH / 3  # around what stands between: a curve goes 3/4 of the way
            path = f"M{x0 + _WIDTH / 4:.0f} {y0:.0f} C{side:.0f} {y0 + bend:.0f} {side:.0f} " + (
                f"{y1 - bend:.0f} {x1 + _WIDTH / 4:.0f} {y1:.0f}"
            )
        else:
            path = f"M{x0:.0f} {y0:.0f} C{x0:.0f} {y0 + bend:.0f} {x1:.0f} {y1 - bend:.0f} " + (
                f"{x1:.0f} {y1:.0f}"
            )
        parts.append(f'<path d="{path}" fill="none" stroke="#888888" marker-end="url(#fm-tip)"/>')
    for box in boxes:
        parts.append(_drawn(box, *corner(box)))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" role="img">'
        "<title>The compiled graph</title>"
        '<defs><marker id="fm-tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="#888888"/></marker></defs>'
        + "".join(parts)
        + "</svg>"
    )


def _boxes(graph: NetworkGraph) -> tuple[list[_Box], list[tuple[int, int]]]:
    boxes: list[_Box] = []
    edges: list[tuple[int, int]] = []
    of: dict[int, int] = {}  # which box gives a value
    for given in graph.inputs:
        of[given.value] = len(boxes)
        boxes.append(_Box(given.name, shape_text(graph.values[given.value].shape), "input", 0))
    for step in graph.steps:
        read = dict.fromkeys(of[o] for o in step.operands if o in of)
        edges += [(source, len(boxes)) for source in read]
        row = 1 + max((boxes[source].row for source in read), default=0)
        kind = step.kind if step.kind in _COLOURS else "other"
        if step.kind in JOINS or step.kind == "concat":
            kind = "join"
        of[step.value] = len(boxes)
        boxes.append(_Box(step.name, what(graph, step), kind, row))
    for i, value in enumerate(graph.outputs):
        structure = graph.structure
        name = structure[i] if isinstance(structure, tuple) else "output"
        source = of[value]
        edges.append((source, len(boxes)))
        shape = shape_text(graph.values[value].shape)
        boxes.append(_Box(name, shape, "output", boxes[source].row + 1))
    return boxes, edges


def _place(boxes: list[_Box], edges: list[tuple[int, int]]) -> None:
    """Columns, a row at a time: under the middle of what is read, the next free one."""
    read: dict[int, list[int]] = {}
    for start, end in edges:
        read.setdefault(end, []).append(start)
    for row in range(max(box.row for box in boxes) + 1):
        here = [i for i, box in enumerate(boxes) if box.row == row]
        wanted = {
            i: sum(boxes[k].column for k in read[i]) / len(read[i]) if i in read else 0.0
            for i in here
        }
        last = None
        for i in sorted(here, key=lambda i: (wanted[i], i)):
            column = wanted[i] if last is None else max(wanted[i], last + 1)
            boxes[i].column = last = column
        # As far to the left as they were pushed to the right.
        shift = sum(boxes[i].column - wanted[i] for i in here) / len(here) if here else 0.0
        for i in here:
            boxes[i].column -= shift


def _drawn(box: _Box, x: float, y: float) -> str:
    fill, border = _COLOURS[box.kind]
    middle = x + _WIDTH / 2

    def line(text: str, down: float, style: str) -> str:
        short = text if len(text) <= _MOST_LETTERS else f"{text[: _MOST_LETTERS - 1]}…"
        return (
            f'<text x="{middle:.0f}" y="{y + down:.0f}" text-anchor="middle" fill="#222222" '
            f"{style}>{html.escape(short)}</text>"
        )

    return (
        f"<g><title>{html.escape(f'{box.title}: {box.text}')}</title>"
        f'<rect x="{x:.0f}" y="{y:.0f}" width="{_WIDTH}" height="{_HEIGHT}" rx="5" fill="{fill}" '
        f'stroke="{border}"/>'
        + line(box.title, 16, 'font-size="12" font-weight="bold"')
        + line(box.text, 31, 'font-size="11"')
        + "</g>"
    )
