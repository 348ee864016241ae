"""The libraries that ours is compared with, one file each."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from benchmarks.peers.description import ONEDNN, Case, FloatLayer, Network

__all__ = ["ONEDNN", "Case", "FloatLayer", "Network", "peer_cases"]

_MODULES = {
    "NumPy": "numpy_float32",
    "torch": "torch_eager",
    "torch.ao": "torch_ao",
    "torchao": "torchao_int8",
    "ONNX Runtime": "onnx_runtime",
    "OpenVINO": "open_vino",
    ONEDNN: "onednn",
}
_ASKED_FOR = {"torch.compile": "torch_compile", "SciPy": "scipy_csr"}


def peer_cases(
    network: Network, *, compiled: bool = False, only: Sequence[str] = ()
) -> tuple[list[Case], dict[str, str]]:
    """Build `network` with every peer.

    Parameters
    ----------
    network : Network
    compiled : bool
        Whether torch.compile is a peer too.
    only : sequence of str
        These peers; otherwise all but those that must be asked for.

    Returns
    -------
    cases : list of Case
    missing : dict
        Peer to reason, for those that are not installed or could not build it.
    """
    names = [*only] or [*_MODULES, *(["torch.compile"] if compiled else [])]
    modules = {name: (_MODULES | _ASKED_FOR)[name] for name in names}
    cases: list[Case] = []
    missing = {}
    for name, module in modules.items():
        try:
            cases += importlib.import_module(f"benchmarks.peers.{module}").cases(network)
        except Exception as error:
            missing[name] = reason(error)
    return cases, missing


def reason(error: Exception) -> str:
    """Say in one line why a peer is left out."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[-1].strip()[:200]}"  # the last one says what happened
