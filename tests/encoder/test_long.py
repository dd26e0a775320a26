"""Recordings too long to be embedded whole."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from support.waves import RATE, noises
from xvectors import audio
from xvectors.corpus import Manifest, open_corpus
from xvectors.encoder import SpeakerEncoder, sources
from xvectors.encoder.sources import pieces
from xvectors.errors import AudioError, TooShortError

WAVE = np.concatenate(noises([1.0] * 5))


@pytest.fixture(autouse=True)
def _short_pieces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two seconds are long here, and half of one is decoded at once."""
    if "as_shipped" not in request.fixturenames:
        monkeypatch.setattr(sources, "MAX_WHOLE_S", 2.0)
        monkeypatch.setattr(sources, "BLOCK_S", 0.5)


@pytest.fixture
def as_shipped() -> None:
    """Marks tests of the lengths as they are."""


def mean_of(encoder: SpeakerEncoder, *parts: np.ndarray) -> np.ndarray:
    weights = [len(part) for part in parts]
    return np.average(np.concatenate([encoder.encode(part) for part in parts]), axis=0, weights=weights)[np.newaxis]


@pytest.mark.parametrize("seed", range(5))
def test_pieces_lose_and_shorten_nothing(seed: int) -> None:
    generator = np.random.default_rng(seed)
    for total in (0, 5, 10, 109, 110, 115, 1000, *generator.integers(1, 2000, 20)):
        wave = np.arange(total, dtype=np.float32)
        cuts = np.sort(generator.integers(0, total + 1, 7))
        found = list(pieces(np.split(wave, cuts), 100, 10))
        np.testing.assert_array_equal(np.concatenate([wave[:0], *found]), wave)
        assert all(len(piece) == 100 for piece in found[:-1])
        assert all(10 <= len(piece) < 110 for piece in found[-1:] if total >= 10)


def test_a_long_recording_is_the_mean_of_its_pieces(encoder: SpeakerEncoder, tmp_path: Path) -> None:
    expected = mean_of(encoder, WAVE[: 2 * RATE], WAVE[2 * RATE : 4 * RATE], WAVE[4 * RATE :])
    soundfile.write(tmp_path / "a.wav", WAVE, RATE, subtype="FLOAT")
    content = (tmp_path / "a.wav").read_bytes()
    for recording in (WAVE, WAVE.astype(np.float64), tmp_path / "a.wav", content, io.BytesIO(content)):
        np.testing.assert_allclose(encoder.encode(recording), expected, atol=1e-5)
    among = encoder.encode([WAVE[:RATE], WAVE, WAVE[: 2 * RATE]])
    np.testing.assert_allclose(among[1:2], expected, atol=1e-5)
    np.testing.assert_allclose(among[::2], encoder.encode([WAVE[:RATE], WAVE[: 2 * RATE]]), atol=1e-4)
    assert np.abs(among[1] - among[2]).max() > 1e-3  # the comparison could fail


def test_a_rest_shorter_than_the_context_joins_the_piece_before(encoder: SpeakerEncoder) -> None:
    wave = WAVE[: 4 * RATE + 100]
    np.testing.assert_allclose(encoder.encode(wave), mean_of(encoder, wave[: 2 * RATE], wave[2 * RATE :]), atol=1e-5)


def test_other_rates_and_channels(encoder: SpeakerEncoder, tmp_path: Path) -> None:
    t = np.arange(5 * 44_100) / 44_100
    wave = sum(np.sin(2 * np.pi * f * t * (1 + 0.1 * t)) for f in (200, 900, 2500)).astype(np.float32) * 0.1
    soundfile.write(tmp_path / "a.flac", np.stack([wave, 0.5 * wave], axis=1), 44_100)
    from_file = encoder.encode(tmp_path / "a.flac")
    from_array = encoder.encode(0.75 * wave, sample_rate_hz=44_100)
    np.testing.assert_allclose(from_file, from_array, atol=2e-3)  # FLAC's 16 bits


