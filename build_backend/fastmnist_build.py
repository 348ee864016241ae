"""Build backend: scikit-build-core, plus torch in the build environment only where it is missing.

`_torch` compiles against torch's headers. An isolated build does not see the packages of the
environment it installs into, so a plain build requirement would download torch a second time,
and, unpinned, a CUDA build of several GB. CMake therefore takes the torch of the target
environment where there is one (find_torch.py), and this module asks for one only where there is
none.
"""

from __future__ import annotations

from typing import Any

from scikit_build_core import build as _backend
from scikit_build_core.build import *  # noqa: F403

from find_torch import find, target_folder

TORCH_FOR_BUILD = "torch==2.13.0"


def _with_torch(requires: list[str]) -> list[str]:
    return requires if find([target_folder()]) else [*requires, TORCH_FOR_BUILD]


def get_requires_for_build_wheel(config_settings: dict[str, Any] | None = None) -> list[str]:
    return _with_torch(_backend.get_requires_for_build_wheel(config_settings))


def get_requires_for_build_editable(config_settings: dict[str, Any] | None = None) -> list[str]:
    return _with_torch(_backend.get_requires_for_build_editable(config_settings))
