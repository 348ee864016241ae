"""What a report tells of one variant: times, layers, classes that lose, inputs that changed."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fastmnist.comparison.page_words import Words, plural, rate
from fastmnist.comparison.rows import Flip, Row
from fastmnist.display.figures import NONE, microseconds
from fastmnist.display.markup import Markup, cut, tag
from fastmnist.display.pictures import data_uri, to_png
from fastmnist.rewriting.changes import Change

_MOST_LAYERS, _MOST_CLASSES, _MOST_INPUTS = 50, 8, 24
_MOST_WORDS = 220


class Budget:
    """How many more bytes a page may take: what does not fit is left out, and counted."""

    def __init__(self, most: int) -> None:
        self.left = most

    def takes(self, markup: Markup) -> bool:
        """Whether that fits; if so, it counts."""
        size = len(markup.encode())
        if size > self.left:
            return False
        self.left -= size
        return True


def panel(place: int, row: Row, words: Words, images: Budget, *, is_open: bool) -> Markup:
    """Give all that is known of one variant, to be opened."""
    parts = [
        _times(row, words),
        None if row is words.first else _layers(row),
        None if row is words.first else _classes(row, words),
    ]
    return tag(
        "details",
        tag("summary", f"{place} ", tag("bdi", cut(row.name, 120)), _in_short(row)),
        tag("div", *parts, class_="parts"),
        None if row is words.first else _inputs(row, images, words.n),
        class_="panel",
        id=f"panel-{place}",
        open=is_open,
    )


def _in_short(row: Row) -> Markup:
    told = []
    if row.layers_changed:
        told.append(f"{plural(row.layers_changed, 'layer')} changed")
    if row.losing:
        told.append("1 class loses" if len(row.losing) == 1 else f"{len(row.losing)} classes lose")
    if row.flip_count:
        told.append(f"{plural(row.flip_count, 'input')} got another class")
    return tag("span", "".join(f" · {text}" for text in told), class_="soft")


def _table(title: str, heads: Sequence[str], rows: list[Markup], note: str = "") -> Markup:
    left = (heads[0], "change")
    head = [tag("th", text, scope="col", class_="left" if text in left else None) for text in heads]
    return tag(
        "div",
        tag("h3", title),
        tag(
            "div",
            tag("table", tag("thead", tag("tr", head)), tag("tbody", rows)),
            class_="inner",
        ),
        tag("p", note, class_="soft small") if note else None,
    )


def _times(row: Row, words: Words) -> Markup | None:
    if not row.timings:
        return None
    lines = [
        tag(
            "tr",
            tag("th", f"{t.batch:,}", scope="row"),
            *(tag("td", microseconds(v)) for v in (t.p50, t.p90, t.p99)),
            tag("td", words.speedup(row, t)),
            tag("td", rate(t.throughput)),
        )
        for t in row.timings
    ]
    heads = ["rows", "p50 µs", "p90 µs", "p99 µs", "speed-up", "rows/s"]
    return _table("Times", heads, lines)


def _layers(row: Row) -> Markup | None:
    changes: dict[str, list[Change]] = {}
    for change in row.changes:
        changes.setdefault(change.layer, []).append(change)
    names = [*dict.fromkeys([*row.sqnr, *changes])]
    if not names:
        return None
    top = max([v for v in row.sqnr.values() if v is not None and v > 0] or [1.0])
    lines = [
        tag(
            "tr",
            tag("th", tag("bdi", cut(name or "the model", 60)), scope="row"),
            tag("td", _decibels(row.sqnr, name), _bar(row.sqnr.get(name), top)),
            tag("td", cut(_what(changes.get(name, [])), _MOST_WORDS), class_="words"),
        )
        for name in names[:_MOST_LAYERS]
    ]
    note = "SQNR: signal to quantization noise of the layer's outputs; more is nearer to the first."
    if len(names) > _MOST_LAYERS:
        note += f" Left out: {len(names) - _MOST_LAYERS} more layers."
    return _table("Layers: what changed, and why", ["layer", "SQNR dB", "change"], lines, note)


def _what(changes: Sequence[Change]) -> str:
    told = (
        change.what + (" (not run)" if change.checked == "not run" else "") for change in changes
    )
    return "; ".join(dict.fromkeys(told)) or NONE


def _decibels(sqnr: dict[str, float | None], name: str) -> str:
    if name not in sqnr:
        return NONE
    value = sqnr[name]
    return "equal" if value is None else f"{value:.1f}"


def _bar(value: float | None, top: float) -> Markup | None:
    if value is None:
        return None
    width = f"{100 * min(max(value, 0.0), top) / top:.0f}"
    bar = tag("rect", width=width, height=10, rx=2)
    return tag(
        "svg", bar, class_="bar", viewBox="0 0 100 10", preserveAspectRatio="none",
        aria_hidden="true",
    )  # fmt: skip


def _classes(row: Row, words: Words) -> Markup | None:
    before_all, counts = words.first.recall if words.first else (), words.class_counts
    pairs = [
        (index, before, after)
        for index, (before, after) in enumerate(zip(before_all, row.recall, strict=False))
        if not math.isnan(before + after) and before != after
    ]
    if not row.recall:
        return None
    pairs.sort(key=lambda pair: (pair[0] not in row.losing, pair[2] - pair[1]))
    lines = [
        tag(
            "tr",
            tag("th", str(index), scope="row"),
            tag("td", f"{counts[index]:,}" if index < len(counts) else NONE),
            tag("td", f"{before:.1%}"),
            tag("td", f"{after:.1%}"),
            tag(
                "td",
                f"{100 * (after - before):+.1f}{'*' if index in row.losing else ''}",
                class_="worse" if after < before else "better",
            ),
        )
        for index, before, after in pairs[:_MOST_CLASSES]
    ]
    if not lines:
        return tag("div", tag("h3", "Classes"), tag("p", "Each is found as often as before."))
    note = "Share of the class's rows that are right, before and now, and points; * beyond chance."
    if len(pairs) > _MOST_CLASSES:
        note += f" Left out: {len(pairs) - _MOST_CLASSES} classes that changed less."
    return _table("Classes", ["class", "rows", "before", "now", "points"], lines, note)


def _inputs(row: Row, images: Budget, n: int) -> Markup | None:
    if not row.flip_count:
        return None
    of_all = f" of {n:,}" if n else ""
    shown = []
    for flip in row.flips[:_MOST_INPUTS]:
        item = _input(flip, with_image=True)
        shown.append(item if images.takes(item) else _input(flip, with_image=False))
    left = row.flip_count - len(shown)
    return tag(
        "div",
        tag("h3", f"Inputs that got another class: {row.flip_count:,}{of_all}"),
        tag("ul", shown, class_="inputs"),
        tag("p", f"Left out: {left:,} more inputs.", class_="soft small") if left > 0 else None,
    )


def _input(flip: Flip, *, with_image: bool) -> Markup:
    lost, won = flip.before == flip.target, flip.after == flip.target
    kind, said = ("lost", "was right") if lost else ("won", "is right") if won else ("", "neither")
    image = None
    if with_image and flip.pixels:
        source = data_uri(to_png(flip.pixels))
        image = tag("img", src=source, alt=f"row {flip.index}", width=56, height=56)
    return tag(
        "li",
        image,
        tag("div", f"{flip.before} → {flip.after}"),
        tag("div", f"is {flip.target}: {said}", class_="soft"),
        tag("div", f"row {flip.index:,}", class_="soft"),
        class_=kind or None,
    )
