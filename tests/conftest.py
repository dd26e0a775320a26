"""Fixtures that several rooms share: a small corpus of tones that stand for speakers, and the real speech."""

from __future__ import annotations

import csv
import os
import shutil
import signal
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from xvectors.corpus.synth import synthesize
from xvectors.training.calibrate import calibrate

RATE = 16_000
REAL_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
LONGEST = (
    "real/test_default_recipe.py",
    "real/test_xvector_recipe.py",
    "export/test_onnx_file.py",
    "test_docs.py",
    "kills/test_killed_commands.py",
)
"""The files whose slow tests take longest. They begin first, so that no process ends long after the others."""


def pytest_configure() -> None:
    """The tests' networks are tiny: a second thread costs more than it brings, and much more beside other work, in the
    programs that tests start too.

    A shell gives what it starts in the background an ignored SIGINT, which the programs that tests interrupt would
    inherit.
    """
    torch.set_num_threads(1)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    rank = {here / name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))


def buzz(f0_hz: float, formant_hz: float, duration_s: float, seed: int) -> np.ndarray:
    """A buzz with one resonance and a little noise: enough to tell "speakers" apart, quick to make."""
    generator = np.random.default_rng(seed)
    t = np.arange(round(duration_s * RATE)) / RATE
    wave = np.zeros(len(t))
    for harmonic in range(1, 30):
        f = harmonic * f0_hz * (1 + 0.02 * generator.standard_normal())
        if f < RATE / 2:
            wave += np.exp(-(((f - formant_hz) / 600) ** 2)) * np.sin(2 * np.pi * f * t + generator.uniform(0, 6.28))
    wave = wave / np.abs(wave).max() * 0.3 + 0.02 * generator.standard_normal(len(t))
    return wave.astype(np.float32)


@pytest.fixture(scope="session")
def toy_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """10 speakers x 8 utterances of 0.6 to 1.3 s in speaker folders, with metadata.csv; returns the folder."""
    root = tmp_path_factory.mktemp("toy")
    rows = []
    for s in range(10):
        folder = root / f"s{s:02d}"
        folder.mkdir()
        for u in range(8):
            path = folder / f"u{u}.flac"
            wave = buzz(90 + 17 * s, 500 + 250 * s, 0.6 + 0.1 * u, seed=100 * s + u)
            soundfile.write(path, wave, RATE)
            rows.append(
                {
                    "path": path.relative_to(root).as_posix(),
                    "speaker": folder.name,
                    "gender": "mf"[s % 2],
                    "age": 20 + s,
                    "session": f"session{u // 2}",
                }
            )
    with (root / "metadata.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return root


@pytest.fixture(scope="session")
def calibrated_starter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the starter, calibrated on eight synthetic voices alone."""
    out = tmp_path_factory.mktemp("calibrated")
    synthesize(out / "learn", speakers=8, utterances=3, seed=11, workers=1)
    shutil.copytree(Path(str(resources.files("xvectors.system") / "starter")), out / "system")
    for name in ("backend.npz", "calibration.toml"):
        (out / "system" / name).unlink(missing_ok=True)
    calibrate(out / "system", data=out / "learn", device="cpu")
    return out / "system"


@pytest.fixture
def bfloat16_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """bfloat16 may be asked for, whatever this processor has: torch computes it anywhere, if slowly."""
    for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)


@pytest.fixture(scope="session")
def speechocean() -> Path:
    """The real speech beside the checkout; tests that need it skip where it is absent."""
    folder = REAL_DATA / "speechocean762"
    if not folder.is_dir():
        pytest.skip(f"no real speech at {folder.parent.parent.name}/data/{folder.name} beside the checkout")
    return folder
