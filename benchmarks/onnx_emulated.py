"""Run an ONNX file on rows and write the answers: alone, as it runs under an emulator.

    qemu-x86_64 -cpu Haswell-noTSX python benchmarks/onnx_emulated.py FILE ROWS.npy ANSWERS.npy 0|1

The last argument is ONNX Runtime's ``session.x64quantprecision``.
"""

from __future__ import annotations

import sys

import numpy as np
import onnxruntime as ort


def main() -> int:
    path, rows, answers, exact = sys.argv[1:]
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.x64quantprecision", exact)
    opened = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    np.save(answers, opened.run(None, {"input": np.load(rows)})[0])
    return 0


if __name__ == "__main__":
    sys.exit(main())
