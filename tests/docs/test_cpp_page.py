"""The C and C++ of the documentation is what CI builds and runs (.ci/library), or compiles."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
from documents import ROOT

PAGE = (ROOT / "docs" / "cpp.md").read_text()
FOLDER = ROOT / "examples" / "cpp"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def test_the_program_is_the_example():
    (program,) = blocks("cpp")
    about, code = (FOLDER / "classify.cpp").read_text().split("\n", 1)
    assert about.startswith("//")
    assert program == code
    inside = code[code.index("int main") :]
    assert len([line for line in inside.splitlines() if line.strip()]) <= 15
    (build,) = blocks("cmake")
    assert build == (FOLDER / "CMakeLists.txt").read_text()


def compiled(*command: str, text: str) -> None:
    strict = ["-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-I", str(ROOT / "include")]
    done = subprocess.run([*command, *strict, "-"], input=text, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs a C compiler")
def test_c_and_cpp_compile():
    (snippet,) = blocks("c")
    around = (
        '#include <stdio.h>\n#include "fastmnist/fastmnist.h"\n'
        "int f(const uint8_t* pixels, size_t rows, float* logits);\n"
        "int f(const uint8_t* pixels, size_t rows, float* logits) {\n" + snippet + "return 0;\n}\n"
    )
    compiled("gcc", "-std=c99", "-pedantic", "-x", "c", text=around)
    compiled("g++", "-std=c++17", "-pedantic", "-x", "c++", text=blocks("cpp")[0])
    for standard in ("c99", "c17"):
        compiled("gcc", f"-std={standard}", "-x", "c", text='#include "fastmnist/fastmnist.h"\n')


def test_both_headers_are_alone_enough():
    for name in ("fastmnist.h", "model.hpp"):
        text = (ROOT / "include" / "fastmnist" / name).read_text()
        included = re.findall(r'#include "(.*?)"', text)
        assert {*included} <= {"fastmnist/fastmnist.h"}
