"""The SNR of a corpus's recordings; the estimate itself is tested in tests/test_quality.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from xvectors.corpus import Manifest
from xvectors.evaluation.system import estimate_manifest_snr_db

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
