"""What a file of weights holds, whoever wrote it: state_dicts, by the containers they lie in.

Nothing of a file is run: safetensors are numbers, and torch's files go through
``torch.load(weights_only=True)`` with every class of theirs left unread
(:mod:`fastmnist.saving.unread`).
"""

from __future__ import annotations

import io
import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastmnist.files.container import is_ours, read
from fastmnist.files.records import pixels_from_json
from fastmnist.pixels import PixelNormalization
from fastmnist.saving.computed import joined_clusters
from fastmnist.saving.programs import without_program
from fastmnist.saving.unread import Unread, load_unread

# Names under which wrappers, trainers and EMA copies hold the model itself. Other tensors may lie
# beside those: of a loss, of a metric.
WRAPPERS = {
    *("module", "model", "net", "network", "_forward_module"),
    *("ema", "ema_model", "model_ema", "averaged_model"),
}
_DEEPEST = 5  # containers in containers
_BLOCKED = re.compile(r"GLOBAL (\S+) whose module \S+ is blocked")


class CheckpointError(ValueError):
    """A file holds no state_dict that can be read: what it is, and what to do."""


@dataclass(frozen=True)
class StateDict:
    """Tensors by name.

    Attributes
    ----------
    where : tuple of str
        The keys of the containers that it lies in, outermost first.
    tensors : dict of str to torch.Tensor
    kind : str
        "state_dict", or what it was read from: "whole module Net", "model of fastmnist's".
    pixels : PixelNormalization or None
        What pixels stand for, where the file says so.
    """

    where: tuple[str, ...]
    tensors: dict[str, Tensor]
    kind: str = "state_dict"
    pixels: PixelNormalization | None = None

    def __str__(self) -> str:
        return f"{self.kind} under '{'.'.join(self.where)}'" if self.where else self.kind


@dataclass(frozen=True)
class Checkpoint:
    """A file of weights.

    Attributes
    ----------
    path : str
    form : {"torch", "TorchScript", "safetensors", "fastmnist"}
    states : list of StateDict
        Never empty, the outermost first.
    """

    path: str
    form: str
    states: list[StateDict]


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read the tensors of a file of torch's, of safetensors or of fastmnist's.

    Raises
    ------
    CheckpointError
        If it holds no state_dict, or none that can be read: in one sentence, what it is and what
        to do.

    Examples
    --------
    >>> import tempfile, os
    >>> path = os.path.join(tempfile.mkdtemp(), "weights.pt")
    >>> torch.save({"net": torch.nn.Linear(2, 1).state_dict(), "epoch": 3}, path)
    >>> [str(state) for state in read_checkpoint(path).states]
    ["state_dict under 'net'"]
    """
    target = Path(path)
    if target.is_dir():
        raise _refused(path, "a folder", "name the file of weights in it")
    if not target.is_file():
        raise _refused(path, "no such file", "correct the name")
    try:
        with target.open("rb") as file:
            start = file.read(16)
    except OSError:
        raise _refused(path, "a file that may not be read", "change its permissions") from None
    if not start:
        raise _refused(path, "an empty file", "save or copy the weights again")
    if start[8:9] == b"{" and start[:2] != b"PK":
        form, states = _of_safetensors(path)
    elif str(path).endswith(".safetensors"):
        raise _refused(path, "no safetensors, in spite of its name", "save or copy it again")
    else:
        form, states = _of_torch(path, start)
    return Checkpoint(str(path), form, states)


def told_to_load_elsewhere(path: str | os.PathLike[str]) -> str | None:
    """Say of a file that :func:`fastmnist.save` did not write what it is and how it is read.

    Returns
    -------
    str or None
        None where it holds no weights that are known here.
    """
    try:
        found = read_checkpoint(path)
    except CheckpointError:
        return None
    if found.form == "fastmnist":
        return None
    state = found.states[0]
    inside = "".join(f"[{key!r}]" for key in state.where)
    call, trust = f"torch.load('{path!s}', weights_only=True){inside}", ""
    what = f"expected a file that fm.save wrote, got a {state} of torch's"
    if found.form == "safetensors":
        what = f"expected a file that fm.save wrote, got another safetensors file, a {state}"
        call = f"safetensors.torch.load_file('{path!s}')"
    elif state.kind != "state_dict":
        of_whole = f"torch.load('{path!s}', weights_only=False)"
        call = f"torch.jit.load('{path!s}')" if found.form == "TorchScript" else of_whole
        call, trust = f"{call}{inside}.state_dict()", "where you trust its code, "
    first = {name.partition(".")[0] for name in state.tensors}
    wrapped = (
        f"; its names begin with '{min(first)}.'" if len(first) == 1 and first <= WRAPPERS else ""
    )
    return (
        f"{what} ({some([*state.tensors])}{wrapped}): {trust}net.load_state_dict({call}) loads it "
        "into a model of its class, and fm.save(…, net) makes a file for fm.load"
    )


def some(names: list[str], most: int = 3) -> str:
    """Give a few of many names."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def _refused(path: Any, got: str, do: str) -> CheckpointError:
    return CheckpointError(f"expected a state_dict in '{path}', got {got}: {do}")


