"""What int8 layers say when torch.onnx.export asks: that another function does it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.compiler import assume_constant_result


@assume_constant_result  # type: ignore[untyped-decorator]
def _is_onnx_export() -> bool:
    """Whether torch.onnx.export asks; dynamo by itself would take torch's own answer for False."""
    return torch.onnx.is_in_onnx_export()


def refuse_onnx_export() -> None:
    """Raise ValueError if torch.onnx.export asks, which knows no operators of ours."""
    if _is_onnx_export():
        raise ValueError(
            "model: expected float layers, as torch.onnx.export has no operators for int8 ones, "
            "got int8: use fm.export_onnx(model, path)"
        )


class NotForTorchOnnx(nn.Module):
    """A layer that torch.onnx.export(dynamo=False) refuses where it begins: with the state.

    In its traces a call looks like any other, and to ask at each call would take time.
    """

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        refuse_onnx_export()
        super()._save_to_state_dict(destination, prefix, keep_vars)
