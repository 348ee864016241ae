"""fm.size is what fm.save writes, to the byte, and nothing is written."""

from __future__ import annotations

import pytest
import torch
from models import MyModel

import fastmnist as fm


@pytest.mark.parametrize("compress", [False, True])
def test_it_is_the_size_of_the_file(compress, tmp_path, digits, monkeypatch):
    model = MyModel()
    q = fm.quantize(fm.prune(model, fm.L1Unstructured(0.8)), fm.Static(digits.train))
    for i, models in enumerate([model, q, fm.compile(q), {"a": model, "b": q}]):
        path = tmp_path / f"{i}.safetensors"
        fm.save(path, models, compress=compress)
        with monkeypatch.context() as patch:
            patch.setattr("builtins.open", None)
            patch.setattr("tempfile.mkstemp", None)
            assert fm.size(models, compress=compress) == path.stat().st_size


def test_compare_and_checks_use_it(digits):
    model = MyModel()
    q = fm.quantize(model, fm.Dynamic())
    data = torch.rand(8, 784), torch.randint(0, 10, (8,))
    report = fm.compare({"a": model, "q": q, "f": lambda x: model(x)}, data, rounds=1)
    assert [row.disk for row in report] == [fm.size(model), fm.size(q), None]
    fm.testing.assert_smaller(q, model, ratio=fm.size(model) / fm.size(q) - 1e-6)


@pytest.mark.parametrize(
    ("models", "options", "error", "message"),
    [
        ({}, {}, ValueError, "models: expected at least one"),
        (3, {}, TypeError, "models: expected modules or compiled models, got int"),
        ({"a/b": MyModel()}, {}, ValueError, "models: expected names without '/'"),
        (MyModel(), {"compress": 1}, TypeError, "compress: expected a bool, got int"),
    ],
)
def test_bad_input(models, options, error, message):
    with pytest.raises(error, match=message):
        fm.size(models, **options)
