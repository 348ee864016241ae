"""The house: imports go downwards, names are where their noun says, and files stay short."""

from __future__ import annotations

import ast
import functools
import importlib
import re
from collections.abc import Callable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import fastmnist as fm

# Folders of the package and modules of its root, the lowest first: an import never goes up.
ROOMS = [
    "_version", "pixels", "display", "int8", "files", "_inputs", "runtime", "data", "ranges",
    "_ops", "layers", "network", "measuring", "rewriting", "fusion", "training", "quantization",
    "pruning", "clustering", "factorization", "compilation", "onnx", "saving", "distillation",
    "comparison", "searching", "command", "ao", "testing", "notebook",
    "__init__", "cli", "__main__",
]  # fmt: skip
MOST_FLOORS = 17
TORCH_FREE = ROOMS[: ROOMS.index("runtime") + 1]
# Packages whose __init__ is what people import; that of any other is a docstring alone.
FACES = {"data", "pruning", "runtime", "ao", "testing", "notebook"}

PACKAGE = Path(fm.__file__).parent
REPO = Path(__file__).resolve().parents[1]
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


def room_of(module: str) -> str:
    return module.split(".")[0]


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def import_nodes(node: ast.AST, lazy: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    """Give the imports of a module; with `lazy` those inside functions too."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif isinstance(child, ast.If) and is_type_checking(child):
            for other in child.orelse:
                yield from import_nodes(ast.Module([other], []), lazy)
        elif lazy or not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from import_nodes(child, lazy)


@functools.cache
def imports(module: str, lazy: bool = True) -> tuple[str, ...]:
    """Give what a module imports, by whole name: ``torch.nn``, ``fastmnist.layers.fused``."""
    found = []
    for node in import_nodes(ast.parse(MODULES[module].read_text()), lazy):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        else:
            assert not node.level, f"{module}: a relative import"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                inside = whole.removeprefix("fastmnist.") in MODULES
                found.append(whole if inside else str(node.module))
    return tuple(found)


def ours(module: str, lazy: bool = True) -> set[str]:
    """Give the modules of this package that a module imports; native ones are none."""
    names = {
        "__init__" if name == "fastmnist" else name.removeprefix("fastmnist.")
        for name in imports(module, lazy)
        if name.split(".")[0] == "fastmnist"
    }
    return {name for name in names if name in MODULES}


def arrows() -> Iterator[tuple[str, str]]:
    """Give each import from one room into another, as modules."""
    for module in MODULES:
        for other in ours(module):
            if room_of(other) != room_of(module):
                yield module, other


def floors(graph: dict[str, set[str]]) -> dict[str, int]:
    """Give the longest chain of imports below each room, itself included."""
    heights: dict[str, int] = {}
    for room in TopologicalSorter(graph).static_order():
        heights[room] = 1 + max((heights[other] for other in graph.get(room, ())), default=0)
    return heights


def room_graph() -> dict[str, set[str]]:
    graph: dict[str, set[str]] = {room_of(module): set() for module in MODULES}
    for module, other in arrows():
        graph[room_of(module)].add(room_of(other))
    return graph


def cycle_of(graph: dict[str, set[str]]) -> str:
    """Give a way along which imports come back to where they began, or ""."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return " -> ".join(error.args[1][::-1])
    return ""


def test_every_room_has_a_floor():
    assert {room_of(module) for module in MODULES} == set(ROOMS)


def test_no_import_goes_up():
    up = [
        f"{module} -> {other}"
        for module, other in arrows()
        if ROOMS.index(room_of(other)) >= ROOMS.index(room_of(module))
    ]
    assert not up, "\n".join(["imports that go up:", *sorted(up)])


def test_no_cycles():
    assert not cycle_of(room_graph())
    assert not cycle_of({module: ours(module, lazy=False) for module in MODULES})


def test_floors():
    graph = room_graph()
    assert not cycle_of(graph)
    heights = floors(graph)
    assert max(heights.values()) <= MOST_FLOORS, sorted(heights.items(), key=lambda i: i[1])


def ways(module: str, found: Callable[[str], bool]) -> list[str]:
    """Follow imports to one that `found` accepts; give the way there, or nothing."""
    todo, seen = [[module]], {module}
    while todo:
        way = todo.pop(0)
        for name in imports(way[-1]):
            if found(name):
                return [*way, name]
        # Importing a module runs the __init__ of its package first.
        for other in ours(way[-1]):
            for step in {other, room_of(other)} - seen:
                seen.add(step)
                todo.append([*way, step])
    return []


def exports() -> dict[str, str]:
    """Give the public names of the stub, and the module of each."""
    tree = ast.parse((PACKAGE / "__init__.pyi").read_text())
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module]
    found = {alias.name: str(node.module) for node in imports for alias in node.names}
    return {name: module for name, module in found.items() if name != "__version__"}


