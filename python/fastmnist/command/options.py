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
    """Add the options for data, the meaning of its pixels, and threads."""
    parser.add_argument(
        "--data",
        type=data_name,
        default="auto",
        metavar="NAME",
        help="auto (the default): MNIST if available, else scikit-learn's digits; mnist; digits; "
        "idx: another set of IDX files, in --root; or PKG.MOD:FN (FILE.py:FN), a function that "
        "returns rows (x, y), a DataLoader, a Dataset, or a tuple of two of them, for training and "
        "testing",
    )
    parser.add_argument("--root", metavar="DIR", help="folder with the files of mnist or idx")
    parser.add_argument(
        "--mean", type=numbers, metavar="X", help="a pixel p means (p/255 - mean)/std, such as 0.5"
    )
    parser.add_argument(
        "--std",
        type=numbers,
        metavar="X",
        help="one number, or one per channel, such as 0.5,0.4,0.3",
    )
    parser.add_argument(
        "--pixels",
        type=pixel_range,
        metavar="A..B",
        help="the same as a range, such as 0..255 or -1..1",
    )
    parser.add_argument(
        "--batch-fn",
        metavar="PKG.MOD:FN",
        help="function that converts a batch to (inputs, target)",
    )
    parser.add_argument(
        "--threads", type=thread_count, metavar="N", help="threads for fastmnist and torch"
    )


def add_training(parser: ArgumentParser) -> None:
    """Add the options for training."""
    parser.add_argument("--epochs", type=count, metavar="N", help="default: 10, with --quick: 1")
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="default: 0")
    parser.add_argument(
        "--quick", action="store_true", help="rough results in seconds: one epoch, few rounds"
    )


def add_output(parser: ArgumentParser, name: str) -> None:
    """Add the option for the file to save the model to."""
    parser.add_argument(
        "--output",
        metavar="FILE",
        default=name,
        help="where to save the model (default: %(default)s)",
    )


def add_own_model(parser: ArgumentParser) -> None:
    """Add the options for the user's own model, loss and metric."""
    model = parser.add_argument_group("your own model")
    model.add_argument(
        "--model",
        metavar="PKG.MOD:NET",
        help="use this model instead of the digits network: a class or function that takes no "
        "arguments, or a model; from a file: net.py:Net",
    )
    model.add_argument(
        "--weights",
        metavar="FILE",
        help="its trained weights, written by torch.save or safetensors; prefixes of wrappers and "
        "containers are handled, and no code in the file is run",
    )
    model.add_argument(
        "--weights-key", metavar="KEY", help="which weights to use, if FILE holds several"
    )
    model.add_argument(
        "--trained", action="store_true", help="use --model as it is, without training"
    )
    model.add_argument(
        "--loss",
        metavar="NAME",
        help="training loss: cross_entropy, mse, mae, huber, or PKG.MOD:FN of outputs and targets "
        "(default: depends on the targets)",
    )
    parser.add_argument(
        "--metric",
        metavar="NAME",
        help="accuracy, mse, mae, rmse, r2, f1, auc, or PKG.MOD:FN of outputs and targets",
    )
    parser.add_argument(
        "--greater-is-better", choices=("yes", "no"), help="the direction of your own metric"
    )
