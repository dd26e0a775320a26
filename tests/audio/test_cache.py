from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from xvectors import audio
from xvectors.audio.cache import DecodedRecordings
from xvectors.errors import AudioError, TruncatedFileError


def write_sound(path: Path, seconds: float = 0.5, *, rate_hz: int = 16_000, channels: int = 1, seed: int = 0) -> Path:
    noise = np.random.default_rng(seed).uniform(-1, 1, (round(seconds * rate_hz), channels))
    soundfile.write(path, noise, rate_hz, subtype="PCM_16")
    return path


@pytest.mark.parametrize("channel", ["mix", 0])
def test_kept_recordings_read_as_others_do(tmp_path: Path, channel: audio.Channel) -> None:
    path = write_sound(tmp_path / "a.flac")
    recordings = DecodedRecordings(2**20)
    for start_s, duration_s in ((0.0, None), (0.1, 0.2), (0.4999, 1.0), (0.3, 5.0), (0.0333, 0.0333)):
        wanted, _ = audio.read(path, sample_rate_hz=16_000, start_s=start_s, duration_s=duration_s, channel=channel)
        kept, rate_hz = recordings.read(
            path, sample_rate_hz=16_000, start_s=start_s, duration_s=duration_s, channel=channel
        )
        assert (rate_hz, kept.dtype) == (16_000, np.float32)
        assert len(kept) > 0
        np.testing.assert_array_equal(kept, wanted)
    assert recordings.num_kept == 1
    path.unlink()  # it is the kept one that is read
    assert len(recordings.read(path, sample_rate_hz=16_000)[0]) == 8_000
    with pytest.raises(AudioError, match=r"a segment starts at 0\.5 s, the recording lasts 0\.500 s"):
        recordings.read(path, sample_rate_hz=16_000, start_s=0.5)


def test_what_is_not_kept_is_read_anew(tmp_path: Path) -> None:
    wav = write_sound(tmp_path / "a.wav")
    stereo = write_sound(tmp_path / "stereo.flac", channels=2)
    other_rate = write_sound(tmp_path / "slow.flac", rate_hz=8_000)
    fine = tmp_path / "fine.flac"
    soundfile.write(fine, np.full(800, 2.0**-20), 16_000, subtype="PCM_24")
    recordings = DecodedRecordings(2**20)
    for path in (wav, stereo, other_rate, fine):
        for _ in range(2):
            np.testing.assert_array_equal(
                recordings.read(path, sample_rate_hz=16_000)[0], audio.read(path, sample_rate_hz=16_000)[0]
            )
    assert recordings.num_kept == 0


def test_no_more_is_kept_than_there_is_room_for(tmp_path: Path) -> None:
    paths = [write_sound(tmp_path / f"{i}.flac", seed=i) for i in range(3)]  # 16,000 bytes each
    recordings = DecodedRecordings(33_000)
    for path in [*paths, *paths]:
        np.testing.assert_array_equal(
            recordings.read(path, sample_rate_hz=16_000)[0], audio.read(path, sample_rate_hz=16_000)[0]
        )
    assert recordings.num_kept == 2


def test_a_damaged_recording_is_not_kept(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "a.flac", 4.0)
    path.write_bytes(path.read_bytes()[:-20_000])
    recordings = DecodedRecordings(2**20)
    wanted, _ = audio.read(path, sample_rate_hz=16_000, duration_s=1.0)
    np.testing.assert_array_equal(recordings.read(path, sample_rate_hz=16_000, duration_s=1.0)[0], wanted)
    with pytest.raises(TruncatedFileError, match=r"a\.flac"):
        recordings.read(path, sample_rate_hz=16_000)
    assert recordings.num_kept == 0
