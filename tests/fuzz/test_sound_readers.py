"""Damaged recordings of every kind are read or refused, in bounded time and memory, by every way of reading."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sound_files import SECONDS, sound_files
from sound_readers import Outcome, fuzz, read_in_every_way

from xvectors import audio


def assert_none(outcome: Outcome) -> None:
    faults = "\n".join(f"{fault}: seeds {seeds[:9]}" for fault, seeds in outcome.faults.items())
    assert not outcome.faults, f"{outcome.tried} tried\n{faults}"


def test_whole_recordings_are_read(tmp_path: Path) -> None:
    for name, content in sound_files().items():
        assert not read_in_every_way(content, tmp_path / "recording"), name
        info = audio.probe(content)
        times = 2 if name.endswith("-joined") else 1
        # encoders pad to their packets; XI states no rate, and is taken for 44.1 kHz
        rate_hz = 16_000 if name == "xi" else info.sample_rate_hz
        np.testing.assert_allclose(info.num_frames / rate_hz, times * SECONDS, atol=0.15, err_msg=name)


def test_damaged_recordings_are_read_or_refused() -> None:
    outcome = fuzz(0, 180)
    assert_none(outcome)
    assert outcome.tried == 180
    assert 30 < outcome.refused < 150  # the damage is felt, and does not stop at the first bytes


@pytest.mark.slow
def test_many_damaged_recordings_are_read_or_refused() -> None:
    outcome = fuzz(1_000_000, 20_000, seconds=15)
    assert_none(outcome)
    assert outcome.tried > 100


def test_what_kills_the_process_is_found_and_passed_over() -> None:
    (fault,), (seeds,) = zip(*fuzz(5, 2, names=["no such kind"]).faults.items(), strict=True)
    assert fault.endswith("KeyError: 'no such kind'")
    assert seeds == [5, 6]
