"""``fastmnist`` on the command line: the library's own functions, and nothing else."""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from fastmnist._version import __version__
from fastmnist.command.arguments import with_signs
from fastmnist.command.options import add_data, add_own_model, add_training
from fastmnist.command.reports import add_report
from fastmnist.command.words import in_options, one_line, told
from fastmnist.command.writing import check_writable as _check_writable


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status (2: an error that was explained)."""
    options = _parser().parse_args(with_signs(sys.argv[1:] if arguments is None else arguments))
    # A stream that knows ASCII only must not cost the results of minutes.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    warnings.showwarning = _show_warning
    try:
        return int(options.run(options))
    except KeyboardInterrupt:
        print("fastmnist: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:  # of the user's model or data too: any kind at all
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fastmnist",
        description="Make a PyTorch network of Linear layers small and fast on a CPU, and see "
        "what each optimization costs.",
    )
    parser.add_argument("--version", action="version", version=f"fastmnist {__version__}")
    parser.set_defaults(run=lambda _: _help(parser))
    commands = parser.add_subparsers(metavar="{compare,train,report,info}")

    compare = commands.add_parser(
        "compare", help="train (or take) a model, optimize it, print one table of all variants"
    )
    add_data(compare)
    add_training(compare)
    add_own_model(compare)
    compare.add_argument("--json", metavar="FILE", help="write all figures here")
    compare.add_argument("--markdown", metavar="FILE", help="write the table here")
    compare.add_argument("--plot", metavar="FILE", help="draw the table here (.png, .svg, …)")
    compare.set_defaults(run=_compare)

    train = commands.add_parser("train", help="train the digits network and save it")
    add_data(train)
    add_training(train)
    train.add_argument(
        "--output",
        metavar="FILE",
        default="digits.safetensors",
        help="where to save the model (default: %(default)s)",
    )
    train.add_argument("--json", metavar="FILE", help="write what was measured here")
    train.set_defaults(run=_train)

    add_report(commands)
    info = commands.add_parser("info", help="say which kernels this machine runs, and why")
    info.add_argument("--json", metavar="FILE", help="write it here")
    info.set_defaults(run=_info)
    return parser


def _help(parser: argparse.ArgumentParser) -> int:
    parser.print_help()
    return 0


def _set_up(options: argparse.Namespace) -> tuple[Any, Any]:
    """Check what can be before it costs minutes; give what pixels are, and who reads batches."""
    import torch

    import fastmnist as fm
    from fastmnist.command.references import find
    from fastmnist.pixels import explicit_pixels
    from fastmnist.runtime.planning import check_environment

    check_environment()  # a wrong FASTMNIST_ISA is an error now, not after minutes of training
    if options.threads is not None:
        fm.set_num_threads(options.threads)
        torch.set_num_threads(options.threads)
    pixels = explicit_pixels(options.mean, options.std, options.pixels)
    torch.manual_seed(options.seed)
    batch_fn = options.batch_fn and find(options.batch_fn, "--batch-fn", "PKG.MOD:FN")
    return pixels, batch_fn


def _trained(
    model: Any, source: Any, options: argparse.Namespace, batch_fn: Any, loss_fn: Any = None
) -> Any:
    import fastmnist as fm

    epochs = options.epochs or (1 if options.quick else 10)
    try:
        history = fm.train(model, source.train, epochs=epochs, batch_fn=batch_fn, loss_fn=loss_fn)
    except (RuntimeError, LookupError, AttributeError) as error:
        raise ValueError(
            f"--model: it does not fit the data ({source.name}): {told(error)}"
        ) from None
    if len(history) < epochs:
        # After Ctrl-C train() leaves a usable model, for notebooks; a command just stops.
        raise KeyboardInterrupt
    return history


def _compare(options: argparse.Namespace) -> int:
    for path in (options.json, options.markdown, options.plot):
        _check_writable(path)
    if options.plot:
        _check_plot(options.plot)
    for name, needed in (("weights", "model"), ("trained", "model"), ("weights_key", "weights")):
        if getattr(options, name) and not getattr(options, needed):
            option = f"--{name.replace('_', '-')}"
            raise ValueError(f"{option}: expected --{needed} with it, got none")
    import fastmnist as fm
    from fastmnist.command.losses import loss_of
    from fastmnist.command.models import (
        agreed_pixels,
        make_model,
        take_weights,
    )
    from fastmnist.command.sources import check_digits, source_of
    from fastmnist.files.atomic import write_atomically

    pixels, batch_fn = _set_up(options)
    metric = _metric(options)
    model = make_model(options.model) if options.model else fm.NeuralNetwork()
    found = take_weights(model, options.weights, options.weights_key) if options.weights else None
    if found:
        print(found)
    pixels = agreed_pixels(model, pixels)
    source = source_of(options.data, options.root, pixels, model, batch_fn)
    if not options.model:
        check_digits(source)
    loss_fn = loss_of(options.loss, source.train, batch_fn)
    if not (found or options.trained):
        _trained(model, source, options, batch_fn, loss_fn)
    report = fm.compare(
        fm.variants(model, source.train, batch_fn=batch_fn),
        source.test,
        rounds=5 if options.quick else 25,
        metric=metric,
        loss_fn=loss_fn,
        batch_fn=batch_fn,
        name=source.name,
    )
    notes = [*source.notes]
    if options.quick:
        notes.append("--quick: one epoch and few rounds, so every figure is a rough one")
    if notes:
        report.about["notes"] = notes
    if found:
        report.about["weights"] = found
    # Files first: a terminal that goes away must not cost them.
    if options.json:
        report.to_json(options.json)
    if options.markdown:
        report.to_markdown(options.markdown)
    if options.plot:
        drawn = io.BytesIO()
        report.plot().savefig(drawn, format=Path(options.plot).suffix[1:], dpi=150)
        write_atomically(options.plot, drawn.getvalue())
    print(report)
    return 0


def _metric(options: argparse.Namespace) -> Any:
    from fastmnist.command.references import find
    from fastmnist.measuring.metrics import metric_of

    metric, is_greater = options.metric, options.greater_is_better
    if metric and ":" in metric:
        metric = find(metric, "--metric", "PKG.MOD:FN")
        metric = metric() if isinstance(metric, type) else metric
    return metric_of(metric, None if is_greater is None else is_greater == "yes")


def _train(options: argparse.Namespace) -> int:
    for path in (options.output, options.json):
        _check_writable(path)
    import fastmnist as fm
    from fastmnist.command.sources import check_digits, source_of
    from fastmnist.files.atomic import write_atomically
    from fastmnist.measuring.metrics import shown

    pixels, batch_fn = _set_up(options)
    model = fm.NeuralNetwork()
    source = source_of(options.data, options.root, pixels, model, batch_fn)
    check_digits(source)
    history = _trained(model, source, options, batch_fn)
    score = fm.evaluate(model, source.test, batch_fn=batch_fn)
    fm.save(options.output, model)
    if options.json:
        about = {"data": source.name, "n": score.n, "epochs": len(history), "seed": options.seed}
        figures = {**about, score.metric: float(score), "file": options.output}
        write_atomically(options.json, f"{json.dumps(figures, indent=2)}\n".encode())
    text = shown(score.metric, float(score))
    which = "training" if source.notes else "test"  # own data may have no other half
    print(f"{source.name}: {text} of {score.n:,} {which} images, saved to {options.output}")
    return 0


def _info(options: argparse.Namespace) -> int:
    _check_writable(options.json)
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


def _check_plot(path: str) -> None:
    try:
        from matplotlib.backend_bases import FigureCanvasBase
    except ImportError:
        raise ImportError("--plot needs matplotlib: pip install matplotlib") from None
    if Path(path).suffix[1:].lower() not in FigureCanvasBase.get_supported_filetypes():
        raise ValueError(f"--plot: expected a name that ends in .png, .svg or .pdf, got '{path}'")
