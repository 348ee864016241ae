"""Files that mean harm, and what each tries: written by ``python tests/attacks/make.py``.

Each is a good file of one small model with one thing changed. All must be refused with an error, by
Python and by the C functions, in no more memory than the file's size allows.
"""

from __future__ import annotations

import json
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "support")]

from attack_files import (  # noqa: E402
    ATTACKS,
    attack,
    container,
    description,
    good,
    parts,
    tensors,
    with_place,
    with_tensor,
)
from descriptions import graph  # noqa: E402, F401 - enters its attacks

# ---- the container -------------------------------------------------------------------------------


@attack("a header as long as all memory: allocated before it is seen that the file is short")
def header_of_2_to_63() -> bytes:
    return struct.pack("<Q", 2**63) + b"{}"


@attack("a header just below the limit where the file has some bytes")
def header_longer_than_the_file() -> bytes:
    return struct.pack("<Q", 99_999_999) + b"{" + b" " * 50


@attack("no header at all")
def seven_bytes() -> bytes:
    return b"\0" * 7


@attack("a header that is JSON, but no object")
def header_is_a_list() -> bytes:
    return container([], b"")


@attack("lists in lists, to exhaust the reader's stack")
def header_nests_deep() -> bytes:
    return container(b'{"a":' + b"[" * 20_000 + b"]" * 20_000 + b"}", b"")


@attack("a name twice, so that two readers see two tensors")
def tensor_twice() -> bytes:
    one = '"m/w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}'
    two = '"m/w":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}'
    return container(f"{{{one},{two}}}".encode(), b"ab")


@attack("bytes between tensors that no tensor holds: room for what a scanner should not see")
def hole_between_tensors() -> bytes:
    header, data = parts()
    first = header["m/network.layers.0.weight_int8"]["data_offsets"][1]
    for name, place in header.items():
        if name != "__metadata__" and place["data_offsets"][0] >= first:
            place["data_offsets"] = [at + 4 for at in place["data_offsets"]]
    return container(header, data[:first] + b"evil" + data[first:])


@attack("two tensors in the same bytes, of different types")
def overlapping_tensors() -> bytes:
    header, data = parts()
    header["m/more"] = {"dtype": "U8", "shape": [8], "data_offsets": [0, 8]}
    return container(header, data)


@attack("bytes behind the last tensor")
def more_behind_the_end() -> bytes:
    return good() + b"PK\x03\x04 another file"


@attack("a tensor that ends behind the file's end, to read what lies there")
def tensor_beyond_the_end() -> bytes:
    header, data = parts()
    return container(header, data[:-1])


@attack("offsets whose difference is right only modulo 2^64")
def offsets_that_wrap() -> bytes:
    return with_place("weight_int8", data_offsets=[2**64 - 24, 24])


@attack("an end before its begin")
def offsets_backwards() -> bytes:
    return with_place("weight_int8", data_offsets=[48, 0])


@attack("a shape whose product is 0 modulo 2^64")
def shape_that_wraps() -> bytes:
    return with_place("weight_int8", shape=[2**32, 2**32])


@attack("a negative size")
def negative_shape() -> bytes:
    return with_place("weight_int8", shape=[-6, -8])


@attack("sizes that are no integers")
def shape_of_fractions() -> bytes:
    return with_place("weight_int8", shape=[6.0, 8.5])


@attack("a thousand dimensions")
def many_dimensions() -> bytes:
    return with_place("weight_int8", shape=[48, *[1] * 1000])


@attack("a dtype that says how to call a constructor")
def dtype_is_code() -> bytes:
    return with_place("weight_int8", dtype="__import__('os').system")


@attack("a pickle in the place of a header")
def pickle_instead() -> bytes:
    return b"\x80\x04cos\nsystem\n(S'true'\ntR."


@attack("metadata that are numbers")
def metadata_of_numbers() -> bytes:
    return container({"__metadata__": {"fastmnist": 3}}, b"")


@attack("bytes that are no UTF-8 in a name")
def name_is_no_text() -> bytes:
    return container(b'{"\xff\xfe":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}', b"")


# ---- tensors -------------------------------------------------------------------------------------


@attack("a tensor whose bytes are not those that were written")
def flipped_weight() -> bytes:
    header, data = parts()
    return container(header, bytes([data[0] ^ 1]) + data[1:])


@attack("tensors without checksums where others have some")
def checksum_left_out() -> bytes:
    numbers = tensors()
    sums = {name: zlib.crc32(array.tobytes()) for name, array in numbers.items()}
    del sums["m/network.layers.0.weight_int8"]
    return good(checksums=sums)


@attack("a layer without outputs")
def no_outputs() -> bytes:
    return with_tensor("weight_int8", np.zeros((0, 8), np.int8))


@attack("sums of products beyond 32 bits: more inputs than a kernel takes")
def too_many_inputs() -> bytes:
    return with_tensor("weight_int8", np.zeros((1, 70_000), np.int8))


