"""Words for messages."""

from __future__ import annotations

from typing import Any


def kind_of(value: Any) -> str:
    """What came, for an error: the type of a value, or "the class X" for a class."""
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__