def test_the_runtime_never_imports_torch():
    paths = [
        ways(module, lambda name: name.split(".")[0] == "torch")
        for module in MODULES
        if room_of(module) in TORCH_FREE
    ]
    assert not any(paths), "\n".join([" -> ".join(path) for path in paths if path])


@pytest.mark.parametrize(("name", "module"), sorted(exports().items()))
def test_names_are_where_they_are_defined(name, module):
    assert module in MODULES, f"no fastmnist.{module}"
    value = getattr(importlib.import_module(f"fastmnist.{module}"), name)
    defined = value.__module__.removeprefix("fastmnist.")
    if module in FACES:
        assert room_of(defined) == module, f"{module} is the face of {name}, defined in {defined}"
        return
    names = {
        node.name
        for node in ast.parse(MODULES[module].read_text()).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }
    assert name in names, f"{module} only hands on {name}, defined in {defined}"


def test_only_faces_hand_names_on():
    handing = [
        module
        for module, path in MODULES.items()
        if path.name == "__init__.py" and module not in FACES | {"__init__"} and imports(module)
    ]
    assert not handing, f"expected a docstring alone in the __init__ of {handing}"


def sources(*folders: str, suffixes: set[str]) -> list[Path]:
    """Give the files of these folders of the repository."""
    return [
        path
        for folder in folders
        for path in sorted((REPO / folder).rglob("*"))
        if path.suffix in suffixes
    ]


# Folders of csrc, the lowest first: an include never goes up.
FLOORS = ["core", "kernels", "pack", "files", "runtime", "bindings", "run"]
# What asks the operating system, or starts threads, which some systems have not.
OF_SYSTEMS = re.compile(r"<(sys/.*|unistd\.h|fcntl\.h|pthread\.h|sched\.h|thread)>")
MAY_ASK = {"core/os.cpp", "core/files.cpp", "core/cpu.cpp", "core/pool.cpp"}


def includes_of(path: Path) -> list[str]:
    return re.findall(r'^#include (".+"|<.+>)', path.read_text(), re.MULTILINE)


def test_no_include_goes_up():
    paths = sources("csrc", suffixes={".h", ".cpp"})
    assert paths
    for path in paths:
        name = path.relative_to(REPO / "csrc").as_posix()
        own = FLOORS.index(name.split("/")[0])
        for include in includes_of(path):
            floor = include.strip('"').split("/")[0]
            assert floor not in FLOORS[own + 1 :], f"{name} includes {include}"
            if own < FLOORS.index("bindings") and name not in MAY_ASK:
                assert not OF_SYSTEMS.fullmatch(include), f"{name} includes {include}"


def test_the_program_is_a_client_of_the_public_header():
    """Of the library's own headers it takes those that need nothing of the library."""
    allowed = re.compile(r"<.+>|\"(run/.+|fastmnist/fastmnist\.h|core/status\.h|files/utf8\.h)\"")
    paths = sources("csrc/run", suffixes={".h", ".cpp"})
    assert paths
    for path in paths:
        for include in includes_of(path):
            assert allowed.fullmatch(include), f"{path.name} includes {include}"


@pytest.mark.parametrize(
    ("paths", "most"),
    [
        (sources("python", "tests", "benchmarks", suffixes={".py"}), 399),
        (sources("csrc/kernels", suffixes={".h", ".cpp"}), 250),
        (sources("csrc", "tests/native", "tests/fuzz", suffixes={".h", ".cpp"}), 400),
    ],
    ids=["Python", "kernels", "C++"],
)
def test_files_stay_short(paths, most):
    assert paths
    lengths = {str(p.relative_to(REPO)): len(p.read_text().splitlines()) for p in paths}
    long = {name: lines for name, lines in lengths.items() if lines > most}
    assert not long, f"more than {most} lines: {long}"
