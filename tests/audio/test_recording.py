"""Whatever is handed in as a recording gives the same samples, and what cannot be one is refused with a remedy."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch

from xvectors import audio
from xvectors.audio.recording import as_list, channels_apart, open_recording
from xvectors.errors import AudioError, XVectorsError

RATE = 16_000


@pytest.fixture
def stereo(tmp_path: Path) -> tuple[Path, np.ndarray]:
    frames = np.random.default_rng(0).uniform(-0.5, 0.5, (3 * RATE, 2)).astype(np.float32)
    audio.write(tmp_path / "two.wav", frames, RATE)
    return tmp_path / "two.wav", audio.read(tmp_path / "two.wav")[0]


def test_a_path_bytes_a_file_object_an_array_and_a_tensor_are_one(stereo: tuple[Path, np.ndarray]) -> None:
    path, mono = stereo
    content = path.read_bytes()
    for given in (path, str(path), content, memoryview(content), io.BytesIO(content), mono, torch.from_numpy(mono)):
        recording = open_recording(given, waveform_rate_hz=RATE)
        assert (recording.sample_rate_hz, recording.notes) == (RATE, ())
        np.testing.assert_array_equal(recording.read(RATE, 1.0, 0.5), mono[RATE : RATE + RATE // 2])
        np.testing.assert_array_equal(np.concatenate([*recording.blocks(0.7)]), mono)
        np.testing.assert_array_equal(np.concatenate([*recording.stream(RATE, 0.7, 0.25, 1.5)]), mono[4000:28_000])
        assert len(recording.read(8000)) == len(mono) // 2


def test_one_channel_of_a_file(stereo: tuple[Path, np.ndarray]) -> None:
    path, mono = stereo
    right = open_recording(path, waveform_rate_hz=RATE, channel="right").read(RATE)
    np.testing.assert_array_equal(right, audio.read(path, channel=1)[0])
    assert np.abs(right - mono).max() > 0.1
    items, channels = channels_apart([path, mono])
    assert items[:2] == [path, path]
    assert channels == [0, 1, None]


@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        (7, "give a path"),
        (np.zeros((4, 2), dtype=np.float32), "mix its channels"),
        (np.zeros(4, dtype=np.int16), "divide integers by their full scale"),
        (io.StringIO("x"), "'rb'"),
    ],
)
def test_what_is_no_recording_is_refused_by_name(given: object, remedy: str) -> None:
    with pytest.raises(AudioError, match=f"call 3: .*{remedy}"):
        open_recording(given, "call 3", waveform_rate_hz=RATE)


def test_bytes_that_are_no_sound_are_named(tmp_path: Path) -> None:
    with pytest.raises(XVectorsError, match="call 3"):
        open_recording(b"no sound", "call 3", waveform_rate_hz=RATE).read(RATE)
    with pytest.raises(AudioError, match="sample_rate_hz is 0"):
        open_recording(np.zeros(4, np.float32), waveform_rate_hz=0)
    assert len(as_list(np.zeros(4))) == 1
    assert as_list(np.array(["a.wav", "b.wav"])) == ["a.wav", "b.wav"]
    with pytest.raises(AudioError, match="list of these"):
        as_list(3.0)
