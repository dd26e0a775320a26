"""Which processor computes, and in which arithmetic. In: names from the user. Out: torch devices and dtypes."""

from __future__ import annotations

import os

import torch

from xvectors.errors import ConfigError

MOST_WORKERS_A_CORE = 8

TENSOR_CORES = (7, 0)
"""The first compute capability that multiplies float16 quicker than float32."""


def find_device(name: str = "auto") -> torch.device:
    """`auto` takes cuda, then mps, then cpu; a named device that is not there is a ConfigError."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, there in available.items() if there))
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"unknown device {name!r}; give cuda, cuda:0, mps, cpu or auto") from error
    if not available.get(device.type, False):
        found = ", ".join(kind for kind, there in available.items() if there)
        raise ConfigError(f"device {name!r} is not available here; found: {found}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"device {name!r} does not exist; there are {torch.cuda.device_count()} CUDA devices")
    return device


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 natively, so that it is quicker there than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        # get_capabilities came with torch 2.10; before, AMX and AVX-512's bfloat16 products cannot be asked for
        capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
        return any(capabilities.get(unit, False) for unit in ("amx_bf16", "avx512_bf16"))
    return False


def choose_precision(wanted: str, device: torch.device) -> torch.dtype:
    """The arithmetic of a network in training, `training.precision`, as a dtype.

    `auto` is bfloat16 where the device multiplies it natively, float16 on CUDA devices that have tensor cores but not
    for bfloat16 (Volta, Turing), else float32, as on mps. float16 on a CPU is a ConfigError.
    """
    if wanted != "auto":
        if wanted == "float16" and device.type == "cpu":
            raise ConfigError(
                "training.precision = 'float16' needs a GPU; on a CPU take 'bfloat16', 'float32' or 'auto'"
            )
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[wanted]
    if multiplies_bfloat16(device):
        return torch.bfloat16
    if device.type == "cuda" and torch.cuda.get_device_capability(device) >= TENSOR_CORES:
        return torch.float16
    return torch.float32


def choose_workers(wanted: int, device: torch.device) -> int:
    """Processes that read recordings: as many as wanted, where -1 is two beside a network on the CPU, up to eight
    beside a GPU, and none where there is one core alone. So many that they would only fill the memory are a
    ConfigError."""
    cores = os.cpu_count() or 1
    if wanted > MOST_WORKERS_A_CORE * cores:
        raise ConfigError(
            f"training.workers = {wanted} is more than {MOST_WORKERS_A_CORE} processes a core ({cores} cores here); "
            "-1 chooses by device and cores"
        )
    if wanted >= 0:
        return wanted
    if device.type == "cuda":
        return min(8, cores)
    return 2 if cores > 1 else 0
