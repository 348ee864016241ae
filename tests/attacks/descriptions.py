"""Attacks by what a file says of its models."""

from __future__ import annotations

from typing import Any

import numpy as np
from attack_files import attack, container, good, parts, with_network


@attack("a format of a far future")
def format_99() -> bytes:
    return good(format=99, reader=99)


@attack("a feature that this reader does not know, and must not ignore")
def unknown_feature() -> bytes:
    return good(features=["checksums", "time travel"])


@attack("models that are no object")
def models_are_a_list() -> bytes:
    return good(models=["m"])


@attack("a description that is a text")
def description_is_a_text() -> bytes:
    return good("compiled")


@attack("half of a surrogate pair in a name")
def half_a_surrogate() -> bytes:
    header, data = parts()
    text = header["__metadata__"]["fastmnist"].replace('"compiled"', '"\\ud800"')
    header["__metadata__"]["fastmnist"] = text
    return container(header, data)


@attack("a million layers, of which none is there")
def many_layers() -> bytes:
    return with_network(layers=[{}] * 20_000)


@attack("a name of 100,000 letters, repeated in messages")
def long_kind() -> bytes:
    return with_network(kind="x" * 100_000)


@attack("a clamp whose lower bound is above the upper one")
def clamp_backwards() -> bytes:
    return with_network(layers=[{"name": "0", "clamp": [1, 0]}] * 2)


@attack("a clamp that is not a number")
def clamp_nan() -> bytes:
    return with_network(layers=[{"name": "0", "clamp": [float("nan"), 1.0]}] * 2)


@attack("pixels of more channels than there are features")
def channels_beyond_features() -> bytes:
    return with_network(pixels={"mean": [0.0] * 3_000, "std": [1.0] * 3_000})


@attack("zeros of 99,999 inputs told for a layer of 8")
def zeros_of_too_many_inputs() -> bytes:
    return with_network(layers=[{"name": "0", "clamp": [0, 1], "input_zeros": "z99999" * 999}] * 2)


@attack("a chain whose step runs code by its name")
def step_is_code() -> bytes:
    chain = [{"type": "forward", "path": "__class__.__init__.__globals__"}]
    module = {"type": "module", "class": "os.system", "pixels": None, "changes": [], "masked": [],
              "replaced": {}, "chain": chain}  # fmt: skip
    return good(module)


def graph(**changed: Any) -> bytes:
    told = {
        "values": [{"shape": [8]}, {"shape": [8]}],
        "inputs": [{"name": "x", "value": 0, "pixels": None, "any_shape": True}],
        "steps": [{"kind": "activate", "name": "a", "operands": [0], "value": 1,
                   "function": {"name": "gelu"}}],
        "outputs": [1], "structure": None,
    }  # fmt: skip
    told.update(changed)
    return good({"type": "compiled", "graph": told}, {"m/x": np.zeros(1, np.int8)})


@attack("a step that reads a value that is not there")
def operand_beyond_values() -> bytes:
    step = {"kind": "add", "name": "a", "operands": [0, 2**31], "value": 1}
    return graph(steps=[step])


@attack("a step that reads what it gives")
def step_reads_itself() -> bytes:
    return graph(steps=[{"kind": "add", "name": "a", "operands": [1, 1], "value": 1}])


@attack("values of 2^26 numbers each, eight thousand of them")
def values_beyond_memory() -> bytes:
    return graph(values=[{"shape": [8]}, {"shape": [8]}] + [{"shape": [2**13, 2**13]}] * 2000,
                 steps=[{"kind": "add", "name": "a", "operands": [0, 0], "value": i}
                        for i in range(2, 2000)], outputs=[1999])  # fmt: skip


@attack("a value whose size is 2^26 in each of seven dimensions")
def shape_of_a_value_that_wraps() -> bytes:
    return graph(values=[{"shape": [8]}, {"shape": [2**26] * 7}])


