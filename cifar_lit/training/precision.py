"""Choose the fastest training precision that does not cost accuracy."""

from functools import cache
from typing import Literal

import torch


def fastest_precision(accelerator: str) -> Literal["bf16-mixed", "32-true"]:
    """Return bf16-mixed if the hardware multiplies bfloat16 natively, else 32-true.

    Args:
        accelerator: As in Lightning's Trainer: ``auto``, ``cpu``, ``gpu``, ...
    """
    if accelerator != "cpu" and torch.cuda.is_available():
        native = multiplies_bfloat16(torch.device("cuda"))
    elif accelerator in ("auto", "cpu") and not (accelerator == "auto" and torch.backends.mps.is_available()):
        native = multiplies_bfloat16(torch.device("cpu"))
    else:
        native = False
    return "bf16-mixed" if native else "32-true"


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the device has bfloat16 instructions; emulation is slower than float32."""
    if device.type == "cuda":
        return _cuda_multiplies_bfloat16()
    features = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    return any(features.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


@cache  # asking takes a millisecond, and an optimizer asks for every weight
def _cuda_multiplies_bfloat16() -> bool:
    return torch.cuda.is_bf16_supported(including_emulation=False)
