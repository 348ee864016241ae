"""One model in a process of its own, timed turn by turn on request.

Run as a script under a PYTHONPATH that says whose ``fastmnist`` and ``benchmarks`` it takes, which
may be those of another commit: it uses no more of them than has been there for long. The first line
on stdin is a job, every further one asks for a turn; each is answered by one line, all as JSON.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

import numpy as np
import torch

import fastmnist as fm
from benchmarks.ours import compiled
from benchmarks.peers.description import FloatLayer, Network, aligned
from benchmarks.sparse import dense_model, quantize


def main(answers: TextIO) -> None:
    """Make what the job wants, then take turns until stdin ends."""
    job = json.loads(sys.stdin.readline())
    torch.set_num_threads(job["threads"])
    fm.set_num_threads(job["threads"])
    stored = np.load(job["file"])
    layers = tuple(
        FloatLayer(stored[f"weight{i}"], stored[f"bias{i}"], bool(relu))
        for i, relu in enumerate(stored["relu"])
    )
    network = Network("job", layers, stored["calibration"], False, job["threads"])
    rows = aligned(stored["rows"])
    if job["kernels"] == "dense":
        # Where the pages of large weights lie makes some per cent: turns go through several.
        quantized = quantize(network)
        models = [dense_model(quantized) for _ in range(job["copies"])]
    else:
        models = [compiled(network) for _ in range(job["copies"])]
    outputs = [np.empty((len(rows), model.out_features), np.float32) for model in models]

    def call_of(i: int) -> Callable[[], Any]:
        model, out = models[i % len(models)], outputs[i % len(models)]
        return lambda: model(rows, out=out)

    for i in range(len(models)):
        call_of(i)()
    digest = hashlib.sha256(np.ascontiguousarray(outputs[0]).tobytes()).hexdigest()
    say(answers, {"from": fm.__file__, "isa": fm.cpu_info()["isa"], "outputs": digest})
    for line in sys.stdin:
        wanted = json.loads(line)
        say(answers, times(call_of(wanted["turn"]), wanted["warm_up"], wanted["calls"]))


def times(call: Callable[[], Any], warm_up: int, calls: int) -> list[int]:
    """Time calls one by one, in nanoseconds."""
    clock = time.perf_counter_ns
    for _ in range(warm_up):
        call()
    taken = []
    for _ in range(calls):
        start = clock()
        call()
        taken.append(clock() - start)
    return taken


def say(answers: TextIO, answer: Any) -> None:
    print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    out = sys.stdout
    sys.stdout = sys.stderr  # what libraries print is no answer
    main(out)
