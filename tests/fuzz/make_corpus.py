"""Makes the inputs that the fuzzers begin with: ``corpus/<fuzzer>/``, sound ones of each kind.

``python tests/fuzz/make_corpus.py`` writes them anew, with the package installed. Packed networks
and graphs are of this version of the library: `test_corpus.py` fails where it takes them no more.
"""

from __future__ import annotations

import gzip
import itertools
import struct
import sys
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt

HERE = Path(__file__).resolve().parent
GOLDEN = HERE.parent / "golden"
sys.path.insert(0, str(HERE.parent / "support"))

from graph_reference import RandomGraph  # noqa: E402
from oracle import KINDS, random_network  # noqa: E402

from fastmnist import _core  # noqa: E402
from fastmnist.int8.graph import NetworkGraph  # noqa: E402
from fastmnist.runtime.graph_packing import pack_graph  # noqa: E402

Files = Iterator[tuple[str, bytes]]  # names and contents
MOST = 6000  # bytes of an input: small ones are mutated faster

DIGIT = (np.arange(20) * 13 % 256).astype(np.uint8).reshape(4, 5)


def idx(code: int, values: npt.NDArray[np.generic]) -> bytes:
    """Give an IDX file; `values` have its byte order."""
    return struct.pack(f">4B{values.ndim}I", 0, 0, code, values.ndim, *values.shape) + (
        values.tobytes()
    )


def idx_files() -> Files:
    yield "pixels", idx(0x08, DIGIT[None])
    yield "pixels4", idx(0x08, DIGIT[None, None])
    yield "labels", idx(0x08, DIGIT[0])
    yield "int8", idx(0x09, DIGIT[0].astype("i1"))
    yield "int16", idx(0x0B, DIGIT[0].astype(">i2"))
    yield "int32", idx(0x0C, DIGIT[0].astype(">i4"))
    yield "float32", idx(0x0D, DIGIT.astype(">f4"))
    yield "float64", idx(0x0E, DIGIT.astype(">f8"))


def npy(values: npt.NDArray[np.generic], version: tuple[int, int] | None = None) -> bytes:
    """Give what numpy.save writes."""
    file = BytesIO()
    np.lib.format.write_array(file, values, version=version, allow_pickle=False)
    return file.getvalue()


def npy_files() -> Files:
    for kind in ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"):
        yield kind, npy(DIGIT.astype(kind))
    yield "version2", npy(DIGIT, (2, 0))
    yield "version3", npy(DIGIT, (3, 0))
    yield "big_endian", npy(DIGIT.astype(">i4"))
    yield "fortran", npy(np.asfortranarray(DIGIT))
    yield "one", npy(DIGIT[0])


def pgm_files() -> Files:
    yield "bytes", b"P5 5 4 255\n" + DIGIT.tobytes()
    yield "comments", b"P5\n# made\n5 4 # sides\n255\n" + DIGIT.tobytes()
    yield "dark", b"P5 5 4 15\n" + (DIGIT % 16).tobytes()
    yield "digits", b"P2\n5 4\n255\n" + "\n".join(" ".join(map(str, row)) for row in DIGIT).encode()


def chunk(kind: bytes, data: bytes) -> bytes:
    """Give a chunk of PNG."""
    checksum = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


def png(depth: int, color: int, rows: bytes, others: bytes = b"", plain: bool = False) -> bytes:
    """Give a PNG of 4 x 3; `plain`: pixels that fuzz_png is to compress."""
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", struct.pack(">2I5B", 4, 3, depth, color, 0, 0, 0)),
            others,
            chunk(b"IDAT", rows if plain else zlib.compress(rows)),
            chunk(b"IEND", b""),
        ]
    )


def png_files() -> Files:
    palette = chunk(b"PLTE", bytes(range(12)))
    opaque = chunk(b"tRNS", b"\xff\xff")
    kinds = [(1, 0, 1), (2, 0, 1), (4, 0, 2), (8, 0, 4), (16, 0, 8)]
    kinds += [(8, 2, 12), (16, 2, 24), (2, 3, 1), (8, 3, 4), (8, 4, 8), (8, 6, 16), (16, 6, 32)]
    for depth, color, width in kinds:
        # Each row by another filter; of palettes places that it has, of alphas opaque ones.
        full = b"\x00" if color == 3 else b"\xff"
        rows = b"".join(bytes([y]) + full * width for y in (0,) * 3)
        others = palette + opaque if color == 3 else chunk(b"tEXt", b"a\0note")
        yield f"{color}_{depth}", png(depth, color, rows, others)
        mixed = b"".join(bytes([y + 1]) + bytes(range(width)) for y in range(3))
        if color in (0, 2):
            yield f"{color}_{depth}_plain", png(depth, color, mixed, plain=True)


def gzip_files() -> Files:
    pictures = dict(png_files())
    for name, content in [*idx_files(), *list(npy_files())[:2], *pgm_files()]:
        yield name, gzip.compress(content, mtime=0)
    yield "members", gzip.compress(b"\0\0", mtime=0) + gzip.compress(idx(8, DIGIT)[2:], mtime=0)
    yield "png", pictures["0_8"]


