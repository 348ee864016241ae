"""Train a network on digits as PyTorch's guides do, then save it beside its optimized form.

    python examples/train.py --epochs 10 --output digits.safetensors

Lines that fastmnist added end in ``# +``; without them this is the script that you have.
"""

from __future__ import annotations

import argparse

import torch
from model import Net
from torch import nn
from torch.utils.data import DataLoader

import fastmnist as fm  # +


def train(model: nn.Module, loader: DataLoader, optimizer: torch.optim.Optimizer) -> float:
    """One epoch; returns the mean loss."""
    model.train()
    total = 0.0
    for images, labels in loader:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(labels)
    return total / len(loader.dataset)


@torch.no_grad()
def test(model: nn.Module, loader: DataLoader) -> float:
    """The share of rows that are right."""
    model.eval()
    right = sum((model(images).argmax(1) == labels).sum().item() for images, labels in loader)
    return right / len(loader.dataset)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="auto", help="mnist, digits, or auto")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--qat", action="store_true", help="4-bit weights, trained to be so")
    parser.add_argument("--output", default="digits.safetensors")
    args = parser.parse_args()

    torch.manual_seed(0)
    data = fm.load_dataset(args.data)  # + or torchvision.datasets.MNIST with ToTensor()
    train_loader = DataLoader(data.train, args.batch_size, shuffle=True)
    test_loader = DataLoader(data.test, 1000)

    model = Net()
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    for epoch in range(1, args.epochs + 1):
        loss = train(model, train_loader, optimizer)
        print(f"epoch {epoch}: loss {loss:.4f}, {test(model, test_loader):.2%} right")

    if args.qat:  # +
        optimized = fm.prepare_qat(model, fm.QAT(weight_bits=4))  # + any loop trains it
        optimizer = torch.optim.Adam(optimized.parameters(), lr=args.lr / 3)  # +
        train(optimized, train_loader, optimizer)  # +
        optimized = fm.convert(optimized)  # +
    else:  # +
        optimized = fm.quantize(model, fm.Static(calibration=train_loader))  # +
    print(f"optimized: {test(optimized, test_loader):.2%} right")  # + a module like any other

    # + Both in one file: classes that are no chain of layers come back by load(path, into=Net()).
    fm.save(args.output, {"original": model, "optimized": fm.compile(optimized)})  # +
    print(f"saved to {args.output}")


if __name__ == "__main__":
    main()
