"""`.ci/inner_loops.py` sees stores to the stack where they are, and only there."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / ".ci" / "inner_loops.py"


@pytest.fixture(scope="module")
def inner_loops() -> ModuleType:
    spec = importlib.util.spec_from_file_location("inner_loops", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["inner_loops"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


# What objdump prints. The outer loop begins at 4, the inner one at 8; what is at 30 is rare and
# jumps back into the outer one from behind it.
KERNEL = """
0000000000000000 <void tile<4>(LinearArgs const&)>:
   0:\tpush   %rbp
   4:\tvmovdqa %ymm7,0x20(%rsp)
   8:\tvpmaddwd (%rdi),%ymm0,%ymm1
   c:\t{store}
  10:\tcmp    %rax,%rbx
  14:\tjne    8 <void tile<4>(LinearArgs const&)+0x8>
  18:\ttest   %rcx,%rcx
  1c:\tje     30 <void tile<4>(LinearArgs const&)+0x30>
  20:\tdec    %rdx
  24:\tjne    4 <void tile<4>(LinearArgs const&)+0x4>
  28:\tret
  2c:\tnopl   0x0(%rax)
  30:\tvmovdqa %ymm6,0x40(%rsp)
  34:\tjmp    20 <void tile<4>(LinearArgs const&)+0x20>
"""


def loops_of(inner_loops: ModuleType, text: str) -> list[tuple[int, int, int]]:
    (function,) = inner_loops.functions(text.splitlines())
    return [(x.first, x.products, x.spills) for x in inner_loops.loops_with_products(function)]


@pytest.mark.parametrize(
    ("store", "spills"),
    [
        ("vmovdqa %ymm1,0x60(%rsp)", 1),
        ("vmovups %zmm21,(%rsp)", 1),
        ("vmovdqu %xmm1,-0x60(%rbp)", 0),  # %rbp is no frame here
        ("vmovdqa 0x60(%rsp),%ymm1", 0),  # a load
        ("vmovdqa %ymm1,(%rsp,%rax,8)", 0),  # an array
        ("vmovdqa %ymm1,0x60(%rdi)", 0),  # memory
        ("mov    %rax,0x60(%rsp)", 0),
    ],
)
def test_stores_of_the_inner_loop_count(inner_loops: ModuleType, store: str, spills: int) -> None:
    assert loops_of(inner_loops, KERNEL.replace("{store}", store)) == [(8, 1, spills)]


def test_a_frame_pointer_is_the_stack(inner_loops: ModuleType) -> None:
    text = KERNEL.replace("{store}", "vmovdqu %xmm1,-0x60(%rbp)")
    text = text.replace("push   %rbp", "mov    %rsp,%rbp")
    assert loops_of(inner_loops, text) == [(8, 1, 1)]


def test_without_the_inner_loop_the_outer_one_counts(inner_loops: ModuleType) -> None:
    text = KERNEL.replace("{store}", "nop").replace("jne    8 <", "call   8 <")
    assert loops_of(inner_loops, text) == [(4, 1, 2)]


def test_a_jump_back_is_no_loop(inner_loops: ModuleType) -> None:
    text = KERNEL.replace("jne    8 <", "call   8 <").replace("jne    4 <", "call   4 <")
    assert loops_of(inner_loops, text.replace("{store}", "nop")) == []


def test_no_kernels_are_an_error(inner_loops: ModuleType, tmp_path: Path) -> None:
    assert inner_loops.main([str(tmp_path)]) == 1
    assert inner_loops.main([]) == 2
