"""Run saved models where torch is not installed.

>>> import fastmnist.runtime as rt            # doctest: +SKIP
>>> net = rt.load("digits.safetensors", "compiled")   # doctest: +SKIP
>>> net.predict(pixels)                           # doctest: +SKIP
"""

from __future__ import annotations

import os

from fastmnist.compiled import CompiledModel
from fastmnist.cpu import cpu_info, num_threads, set_num_threads
from fastmnist.model_file import network_from, read
from fastmnist.planning import check_environment

__all__ = ["CompiledModel", "cpu_info", "load", "num_threads", "set_num_threads"]


def load(path: str | os.PathLike[str], name: str | None = None) -> CompiledModel:
    """Load a quantized or compiled chain from a file that :func:`fastmnist.save` wrote.

    Parameters
    ----------
    path : str or path
    name : str, optional
        Which of the file's models; not needed if it holds just one.

    Returns
    -------
    CompiledModel

    Raises
    ------
    FileNotFoundError, KeyError, ValueError
        If there is no such file or model, the file is damaged, or the model is float or no
        chain, which needs torch.
    """
    check_environment()
    models, _ = read(path)
    if name is None:
        if len(models) > 1:
            raise ValueError(f"name: expected one of {', '.join(models)}, got none")
        name = next(iter(models))
    if name not in models:
        raise KeyError(f"{path} holds {', '.join(models)}, not '{name}'")
    try:
        return CompiledModel(network_from(*models[name]))
    except ValueError as error:
        raise ValueError(f"{path}: model '{name}': {error}") from None
