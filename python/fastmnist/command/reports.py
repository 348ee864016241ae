"""``fastmnist report``: what stored reports of ``compare`` tell."""

from __future__ import annotations

import argparse
import json
from typing import Any

from fastmnist.command.outputs import check_writable


def add_report(commands: Any) -> None:
    """Add the command to those of the parser."""
    report = commands.add_parser("report", help="look at reports that compare --json wrote")
    kinds = report.add_subparsers(metavar="{diff}", dest="kind", required=True)
    diff = kinds.add_parser(
        "diff",
        help="tell what became better or worse, beyond noise",
        description="Tell what became better or worse from one report to the next, beyond noise. "
        "Exit status: 0: nothing is worse, 1: something is, 2: an error.",
    )
    diff.add_argument("before", metavar="A", help="a report (.json)")
    diff.add_argument("after", metavar="B", help="a later one")
    diff.add_argument("--json", metavar="FILE", help="write what was found here")
    diff.set_defaults(run=_diff)


def _diff(options: argparse.Namespace) -> int:
    check_writable(options.json)
    from fastmnist.comparison.report import Report
    from fastmnist.files.atomic import write_atomically

    before, after = (Report.from_json(_path(p)) for p in (options.before, options.after))
    found = before.diff(after)
    if options.json:
        write_atomically(options.json, f"{json.dumps(found.to_json(), indent=2)}\n".encode())
    print(found)
    return int(bool(found.worse))


def _path(name: str) -> Any:
    """A path, whatever it is called: never JSON text."""
    from pathlib import Path

    return Path(name)