def test_a_long_segment_of_a_longer_file(encoder: SpeakerEncoder, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", WAVE, RATE, subtype="FLOAT")
    rows = [{"path": "a.wav", "speaker": "a", "start_s": 0.5, "duration_s": 3.0}]
    embedded = encoder.encode_manifest(Manifest.from_rows(rows, root=tmp_path))
    expected = mean_of(encoder, WAVE[RATE // 2 : RATE * 5 // 2], WAVE[RATE * 5 // 2 : RATE * 7 // 2])
    np.testing.assert_allclose(embedded.embeddings, expected, atol=1e-5)
    assert embedded.duration_s.tolist() == [3.0]


def test_pieces_without_sound_do_not_count(encoder: SpeakerEncoder) -> None:
    nothing = np.zeros(2 * RATE, np.float32)
    wave = np.concatenate([nothing, WAVE[: 2 * RATE], nothing])
    np.testing.assert_allclose(encoder.encode(wave), encoder.encode(WAVE[: 2 * RATE]), atol=1e-5)


def nobody(samples: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """A detector that finds no speech."""
    return np.zeros((0, 2), dtype=np.int64)


def test_what_is_wrong_far_into_a_recording(
    encoder: SpeakerEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(AudioError, match="recording 0: only zeros"):
        encoder.encode(np.zeros(5 * RATE, np.float32))
    wave = WAVE.copy()
    wave[-5] = np.nan
    with pytest.raises(AudioError, match="recording 0: the samples are NaN"):
        encoder.encode(wave)
    monkeypatch.setattr("xvectors.encoder.encoder.find_detector", lambda name: nobody)
    with pytest.raises(TooShortError, match=r"recording 0: 0\.000 s of speech in 5 s of audio are less than"):
        encoder.encode(WAVE, trim_silence="energy")
    monkeypatch.undo()
    monkeypatch.setattr(sources, "MAX_WHOLE_S", 2.0)
    soundfile.write(tmp_path / "cut.flac", WAVE, RATE)
    content = bytearray((tmp_path / "cut.flac").read_bytes())
    content[len(content) * 3 // 4 :] = bytes(len(content) - len(content) * 3 // 4)
    (tmp_path / "cut.flac").write_bytes(content)
    soundfile.write(tmp_path / "whole.flac", WAVE[:RATE], RATE)
    rows = [{"path": f"{name}.flac", "speaker": "a"} for name in ("cut", "whole")]
    embedded = encoder.encode_manifest(Manifest.from_rows(rows, root=tmp_path))
    assert embedded.rows.tolist() == [1]
    assert "cut.flac: cannot be decoded to its end" in embedded.failures[0][1]


@pytest.mark.real
def test_pieces_are_near_the_whole(speechocean: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One speaker's recordings, joined to about a minute: pieces of 20 s against the whole."""
    manifest = open_corpus(speechocean)
    encoder = SpeakerEncoder.from_pretrained(device="cpu")
    cosines = []
    for speaker in range(0, 100, 25):
        rows = np.flatnonzero(manifest.speaker_index == speaker)[:20]
        joined = np.concatenate([audio.read(manifest.full_path(row))[0] for row in rows])
        monkeypatch.setattr(sources, "MAX_WHOLE_S", 1e9)
        whole = encoder.encode(joined)[0]
        monkeypatch.setattr(sources, "MAX_WHOLE_S", 20.0)
        assert len(joined) > 2 * 20 * RATE
        apart = encoder.encode(joined)[0]
        cosines.append(whole @ apart / np.linalg.norm(whole) / np.linalg.norm(apart))
    assert min(cosines) > 0.99


HOURS = r"""
import re, sys
from pathlib import Path
from xvectors import SpeakerEncoder
encoder = SpeakerEncoder.from_pretrained(device="cpu", threads=1)
assert encoder.encode(sys.argv[1]).shape == (1, 128)
print(int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024)
"""
"""Prints the peak resident memory in MB; `ru_maxrss` would begin with that of the process that starts this one."""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from Linux's /proc")
def test_memory_does_not_grow_with_a_recording(as_shipped: None, tmp_path: Path) -> None:
    """Peak resident memory of a process that embeds 10 minutes, and 45, at another rate, in stereo."""
    generator = np.random.default_rng(0)
    minute = (0.1 * generator.standard_normal((44_100 * 60, 2))).astype(np.float32)
    peaks = []
    for minutes in (10, 45):
        path = tmp_path / f"{minutes}.wav"
        with soundfile.SoundFile(path, "w", 44_100, 2, "PCM_16") as file:
            for _ in range(minutes):
                file.write(minute)
        run = subprocess.run([sys.executable, "-c", HOURS, path], check=True, capture_output=True, text=True)
        peaks.append(int(run.stdout))
        path.unlink()
    assert max(peaks) < 1000
    assert peaks[1] - peaks[0] < 75  # 35 minutes are 134 MB at the system's rate
