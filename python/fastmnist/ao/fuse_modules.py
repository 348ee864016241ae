"""``torch.ao.quantization.fuse_modules``: :func:`fastmnist.fuse_modules`, under its names."""

from __future__ import annotations

from typing import Any, NoReturn

from fastmnist.fusion.by_name import fuse_modules as fuse_modules
from fastmnist.fusion.by_name import fuse_modules as fuse_modules_qat

__all__ = ["fuse_known_modules", "fuse_modules", "fuse_modules_qat"]


def fuse_known_modules(*args: Any, **kwargs: Any) -> NoReturn:
    """Raise if called; only serves as the default of ``fuse_modules(fuser_func=)``."""
    raise NotImplementedError(
        "fuse_known_modules: expected to be handed on as fuser_func= only: use fuse_modules"
    )
