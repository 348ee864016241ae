#!/usr/bin/env python3
"""Count what the inner loops of compiled kernels store on the stack: nothing, or it is said here.

    .ci/inner_loops.py build/ci-g++ build/ci-clang++

A sum that does not stay in its register costs a kernel up to half of its speed, and no test of bits
sees it. This takes the innermost loops with multiply-accumulate instructions and counts stores of
vector registers to the stack in there. A loop is what compilers call a natural one: an edge to a
block through which every way there leads, and all from where that edge is reached. (A jump back
alone is none: compilers put what is rare behind the function and jump back from there.)
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

PRODUCTS = re.compile(r"v?(pdpbusds?|pmaddwd|pmaddubsw|fmadd(132|213|231)ps)|tdpbusd")
PADDING = ("nop", "xchg", "data16", "cs", "int3")


@dataclass(frozen=True)
class Allowance:
    file: str
    symbol: str  # a part of it, demangled
    stores: int  # that a loop may have
    why: str


_STRIP = "two integers of a struct, stored as one vector once in 16 rows: no sum"
ALLOWANCES = [
    Allowance("amx_int8.cpp", "::Narrow<", 1, _STRIP),
    Allowance("avx2_few.cpp", "", 2, "two rows: 8 sums, 4 operands, weights, ones, two products"),
    Allowance(
        "avx2_functions.cpp", "", 7, "no sums: polynomials of two vectors and their constants"
    ),
    Allowance("avx2_windows.cpp", "panel_of<2", 3, "two rows: 4 sums, 4 picks, weights, constants"),
]


@dataclass(frozen=True)
class Instruction:
    address: int
    name: str
    operands: str

    @property
    def target(self) -> int | None:
        """The address that this jumps to."""
        found = re.match(r"([0-9a-f]+) <", self.operands) if self.name.startswith("j") else None
        return int(found[1], 16) if found else None


@dataclass
class Function:
    symbol: str
    instructions: list[Instruction] = field(default_factory=list)


@dataclass(frozen=True)
class Loop:
    symbol: str
    first: int  # address of the block that it returns to
    products: int
    spills: int


def functions(disassembly: Iterable[str]) -> Iterator[Function]:
    """Split what objdump prints."""
    function: Function | None = None
    for line in disassembly:
        if header := re.match(r"[0-9a-f]+ <(.*)>:$", line):
            if function:
                yield function
            function = Function(header[1])
        elif function and (found := re.match(r"\s+([0-9a-f]+):\s+(?:\{vex\} )?(\S+)\s*(.*)", line)):
            function.instructions.append(Instruction(int(found[1], 16), found[2], found[3]))
    if function:
        yield function


def is_spill(instruction: Instruction, frame: bool) -> bool:
    """Whether a vector register goes to a fixed place on the stack (an index makes it an array)."""
    base = "%r[sb]p" if frame else "%rsp"
    return instruction.name.startswith(("vmov", "mov")) and bool(
        re.match(rf"%[xyz]mm\d+(\{{%k\d\}})?,(-?0x[0-9a-f]+)?\({base}\)", instruction.operands)
    )


def blocks_of(code: list[Instruction]) -> tuple[list[list[Instruction]], list[list[int]]]:
    """Give the basic blocks of a function, and for each the numbers of those that may follow."""
    known = {i.address for i in code}
    starts = {i.target for i in code if i.target in known}
    blocks: list[list[Instruction]] = []
    fresh = True
    for i in code:
        if fresh or i.address in starts:
            blocks.append([])
        blocks[-1].append(i)
        fresh = i.name.startswith(("j", "ret", "ud2", "notrack"))
    number = {block[0].address: n for n, block in enumerate(blocks)}
    follow = []
    for n, block in enumerate(blocks):
        last = block[-1]
        after = [number[last.target]] if last.target in number else []
        if not last.name.startswith(("jmp", "ret", "ud2", "notrack")) and n + 1 < len(blocks):
            after.append(n + 1)
        follow.append(after)
    # A jump by table leads to what nothing else leads to, but for what only fills a line.
    led_to = {m for after in follow for m in after} | {0}
    orphans = [n for n in range(len(blocks)) if n not in led_to]
    orphans = [n for n in orphans if not blocks[n][0].name.startswith(PADDING)]
    for n, block in enumerate(blocks):
        if block[-1].name in ("jmp", "notrack") and "*" in block[-1].operands.split("<")[0]:
            follow[n] += orphans
    return blocks, follow


def natural_loops(follow: list[list[int]]) -> dict[int, set[int]]:
    """Give the loops of a graph: the block that one returns to, and all its blocks."""
    order: list[int] = []  # what is reached; a block behind those that follow it
    seen = {0}
    stack = [(0, iter(follow[0]))]
    while stack:
        n, rest = stack[-1]
        step = next((m for m in rest if m not in seen), None)
        if step is None:
            order.append(n)
            stack.pop()
        else:
            seen.add(step)
            stack.append((step, iter(follow[step])))
    order.reverse()
    place = {n: i for i, n in enumerate(order)}
    before: dict[int, list[int]] = {n: [] for n in order}
    for n in order:
        for m in follow[n]:
            before[m].append(n)
    # The nearest block through which every way leads (Cooper, Harvey and Kennedy).
    nearest = {0: 0}

    def common(a: int, b: int) -> int:
        while a != b:
            if place[a] > place[b]:
                a = nearest[a]
            else:
                b = nearest[b]
        return a

    changed = True
    while changed:
        changed = False
        for n in order[1:]:
            found, *others = (m for m in before[n] if m in nearest)
            for m in others:
                found = common(found, m)
            changed = changed or nearest.get(n) != found
            nearest[n] = found

    def leads_through(n: int, head: int) -> bool:
        while place[n] > place[head]:
            n = nearest[n]
        return n == head

    loops: dict[int, set[int]] = {}
    for n in order:
        for head in follow[n]:
            if not leads_through(n, head):
                continue
            body = loops.setdefault(head, {head})
            todo = [n]
            while todo:
                m = todo.pop()
                if m not in body:
                    body.add(m)
                    todo += before[m]
    return loops


def loops_with_products(function: Function) -> list[Loop]:
    """Find a function's loops around products that have no other such loop inside."""
    code = function.instructions
    if not any(PRODUCTS.fullmatch(i.name) for i in code):
        return []
    # Without a frame %rbp is a register like others.
    frame = any(i.name == "mov" and i.operands == "%rsp,%rbp" for i in code)
    blocks, follow = blocks_of(code)
    products = [sum(bool(PRODUCTS.fullmatch(i.name)) for i in block) for block in blocks]
    spills = [sum(is_spill(i, frame) for i in block) for block in blocks]
    loops = natural_loops(follow)
    working = [head for head, body in loops.items() if any(products[n] for n in body)]
    inner = [head for head in working if not any(loops[other] < loops[head] for other in working)]
    return [
        Loop(
            function.symbol,
            blocks[head][0].address,
            sum(products[n] for n in loops[head]),
            sum(spills[n] for n in loops[head]),
        )
        for head in inner
    ]