def json_files() -> Files:
    for path in goldens("chain-pixels", "several", "compiled-dynamic"):
        content = path.read_bytes()
        (length,) = struct.unpack("<Q", content[:8])
        yield path.stem, content[8 : 8 + length]
    yield (
        "all",
        (
            b'{"a": [1, -2.5e-3, true, false, null, NaN, -Infinity], "\\u00e9\\ud83d\\ude00": '
            b'{"b": "\\"\\\\\\n\xc3\xa9\xf0\x9f\x98\x80", "c": []}, "d": 9007199254740992}'
        ),
    )
    yield "deep", b"[" * 64 + b"]" * 64


def coded_files() -> Files:
    """Give streams behind their schedules: see fuzz_coded.cpp."""
    random = np.random.default_rng(0)
    number, weights, text, strides = 0, 4, 15, {2: 11, 3: 12, 4: 13, 8: 14}
    for name, reads in {
        "numbers": [(number, 5, 0), (number, 200, 0)],
        "text": [(text, 60, 0), (number, 3, 0), (text, 20, 0)],
        "strides": [(strides[4], 40, 0), (strides[2], 20, 0), (strides[8], 80, 0)],
        "weights": [(weights, 12, 20), (weights, 1, 1), (weights, 40, 30)],
        "layer": [(number, 60, 0), (weights, 20, 36), (strides[2], 40, 0), (strides[3], 9, 0)],
    }.items():
        writer = _core.CodedWriter()
        for kind, first, second in reads:
            if kind == number:
                writer.number(first * 1000)
            elif kind == weights:
                values = random.integers(-7, 8, (first, second), dtype=np.int8)
                values[random.random(values.shape) < 0.6] = 0
                writer.weights(values)
            else:
                stride = next((s for s, code in strides.items() if code == kind), 1)
                writer.bytes(random.integers(97, 103, first, dtype=np.uint8).tobytes(), stride)
        schedule = bytes([len(reads), *itertools.chain.from_iterable(reads)])
        yield name, schedule + writer.finish()


def network_files() -> Files:
    for kind in KINDS:
        for pixels in (False, True):
            network = random_network(1, (9, 20, 6), kind, pixels=pixels, channels=3)
            yield f"{kind}_pixels" if pixels else kind, network.packed.tobytes()
    for form in ("bounded", "int16", "nibbles", "bitmask", "picks", "windows32", "windows64"):
        network = random_network(2, (9, 20))
        for layer in network.layers:
            layer.weight[:] = layer.weight % 15 - 7
            layer.weight[:, ::2] = 0
        natives = [layer.native for layer in network.layers]
        packed = _core.pack(natives, "static", forms=[[form]] * len(natives))
        yield form, packed.tobytes()


def graph(seed: int) -> NetworkGraph:
    """Give the graph that ``graph<seed>`` is."""
    return RandomGraph(seed, 6).graph()


def graph_files() -> Files:
    """Give small graphs that have every kind of step among them."""
    seen: set[str] = set()
    for seed in range(2000):
        kinds = {step.kind for step in graph(seed).steps} - seen
        if not kinds:
            continue
        packed = pack_graph(graph(seed), "fixed").packed
        if packed.size <= MOST:
            seen |= kinds
            yield f"graph{seed}", packed.tobytes()


def goldens(*stems: str) -> list[Path]:
    """Find saved files of earlier formats by name."""
    return [path for stem in stems for path in sorted(GOLDEN.glob(f"*/{stem}.safetensors"))]


MODELS = (
    "hardtanh", "root-static", "several", "chain-partly", "chain-low-rank-float", "compiled-affine",
    "compiled-dynamic", "compiled-pixels", "structured", "pruned-float", "module-float",
    "four-bits-dynamic", "indexed-static",
)  # fmt: skip
COMPRESSED = ("compressed-static", "compressed-dynamic", "compressed-pixels")


def model_files() -> Files:
    for path in goldens(*MODELS):
        yield path.stem, path.read_bytes()


def compressed_files() -> Files:
    for path in goldens(*COMPRESSED):
        yield path.stem, path.read_bytes()


def c_api_files() -> Files:
    """Give files behind calls: see fuzz_c_api.cpp."""
    calls = {
        "in_order": [0, 0, 5, 0, 1, 0, 4, 0, 3, 3, 6, 0, 7, 0],
        "from_memory": [2, 0, 3, 1, 4, 255, 4, 1],
        "twice": [0, 0, 1, 0, 0, 0, 3, 2, 1, 4, 5, 255, 1, 5, 3, 5],
    }
    for name, pairs in calls.items():
        for path in goldens("hardtanh", "compiled-pixels", "several"):
            yield f"{name}_{path.stem}", bytes([len(pairs) // 2, *pairs]) + path.read_bytes()


CORPORA = {
    "fuzz_c_api": c_api_files,
    "fuzz_coded": coded_files,
    "fuzz_compressed": compressed_files,
    "fuzz_file": model_files,
    "fuzz_gzip": gzip_files,
    "fuzz_idx": idx_files,
    "fuzz_json": json_files,
    "fuzz_npy": npy_files,
    "fuzz_packed_graph": graph_files,
    "fuzz_packed_network": network_files,
    "fuzz_pgm": pgm_files,
    "fuzz_png": png_files,
}


def main() -> None:
    """Write all of them; what fuzzers found (``found-*``) stays."""
    for target, files in CORPORA.items():
        folder = HERE / "corpus" / target
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.iterdir():
            if not old.name.startswith("found-"):
                old.unlink()
        for name, content in files():
            (folder / name).write_bytes(content)


if __name__ == "__main__":
    main()
