"""A network on a table: early stopping, checkpoints, then int8 without losing the columns' scales.

    python examples/tabular.py --checkpoint best.pt --output cells.safetensors

scikit-learn's breast cancer data: 569 rows of 30 columns, from 0.001 to 4,000. One scale for all of
them would crush the small ones; the leading BatchNorm1d gives each column its own, at no cost.
Lines that fastmnist added end in ``# +``.
"""

from __future__ import annotations

import argparse

import torch
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import f1_score
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import fastmnist as fm  # +


def network(columns: int) -> nn.Module:
    """BatchNorm1d first: it levels columns of different size."""
    return nn.Sequential(
        nn.BatchNorm1d(columns),
        *(nn.Linear(columns, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.1)),
        *(nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU()),
        nn.Linear(32, 2),
    )


@torch.no_grad()
def f1(model, x: torch.Tensor, y: torch.Tensor) -> float:
    """Of the class that counts, on rows never trained on."""
    return float(f1_score(y, model(x).argmax(1)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--patience", type=int, default=10, help="epochs without a better loss")
    parser.add_argument("--checkpoint", default="best.pt")
    parser.add_argument("--output", default="cells.safetensors")
    args = parser.parse_args()

    torch.manual_seed(0)
    torch.set_num_threads(1)
    x, y = load_breast_cancer(return_X_y=True)
    x, y = torch.tensor(x, dtype=torch.float32), torch.tensor(y)
    parts = train_test_split(x, y, test_size=0.25, random_state=0, stratify=y)
    x_train, x_test, y_train, y_test = parts
    x_train, x_valid, y_train, y_valid = train_test_split(
        x_train, y_train, test_size=0.2, random_state=0, stratify=y_train
    )
    loader = DataLoader(TensorDataset(x_train, y_train), 32, shuffle=True, drop_last=True)

    model = network(x.shape[1])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    best, since = float("inf"), 0
    for epoch in range(1, args.epochs + 1):
        model.train()
        for rows, targets in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(rows), targets).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            loss = nn.functional.cross_entropy(model(x_valid), y_valid).item()
        since += 1
        if loss < best:
            best, since = loss, 0
            state = {"model": model.state_dict(), "epoch": epoch, "loss": loss}
            torch.save(state, args.checkpoint)
        if since == args.patience:
            break
    state = torch.load(args.checkpoint, weights_only=True)
    model.load_state_dict(state["model"])
    print(f"stopped after {epoch} epochs, the best was {state['epoch']}")

    optimized = fm.quantize(model, fm.Static(calibration=x_train))  # +
    net = fm.compile(optimized)  # +
    models = {"original": model, "int8": optimized, "compiled": net}  # +
    for name, each in models.items():
        print(f"{name}: F1 {f1(each, x_test, y_test):.3f}")
    fm.save(args.output, models)  # +
    again = fm.load(args.output)["compiled"]  # + in the program that serves it
    assert torch.equal(again(x_test), net(x_test))  # +
    print(f"saved to {args.output}")


if __name__ == "__main__":
    main()
