"""The command line's parser: commands, their options, examples, completion."""

from __future__ import annotations

import argparse
from typing import Any

import shtab

from fastmnist._version import __version__
from fastmnist.command.arguments import count, number
from fastmnist.command.options import add_data, add_output, add_own_model, add_training

_EXAMPLES = {
    "": """
fastmnist compare                              train the digits network
fastmnist compare --model net.py:Net --weights net.pt --data net.py:data
fastmnist search --data mnist --budget "5 min" --output best.safetensors
eval "$(fastmnist --print-completion bash)"    complete words with Tab""",
    "compare": """
fastmnist compare --data mnist --threads 1
fastmnist compare --model net.py:Net --weights net.pt --data net.py:data
fastmnist compare --model net.py:Net --data rows.py:load --metric mae
fastmnist compare --data idx --root data/FashionMNIST/raw --quick
fastmnist compare --recipes all --html report.html --json report.json""",
    "train": """
fastmnist train --data mnist --epochs 10 --output digits.safetensors
fastmnist train --data digits --quick""",
    "recipes": """
fastmnist recipes
fastmnist recipes --json recipes.json""",
    "optimize": """
fastmnist optimize --recipe smallest --data mnist --output small.safetensors
fastmnist optimize --recipe prune80@3+cluster16+int8 --max-drop 0.3 \\
    --model net.py:Net --weights net.pt --data net.py:data""",
    "search": """
fastmnist search --data mnist --max-drop 0.2 --budget "5 min"
fastmnist search --objective size --folder trials --html report.html \\
    --model net.py:Net --weights net.pt --data net.py:data""",
    "report": """
fastmnist compare --json before.json
fastmnist report diff before.json after.json""",
    "report diff": """
fastmnist report diff before.json after.json && echo nothing is worse""",
    "export": """
fastmnist export digits.safetensors digits.onnx --name int8
fastmnist export digits.safetensors small.safetensors --name int8 --compress""",
    "verify": """
fastmnist verify digits.safetensors --data mnist
fastmnist verify digits.safetensors --against digits.onnx --allow 5""",
    "info": """
fastmnist info
FASTMNIST_ISA=avx2 fastmnist info         as on a CPU with AVX2 at best
fastmnist info digits.safetensors         the models in it, how good they were""",
}


