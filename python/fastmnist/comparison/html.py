"""A report as one HTML file that can be sent: nothing in it is loaded from anywhere.

The page is what :mod:`fastmnist.display.markup` builds, so that names of variants, layers and
classes are text whatever is in them. Its one script and one style are files of this package, put
in as they are and named by their digests in the page's security policy: whatever else is in the
page, no browser runs it. How large it may become is bounded: what is left out is said.
"""

from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastmnist.comparison.page_overview import cards, charts
from fastmnist.comparison.page_panels import Budget, panel
from fastmnist.comparison.page_table import variants_table
from fastmnist.comparison.page_words import Words, plural
from fastmnist.display.markup import Markup, cut, joined, tag
from fastmnist.files.atomic import write_atomically
from fastmnist.measuring.metrics import ACCURACY, direction_note

if TYPE_CHECKING:
    from fastmnist.comparison.report import Report

_MOST_ROWS, _MOST_PANELS = 100, 60
_PANEL_BYTES, _IMAGE_BYTES = 250_000, 250_000
_HIDDEN = {"data", "n", "metric", "greater_is_better", "class_counts", "targets", "noise", "notes"}
_HIDDEN |= {"batch_size", "weights"}
_NAMES = {
    "cpu": "CPU",
    "isa": "instruction set",
    "torch": "PyTorch",
    "python": "Python",
    "torch_threads": "PyTorch's threads",
    "batches": "batch sizes",
    "rounds": "rounds asked for",
    "rounds_timed": "rounds timed",
    "results": "answers",
}


def write_page(report: Report, path: str | os.PathLike[str]) -> Path:
    """Write the page to `path`, whole or not at all, and give the path.

    Raises
    ------
    TypeError
        If `path` is no path.
    OSError
        If it cannot be written.
    """
    write_atomically(path, page(report).encode())
    return Path(path)


def page(report: Report) -> str:
    """Give the report as the text of an HTML file."""
    style, script = (
        Markup(Path(__file__).with_name(name).read_text(encoding="utf-8"))
        for name in ("page.css", "page.js")
    )
    policy = (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    title = f"{cut(report.about.get('data', 'data'), 80)}: {plural(len(report), 'variant')}"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("link", rel="icon", href="data:,"),
        tag("title", title),
        tag("style", style),
    )
    body = tag("body", tag("main", _content(report, title)), tag("script", script))
    return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _content(report: Report, title: str) -> Markup:
    rows, about = report.rows[:_MOST_ROWS], report.about
    noise = about.get("noise")
    verdict = str(noise.get("verdict", "")) if isinstance(noise, dict) else ""
    ran_on = ", ".join(str(about[key]) for key in ("cpu", "isa") if about.get(key))
    words = Words(rows, about)
    return joined(
        tag(
            "header",
            tag("h1", title),
            tag(
                "p",
                cut(words.metric, 80) + (f" of {plural(words.n, 'row')}" if words.n else ""),
                f" · {cut(ran_on, 200)}" if ran_on else "",
                f" · {plural(words.threads, 'thread')}" if words.threads else "",
                class_="soft",
            ),
            tag("p", f"Times are {cut(verdict, 300)}.", class_="warning", role="note")
            if verdict.startswith("noisy")
            else None,
        ),
        cards(words) if rows else None,
        charts(words),
        tag("h2", "All variants", id="all"),
        variants_table(words),
        _said(len(report) - len(rows), "variant"),
        _panels(words),
        tag("h2", "What it ran on"),
        _machine(about),
        tag("h2", "How to read this"),
        tag("ul", [tag("li", cut(note, 400)) for note in _notes(report)], class_="notes"),
    )


def _said(left_out: int, what: str) -> Markup | None:
    return (
        tag("p", f"Left out: {plural(left_out, what)} more.", class_="soft") if left_out else None
    )


def _panels(words: Words) -> Markup | None:
    rows = words.rows
    panels, budget, images = [], Budget(_PANEL_BYTES), Budget(_IMAGE_BYTES)
    # The first of which there is something to see stands open.
    opened = next((i for i, row in enumerate(rows, 1) if row.flip_count), min(2, len(rows)))
    for i, row in enumerate(rows[:_MOST_PANELS], 1):
        before = images.left
        made = panel(i, row, words, images, is_open=i == opened)
        spent = before - images.left
        budget.left += spent
        if not budget.takes(made):
            break
        panels.append(made)
    if not panels:
        return None
    return joined(tag("h2", "Each variant"), panels, _said(len(rows) - len(panels), "panel"))


def _machine(about: dict[str, Any]) -> Markup:
    told = [(key, value) for key, value in about.items() if key not in _HIDDEN]
    items = []
    for key, value in told[:30]:
        text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        name = _NAMES.get(key, str(key).replace("_", " "))
        items += [tag("dt", cut(name, 60)), tag("dd", cut(text, 200))]
    return tag("dl", items)


def _notes(report: Report) -> list[str]:
    metric, about = report.about["metric"], report.about
    name = cut(report.rows[0].name, 60) if report.rows else "the first"
    notes = [
        f"Difference to “{name}” in points; * if a paired McNemar test gives p < 0.05."
        if metric == ACCURACY.name
        else f"Difference to “{name}” in {metric}.",
        "Times are of whole calls, all variants in turn. Speed-up is the ratio of two medians; "
        "≈ 1 where it is within the noise.",
        "Bits and zeros are of the weights of Linear layers. Memory is all that is held; int8 "
        "modules keep two layouts, pruned ones their masks.",
        "On the Pareto front no other variant is both smaller (or faster) and as good.",
    ]
    if note := direction_note(metric, about.get("greater_is_better")):
        notes.insert(1, f"{note[0].upper()}{note[1:]}.")
    return [*notes, *(str(note) for note in list(about.get("notes") or [])[:20])]
