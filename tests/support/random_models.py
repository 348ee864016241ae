"""Random models of Linear layers, as people write them: one number gives one model.

A model is a small program: a list of steps that its forward goes through, drawn step by step while
the shape of the value is kept account of. What is drawn: chains that compile, Sequentials, residual
blocks, branches that are added, multiplied or concatenated, layers that are called twice, weights
that are shared, norms over either dimension, activations as modules and as functions, reshapes,
inputs of two to four dimensions, second inputs, tuples and dicts as outputs, forwards of the
instance's own, and such as ask what their layers are.
"""

from __future__ import annotations

import random
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Shape = tuple[int, ...]  # of a value, without its rows

MODULES: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "hardtanh": lambda: nn.Hardtanh(-0.7, 1.3),
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "leaky": lambda: nn.LeakyReLU(0.1),
    "elu": nn.ELU,
    "softplus": nn.Softplus,
    "hardswish": nn.Hardswish,
    "prelu": nn.PReLU,
}
FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "F.relu": F.relu,
    "torch.relu": torch.relu,
    "x.relu()": lambda x: x.relu(),
    "clamp": lambda x: x.clamp(min=0),
    "clamp both": lambda x: torch.clamp(x, -0.5, 1.5),
    "F.relu6": F.relu6,
    "F.hardtanh": lambda x: F.hardtanh(x, -0.8, 0.9),
    "tanh": torch.tanh,
    "F.gelu": F.gelu,
    "F.silu": F.silu,
    "sigmoid": lambda x: x.sigmoid(),
    "F.leaky_relu": lambda x: F.leaky_relu(x, 0.2),
    "scale": lambda x: x * 0.5,
    "shift": lambda x: x + 0.25,
    "negate": lambda x: -x,
}


FAMILIES = (
    "chain",
    "sequential",
    "sequential",
    "residual",
    "branched",
    "shared",
    "mixed",
    "mixed",
    "own forward",
)


class Program(nn.Module):
    """A forward that goes through a list of steps, calling modules by their names."""

    def __init__(self, steps: list[tuple[Any, ...]], ending: str) -> None:
        super().__init__()
        self.steps, self.ending = steps, ending

    def forward(self, x: Tensor, other: Tensor | None = None) -> Any:
        kept: list[Tensor] = []
        for op, *about in self.steps:
            if op == "call":
                x = self.get_submodule(about[0])(x)
            elif op == "function":
                x = FUNCTIONS[about[0]](x)
            elif op == "ask":
                x = self._asked(x, about[0])
            elif op == "keep":
                kept.append(x)
            elif op == "swap":
                x, kept[-1] = kept[-1], x
            elif op == "add":
                x = x + kept.pop()
            elif op == "multiply":
                x = x * torch.sigmoid(kept.pop())
            elif op == "concatenate":
                x = torch.cat([kept.pop(), x], dim=-1)
            elif op == "flatten":
                x = torch.flatten(x, 1)
            elif op == "view":
                x = x.view(x.size(0), -1)
            elif op == "reshape":
                x = x.reshape(-1, *about[0])
            elif op == "transpose":
                x = x.transpose(1, 2)
            elif op == "mean":
                x = x.mean(dim=1)
            elif op == "other":
                x = x if other is None else x + other
            elif op == "table":
                x = F.linear(x, self.get_submodule(about[0]).weight)
        return {"": x, "tuple": (x, x.sum(-1)), "dict": {"logits": x}}[self.ending]

    def _asked(self, x: Tensor, name: str) -> Tensor:
        layer = self.get_submodule(name)
        x = layer(x)
        if type(layer) is nn.Linear:
            x = F.gelu(x)
        return x


@dataclass
class Drawn:
    """A model in the making.

    Attributes
    ----------
    make : callable
        Gives the model anew, in eval mode, the same each time.
    rows : tuple of tensors
        What it is called with.
    family : str
        What is special about it.
    """

    seed: int
    family: str = ""
    make: Callable[[], nn.Module] = nn.Module
    rows: tuple[Tensor, ...] = ()
    notes: list[str] = field(default_factory=list)


