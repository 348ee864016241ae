"""``fastmnist report``: what stored reports of ``compare`` tell."""

from __future__ import annotations

import argparse
import json
from typing import Any

from fastmnist.command.outputs import check_writable


def run_diff(options: argparse.Namespace) -> int:
    """Print what became better or worse; status 1 where something is worse."""
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
