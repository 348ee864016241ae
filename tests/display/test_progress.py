"""Bars within bars."""

from __future__ import annotations

from fastmnist.display import progress
from fastmnist.display.progress import ProgressBar


def test_a_bar_within_another_draws_nothing(monkeypatch):
    monkeypatch.setattr(progress, "_DELAY", 0.0)
    drawn = []
    monkeypatch.setattr(ProgressBar, "_draw", lambda self: drawn.append(self.description))
    with ProgressBar("outer", 2, show=True) as outer:
        with ProgressBar("inner", 1, show=True) as inner:
            inner.advance(1)
        assert drawn == []
        outer.advance(1)
    assert drawn == ["outer"]
    with ProgressBar("after it", 1, show=True) as after:
        after.advance(1)
    assert drawn == ["outer", "after it"]