class Builder:
    """Draws the steps of one model."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.seed = seed
        self.modules: dict[str, Callable[[], nn.Module]] = {}
        self.steps: list[tuple[Any, ...]] = []
        self.ties: list[tuple[str, str]] = []
        self.reads_weights = False
        self.shape: Shape = ()
        self.family = ""

    # ---- steps -----------------------------------------------------------------------------------

    def call(self, kind: str, make: Callable[[], nn.Module]) -> str:
        name = f"{kind}{len(self.modules)}"
        self.modules[name] = make
        self.steps.append(("call", name))
        return name

    def linear(self, outputs: int | None = None) -> str:
        inputs = self.shape[-1]
        outputs = outputs or self.rng.choice([1, 3, 8, 16, 17, 31, 32, 33, 48, 64])
        bias = self.rng.random() < 0.8
        name = self.call("linear", lambda: nn.Linear(inputs, outputs, bias=bias))
        self.shape = (*self.shape[:-1], outputs)
        return name

    def activation(self) -> None:
        if self.family == "chain":
            kind = self.rng.choice(["relu", "relu", "relu6", "hardtanh"])
            if self.rng.random() < 0.8:
                self.call(kind, MODULES[kind])
        elif self.rng.random() < 0.5:
            kind = self.rng.choice([*MODULES])
            self.call(kind, MODULES[kind])
        elif self.rng.random() < 0.9:
            self.steps.append(("function", self.rng.choice([*FUNCTIONS])))

    def norm(self) -> None:
        features = self.shape[-1]
        kind = self.rng.choice(["batch", "batch", "layer"]) if self.family != "chain" else "batch"
        if kind == "layer" and features > 2:
            self.call("norm", lambda: nn.LayerNorm(features))
        elif kind == "batch" and len(self.shape) <= 2:
            over = self.shape[0]  # features of rows; positions of a sequence
            affine = self.rng.random() < 0.8
            self.call("norm", lambda: nn.BatchNorm1d(over, affine=affine))

    def block(self, square: bool = False) -> None:
        if self.rng.random() < 0.15:
            self.norm()
        self.linear(self.shape[-1] if square else None)
        order = [self.activation, self.maybe_norm]
        self.rng.shuffle(order)
        for part in order:
            part()
        if self.rng.random() < 0.2:
            self.call("dropout", lambda: nn.Dropout(0.3))

    def maybe_norm(self) -> None:
        if self.rng.random() < 0.3:
            self.norm()

    def residual(self) -> None:
        self.steps.append(("keep",))
        self.block(square=True)
        self.steps.append((self.rng.choice(["add", "add", "multiply"]),))

    def branch(self) -> None:
        before, how = self.shape, self.rng.choice(["add", "multiply", "concatenate"])
        self.steps.append(("keep",))
        width = self.linear_width()
        self.linear(width)
        self.activation()
        self.steps.append(("swap",))
        self.shape = before
        self.linear(width)
        self.activation()
        self.steps.append((how,))
        if how == "concatenate":
            self.shape = (*self.shape[:-1], 2 * width)

    def linear_width(self) -> int:
        return self.rng.choice([4, 16, 24, 33])

    def twice(self) -> None:
        name = self.linear(self.shape[-1])
        self.activation()
        self.steps.append(("call", name))
        self.activation()

    def tied(self) -> None:
        width = self.shape[-1]
        first = self.linear(width)
        self.activation()
        self.ties.append((first, self.linear(width)))

    def ask(self) -> None:
        self.linear()
        _, name = self.steps.pop()
        self.steps.append(("ask", name))

    def table(self) -> None:
        """Reads the weight of a layer that is called, too."""
        name = self.linear(self.shape[-1])
        self.activation()
        self.steps.append(("table", name))
        self.reads_weights = True

    def reshape(self) -> None:
        if len(self.shape) == 1:
            return
        choice = self.rng.choice(["flatten", "view", "transpose", "mean", "rows"])
        flat = 1
        for size in self.shape:
            flat *= size
        if choice == "flatten" or (choice == "view" and flat > 512):
            self.steps.append(("flatten",))
            self.shape = (flat,)
        elif choice == "view":
            self.steps.append(("reshape", (flat,)))
            self.shape = (flat,)
        elif choice == "transpose" and len(self.shape) == 2:
            self.steps.append(("transpose",))
            self.shape = self.shape[::-1]
        elif choice == "mean" and len(self.shape) == 2:
            self.steps.append(("mean",))
            self.shape = self.shape[1:]

    # ---- models ----------------------------------------------------------------------------------

    def draw(self) -> Drawn:
        rng = self.rng
        width = rng.choice([5, 12, 16, 20, 32])
        self.shape = {
            2: (width,),
            3: (rng.choice([width, 3, 7, 16]), width),
            4: (rng.choice([1, 3]), 4, width),
        }[rng.choice([2, 2, 2, 3, 3, 4])]
        start = self.shape
        family = self.family = rng.choice(FAMILIES)
        if len(self.shape) == 3 and rng.random() < 0.8:
            self.steps.append((rng.choice(["flatten", "view"]),))
            self.shape = (self.shape[0] * self.shape[1] * self.shape[2],)
        parts: dict[str, list[Callable[[], None]]] = {
            "chain": [self.block],
            "sequential": [self.block],
            "residual": [self.block, self.residual],
            "branched": [self.block, self.branch],
            "shared": [self.block, self.twice, self.tied],
            "own forward": [self.block, self.residual],
        }
        everything = [self.block, self.residual, self.branch, self.twice, self.tied, self.reshape]
        for _ in range(rng.randint(1, 4)):
            rng.choice(parts.get(family, [*everything, self.ask, self.table]))()
            if rng.random() < 0.1:
                self.reshape()
        takes_other = family == "mixed" and rng.random() < 0.3
        if takes_other:
            self.steps.append(("other",))
            second = self.shape
        self.linear(rng.choice([2, 4, 10]))
        ending = rng.choice(["", "", "", "tuple", "dict"]) if family == "mixed" else ""
        generator = torch.Generator().manual_seed(self.seed)
        rows = [torch.randn(32, *start, generator=generator)]
        if takes_other:
            rows.append(torch.randn(32, *second, generator=generator))
        drawn = Drawn(self.seed, family, rows=tuple(rows))
        drawn.make = self._maker(family, ending)
        return drawn

    def _maker(self, family: str, ending: str) -> Callable[[], nn.Module]:
        plain = [step[0] for step in self.steps]
        as_sequential = family in ("chain", "sequential") and set(plain) <= {"call", "flatten"}
        how = self.rng.choice(["bound", "bound", "class", "closure", "child"])

        def make() -> nn.Module:
            with torch.random.fork_rng():
                torch.manual_seed(self.seed)
                made = {name: build() for name, build in self.modules.items()}
                model: nn.Module
                if as_sequential:
                    parts = [made[s[1]] if s[0] == "call" else nn.Flatten() for s in self.steps]
                    model = nn.Sequential(*parts)
                else:
                    model = Program(self.steps, ending)
                    for name, module in made.items():
                        model.add_module(name, module)
                for one, other in self.ties:
                    made[other].weight = made[one].weight
                randomize(model)
            if family == "own forward":
                replace_forward(model, how, next(iter(made)))
            return model.eval()

        return make


def randomize(model: nn.Module) -> None:
    """Give norms statistics and scales as training does; weights that keep values in range."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.running_mean.normal_(0, 0.3)  # type: ignore[union-attr]
            module.running_var.uniform_(0.3, 2)  # type: ignore[union-attr]
        if isinstance(module, nn.BatchNorm1d | nn.LayerNorm) and module.weight is not None:
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0, module.in_features**-0.5)


def replace_forward(model: nn.Module, how: str, first: str) -> None:
    """Put a forward of the instance's own on the model, or on the first of its layers."""
    if how == "bound":
        model.forward = types.MethodType(_doubled, model)  # type: ignore[method-assign]
    elif how == "closure":
        before = model.forward
        model.forward = lambda x: 0.5 * before(x)  # type: ignore[method-assign]
    elif how == "child":
        child = model.get_submodule(first) if not isinstance(model, nn.Sequential) else model[0]
        child.forward = types.MethodType(_doubled, child)  # type: ignore[method-assign]


def _doubled(self: nn.Module, x: Tensor) -> Any:
    return 2 * type(self).forward(self, x)


def draw(seed: int) -> Drawn:
    """The model of a number."""
    return Builder(seed).draw()
