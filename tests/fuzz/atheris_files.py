"""Coverage-guided bytes for the Python side of model files: ``fm.load`` and ``fastmnist.runtime``.

``pip install atheris``, then ``python tests/fuzz/atheris_files.py -runs=100000 FOLDER...``; options
are libFuzzer's, folders hold inputs, the first takes new ones. Without folders it begins with the
files of ``tests/golden``, and keeps nothing. What is found lies in ``crash-*``.

A file loads, or is refused by ValueError; whatever else is raised is a fault.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["fastmnist"]):
    import fastmnist as fm
    import fastmnist.files.compressed
    import fastmnist.files.container
    import fastmnist.files.records
    import fastmnist.runtime as rt
    import fastmnist.saving.save_load

HERE = Path(__file__).resolve().parent


def load_all(path: Path) -> None:
    """Load each model in both ways, where it was not refused before."""
    try:
        loaded = fm.load(path)
    except ValueError:
        return
    names: list[str | None] = [None]
    if isinstance(loaded, Mapping):
        names = list(loaded)
        for name in names:
            with contextlib.suppress(ValueError):
                loaded[name]
    for name in names:
        with contextlib.suppress(ValueError):
            rt.load(path, name).explain()


def main() -> None:
    """Run libFuzzer, one file after the other in memory where the system has such a folder."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        path = Path(folder) / "m.safetensors"

        def one_input(content: bytes) -> None:
            path.write_bytes(content)
            load_all(path)

        arguments = sys.argv
        if all(word.startswith("-") for word in arguments[1:]):
            seeds = Path(folder) / "seeds"
            seeds.mkdir()
            golden = [
                p for p in HERE.parent.glob("golden/*/*.safetensors") if ".rows" not in p.name
            ]
            for seed in [*golden, *(HERE / "corpus" / "fuzz_file").iterdir()]:
                (seeds / seed.name).write_bytes(seed.read_bytes())
            arguments = [*arguments, str(seeds)]
        atheris.Setup([*arguments, f"-dict={HERE / 'models.dict'}"], one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
