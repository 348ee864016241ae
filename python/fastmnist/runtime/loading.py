"""Load a saved chain of int8 layers, ready to run."""

from __future__ import annotations

import os

from fastmnist.files.container import read
from fastmnist.files.graph_records import compiled_from
from fastmnist.runtime.compiled import CompiledModel
from fastmnist.runtime.planning import check_environment


def load(path: str | os.PathLike[str], name: str | None = None) -> CompiledModel:
    """Load a quantized or compiled chain from a file that :func:`fastmnist.save` wrote.

    Parameters
    ----------
    path : str or path
    name : str, optional
        Which model in the file; not needed if there is only one.

    Returns
    -------
    CompiledModel

    Raises
    ------
    FileNotFoundError, KeyError, ValueError
        If the file or model does not exist, the file is damaged, or the model needs torch because
        it is float or not a chain.
    """
    check_environment()
    file = read(path)
    known = ", ".join(file.names)
    if name is None:
        if len(file.names) > 1:
            raise ValueError(f"name: expected one of {known}, got none")
        name = file.names[0]
    if name not in file.names:
        raise KeyError(f"name: expected one of {known}, got '{name}'")
    try:
        return CompiledModel(compiled_from(*file.model(name)))
    except ValueError as error:
        raise ValueError(f"{path}: model '{name}': {error}") from None
