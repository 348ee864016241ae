"""The short way to call a module changes nothing that anybody can see."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from models import mlp, same
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import fastmnist as fm
from fastmnist.layers.quantized import QuantizedLinear
from fastmnist.layers.quiet import Identity

X = torch.randn(9, 12, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def q():
    return fm.quantize(mlp(), fm.Static(X))


@pytest.fixture(params=["identity", "chain"])
def quiet(request, q):
    """Both kinds of modules that have a short call, with what they return for X."""
    module = q[1] if request.param == "identity" else q[0]
    assert type(module) is (Identity if request.param == "identity" else QuantizedLinear)
    assert type(module).__call__ is not nn.Module.__call__
    return module, module(X)


HOOKS = {
    "forward": lambda m, seen: m.register_forward_hook(lambda m, a, y: seen.append(len(a))),
    "forward, keywords": lambda m, seen: m.register_forward_hook(
        lambda m, a, k, y: seen.append(len(a)), with_kwargs=True
    ),
    "forward, always": lambda m, seen: m.register_forward_hook(
        lambda m, a, y: seen.append(len(a)), always_call=True
    ),
    "before": lambda m, seen: m.register_forward_pre_hook(lambda m, a: seen.append(len(a))),
    "before, keywords": lambda m, seen: m.register_forward_pre_hook(
        lambda m, a, k: seen.append(len(a)), with_kwargs=True
    ),
    "all forward": lambda m, seen: nn.modules.module.register_module_forward_hook(
        lambda m, a, y: seen.append(len(a))
    ),
    "all before": lambda m, seen: nn.modules.module.register_module_forward_pre_hook(
        lambda m, a: seen.append(len(a))
    ),
}


@pytest.mark.parametrize("kind", HOOKS)
def test_hooks_that_come_and_go(quiet, kind):
    module, expected = quiet
    seen = []
    for _ in range(2):
        handle = HOOKS[kind](module, seen)
        try:
            assert same(module(X), expected)
            assert seen == [1]
        finally:
            handle.remove()
        assert same(module(X), expected)
        assert seen == [1]
        seen.clear()


def test_hooks_change_what_goes_in_and_out(quiet):
    module, expected = quiet
    handle = module.register_forward_hook(lambda m, args, y: y + 1)
    assert same(module(X), expected + 1)
    handle.remove()
    handle = module.register_forward_pre_hook(lambda m, args: (args[0] * 0,))
    assert same(module(X), module.forward(X * 0))
    handle.remove()
    assert same(module(X), expected)


def test_backward_hooks_of_folded_layers(q):
    seen = []
    x = X.clone().requires_grad_()
    q[1].register_full_backward_hook(lambda m, gi, go: seen.append("hook"))
    q[2].register_full_backward_pre_hook(lambda m, go: seen.append("before"))
    q[2](q[1](x)).sum().backward()
    assert seen == ["before", "hook"]
    assert torch.equal(x.grad, torch.ones_like(x))


def test_hooks_on_every_folded_layer_run_in_order(q):
    seen = []
    for name, module in q.named_children():
        module.register_forward_hook(lambda m, a, y, name=name: seen.append(name))
    q(X)
    assert seen == [name for name, _ in q.named_children()]


def test_a_forward_of_the_instances_own(quiet):
    module, expected = quiet
    module.forward = lambda x: x * 0 + 7
    assert (module(X) == 7).all()
    del module.forward
    assert same(module(X), expected)


def test_a_compiled_form_of_the_instances_own(quiet):
    module, expected = quiet
    module.compile(backend="eager")
    calls = []
    module._compiled_call_impl, inner = (
        lambda x: calls.append(1) or inner(x),
        (module._compiled_call_impl),
    )
    assert same(module(X), expected)
    assert calls == [1]


def test_tools_that_replace_the_call_of_all_modules(quiet, monkeypatch):
    module, expected = quiet
    seen = []
    original = nn.Module.__call__

    def call(self, *args, **kwargs):
        seen.append(type(self))
        return original(self, *args, **kwargs)

    monkeypatch.setattr(nn.Module, "__call__", call)
    assert same(module(X), expected)
    assert seen[0] is type(module)


@pytest.mark.parametrize("kind", [Identity, QuantizedLinear])
def test_subclasses_are_called_as_usual(q, kind):
    class Own(kind):
        def forward(self, input):
            return input * 3

    class Called(kind):
        def __call__(self, input):
            return 5

    for cls, expected in ((Own, X * 3), (Called, 5)):
        module = copy.deepcopy(q[1] if kind is Identity else q[0])
        module.__class__ = cls
        y = module(X)
        assert same(y, expected) if cls is Own else y == expected


def test_arguments(quiet):
    module, expected = quiet
    assert same(module(input=X), expected)
    for wrong in (lambda: module(), lambda: module(X, X), lambda: module(X, other=X)):
        with pytest.raises(TypeError, match="forward"):
            wrong()
    for given in (None, 3, [X], "x"):
        if isinstance(module, Identity):
            assert module(given) is given
        else:
            with pytest.raises(TypeError, match=r"expected a torch\.Tensor"):
                module(given)


def test_what_folded_layers_pass_on(q):
    for given in (X, X.to("meta"), X.to_sparse(), nn.Parameter(X), X.clone().requires_grad_()):
        assert q[1](given) is given


def test_tensor_subclasses_and_other_dtypes(q):
    class Tagged(torch.Tensor):
        pass

    expected = q(X)
    assert isinstance(q(X.as_subclass(Tagged)), Tagged)
    assert same(q(X.as_subclass(Tagged)).as_subclass(torch.Tensor), expected)
    assert same(q(nn.Parameter(X, requires_grad=False)), expected)
    assert same(q(X.double()), expected)
    assert same(q(X.t().contiguous().t()), expected)
    assert same(q(torch._neg_view(-X)), expected)
    assert same(q(X.reshape(3, 3, 12)), expected.reshape(3, 3, -1))
    assert q(X[:0]).shape == (0, expected.shape[1])
    assert same(q(X[0]), expected[0])
    deep = X.reshape(9, *[1] * 12, 12)
    assert same(q(deep).reshape(9, -1), expected)
    with pytest.raises(RuntimeError, match=r"input: .* that requires grad"):
        q(X.clone().requires_grad_())
    with pytest.raises(RuntimeError, match=r"input: .* that requires grad"):
        q(nn.Parameter(X))


class Functions(TorchFunctionMode):
    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


class Operators(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("mode", [Functions, Operators])
def test_modes_see_the_operator(q, mode):
    expected = q(X)
    with mode() as active:
        assert same(q(X), expected)
    assert sum("fastmnist.mlp" in name for name in active.seen) == 3


def test_fake_tensors(q):
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        assert q(mode.from_tensor(X)).shape == q(X).shape == (9, 5)
    with pytest.raises(ValueError, match="expected a CPU tensor"):
        q(X.to("meta"))


def test_tracers_see_what_they_saw(q):
    expected = q(X)

    class Leaves(torch.fx.Tracer):
        def is_leaf_module(self, m, module_qualified_name):
            return not isinstance(m, nn.Sequential)

    called = [str(n.target) for n in Leaves().trace(q).nodes if n.op == "call_module"]
    assert called == [name for name, _ in q.named_children()]

    for mode in ("real", "fake", "symbolic"):
        traced = make_fx(q, tracing_mode=mode, _allow_non_fake_inputs=True)(X)
        assert same(traced(X), expected)
        assert sum("fastmnist.mlp" in str(n.target) for n in traced.graph.nodes) == 3


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_scripted_by_tracing(q):
    traced = torch.jit.trace(q, X)
    assert same(traced(X[:4]), q(X[:4]))
    buffer = io.BytesIO()
    torch.jit.save(traced, buffer)
    buffer.seek(0)
    assert same(torch.jit.load(buffer)(X), q(X))


@pytest.mark.parametrize("hooked", [False, True])
def test_compiled_and_exported(q, hooked):
    if hooked:
        q[1].register_forward_hook(lambda m, a, y: y * 2)
        q[0].register_forward_hook(lambda m, a, y: y + 1)
    expected = q(X)
    torch._dynamo.reset()
    compiled = torch.compile(q, fullgraph=True, backend="eager")
    assert same(compiled(X), expected)
    assert same(compiled(X.double()), expected)
    with pytest.raises(Exception, match=r"expected shape \[\.\.\., 12\]"):
        compiled(X[:, :5])
    torch._dynamo.reset()
    for strict in (False, True):
        program = torch.export.export(q, (X,), strict=strict)
        assert same(program.module()(X), expected)


def test_copies(q):
    expected = q(X)
    for again in (copy.deepcopy(q), pickle.loads(pickle.dumps(q))):
        assert type(again[1]) is Identity
        assert isinstance(again[1], nn.Identity)
        assert repr(again[1]) == "Identity()"
        again[5].register_forward_hook(lambda m, a, y: y + 1)
        assert same(again(X), expected + 1)
        assert same(q(X), expected)


def test_under_vmap(q):
    """Batched tensors look like plain ones from Python."""
    rows = X.reshape(9, 1, 12)
    try:
        got = torch.vmap(q.forward)(rows)
    except Exception as error:
        with pytest.raises(type(error)):
            torch.vmap(q)(rows)
    else:
        assert same(torch.vmap(q)(rows), got)