def short(symbol: str) -> str:
    """A demangled name without what all of them have in common."""
    symbol = re.sub(r"\(fastmnist::\(anonymous namespace\)::(\w+)\)", r"\1 ", symbol)
    return symbol.replace("fastmnist::", "").replace("(anonymous namespace)::", "")


def allowance_for(file: str, symbol: str) -> Allowance | None:
    return next((e for e in ALLOWANCES if e.file == file and e.symbol in symbol), None)


def check(objects: Path, needed: set[Allowance]) -> tuple[int, list[str]]:
    """Print a table of one object file; give how many loops it has and what is wrong there."""
    done = subprocess.run(
        ["objdump", "-d", "-C", "--no-show-raw-insn", str(objects)],
        check=True,
        capture_output=True,
        text=True,
    )
    file = objects.name.removesuffix(".o")
    found = list(functions(done.stdout.splitlines()))
    has_products = any(PRODUCTS.fullmatch(i.name) for f in found for i in f.instructions)
    loops = [loop for function in found for loop in loops_with_products(function)]
    if has_products and not loops:
        return 0, [
            f"{objects}: products, but no loop around any: does this script read it rightly?"
        ]
    wrong = []
    by_symbol: dict[str, list[Loop]] = {}
    for loop in loops:
        by_symbol.setdefault(loop.symbol, []).append(loop)
    for symbol, its in by_symbol.items():
        most = max(loop.spills for loop in its)
        products = "+".join(str(loop.products) for loop in its)
        print(f"{file:24} {most:6} {len(its):6} {products:>12}  {short(symbol)}")
        allowance = allowance_for(file, symbol)
        if allowance and most:
            needed.add(allowance)
        wrong += [
            f"{file}: {short(symbol)}: {loop.spills} stores to the stack in the loop "
            f"at {loop.first:x} ({loop.products} products)"
            for loop in its
            if loop.spills > (allowance.stores if allowance else 0)
        ]
    return len(loops), wrong


def main(folders: list[str]) -> int:
    if not folders or shutil.which("objdump") is None:
        print("usage: inner_loops.py BUILD_FOLDER...; needs objdump (binutils)", file=sys.stderr)
        return 2
    wrong: list[str] = []
    needed: set[Allowance] = set()
    for folder in folders:
        pattern = "**/csrc/kernels/**/*.o"
        objects = sorted(Path(folder).glob(pattern))
        print(f"\n{folder}\n{'file':24} {'stores':>6} {'loops':>6} {'products':>12}  kernel")
        count = 0
        for o in objects:
            loops, lines = check(o, needed)
            count += loops
            wrong += [f"{folder}: {line}" for line in lines]
        if count == 0:
            wrong.append(f"{folder}: no kernels with products are built there")
        print(f"{count} loops")
    wrong += [f"no loop needs this any more: {e}" for e in ALLOWANCES if e not in needed]
    print("\n".join(wrong), file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