class _Help(argparse.HelpFormatter):
    """Wraps text to the terminal, except for the examples, which users copy."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if not text.startswith("examples:"):
            return super()._fill_text(text, width, indent)
        return text


def parser() -> argparse.ArgumentParser:
    """Make the parser; its result has the name of the command to run in ``command``."""
    made = argparse.ArgumentParser(
        prog="fastmnist",
        description="Make a PyTorch network of Linear layers small and fast on a CPU, and see "
        "what each optimization costs.",
        **_with_examples(""),
    )
    made.add_argument("--version", action="version", version=f"fastmnist {__version__}")
    shtab.add_argument_to(
        made, "--print-completion", help="print a script that completes words: bash, zsh, fish, …"
    )
    made._actions[-1].metavar = "SHELL"
    made.set_defaults(command="")
    commands = made.add_subparsers(title="commands", metavar="COMMAND")
    _add_compare(commands)
    _add_train(commands)
    _add_recipes(commands)
    _add_optimize(commands)
    _add_search(commands)
    _add_report(commands)
    _add_export(commands)
    _add_verify(commands)
    _add_info(commands)
    _complete_files(made)
    return made


def _with_examples(command: str) -> dict[str, Any]:
    lines = _EXAMPLES[command].strip().replace("\n", "\n  ")
    return {"epilog": f"examples:\n  {lines}", "formatter_class": _Help}


def _command(commands: Any, name: str, what: str, full: str = "") -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = commands.add_parser(
        name.split()[-1], help=what, description=full or _sentence(what), **_with_examples(name)
    )
    made.set_defaults(command=name)
    return made


def _sentence(what: str) -> str:
    return f"{what[0].upper()}{what[1:]}."


def _complete_files(command: argparse.ArgumentParser) -> None:
    """Let Tab complete what options take, by their metavar; those of all commands below, too."""
    completed = {"FILE": shtab.FILE, "DIR": shtab.DIRECTORY, "A": shtab.FILE, "B": shtab.FILE}
    for action in command._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                _complete_files(below)
        if isinstance(action.metavar, str) and action.metavar in completed:
            action.complete = completed[action.metavar]  # type: ignore[attr-defined]


def _add_compare(commands: Any) -> None:
    compare = _command(
        commands,
        "compare",
        "train (or load) a model, optimize it, and print one table of all variants",
    )
    add_data(compare)
    add_training(compare)
    add_own_model(compare)
    compare.add_argument("--json", metavar="FILE", help="write all figures here")
    compare.add_argument("--markdown", metavar="FILE", help="write the table here")
    compare.add_argument("--html", metavar="FILE", help="write an HTML report here")
    compare.add_argument(
        "--plot", metavar="FILE", help="write a plot of the table here (.png, .svg, …)"
    )
    compare.add_argument(
        "--recipes",
        metavar="RECIPE",
        nargs="+",
        help="compare the results of these recipes instead of the usual variants: texts, names, "
        "YAML files; all: every built-in recipe",
    )


def _add_train(commands: Any) -> None:
    train = _command(commands, "train", "train the digits network and save it")
    add_data(train)
    add_training(train)
    add_output(train, "digits.safetensors")
    train.add_argument("--json", metavar="FILE", help="write all measurements here")


def _add_recipes(commands: Any) -> None:
    recipes = _command(commands, "recipes", "list recipes, and the steps that make one")
    recipes.add_argument("--json", metavar="FILE", help="write them here")


def _add_optimize(commands: Any) -> None:
    optimize = _command(commands, "optimize", "apply a recipe, and save the resulting model")
    optimize.add_argument(
        "--recipe",
        required=True,
        metavar="RECIPE",
        help="steps such as prune80+cluster16+int8, a name (see recipes), or a YAML file",
    )
    optimize.add_argument(
        "--max-drop",
        type=number,
        metavar="X",
        help="exit with status 1 if more is lost, in points of accuracy",
    )
    add_data(optimize)
    add_training(optimize)
    add_own_model(optimize)
    add_output(optimize, "optimized.safetensors")
    optimize.add_argument("--json", metavar="FILE", help="write all measurements here")


def _add_search(commands: Any) -> None:
    search = _command(
        commands,
        "search",
        "search for the best recipe within a loss and a time (exit status 1: none found)",
    )
    search.add_argument(
        "--max-drop",
        type=number,
        metavar="X",
        help="how much may be lost: in points of accuracy (default: 0.3), or in the metric's unit "
        "(default for r2, f1, auc: 0.005)",
    )
    search.add_argument(
        "--objective",
        choices=("latency", "throughput", "size"),
        default="latency",
        help="what to optimize: the time of one row (default), rows per second, or the file size",
    )
    search.add_argument(
        "--budget", default="5 min", metavar="TIME", help='wall time: "5 min" (default), "90 s"'
    )
    search.add_argument(
        "--folder", metavar="DIR", help="store trials here, so that a stopped search can resume"
    )
    search.add_argument(
        "--storage",
        metavar="URL",
        help="share the search between processes, such as sqlite:///search.db",
    )
    search.add_argument(
        "--recipes", metavar="RECIPE", nargs="+", help="try these instead of the usual ones"
    )
    add_data(search)
    add_training(search)
    add_own_model(search)
    add_output(search, "best.safetensors")
    search.add_argument("--json", metavar="FILE", help="write all trials here")
    search.add_argument("--html", metavar="FILE", help="write a report on the best here")


def _add_report(commands: Any) -> None:
    report = _command(commands, "report", "examine reports written by compare --json")
    kinds = report.add_subparsers(metavar="{diff}", dest="kind", required=True)
    diff = _command(
        kinds,
        "report diff",
        "show what became better or worse, beyond noise",
        "Show what became better or worse from one report to the next, beyond noise. "
        "Exit status: 0: nothing is worse, 1: something is, 2: an error.",
    )
    diff.add_argument("before", metavar="A", help="a report (.json)")
    diff.add_argument("after", metavar="B", help="a later one")
    diff.add_argument("--json", metavar="FILE", help="write the differences here")


def _add_file(command: argparse.ArgumentParser) -> None:
    command.add_argument("file", metavar="FILE", help="what fm.save wrote (.safetensors)")
    command.add_argument(
        "--into",
        metavar="PKG.MOD:CLASS",
        help="the class of models that are no chain of layers, as for fm.load(into=)",
    )


def _add_export(commands: Any) -> None:
    export = _command(commands, "export", "write a saved model as ONNX, or alone into a file")
    _add_file(export)
    export.add_argument("output", metavar="OUTPUT", help="a file .onnx or .safetensors")
    export.add_argument(
        "--name", metavar="NAME", nargs=1, help="which model; not needed if there is only one"
    )
    export.add_argument("--opset", type=count, metavar="N", help="of ONNX: default 21")
    export.add_argument(
        "--input",
        choices=("float32", "uint8"),
        help="what the ONNX model takes: real numbers (default), or pixels",
    )
    export.add_argument(
        "--compress", action="store_true", help="entropy-coded: as few bytes as possible"
    )


def _add_verify(commands: Any) -> None:
    verify = _command(
        commands,
        "verify",
        "ask all forms of a saved model for the same rows, and print where they differ",
        "Ask all forms of a saved model (module, compiled, C++ library, fastmnist-run, ONNX in the "
        "runtimes that are installed) for the same rows, and print where they differ. Exit status: "
        "0: all decide the same, 1: some decide otherwise or cannot answer, 2: an error.",
    )
    _add_file(verify)
    verify.add_argument(
        "--name", metavar="NAME", nargs="+", help="which models (default: all in the file)"
    )
    verify.add_argument(
        "--against", metavar="FILE", nargs="+", help="other files: .onnx, .safetensors"
    )
    verify.add_argument(
        "--program", metavar="FILE", help="fastmnist-run, where it is not on the PATH"
    )
    verify.add_argument(
        "--allow",
        type=int,
        default=0,
        metavar="N",
        help="exit with status 0 if at most so many rows are decided otherwise (default: 0)",
    )
    verify.add_argument("--rows", type=count, metavar="N", help="at most so many (default: all)")
    add_data(verify)
    verify.set_defaults(seed=0)
    verify.add_argument("--json", metavar="FILE", help="write all figures here")


def _add_info(commands: Any) -> None:
    info = _command(
        commands, "info", "show which kernels this machine runs, and why; or what a file holds"
    )
    info.add_argument("file", metavar="FILE", nargs="?", help="what fm.save wrote (.safetensors)")
    info.add_argument("--json", metavar="FILE", help="write it here")
