"""Load the original or the optimized network by a switch; or time both.

    python examples/infer.py digits.safetensors --model optimized
    python examples/infer.py digits.safetensors --time

Lines that fastmnist added end in ``# +``.
"""

from __future__ import annotations

import argparse
import time

import torch

import fastmnist as fm  # +


def microseconds(model, rows: torch.Tensor, calls: int = 500) -> float:
    """The median time of a call; the first ones warm up."""
    times = []
    for _ in range(calls):
        start = time.perf_counter()
        model(rows)
        times.append(time.perf_counter() - start)
    return 1e6 * sorted(times[calls // 5 :])[len(times[calls // 5 :]) // 2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", help="what examples/train.py saved")
    parser.add_argument("--data", default="auto", help="mnist, digits, or auto")
    parser.add_argument("--model", choices=("original", "optimized"), default="optimized")
    parser.add_argument("--time", action="store_true", help="time both on one row")
    args = parser.parse_args()

    torch.set_num_threads(1)  # of small networks the second thread only waits
    models = fm.load(args.file)  # + or Net() and load_state_dict(torch.load(...))
    data = fm.load_dataset(args.data)  # + or torchvision.datasets.MNIST with ToTensor()
    images = data.test.images.float() / 255
    labels = data.test.labels

    with torch.inference_mode():
        model = models[args.model]
        right = (model(images).argmax(1) == labels).float().mean().item()
        print(f"{args.model}: {right:.2%} of {len(labels):,} right")
        if args.time:
            for name in ("original", "optimized"):
                print(f"{name}: {microseconds(models[name], images[:1]):.1f} µs for one row")
            pixels = data.test.images[:1]  # + uint8, as they lie in the file: the same bits
            print(
                f"optimized, from pixels: {microseconds(models['optimized'], pixels):.1f} µs"
            )  # +


if __name__ == "__main__":
    main()