def _of_safetensors(path: Any) -> tuple[str, list[StateDict]]:
    from safetensors import safe_open
    from safetensors.torch import load_file

    try:
        with safe_open(path, framework="pt") as file:
            ours = is_ours(file.metadata(), file.keys())
        states = [*_own_models(path)] if ours else [StateDict((), load_file(path))]
    except Exception as error:  # SafetensorError derives directly from Exception
        got = f"a safetensors file that is damaged ({str(error).strip()})"
        raise _refused(path, got, "copy it again") from None
    if ours and not states:
        raise _refused(path, "compiled models alone", "name the file of the float model")
    if not any(state.tensors for state in states):
        raise _refused(path, "a safetensors file without tensors", "save the weights again")
    return "fastmnist" if ours else "safetensors", states


def _own_models(path: Any) -> Iterator[StateDict]:
    saved = read(path)
    for name in saved.names:
        description, arrays = saved.model(name)
        if description.get("type") != "module":
            continue  # a compiled model has no state_dict
        whole = joined_clusters(description.get("clustered", []), without_program(arrays))
        tensors = {k: torch.tensor(a) for k, a in whole.items()}
        where = () if saved.single else (name,)
        pixels = pixels_from_json(description.get("pixels"))
        yield StateDict(where, tensors, "model of fastmnist's", pixels)


def _of_torch(path: Any, start: bytes) -> tuple[str, list[StateDict]]:
    form, resave = "torch", "torch.save(net.state_dict(), path) writes one"
    try:
        if start[:4] == b"PK\x03\x04":
            form = _archive_form(path)
        if form == "TorchScript":
            value = load_unread(io.BytesIO(_without_code(path)))
        elif form == "torch":
            with open(path, "rb") as file:
                value = load_unread(file)
        else:
            raise _refused(path, form, resave)
    except CheckpointError:
        raise
    except Exception as error:  # unpicklers and zip readers may raise anything
        if start[:1] != b"\x80" and start[:2] != b"PK":
            raise _refused(path, "a file that torch.save did not write", resave) from None
        asked = _BLOCKED.search(str(error))
        raise _refused(
            path,
            "a pickle that cannot be read without running code of its own"
            + (f" ({asked[1]})" if asked else ""),
            f"where you trust it, torch.load('{path}', weights_only=False) does, and {resave}",
        ) from None
    states = [*_states(value, seen=set())]
    if not states:
        got = "an object without tensors" if isinstance(value, Unread) else _named(value)
        raise _refused(path, f"{got}, which does not fit the model", resave)
    return form, states


def _archive_form(path: Any) -> str:
    """What a zip archive is, by the names in it."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.partition("/")[2] or name for name in archive.namelist()]
    except zipfile.BadZipFile:
        raise _refused(path, "an archive that ends early", "copy it again") from None
    if "constants.pkl" in names:
        return "TorchScript"
    if "data.pkl" in names:
        return "torch"
    if any(name.endswith(".npy") for name in names):
        return "an archive of NumPy arrays"
    exported = any("archive_format" in name or "exported_program" in name for name in names)
    return "a program of torch.export" if exported else "a zip archive of another kind"


def _without_code(path: Any) -> bytes:
    """A TorchScript archive's numbers and structure alone, as torch.save would lay them out."""
    kept = io.BytesIO()
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(kept, "w") as copy:
        for name in archive.namelist():
            inner = name.partition("/")[2]
            if inner in ("data.pkl", "version", "byteorder") or inner.startswith("data/"):
                copy.writestr(name, archive.read(name))
    return kept.getvalue()


def _states(value: Any, where: tuple[str, ...] = (), *, seen: set[int]) -> Iterator[StateDict]:
    """Look for state_dicts in what was loaded, the outermost first, each object once."""
    if len(where) > _DEEPEST or id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, Unread):
        if value.is_module and (tensors := dict(value.tensors())):
            kind = "TorchScript module" if value.is_scripted else "whole module"
            yield StateDict(where, tensors, f"{kind} {value.told.split('.')[-1]}")
            return
        value = value.attributes
    if isinstance(value, (list, tuple)):
        holding = (Mapping, Unread, list, tuple)
        value = {str(i): part for i, part in enumerate(value) if isinstance(part, holding)}
    if not isinstance(value, Mapping):
        return
    named = {name: part for name, part in value.items() if isinstance(name, str)}
    tensors = {name: part.detach() for name, part in named.items() if isinstance(part, Tensor)}
    if tensors:
        yield StateDict(where, tensors)
    for name, part in named.items():
        yield from _states(part, (*where, name), seen=seen)


def _named(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"a dict without tensors ({some([str(key) for key in value]) or 'empty'})"
    return f"a {type(value).__name__}"
