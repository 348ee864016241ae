"""The smallest files, from nothing, and what each technique costs in accuracy.

    python -m benchmarks.compression [--only NAME] [--seeds N] [--quick] [--save] [--work DIR]
    python -m benchmarks.compression --check

Trains a wide teacher; then for each record a network of its shape is taught, pruned, taught on,
quantized to few values and saved with ``compress=True``. A twelfth of the training images is held
out: choices are theirs, and the test images are read once a file is finished, by the file itself,
loaded and compiled. Then, with several seeds, the digits network: half its weights with a teacher,
4 bits, 16 clusters, low rank.

Each finished stage is a file in the work folder, and a rerun goes on from there. The same seeds
and number of threads give the same files on the same machine. ``--save`` puts report and record
files into benchmarks/results/compression; ``--check`` reads those and prints what they are worth
here. Takes an hour of one core; ``--quick`` some minutes, and reaches nothing.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

import fastmnist as fm
from benchmarks.compressing.comparisons import COMPARISONS, Comparison, Lengths, Run
from benchmarks.compressing.halves import Halves, split
from benchmarks.compressing.records import (
    RECORDS,
    TEACHERS,
    Record,
    make,
    quick,
    quick_teachers,
)
from benchmarks.compressing.shrinking import accuracy
from benchmarks.compressing.stages import Stages
from benchmarks.compressing.tables import comparisons_table, records_table
from benchmarks.machine import RESULTS, write
from fastmnist.command.arguments import thread_count
from fastmnist.data import Split
from fastmnist.display.tables import Table
from fastmnist.files.cache import cache_folder

FOLDER = RESULTS / "compression"
REPORT = "results.json"


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.compression",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = made.add_argument
    names = [record.name for record in RECORDS] + [c.key for c in COMPARISONS]
    add("--only", choices=names, action="append", help="this one, or several of them")
    add("--seeds", type=int, default=3, help="for the comparisons, which have no file")
    add("--data", default="auto", choices=("auto", "mnist", "digits"))
    add("--threads", type=thread_count, default=1)
    add("--work", type=Path, metavar="DIR", help="of the finished stages; default: in the cache")
    add("--quick", action="store_true")
    add("--save", action="store_true", help=f"into {FOLDER.relative_to(RESULTS.parent.parent)}")
    add("--check", action="store_true", help="read the files that are there, and make none")
    return made


def main(arguments: list[str] | None = None) -> int:
    """Read the command line, make or check, print, and keep what is to be kept."""
    args = sys.argv[1:] if arguments is None else arguments
    commands = parser()
    options = commands.parse_args(args)
    if options.save and options.quick:
        commands.error("--save keeps whole runs: expected no --quick")
    if options.seeds < 1:
        commands.error(f"--seeds: expected at least 1, got {options.seeds}")
    torch.set_num_threads(options.threads)
    fm.set_num_threads(options.threads)
    data = fm.load_dataset(options.data)
    report = checked(FOLDER, data.test) if options.check else run(options, data, args)
    for table in tables(report):
        print(table, end="\n\n")
    if options.save:
        keep(report, work_folder(options, data), FOLDER)
        print(f"saved in {FOLDER}")
    return 0


def run(options: argparse.Namespace, data: fm.Data, args: list[str]) -> dict[str, Any]:
    """Make what is asked for, or take it from the work folder."""
    folder = work_folder(options, data)
    stages = Stages(folder, lambda text: print(text, file=sys.stderr, flush=True))
    halves = split(data)
    about = {
        "command": shlex.join(["python", "-m", "benchmarks.compression", *_told(args)]),
        "data": data.name,
        "learnt_from": len(halves.train),
        "held_out": len(halves.held_out),
        "n": len(halves.test),
        "torch": torch.__version__,
        "threads": options.threads,
        "seeds": options.seeds,
    }
    teachers = quick_teachers() if options.quick else TEACHERS
    lengths = Lengths(1, 1, 2) if options.quick else Lengths()
    runs = [Run(halves, stages, teachers, lengths, seed) for seed in range(options.seeds)]
    report: dict[str, Any] = {"about": about, "records": {}, "comparisons": {}}
    for record in RECORDS:
        if options.only and record.name not in options.only:
            continue
        made = quick(record) if options.quick else record
        path = folder / f"{record.name}.safetensors"
        fm.save(path, fm.compile(make(made, teachers, halves, stages)), compress=True)
        report["records"][record.name] = measured(record, path, halves, runs[0])
    for comparison in COMPARISONS:
        if not options.only or comparison.key in options.only:
            report["comparisons"][comparison.key] = compared(comparison, runs)
    return report


def _told(args: list[str]) -> list[str]:
    """The command line without the work folder, which is one machine's."""
    told = [arg for arg in args if not arg.startswith("--work=")]
    if "--work" in told:
        at = told.index("--work")
        del told[at : at + 2]
    return told


def measured(record: Record, path: Path, halves: Halves, run: Run) -> dict[str, Any]:
    """What a file is worth: all of its bytes, and the accuracy of what it holds."""
    found = {
        "size": path.stat().st_size,
        "held_out": accuracy(path, halves.held_out),
        "accuracy": accuracy(path, halves.test),
    }
    if record.asked.accuracy == 0:
        found["original"] = run.accuracy(run.original())
    return found


def compared(comparison: Comparison, runs: list[Run]) -> list[dict[str, float]]:
    """One technique with every seed."""
    return [
        run.stages.figures(
            f"{comparison.key}-{run.seed}",
            (run.key, run.teachers, comparison.key),
            lambda run=run: comparison.run(run),  # type: ignore[misc]
        )
        for run in runs
    ]


def checked(folder: Path, test: Split) -> dict[str, Any]:
    """Load the record files, and see what they are worth on these images."""
    report: dict[str, Any] = json.loads((folder / REPORT).read_text())
    if test.name != report["about"]["data"]:
        raise SystemExit(f"--check: expected the data {report['about']['data']}, got {test.name}")
    for name, found in report["records"].items():
        path = folder / f"{name}.safetensors"
        found["size"], found["accuracy"] = path.stat().st_size, accuracy(path, test)
    report["comparisons"] = {}
    return report


def tables(report: dict[str, Any]) -> Iterable[Table]:
    """Lay out the report for reading."""
    if report["records"]:
        yield records_table(report)
    if report["comparisons"]:
        yield comparisons_table(report)


def keep(report: dict[str, Any], work: Path, folder: Path) -> None:
    """Put report and files among the results; what was not made this time stays as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in report["records"]:
        (folder / f"{name}.safetensors").write_bytes((work / f"{name}.safetensors").read_bytes())
    path = folder / REPORT
    before = json.loads(path.read_text()) if path.exists() else {}
    for part in ("records", "comparisons"):
        report[part] = before.get(part, {}) | report[part]
    write(report, path)


def work_folder(options: argparse.Namespace, data: fm.Data) -> Path:
    """Where finished stages lie."""
    given: Path | None = options.work
    if given is None:
        cache = cache_folder()
        if cache is None:
            raise SystemExit("--work: expected a folder, as there is no cache of the user's")
        given = cache / "compression"
    return given / (f"{data.name}-quick" if options.quick else data.name)


if __name__ == "__main__":
    sys.exit(main())
