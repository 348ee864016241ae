"""``fastmnist`` on the command line: the library's own functions, and nothing else."""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

from fastmnist.command.arguments import with_signs
from fastmnist.command.outputs import check_plot, check_writable
from fastmnist.command.parser import parser
from fastmnist.command.reports import run_diff
from fastmnist.command.words import in_options, one_line, told


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status (2: an error that was explained)."""
    # An ASCII-only stream must not lose the results of minutes, nor help.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    warnings.showwarning = _show_warning
    try:
        options = parser().parse_args(with_signs(sys.argv[1:] if arguments is None else arguments))
        return int(_RUN[options.command](options))
    except KeyboardInterrupt:
        print("fastmnist: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:  # the user's model or data may raise anything
        print(f"fastmnist: error: {in_options(told(error))}", file=sys.stderr)
        return 2


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """In the words of the command line: no source line of ours."""
    print(f"fastmnist: warning: {in_options(one_line(str(message)))}", file=sys.stderr)


def _help() -> int:
    parser().print_help()
    return 0


def _compare(options: argparse.Namespace) -> int:
    for path in (options.json, options.markdown, options.plot, options.html):
        check_writable(path)
    if options.plot:
        check_plot(options.plot)
    import fastmnist as fm
    from fastmnist.command.recipes import made_by_recipes, promises, recipes_of_option
    from fastmnist.command.subject import prepare
    from fastmnist.files.atomic import write_atomically

    # A wrong word is an error now, not after minutes of training.
    recipes = recipes_of_option(options.recipes) if options.recipes else {}
    subject = prepare(options)
    source, batch_fn = subject.source, subject.batch_fn
    left_out: list[str] = []
    if recipes:
        is_asked = options.recipes != ["all"]
        made, left_out = made_by_recipes(subject, recipes, options.seed, is_asked)
    else:
        made = fm.variants(subject.model, source.train, batch_fn=batch_fn)
    report = fm.compare(
        made,
        source.test,
        rounds=5 if options.quick else 25,
        name=source.name,
        compiled_rows="uint8" if options.recipes else "both",
        **subject.options,
    )
    notes = [*source.notes, *left_out]
    if options.quick:
        notes.append("--quick: one epoch and few rounds, so every figure is a rough one")
    notes += promises(report, report.about["metric"]) if options.recipes else []
    if notes:
        report.about["notes"] = notes
    if subject.found:
        report.about["weights"] = subject.found
    # Files first: they must be written even if the terminal goes away.
    if options.json:
        report.to_json(options.json)
    if options.markdown:
        report.to_markdown(options.markdown)
    if options.html:
        report.to_html(options.html)
    if options.plot:
        drawn = io.BytesIO()
        report.plot().savefig(drawn, format=Path(options.plot).suffix[1:], dpi=150)
        write_atomically(options.plot, drawn.getvalue())
    print(report)
    return 0


def _train(options: argparse.Namespace) -> int:
    for path in (options.output, options.json):
        check_writable(path)
    import fastmnist as fm
    from fastmnist.command.sources import check_digits, source_of
    from fastmnist.command.subject import set_up, trained
    from fastmnist.files.atomic import write_atomically
    from fastmnist.measuring.metrics import shown

    pixels, batch_fn = set_up(options)
    model = fm.NeuralNetwork()
    source = source_of(options.data, options.root, pixels, model, batch_fn)
    check_digits(source)
    history = trained(model, source, options, batch_fn)
    score = fm.evaluate(model, source.test, batch_fn=batch_fn)
    fm.save(options.output, model, measured=score)
    if options.json:
        about = {"data": source.name, "n": score.n, "epochs": len(history), "seed": options.seed}
        figures = {**about, score.metric: float(score), "file": options.output}
        write_atomically(options.json, f"{json.dumps(figures, indent=2)}\n".encode())
    text = shown(score.metric, float(score))
    which = "training" if source.notes else "test"  # the user's data may have no test half
    print(f"{source.name}: {text} of {score.n:,} {which} images, saved to {options.output}")
    return 0


def _recipes(options: argparse.Namespace) -> int:
    from fastmnist.command.recipes import list_recipes

    return list_recipes(options)


def _optimize(options: argparse.Namespace) -> int:
    from fastmnist.command.recipes import run_optimize

    return run_optimize(options)


def _search(options: argparse.Namespace) -> int:
    from fastmnist.command.recipes import run_search

    return run_search(options)


def _export(options: argparse.Namespace) -> int:
    from fastmnist.command.files import run_export

    return run_export(options)


def _verify(options: argparse.Namespace) -> int:
    from fastmnist.command.files import run_verify

    return run_verify(options)


def _info(options: argparse.Namespace) -> int:
    check_writable(options.json)
    if options.file is not None:
        from fastmnist.command.files import run_info

        return run_info(options)
    import numpy
    import torch

    import fastmnist as fm
    from fastmnist.files.atomic import write_atomically

    versions = {
        "fastmnist": fm.__version__,
        "torch": str(torch.__version__),
        "numpy": numpy.__version__,
        "Python": platform.python_version(),
    }
    info = fm.cpu_info()
    if options.json:
        told_of = {**info, "versions": versions}
        write_atomically(options.json, f"{json.dumps(told_of, indent=2)}\n".encode())
    print(info)
    print(f"versions {', '.join(f'{name} {version}' for name, version in versions.items())}")
    return 0


_RUN: dict[str, Callable[[argparse.Namespace], int]] = {
    "": lambda _: _help(),
    "compare": _compare,
    "train": _train,
    "recipes": _recipes,
    "optimize": _optimize,
    "search": _search,
    "report diff": run_diff,
    "export": _export,
    "verify": _verify,
    "info": _info,
}
