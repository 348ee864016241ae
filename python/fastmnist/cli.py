"""``fastmnist`` on the command line: the library's own functions, and nothing else."""

from __future__ import annotations

import argparse
import importlib
import io
import os
import platform
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from fastmnist._version import __version__


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status (2: an error that was explained)."""
    options = _parser().parse_args(arguments)
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
    except (ImportError, KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
        print(f"fastmnist: error: {error}", file=sys.stderr)
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
    print(f"fastmnist: warning: {message}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fastmnist",
        description="Make a PyTorch network of Linear layers small and fast on a CPU, and see "
        "what each optimization costs.",
    )
    parser.add_argument("--version", action="version", version=f"fastmnist {__version__}")
    parser.set_defaults(run=lambda _: _help(parser))
    commands = parser.add_subparsers(metavar="{compare,train,info}")

    compare = commands.add_parser(
        "compare", help="train (or take) a model, optimize it, print one table of all variants"
    )
    _add_data(compare)
    _add_training(compare)
    compare.add_argument(
        "--model", metavar="PKG.MOD:NET", help="compare this model instead of the digits network"
    )
    compare.add_argument(
        "--weights", metavar="FILE", help="its trained state_dict (.pt, .pth or .safetensors)"
    )
    compare.add_argument("--json", metavar="FILE", help="write all figures here")
    compare.add_argument("--markdown", metavar="FILE", help="write the table here")
    compare.add_argument("--plot", metavar="FILE", help="draw the table here (.png, .svg, …)")
    compare.set_defaults(run=_compare)

    train = commands.add_parser("train", help="train the digits network and save it")
    _add_data(train)
    _add_training(train)
    train.add_argument(
        "--output",
        metavar="FILE",
        default="digits.safetensors",
        help="where to save the model (default: %(default)s)",
    )
    train.set_defaults(run=_train)

    info = commands.add_parser("info", help="say which kernels this machine runs, and why")
    info.set_defaults(run=_info)
    return parser


def _help(parser: argparse.ArgumentParser) -> int:
    parser.print_help()
    return 0


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        choices=("auto", "mnist", "digits"),
        default="auto",
        help="auto: MNIST where it is or can be had, else scikit-learn's digits",
    )
    parser.add_argument("--root", metavar="DIR", help="folder of the MNIST files")
    parser.add_argument(
        "--threads", type=thread_count, metavar="N", help="threads to use, ours and torch's"
    )


def _add_training(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--epochs", type=_positive, metavar="N", help="default: 10, quick: 1")
    parser.add_argument("--seed", type=_seed, default=0, metavar="N", help="default: 0")
    parser.add_argument(
        "--quick", action="store_true", help="a rough answer in seconds: one epoch, few rounds"
    )


def _positive(text: str) -> int:
    if not text.strip().isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected an integer of at least 1, got '{text}'")
    return int(text)


def thread_count(text: str) -> int:
    """A number of threads, as a type for argparse."""
    if not text.strip().isdecimal() or not 1 <= int(text) <= 1024:
        raise argparse.ArgumentTypeError(f"expected an integer from 1 to 1024, got '{text}'")
    return int(text)


def _seed(text: str) -> int:
    if not text.strip().isdecimal() or int(text) >= 2**63:
        raise argparse.ArgumentTypeError(f"expected an integer from 0 to 2**63 - 1, got '{text}'")
    return int(text)


def _set_up(options: argparse.Namespace) -> Any:
    """Import torch and the library, set threads and seed, load the data."""
    import torch

    import fastmnist as fm
    from fastmnist.runtime.planning import check_environment

    check_environment()  # a wrong FASTMNIST_ISA is an error now, not after minutes of training
    if options.threads is not None:
        fm.set_num_threads(options.threads)
        torch.set_num_threads(options.threads)
    data = fm.load_dataset(options.data, root=options.root)
    torch.manual_seed(options.seed)
    return data


def _trained(model: Any, data: Any, options: argparse.Namespace) -> None:
    import fastmnist as fm

    epochs = options.epochs or (1 if options.quick else 10)
    try:
        history = fm.train(model, data, epochs=epochs)
    except RuntimeError as error:
        raise ValueError(f"--model: it does not fit the data ({data.name}): {error}") from None
    if len(history) < epochs:
        # After Ctrl-C train() leaves a usable model, for notebooks; a command just stops.
        raise KeyboardInterrupt


def _compare(options: argparse.Namespace) -> int:
    for path in (options.json, options.markdown, options.plot):
        _check_writable(path)
    if options.plot:
        _check_plot(options.plot)
    if options.weights and not options.model:
        raise ValueError("--weights: expected --model PKG.MOD:NET with it, got none")
    import fastmnist as fm
    from fastmnist.files.atomic import write_atomically

    data = _set_up(options)
    if options.model:
        model = _import_model(options.model)
        if options.weights:
            _load_weights(model, options.weights)
        else:
            _trained(model, data, options)
    else:
        model = fm.NeuralNetwork()
        _trained(model, data, options)
    report = fm.compare(fm.variants(model, data), data, rounds=5 if options.quick else 25)
    if options.quick:
        report.about["notes"] = [
            "--quick: one epoch and few rounds, so every figure is a rough one"
        ]
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


def _train(options: argparse.Namespace) -> int:
    _check_writable(options.output)
    import fastmnist as fm

    data = _set_up(options)
    model = fm.NeuralNetwork()
    _trained(model, data, options)
    accuracy = fm.evaluate(model, data)
    fm.save(options.output, model)
    print(f"{data.name}: {accuracy:.2%} of {accuracy.n:,} test images, saved to {options.output}")
    return 0


def _info(options: argparse.Namespace) -> int:
    import numpy
    import torch

    import fastmnist as fm

    print(fm.cpu_info())
    print(
        f"versions fastmnist {fm.__version__}, torch {torch.__version__}, numpy "
        f"{numpy.__version__}, Python {platform.python_version()}"
    )
    return 0


def _check_writable(path: str | None) -> None:
    """Fail before minutes of work rather than after."""
    if path is None:
        return
    folder = Path(path).resolve().parent
    if Path(path).is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise OSError(
            f"cannot write '{path}': expected a file name in an existing, writable folder"
        )


def _check_plot(path: str) -> None:
    try:
        from matplotlib.backend_bases import FigureCanvasBase
    except ImportError:
        raise ImportError("--plot needs matplotlib: pip install matplotlib") from None
    if Path(path).suffix[1:].lower() not in FigureCanvasBase.get_supported_filetypes():
        raise ValueError(f"--plot: expected a name that ends in .png, .svg or .pdf, got '{path}'")


def _import_model(reference: str) -> Any:
    from torch import nn

    module_name, colon, name = reference.partition(":")
    if not colon or not module_name or not name:
        raise ValueError(f"--model: expected PKG.MOD:NET, got '{reference}'")
    sys.path.insert(0, os.getcwd())
    try:
        made = getattr(importlib.import_module(module_name), name)
        model = made if isinstance(made, nn.Module) else made()
    except Exception as error:
        # Whatever the user's own code raises.
        raise ValueError(f"--model: cannot make '{reference}': {error}") from error
    if not isinstance(model, nn.Module):
        raise TypeError(f"--model: expected a torch.nn.Module, got {type(model).__name__}")
    return model


def _load_weights(model: Any, path: str) -> None:
    """Load tensors only: nothing in a checkpoint is executed."""
    import torch

    state: Any
    try:
        if path.endswith(".safetensors"):
            state = _read_safetensors(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(f"--weights: expected a state_dict in '{path}': {first}") from None
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    try:
        model.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise ValueError(f"--weights: '{path}' does not fit the model: {error}") from None


def _read_safetensors(path: str) -> Any:
    """The tensors of a file of fastmnist's or of anybody's."""
    from safetensors import safe_open
    from safetensors.torch import load_file

    import fastmnist as fm

    with safe_open(path, framework="pt") as file:
        ours = "fastmnist" in (file.metadata() or {})
    if not ours:
        return load_file(path)
    loaded = fm.load(path)
    model = loaded if hasattr(loaded, "state_dict") else loaded[next(iter(loaded))]
    return model.state_dict()
