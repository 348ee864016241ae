"""What the benchmarks' command lines share: options, caps, where the report goes."""

from __future__ import annotations

import argparse
import importlib.metadata
import platform
import shlex
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

import fastmnist as fm
from benchmarks.machine import machine, save, write
from benchmarks.masking.processes import call_masked
from fastmnist.command.arguments import thread_count
from fastmnist.display.tables import Table

VERSIONS = ("numpy", "scipy", "torch", "torchao", "onnx", "onnxruntime", "openvino")


class Benchmark:
    """One benchmark's command.

    Parameters
    ----------
    name : str
        Of its module in ``benchmarks``.
    description : str
        Its module's docstring.
    saved : str
        Name of its file in a machine's folder.
    """

    def __init__(self, name: str, description: str | None, saved: str) -> None:
        self.module = f"benchmarks.{name}"
        self.saved = saved
        self.parser = argparse.ArgumentParser(
            prog=f"python -m {self.module}",
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        add = self.parser.add_argument
        add("--threads", type=thread_count, default=1)
        add("--quick", action="store_true")
        isas = [rung["isa"] for rung in fm.cpu_info()["ladder"]]
        add("--isa", choices=isas, help="as on a CPU that has this at best")
        add("--json", metavar="FILE", help="write the report here")
        add("--save", action="store_true", help="and into this machine's folder of results")
        # Options of which --save wants none, because it keeps whole runs.
        self.partial: tuple[str, ...] = ("quick",)

    def main(
        self,
        run: Callable[[argparse.Namespace], dict[str, Any]],
        tables: Callable[[dict[str, Any]], Iterable[Table]],
    ) -> int:
        """Read the command line, measure, print, and keep what is to be kept.

        What `run` returns under ``about`` joins what is said there of every run.
        """
        options = self.parser.parse_args()
        for name in self.partial if options.save else ():
            if getattr(options, name):
                self.parser.error(f"--save keeps whole runs: expected no --{name}")
        try:
            code = call_masked(options.isa, self.module, sys.argv[1:])
        except ValueError as error:
            self.parser.error(str(error))
        if code is not None:
            return code
        torch.set_num_threads(options.threads)
        fm.set_num_threads(options.threads)
        made = run(options)
        report = {"about": self.about(options) | made.pop("about", {}), **made}
        for table in tables(report):
            print(table, end="\n\n")
        if options.json:
            write(report, Path(options.json))
        if options.save:
            print(f"saved as {save(report, self.saved)}")
        return 0

    def about(self, options: argparse.Namespace) -> dict[str, Any]:
        """Say what ran where, and how."""
        versions = {}
        for name in VERSIONS:
            try:
                versions[name] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                continue
        return {
            "command": shlex.join(["python", "-m", self.module, *sys.argv[1:]]),
            **machine(),
            "threads": options.threads,
            "quick": options.quick,
            "python": platform.python_version(),
            "versions": versions,
        }
