"""Evaluation of a system: the SNR of its recordings, and the command that repeats it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from xvectors.corpus import Manifest
from xvectors.evaluation.measuring import evaluate_command
from xvectors.evaluation.system import estimate_manifest_snr_db
from xvectors.metrics import LeastCost

RATE = 16_000


def bursts(snr_db: float) -> np.ndarray:
    """Half a second of tone, half a second of pause, over white noise: the tone's power is `snr_db` above it."""
    rng = np.random.default_rng(0)
    t = np.arange(4 * RATE) / RATE
    tone = np.sin(2 * np.pi * 200 * t) * (t % 1 < 0.5)
    noise = rng.standard_normal(len(t)) * np.sqrt(0.5 / 10 ** (snr_db / 10))
    return 0.1 * (tone + noise)


def test_rows_have_an_estimate_where_they_can_be_read_and_last_long_enough(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "good.wav", bursts(15), RATE)
    soundfile.write(tmp_path / "short.wav", bursts(15)[:2000], RATE)
    rows = [{"path": f"{name}.wav", "speaker": "a"} for name in ("good", "short", "missing")]
    found = estimate_manifest_snr_db(Manifest.from_rows(rows, root=tmp_path))
    assert np.isnan(found).tolist() == [False, True, True]
    assert found[0] == pytest.approx(15, abs=2)


def test_the_command_names_what_was_asked_for() -> None:
    assert evaluate_command("my system") == "xvectors evaluate 'my system'"
    command = evaluate_command(None, cost=LeastCost(0.05, 10.0), speaker_level=2, trials=None, output=Path("out"))
    assert command == "xvectors evaluate --speaker-level 2 --output out --p-target 0.05 --c-miss 10"
