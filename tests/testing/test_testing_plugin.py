"""fastmnist.testing: the checks, and the suite as a project outside ours runs it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import torch

import fastmnist as fm
from fastmnist import testing

OUTSIDE = Path(__file__).parents[1] / "outside"
X = torch.randn(64, 784, generator=torch.Generator().manual_seed(0))
Y = torch.zeros(64, dtype=torch.long)


@pytest.fixture(scope="module")
def pair():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = fm.NeuralNetwork().eval()
    y = model(X).argmax(1)
    return model, fm.quantize(model, fm.Static(X)), (X, y)


def test_checks_that_hold(pair):
    model, q, data = pair
    testing.assert_accuracy_drop(q, model, data, max=10)
    testing.assert_agreement(q, model, X, min=0.9)
    testing.assert_sqnr(q, model, X, min_db=25)
    testing.assert_smaller(q, model, ratio=3.5)
    testing.assert_bit_equal(fm.compile(q), q, X)
    testing.assert_faster(fm.compile(q), model, X, ratio=1e-6, rounds=2)
    testing.assert_accuracy_drop(model, model, data, max=0)
    testing.assert_sqnr(model, model, X, min_db=1e9)


def test_checks_that_fail_say_by_how_much(pair):
    model, q, data = pair
    nothing = fm.NeuralNetwork()
    with torch.no_grad():
        for p in nothing.parameters():
            p.zero_()
    with pytest.raises(AssertionError, match=r"drop of at most 1 points, got .* n = 64"):
        testing.assert_accuracy_drop(nothing, model, data, max=1)
    with pytest.raises(AssertionError, match=r"agreement: expected at least 0.999, got"):
        testing.assert_agreement(nothing, model, X, min=0.999)
    with pytest.raises(AssertionError, match=r"SQNR: expected at least 90 dB, got [345]"):
        testing.assert_sqnr(q, model, X, min_db=90)
    with pytest.raises(AssertionError, match=r"at least 4 times smaller, got 3\.[789]"):
        testing.assert_smaller(q, model, ratio=4)
    with pytest.raises(AssertionError, match=r"bits: expected the same, got \d+ of 640"):
        testing.assert_bit_equal(q, model, X)
    with pytest.raises(AssertionError, match=r"at least 1e\+09 times faster at batch 1, got"):
        testing.assert_faster(q, model, X, ratio=1e9, rounds=2)
    with pytest.raises(AssertionError, match="expected outputs"):
        testing.assert_agreement(lambda x: x[:, :1], lambda x: x[:, :1], X)
    bad = lambda x: model(x) * torch.nan  # noqa: E731
    with pytest.raises(AssertionError, match="got -inf dB"):
        testing.assert_sqnr(bad, model, X, min_db=0)
    with pytest.raises(AssertionError, match="points"):
        testing.assert_accuracy_drop(lambda x: -model(x), model, data, max=5)


def test_baselines(pair, tmp_path):
    model, q, data = pair
    report = fm.compare({"original": model, "int8": q}, data, rounds=1)
    path = tmp_path / "baseline.json"
    with pytest.raises(FileNotFoundError, match="--update-baseline"):
        testing.assert_no_worse(report, path)
    report.to_json(path)
    testing.assert_no_worse(report, path)
    stored = json.loads(path.read_text())

    def changed(**fields):
        rows = [{**row, **(fields if row["name"] == "int8" else {})} for row in stored["rows"]]
        path.write_text(json.dumps({**stored, "rows": rows}))

    changed(accuracy=stored["rows"][1]["accuracy"] + 0.002)
    with pytest.raises(AssertionError, match=r"'int8' lost 0.2 of accuracy \(at most 0.1\)"):
        testing.assert_no_worse(report, path)
    testing.assert_no_worse(report, path, points=0.3)
    changed(disk=stored["rows"][1]["disk"] // 2)
    with pytest.raises(AssertionError, match="'int8' grew from"):
        testing.assert_no_worse(report, path)
    changed(name="pruned")
    with pytest.raises(AssertionError, match="'pruned' is gone"):
        testing.assert_no_worse(report, path)
    path.write_text("{}")
    with pytest.raises(ValueError, match=r"report: expected one of|baseline: expected one of"):
        testing.assert_no_worse(report, path)


def run(folder, *arguments):
    """Start pytest as a user does, in a project of theirs."""
    found = {point.value for point in entry_points(group="pytest11")}
    plugin = [] if "fastmnist.testing.plugin" in found else ["-p", "fastmnist.testing.plugin"]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *plugin, *arguments]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    result = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    return result.returncode, result.stdout + result.stderr


@pytest.fixture
def project(tmp_path):
    return Path(shutil.copytree(OUTSIDE, tmp_path / "project"))


def outcomes(text):
    words = ("PASSED", "FAILED", "SKIPPED")
    lines = [line for line in text.splitlines() if any(f" {word}" in line for word in words)]
    return {
        line.split("::")[1].split()[0]: next(w for w in words if f" {w}" in line)
        for line in lines
        if "::" in line
    }


SUITE = ("--pyargs", "fastmnist.testing")


@pytest.mark.slow
def test_a_project_outside_ours(project):
    """The documented command; one variant is broken, and fails; the others hold."""
    code, text = run(project, *SUITE, "-v")
    found = outcomes(text.split("short test summary")[0])
    assert code == 1, text
    for check in ("accuracy_drop", "agreement", "sqnr"):
        assert found[f"test_{check}[broken]"] == "FAILED", text
        assert found[f"test_{check}[int8]"] == "PASSED", text
        assert found[f"test_{check}[compiled]"] == "PASSED", text
    assert found["test_smaller[int8]"] == "PASSED"
    assert found["test_bit_equal[int8]"] == found["test_bit_equal[compiled]"] == "PASSED"
    assert found["test_faster[int8]"] == "SKIPPED"
    assert "original" not in str([*found])
    assert len(found) == 3 * 6 + 1


@pytest.mark.slow
def test_options_and_baselines_without_a_conftest(project):
    (project / "conftest.py").unlink()
    options = (*SUITE, "--variants=outside_models:variants", "--data=digits", "-q")
    code, text = run(project, *options, "-k", "int8 or no_worse", "--fastmnist-accuracy-drop=2")
    assert code == 0, text
    # No limit for faster, and no baseline for no_worse.
    assert "5 passed, 2 skipped" in text.splitlines()[-1]
    code, text = run(project, *options, "-k", "no_worse", "--baseline=b.json", "--update-baseline")
    assert code == 0, text
    assert (project / "b.json").is_file()
    code, text = run(project, *options, "-k", "no_worse", "--baseline=b.json")
    assert code == 0, text
    stored = json.loads((project / "b.json").read_text())
    stored["rows"][1]["accuracy"] = 1.5
    (project / "b.json").write_text(json.dumps(stored))
    code, text = run(project, *options, "-k", "no_worse", "--baseline=b.json")
    assert code == 1
    assert "lost" in text


@pytest.mark.slow
def test_from_a_test_file_of_ones_own(project):
    tests = project / "tests"
    tests.mkdir()
    (project / "conftest.py").rename(tests / "conftest.py")
    (tests / "outside_models.py").write_text((project / "outside_models.py").read_text())
    (tests / "test_models.py").write_text("from fastmnist.testing.test_variants import *\n")
    code, text = run(project, "-q", "-k", "int8")
    assert code == 0, text
    assert "passed" in text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "conftest", "message"),
    [
        ((), "", "expected variants, got none"),
        (("--variants=nothing:here",), "", "--variants=nothing:here: expected pkg.mod:fn"),
        (
            (),
            "import pytest\n@pytest.fixture\ndef fastmnist_variants(request): return {}",
            "before there is a request",
        ),
        (
            (),
            "import pytest\n@pytest.fixture\ndef fastmnist_variants(): return {'a': 1}",
            "expected a dict of the reference and at least one variant, got 1",
        ),
        (
            (),
            "import pytest\n@pytest.fixture\ndef fastmnist_variants(): return {'a': 1, 'b': 2}\n"
            "@pytest.fixture\ndef fastmnist_limits(): return {'sqrt': 3}",
            "got 'sqrt'",
        ),
    ],
)
def test_mistakes_are_told(project, arguments, conftest, message):
    (project / "conftest.py").write_text(conftest)
    code, text = run(project, *SUITE, "--data=digits", *arguments)
    assert code not in (0, 1), text
    assert message in text


@pytest.mark.slow
def test_short_options_are_anybodys(project):
    (project / "conftest.py").write_text(
        "def pytest_addoption(parser):\n"
        "    parser.addoption('--data', default='x')\n    parser.addoption('--baseline')\n"
    )
    (project / "test_own.py").write_text("def test_own(pytestconfig): pass\n")
    code, text = run(project, "-q", "--data=y")
    assert code == 0, text
    code, text = run(project, "-q", "--fastmnist-update-baseline")
    assert code == 4
    assert "expected --baseline=FILE too" in text


def test_the_plugin_costs_nothing_where_it_is_not_used(project):
    script = (
        "import sys, fastmnist.testing.plugin, fastmnist.testing; "
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.slow
def test_the_suite_from_python(project):
    (project / "conftest.py").unlink()
    script = (
        "import sys, pytest; sys.exit(pytest.main(['--pyargs', 'fastmnist.testing', "
        "'--variants=outside_models:variants', '--data=digits', '-q', '-k', 'smaller and int8', "
        "'-p', 'no:cacheprovider'], plugins=[]))"
    )
    found = {point.value for point in entry_points(group="pytest11")}
    if "fastmnist.testing.plugin" not in found:
        script = script.replace("'--pyargs', ", "'-p', 'fastmnist.testing.plugin', '--pyargs', ")
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=project, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