@attack("a slice that begins behind the end")
def slice_beyond() -> bytes:
    return graph(values=[{"shape": [8]}, {"shape": [4]}],
                 steps=[{"kind": "slice", "name": "s", "operands": [0], "value": 1,
                         "begin": 2**40}])  # fmt: skip


@attack("numbers of a step that comes later")
def numbers_of_later() -> bytes:
    step = {"kind": "float", "name": "a", "operands": [0], "value": 1, "numbers_of": 5}
    return graph(steps=[step])


@attack("other names of tensors that lead nowhere")
def same_as_nothing() -> bytes:
    module = {"type": "module", "class": None, "pixels": None, "changes": [], "masked": [],
              "replaced": {}, "chain": None, "same": {".graph.values.0": "m/none"},
              "graph": {"values": [{"shape": [8], "constant": True}], "inputs": [],
                        "steps": [], "outputs": []}}  # fmt: skip
    return good(module)


def module(chain: list[Any], replaced: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"type": "module", "class": None, "pixels": None, "changes": [], "masked": [],
            "replaced": replaced or {}, "chain": chain, **more}  # fmt: skip


def with_module(numbers: dict[str, Any], chain: list[Any], **more: Any) -> bytes:
    return good(module(chain, **more), {f"m/{name}": array for name, array in numbers.items()})


@attack("a layer without outputs behind one that has some: whose weights are read then?")
def linear_of_nothing() -> bytes:
    linear = {"type": "linear", "bias": False}
    chain = [{**linear, "path": "a", "shape": [3, 3]}, {**linear, "path": "b", "shape": [3, 0]}]
    numbers = {"a.weight": np.ones((3, 3), np.float32), "b.weight": np.ones((0, 3), np.float32)}
    return with_module(numbers, chain)


@attack("a norm of no features, so that it takes as many as there are")
def batchnorm_of_nothing() -> bytes:
    norm = {"type": "batchnorm", "path": "a", "features": 0, "affine": False, "eps": 1e-5}
    linear = {"type": "linear", "path": "b", "shape": [3, 3], "bias": False}
    nothing = np.zeros(0, np.float32)
    numbers = {"a.running_mean": nothing, "a.running_var": nothing,
               "b.weight": np.ones((3, 3), np.float32)}  # fmt: skip
    return with_module(numbers, [linear, norm])


@attack("a PReLU with a slope for each of no features")
def slopes_of_nothing() -> bytes:
    native = {"type": "native", "class": "PReLU", "arguments": {"num_parameters": 0}}
    linear = {"type": "linear", "path": "b", "shape": [3, 3], "bias": False}
    numbers = {"a.weight": np.zeros(0, np.float32), "b.weight": np.ones((3, 3), np.float32)}
    return with_module(numbers, [linear, {"type": "native", "path": "a"}], replaced={"a": native})


@attack("pixels of no channels: a division by zero")
def pixels_of_no_channels() -> bytes:
    linear = {"type": "linear", "path": "b", "shape": [3, 3], "bias": False}
    numbers = {"b.weight": np.ones((3, 3), np.float32)}
    return with_module(numbers, [linear], pixels={"mean": [], "std": []})


@attack("a million channels of pixels, for each of which a table would be made")
def pixels_of_many_channels() -> bytes:
    told = {"values": [{"shape": [8]}, {"shape": [8]}],
            "inputs": [{"name": "x", "value": 0, "any_shape": True,
                        "pixels": {"mean": [0] * 9_000, "std": [1] * 9_000}}],
            "steps": [{"kind": "activate", "name": "a", "operands": [0], "value": 1,
                       "function": {"name": "gelu"}}],
            "outputs": [1], "structure": None}  # fmt: skip
    return good({"type": "compiled", "graph": told}, {"m/x": np.zeros(1, np.int8)})


@attack("a name with a NUL in it: C reads another name")
def name_with_a_nul() -> bytes:
    header, data = parts()
    content = header["__metadata__"]["fastmnist"]
    header["__metadata__"]["fastmnist"] = content.replace('{"m": {', '{"m\\u0000b": {')
    return container(header, data)
