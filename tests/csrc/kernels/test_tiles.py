"""AMX tiles share the thread with other libraries: nothing of ours may be left behind."""

from __future__ import annotations

import pytest
import torch

import fastmnist as fm
from fastmnist import _core

RUNNABLE = [rung["isa"] for rung in fm.cpu_info()["ladder"] if not rung["why_not"]]

pytestmark = pytest.mark.skipif("amx_int8" not in RUNNABLE, reason="this machine has no AMX")


def test_others_use_tiles_right_after_us() -> None:
    """torch's bfloat16 and ONNX Runtime's int8 kernels configure tiles as they need them."""
    torch.manual_seed(0)
    net = fm.compile(fm.NeuralNetwork(), dynamic=True)
    rows = torch.rand(64, 784)
    before = _core.set_isa("amx_int8")
    try:
        expected = net(rows)
        a, b = torch.rand(256, 512).bfloat16(), torch.rand(512, 256).bfloat16()
        product = a @ b
        for _ in range(50):
            assert torch.equal(net(rows), expected)
            assert torch.equal(a @ b, product)
    finally:
        _core.set_isa(before)


def test_onnx_runtime_right_after_us() -> None:
    import onnx
    import onnxruntime as ort

    helper, proto = onnx.helper, onnx.TensorProto
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "b"], ["y"])],
        "product",
        [
            helper.make_tensor_value_info("a", proto.UINT8, [64, 256]),
            helper.make_tensor_value_info("b", proto.INT8, [256, 64]),
        ],
        [helper.make_tensor_value_info("y", proto.INT32, [64, 64])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    a = torch.randint(0, 256, (64, 256), dtype=torch.uint8)
    b = torch.randint(-128, 128, (256, 64), dtype=torch.int8)
    feed = {"a": a.numpy(), "b": b.numpy()}
    product = (a.int() @ b.int()).numpy()
    net = fm.compile(fm.NeuralNetwork(), dynamic=True)
    rows = torch.rand(64, 784)
    before = _core.set_isa("amx_int8")
    try:
        expected = net(rows)
        for _ in range(20):
            assert torch.equal(net(rows), expected)
            assert (session.run(None, feed)[0] == product).all()
    finally:
        _core.set_isa(before)


@pytest.mark.parametrize("rows", [1, 2, 3, 15, 16, 17, 31, 32, 33, 95, 96, 97, 193])
@pytest.mark.parametrize("x_zero_point", [0, 7])
def test_saturating_epilogue_equals_the_clamping_one(rows: int, x_zero_point: int) -> None:
    """Packing may prove that codes cannot overflow; the bits are the same either way."""
    torch.manual_seed(rows)
    weight = torch.randint(-127, 128, (67, 130), dtype=torch.int8).numpy()
    scale = torch.rand(67).numpy() * 1e-3
    bias = torch.randn(67).numpy()
    layer = _core.Layer(weight, scale, bias, 0.0, float("inf"), 0.02, x_zero_point)
    packed = _core.pack([layer], "static")
    codes = torch.randint(0, 256, (rows, 130), dtype=torch.uint8).numpy()
    one_scale = torch.tensor([0.02]).numpy()
    zero_point = torch.tensor([x_zero_point], dtype=torch.int32).numpy()
    before = _core.cpu_info()["isa"]
    try:
        for isa in RUNNABLE:
            _core.set_isa(isa)
            made = []
            for bounded in (False, True):
                out = torch.zeros(rows, 67, dtype=torch.uint8).numpy()
                _core.linear(codes, packed, one_scale, zero_point, out, 0.01, 0, bounded)
                made.append(out)
            assert (made[0] == made[1]).all(), isa
            assert made[0].min() == 0
            assert made[0].max() == 255
    finally:
        _core.set_isa(before)
