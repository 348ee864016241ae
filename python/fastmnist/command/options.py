"""Options that commands share, in groups."""

from __future__ import annotations

from argparse import ArgumentParser

from fastmnist.command.arguments import (
    count,
    data_name,
    numbers,
    pixel_range,
    seed,
    thread_count,
)


def add_data(parser: ArgumentParser) -> None:
    """Which rows, what their pixels are, on how many threads."""
    parser.add_argument(
        "--data",
        type=data_name,
        default="auto",
        metavar="NAME",
        help="auto (the default): MNIST where it is or can be had, else scikit-learn's digits; "
        "mnist; digits; idx: another set of IDX files, in --root; or PKG.MOD:FN (FILE.py:FN), a "
        "function that returns rows (x, y), a loader, a Dataset, or a tuple of two, to train and "
        "to test on",
    )
    parser.add_argument("--root", metavar="DIR", help="folder of the files of mnist or idx")
    parser.add_argument(
        "--mean", type=numbers, metavar="X", help="a pixel p stands for (p/255 - mean)/std: 0.5"
    )
    parser.add_argument(
        "--std", type=numbers, metavar="X", help="one number, or one per channel: 0.5,0.4,0.3"
    )
    parser.add_argument(
        "--pixels", type=pixel_range, metavar="A..B", help="the same as a range: 0..255, -1..1"
    )
    parser.add_argument(
        "--batch-fn", metavar="PKG.MOD:FN", help="reads a batch of --data: to (inputs, target)"
    )
    parser.add_argument(
        "--threads", type=thread_count, metavar="N", help="threads to use, ours and torch's"
    )


def add_training(parser: ArgumentParser) -> None:
    """How a network is trained."""
    parser.add_argument("--epochs", type=count, metavar="N", help="default: 10, quick: 1")
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="default: 0")
    parser.add_argument(
        "--quick", action="store_true", help="a rough answer in seconds: one epoch, few rounds"
    )


def add_output(parser: ArgumentParser, name: str) -> None:
    """Where the model is saved."""
    parser.add_argument(
        "--output",
        metavar="FILE",
        default=name,
        help="where to save the model (default: %(default)s)",
    )


def add_own_model(parser: ArgumentParser) -> None:
    """A model of the user's, and what it is judged by."""
    model = parser.add_argument_group("your own model")
    model.add_argument(
        "--model",
        metavar="PKG.MOD:NET",
        help="compare this model instead of the digits network: a class or a function without "
        "arguments, or a model; of a file: net.py:Net",
    )
    model.add_argument(
        "--weights",
        metavar="FILE",
        help="its trained weights: what torch.save or safetensors wrote; wrappers' prefixes and "
        "containers are seen through, no code in it is run",
    )
    model.add_argument(
        "--weights-key", metavar="KEY", help="which of the weights in it, where there are several"
    )
    model.add_argument(
        "--trained", action="store_true", help="take --model as it is: do not train it"
    )
    model.add_argument(
        "--loss",
        metavar="NAME",
        help="what it is trained by: cross_entropy, mse, mae, huber, or PKG.MOD:FN of outputs and "
        "targets (default: by the targets)",
    )
    parser.add_argument(
        "--metric",
        metavar="NAME",
        help="accuracy, mse, mae, rmse, r2, f1, auc, or PKG.MOD:FN of outputs and targets",
    )
    parser.add_argument(
        "--greater-is-better", choices=("yes", "no"), help="the direction of such a function"
    )
