"""What each traced step becomes in a graph: one function for each kind of step."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import nn

from fastmnist.compilation import elementwise_steps, layer_steps, shape_steps
from fastmnist.compilation.arguments import Result
from fastmnist.compilation.builder import Builder, Refused
from fastmnist.layers.native import torch_class
from fastmnist.layers.own_forward import has_own_forward
from fastmnist.rewriting.steps import Kind, Step

_SHAPES = {
    "flatten", "view", "reshape", "unsqueeze", "squeeze", "unflatten", "view_as", "reshape_as",
}  # fmt: skip


def translate(builder: Builder, step: Step) -> Result:
    """Add what a traced step does; give the value, or values, that it gives."""
    if step.kind in _KINDS:
        return _KINDS[step.kind](builder, step)
    if step.module is not None:
        handler = _handler(step.module)
        if handler is None:
            raise Refused(step, "it is no layer that one native call can run")
        return handler(builder, step)
    handler = _FUNCTIONS.get(step.function)
    if handler is None or step.node.op not in ("call_function", "call_method"):
        raise Refused(step, "it is no step that one native call can run")
    return handler(builder, step)


def check_modules(steps: Iterable[Step]) -> None:
    """Refuse modules that nothing is known of, by name, before anything is run."""
    for step in steps:
        if step.module is None or step.kind in _KINDS or _handler(step.module) is not None:
            continue
        if has_own_forward(step.module):
            raise Refused(step, "its forward is another than its class's")
        raise Refused(step, "it is no layer that one native call can run")


def _handler(module: nn.Module) -> Handler | None:
    """What reads a module of torch's; None where its forward is not torch's own."""
    return None if has_own_forward(module) else _MODULES.get(torch_class(module))


Handler = Callable[[Builder, Step], Result]
_KINDS: dict[Kind, Handler] = {
    Kind.INT8: layer_steps.int8_layer,
    Kind.LINEAR: layer_steps.float_linear,
    Kind.NORM: layer_steps.batch_norm,
    Kind.CLAMP: elementwise_steps.clamp,
    Kind.ELEMENTWISE: elementwise_steps.elementwise,
    Kind.ARITHMETIC: elementwise_steps.arithmetic,
    Kind.FLATTEN: shape_steps.reshape,
    Kind.ROWS: shape_steps.reshape,
    Kind.PASS: shape_steps.same,
    Kind.DROPOUT: shape_steps.same,
}
_MODULES: dict[type, Handler] = {
    nn.LayerNorm: layer_steps.layer_norm,
    nn.PReLU: elementwise_steps.prelu,
    nn.GLU: elementwise_steps.glu,
    nn.Softmax: shape_steps.softmax,
    nn.LogSoftmax: shape_steps.softmax,
    nn.Flatten: shape_steps.reshape,
    nn.Unflatten: shape_steps.reshape,
}
_FUNCTIONS: dict[str, Handler] = {
    **dict.fromkeys(_SHAPES, shape_steps.reshape),
    **dict.fromkeys(("cat", "concat", "concatenate"), shape_steps.concatenate),
    **dict.fromkeys(("softmax", "log_softmax"), shape_steps.softmax),
    **dict.fromkeys(("transpose", "swapaxes", "swapdims", "permute"), shape_steps.transpose),
    **dict.fromkeys(("chunk", "split", "tensor_split"), shape_steps.split),
    **dict.fromkeys(("matmul", "mm"), layer_steps.matmul),
    "getitem": shape_steps.item,
    "linear": layer_steps.functional_linear,
    "layer_norm": layer_steps.functional_layer_norm,
    "glu": elementwise_steps.glu,
    "mean": shape_steps.mean,
    "sum": shape_steps.sum_of,
    "argmax": shape_steps.argmax,
}
