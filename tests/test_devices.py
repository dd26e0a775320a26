from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from support.commands import run
from xvectors import SpeakerEncoder, devices
from xvectors.devices import choose_precision, choose_workers, find_device, multiplies_bfloat16
from xvectors.errors import ConfigError

CPU = torch.device("cpu")


def test_auto_takes_the_first_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert find_device() == torch.device("cpu")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert find_device() == torch.device("mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert find_device() == torch.device("cuda")


def test_a_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"device 'cuda' is not available here; found: .*cpu"):
        find_device("cuda")
    with pytest.raises(ConfigError, match="unknown device 'gpu'; give cuda, cuda:0, mps, cpu or auto"):
        find_device("gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert find_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(ConfigError, match="device 'cuda:2' does not exist; there are 2 CUDA devices"):
        find_device("cuda:2")


@pytest.fixture
def has(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes this processor one that has the units named, and oneDNN one that may use them all."""
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    monkeypatch.delenv("DNNL_MAX_CPU_ISA", raising=False)

    def set_units(*units: str) -> None:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(units, True), raising=False)

    return set_units


def test_bfloat16_on_the_cpu_takes_units_for_it(has: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    for units, there in ((["avx2", "amx_bf16"], True), (["avx2", "avx512_bf16"], True), (["avx2", "avx512_f"], False)):
        has(*units)
        assert multiplies_bfloat16(CPU) is there
        assert choose_precision("auto", CPU) == (torch.bfloat16 if there else torch.float32)
    assert multiplies_bfloat16(torch.device("mps")) is False
    has("avx512_bf16")
    for cap, there in (("AVX2", False), ("avx512_core", False), ("AVX512_CORE_BF16", True), ("DEFAULT", True)):
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", cap)
        assert multiplies_bfloat16(CPU) is there
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA")
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert multiplies_bfloat16(CPU) is False


def test_bfloat16_without_units_for_it_is_refused(has: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    has("avx2", "avx512_f")
    for refused in (
        lambda: choose_precision("bfloat16", CPU),
        lambda: SpeakerEncoder.from_pretrained("starter", device="cpu", precision="bfloat16"),
    ):
        with pytest.raises(ConfigError, match=r"precision.*'bfloat16'.* no units for bfloat16 .*; use float32$"):
            refused()
    run("embed", "x.csv", "-o", "x.npz", "--device=cpu", "--precision=bfloat16", status=2)
    has("avx512_bf16")
    assert choose_precision("bfloat16", CPU) == torch.bfloat16
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    with pytest.raises(ConfigError, match="this processor has no units for bfloat16"):
        choose_precision("bfloat16", CPU)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA")
    has("neon", "bf16")  # ARM: it may well be quick
    assert choose_precision("bfloat16", CPU) == torch.bfloat16
    monkeypatch.delattr(torch.cpu, "get_capabilities")  # torch before 2.10 cannot tell
    assert choose_precision("bfloat16", CPU) == torch.bfloat16
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    with pytest.raises(ConfigError, match="this GPU has no units for bfloat16"):
        choose_precision("bfloat16", torch.device("cuda"))
    assert choose_precision("bfloat16", torch.device("mps")) == torch.bfloat16


@pytest.mark.parametrize(
    ("native_bfloat16", "capability", "chosen"),
    # Hopper; Turing and Volta, whose tensor cores know float16 alone; Pascal, which has none
    [
        (True, (9, 0), torch.bfloat16),
        (False, (7, 5), torch.float16),
        (False, (7, 0), torch.float16),
        (False, (6, 1), torch.float32),
    ],
)
def test_automatic_precision_on_cuda(
    native_bfloat16: bool, capability: tuple[int, int], chosen: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native_bfloat16)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert choose_precision("auto", torch.device("cuda")) == chosen


def test_precision_elsewhere(has: Callable[..., None]) -> None:
    mps = torch.device("mps")
    has("avx2")
    assert choose_precision("auto", mps) == torch.float32
    assert choose_precision("float16", mps) == choose_precision("float16", torch.device("cuda")) == torch.float16
    has("avx512_bf16")
    assert choose_precision("float32", CPU) == torch.float32
    with pytest.raises(
        ConfigError,
        match=r"^training\.precision = 'float16' needs a GPU; on a CPU use 'bfloat16', 'float32' or 'auto'$",
    ):
        choose_precision("float16", CPU)


@pytest.mark.parametrize(("cores", "beside_cpu", "beside_cuda"), [(1, 0, 1), (2, 2, 2), (64, 2, 8)])
def test_workers(cores: int, beside_cpu: int, beside_cuda: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices.os, "cpu_count", lambda: cores)
    assert choose_workers(-1, torch.device("cpu")) == beside_cpu
    assert choose_workers(-1, torch.device("cuda")) == beside_cuda
    assert choose_workers(0, torch.device("cuda")) == 0
    assert choose_workers(8 * cores, torch.device("cpu")) == 8 * cores
    with pytest.raises(ConfigError, match=r"^training\.workers = \d+ is more than 8 processes per core"):
        choose_workers(8 * cores + 1, torch.device("cpu"))