@attack("fewer scales than outputs, read to the end of the weights")
def scales_too_few() -> bytes:
    return with_tensor("weight_scale", np.ones(5, np.float32))


@attack("a layer that takes other sizes than the one before it gives")
def layers_do_not_meet() -> bytes:
    return with_tensor("weight_int8", np.zeros((6, 8), np.int8)[:5])


@attack("a scale that is no number: codes become anything")
def scale_nan() -> bytes:
    return with_tensor("input_scale", np.array(np.nan, np.float32))


@attack("a zero point beyond the codes")
def zero_point_256() -> bytes:
    return with_tensor("input_zero_point", np.array(256, np.int32))


@attack("weights in another type")
def weights_of_floats() -> bytes:
    return with_tensor("weight_int8", np.zeros((6, 8), np.float32))


def short(form: str, shape: list[int], **numbers: np.ndarray) -> bytes:
    made = tensors()
    del made["m/network.layers.0.weight_int8"]
    for name, array in numbers.items():
        made[f"m/network.layers.0.weight_int8.{name}"] = array
    told = {**description(), form: {"network.layers.0.weight_int8": shape}}
    return good(told, made)


@attack("a bitmask of few bytes for a shape of terabytes")
def sparse_bomb() -> bytes:
    return short("sparse", [2**30, 2**30], bitmask=np.zeros((6, 1), np.uint8),
                 values=np.zeros(0, np.int8))  # fmt: skip


@attack("more bits than there are values, to read behind them")
def sparse_without_values() -> bytes:
    return short("sparse", [6, 8], bitmask=np.full((6, 1), 255, np.uint8),
                 values=np.zeros(3, np.int8))  # fmt: skip


@attack("bits behind the end of a row, to write into the next one")
def sparse_beyond_a_row() -> bytes:
    return short("sparse", [6, 5], bitmask=np.full((6, 1), 128, np.uint8),
                 values=np.zeros(6, np.int8))  # fmt: skip


@attack("places beyond a table of three values")
def place_beyond_the_table() -> bytes:
    return short("indexed", [6, 8], table=np.array([-1, 0, 1], np.int8),
                 indices=np.full((6, 2), 255, np.uint8))  # fmt: skip


@attack("a table without values: every place is beyond it")
def empty_table() -> bytes:
    return short("indexed", [6, 8], table=np.zeros(0, np.int8),
                 indices=np.zeros((6, 1), np.uint8))  # fmt: skip


@attack("one array in two forms at once")
def two_forms() -> bytes:
    told = {**description(), "sparse": {"network.layers.0.weight_int8": [6, 8]}}
    return good(told)


# ---- compressed files ----------------------------------------------------------------------------


def coded(payload: bytes) -> bytes:
    about = {"dtype": "U8", "shape": [len(payload)], "data_offsets": [0, len(payload)]}
    return container({"fastmnist": about}, payload)


def compressed(told: dict[str, Any]) -> bytes:
    from fastmnist._core import CodedWriter

    text = json.dumps({"format": 2, "single": True, "models": {"m": told}}).encode()
    writer = CodedWriter()
    writer.number(len(text))
    writer.bytes(text)
    return coded(writer.finish())


@attack("a coded stream of another version")
def coded_version_9() -> bytes:
    return coded(b"\x09" + b"\0" * 40)


@attack("a text of 4 GB in forty bytes")
def coded_text_bomb() -> bytes:
    from fastmnist._core import CodedWriter

    writer = CodedWriter()
    writer.number(2**32 - 1)
    return coded(writer.finish())


@attack("weights of a terabyte in some hundred bytes")
def coded_weights_bomb() -> bytes:
    return compressed({**description(), "tensors": [["network.layers.0.", 2**20, 2**20, "------"]]})


@attack("a tensor whose shape wraps")
def coded_shape_that_wraps() -> bytes:
    return compressed({**description(), "tensors": [["x", "f4", "r", [2**39, 2**39]]]})


@attack("a tensor twice")
def coded_tensor_twice() -> bytes:
    empty = ["x", "f4", "r", [0]]
    return compressed({**description(), "tensors": [empty, empty]})


@attack("a stream whose checksum is another's")
def coded_flipped_checksum() -> bytes:
    whole = bytearray(compressed({**description(), "tensors": []}))
    payload = 8 + struct.unpack("<Q", bytes(whole[:8]))[0]
    whole[payload + 1] ^= 1
    return bytes(whole)


def readme() -> str:
    rows = "\n".join(f"| `{name}` | {tries} |" for name, (tries, _) in ATTACKS.items())
    return (
        "# Files that mean harm\n\nWritten by `python tests/attacks/make.py`; "
        "`tests/files/test_attacks.py` holds that each is refused with an error, in little memory, "
        "by Python and by the C functions.\n\n| file | what it tries |\n| --- | --- |\n" + rows
        + "\n"
    )  # fmt: skip


def main() -> None:
    for name, (_, make) in ATTACKS.items():
        (HERE / f"{name}.safetensors").write_bytes(make())
    (HERE / "README.md").write_text(readme())


if __name__ == "__main__":
    main()
