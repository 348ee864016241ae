"""Objects of a torch.save file that stay unread: their attributes are kept, their code never runs.

torch's own loader for weights (``torch.load(weights_only=True)``) makes tensors and plain
containers, and asks for every other class of a file to be allowed. Each such name is allowed here
under a stand-in that imports nothing and does nothing: so the tensors in a pickled module, an EMA
copy or a file with somebody's configuration in it can be reached, and nothing of the file's is run.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import torch
from torch import Tensor

_MOST_NAMES = 1000
_DEEPEST = 50
_REFUSED = re.compile(r"Unsupported global: GLOBAL (\S+) was not an allowed global")


class Unread:
    """Stands for an object of any class; what it was set up with is in ``attributes``."""

    told = ""  # the class that it stands for, "net.Net"
    attributes: dict[str, Any]

    def __new__(cls, *arguments: Any, **keywords: Any) -> Unread:
        made = super().__new__(cls)
        made.attributes = {}
        return made

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        parts = state if isinstance(state, tuple) else (state,)
        for part in parts:
            if isinstance(part, Mapping):
                self.attributes.update({k: v for k, v in part.items() if isinstance(k, str)})

    @property
    def is_module(self) -> bool:
        """Whether it is a module of torch's, or one that was scripted."""
        return isinstance(self.attributes.get("_modules"), Mapping) or self.is_scripted

    @property
    def is_scripted(self) -> bool:
        """Whether it comes from a TorchScript archive, where all attributes are on one level."""
        return self.told.startswith("__torch__.")

    def tensors(self, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
        """Give what its state_dict would hold, by name."""
        if prefix.count(".") > _DEEPEST:
            return  # a file may say that a module holds itself
        own = self.attributes
        parts, skipped = [own], own.get("_non_persistent_buffers_set") or []
        if not self.is_scripted:
            parts = [own.get(name) or {} for name in ("_parameters", "_buffers", "_modules")]
        for name, value in ((n, v) for part in parts for n, v in part.items()):
            if isinstance(value, Tensor) and name not in skipped:
                yield f"{prefix}{name}", value.detach()
            elif isinstance(value, Unread) and value.is_module:
                yield from value.tensors(f"{prefix}{name}.")


def load_unread(file: BinaryIO) -> Any:
    """Read a torch.save file; objects that are neither tensors nor plain containers as `Unread`.

    Raises
    ------
    Exception
        As ``torch.load`` does: of an unpickler, a zip reader, or many other kinds.
    """
    names = {name: _stand_in(name) for name in _names_in(file)}
    for _ in range(_MOST_NAMES):
        file.seek(0)
        allowed: list[Any] = [(stand_in, name) for name, stand_in in names.items()]
        try:
            with torch.serialization.safe_globals(allowed), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:
            refused = _REFUSED.search(str(error))
            if refused is None:
                raise
            # torch's message omits "builtins.", but its look-up needs it.
            name = refused[1] if "." in refused[1] else f"builtins.{refused[1]}"
            if name in names:
                raise
            names[name] = _stand_in(name)
    raise ValueError(f"expected at most {_MOST_NAMES} classes, got more")


def _names_in(file: BinaryIO) -> list[str]:
    """Names that torch would ask for, as far as they are found without loading anything."""
    try:
        return torch.serialization.get_unsafe_globals_in_checkpoint(file)
    except Exception:  # older formats, or other files: loading will report that
        return []


def _stand_in(name: str) -> Any:
    short = name.split(".")[-1]
    if short.lower().endswith("dict"):  # items are set on them: defaultdict, AttributeDict, …
        return _PlainDict(short)
    return type(short, (Unread,), {"told": name})


class _PlainDict:
    """Makes a plain dict wherever a class of that kind is asked for an instance."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, *arguments: Any) -> dict[str, Any]:
        return {}

    def __new__(cls, *arguments: Any) -> Any:
        # torch makes objects by `cls.__new__(cls, …)`, which for an instance is this, too.
        return super().__new__(cls) if isinstance(cls, type) else {}
