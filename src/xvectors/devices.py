"""Choose the device, the precision and the number of processes."""

from __future__ import annotations

import os
from functools import cache

import torch

from xvectors.errors import ConfigError

MAX_WORKERS_PER_CORE = 8

TENSOR_CORES = (7, 0)
"""The first compute capability that multiplies float16 quicker than float32."""

WITHOUT_BFLOAT16 = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI")
"""Values of ONEDNN_MAX_CPU_ISA under which oneDNN, which multiplies for torch on a CPU, leaves the units for bfloat16
unused; https://uxlfoundation.github.io/oneDNN/dev_guide_cpu_dispatcher_control.html lists them."""

_forked = False
"""Whether this process was forked from one that had called `survive_forks`."""


def find_device(name: str = "auto") -> torch.device:
    """Return the device called `name`; `auto` takes the first of cuda, mps and cpu.

    Raises ConfigError if it is absent.
    """
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
    """Whether the device multiplies bfloat16 natively, and so faster than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        return not _capped() and any(_capabilities().get(unit, False) for unit in ("amx_bf16", "avx512_bf16"))
    return False


def check_bfloat16(device: torch.device, setting: str) -> None:
    """Raise ConfigError, which names `setting`, if the device is known to lack bfloat16 units.

    A processor with AVX2 alone needs three to ten times as long as in float32. Devices that cannot be queried pass.
    """
    if device.type == "cpu":
        known = _capabilities()
        lacking = _capped() or (bool(known) and not any(known.get(unit, False) for unit in ("bf16", "sve_bf16")))
    else:
        lacking = device.type == "cuda"
    if lacking and not multiplies_bfloat16(device):
        what = "this GPU" if device.type == "cuda" else "this processor"
        raise ConfigError(
            f"{setting}: {what} has no units for bfloat16 and would take several times as long as in float32; use "
            "float32"
        )


def _capabilities() -> dict[str, object]:
    """Return torch.cpu.get_capabilities(); empty in versions of torch without it."""
    if hasattr(torch.cpu, "get_capabilities"):  # since torch 2.10
        return dict(torch.cpu.get_capabilities())
    return {}


def _capped() -> bool:
    names = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
    return any(os.environ.get(name, "").upper() in WITHOUT_BFLOAT16 for name in names)


def choose_precision(wanted: str, device: torch.device) -> torch.dtype:
    """Return the dtype of training for the setting `training.precision`.

    `auto` is bfloat16 if the device multiplies it natively, float16 on CUDA devices with tensor cores for float16 only
    (Volta, Turing), else float32. Raises ConfigError for float16 on a CPU and bfloat16 on a device without units for
    it.
    """
    if wanted != "auto":
        if wanted == "float16" and device.type == "cpu":
            raise ConfigError(
                "training.precision = 'float16' needs a GPU; on a CPU use 'bfloat16', 'float32' or 'auto'"
            )
        if wanted == "bfloat16":
            check_bfloat16(device, "training.precision = 'bfloat16'")
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[wanted]
    if multiplies_bfloat16(device):
        return torch.bfloat16
    if device.type == "cuda" and torch.cuda.get_device_capability(device) >= TENSOR_CORES:
        return torch.float16
    return torch.float32


@cache
def survive_forks() -> None:
    """Make torch use one thread in all processes forked from this one later.

    The threads of OpenMP do not survive a fork, and a forked process that relies on them waits forever. Call this
    before creating or using a network.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_leave_threads_behind)


def _leave_threads_behind() -> None:
    global _forked
    _forked = True
    torch.set_num_threads(1)


def threads_here(wanted: int) -> int:
    """Return `wanted`, or 1 in a forked process (see `survive_forks`)."""
    return 1 if _forked else wanted


def choose_workers(wanted: int, device: torch.device, *, num_sharing: int = 1) -> int:
    """Return the number of loader processes of each of `num_sharing` processes that train on this machine.

    -1 means two beside a network on the CPU, up to eight beside a GPU, and none on a single core. Raises ConfigError
    for more than `MAX_WORKERS_PER_CORE` per core, which would only fill memory.
    """
    cores = max(1, (os.cpu_count() or 1) // num_sharing)
    if wanted > MAX_WORKERS_PER_CORE * cores:
        raise ConfigError(
            f"training.workers = {wanted} is more than {MAX_WORKERS_PER_CORE} processes per core ({cores} cores here); "
            "-1 chooses by device and cores"
        )
    if wanted >= 0:
        return wanted
    if device.type == "cuda":
        return min(8, cores)
    return 2 if cores > 1 else 0
