"""Zeros and silence within a recording are nothing to anybody: encode, windows, streams, verify, training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from support.voices import RATE, mixed, spoken
from xvectors import SpeakerEncoder
from xvectors.audio import resample
from xvectors.audio.condition import measure_condition
from xvectors.audio.segments import without_zeros
from xvectors.corpus import Manifest
from xvectors.encoder import sources
from xvectors.errors import TooShortError
from xvectors.integrations.pyannote import PyannoteEmbedding
from xvectors.training.data.dataset import CENTERED, WHOLE, ChunkDataset, ChunkRequest

NOTHING = np.zeros(2 * RATE, np.float32)


@pytest.fixture(scope="module")
def encoder() -> SpeakerEncoder:
    return SpeakerEncoder.from_pretrained(device="cpu")


@pytest.fixture(scope="module")
def voice() -> np.ndarray:
    """6 s of a synthetic voice over noise 30 dB below it."""
    waves = [mixed(*parts, 30.0).astype(np.float32) for parts in spoken(5, 2)]
    return np.concatenate(waves)[: 6 * RATE]


def hiss(level_dbfs: float, seconds: float) -> np.ndarray:
    generator = np.random.default_rng(1)
    return (10 ** (level_dbfs / 20) * generator.standard_normal(round(seconds * RATE))).astype(np.float32)


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one.ravel() @ other.ravel() / np.linalg.norm(one) / np.linalg.norm(other))


@pytest.mark.parametrize("trim_silence", ["energy", None])
def test_zeros_change_nothing(encoder: SpeakerEncoder, voice: np.ndarray, trim_silence: str | None) -> None:
    expected = encoder.encode(voice, trim_silence=trim_silence)
    middle = 3 * RATE + 77
    for padded in (
        np.r_[voice, NOTHING],
        np.r_[NOTHING, voice],
        np.r_[voice, NOTHING, NOTHING],
        np.r_[voice[:middle], NOTHING, voice[middle:], NOTHING[:160]],
    ):
        np.testing.assert_allclose(encoder.encode(padded, trim_silence=trim_silence), expected, atol=1e-4)


def test_zeros_of_a_file_at_another_rate_change_little(
    encoder: SpeakerEncoder, voice: np.ndarray, tmp_path: Path
) -> None:
    """The edges of the zeros are filtered with the rest; what a resampler leaves of them counts as zeros too."""
    wide = resample(voice, RATE, 44_100)
    soundfile.write(tmp_path / "a.wav", wide, 44_100)
    soundfile.write(tmp_path / "b.wav", np.r_[wide, np.zeros(5 * 44_100), wide[:441]], 44_100)
    alone, padded = (encoder.encode(tmp_path / f"{name}.wav", trim_silence=None) for name in "ab")
    assert cosine(alone, padded) > 0.999


def test_silence_changes_little(encoder: SpeakerEncoder, voice: np.ndarray) -> None:
    alone = encoder.encode(voice)
    middle = 3 * RATE
    for noisy in (np.r_[voice, hiss(-60, 2)], np.r_[voice[:middle], hiss(-60, 4), voice[middle:]]):
        assert cosine(encoder.encode(noisy), alone) > 0.9
        assert cosine(encoder.encode(noisy, trim_silence=None), alone) < cosine(encoder.encode(noisy), alone)


def test_encode_hears_what_verify_hears(encoder: SpeakerEncoder, voice: np.ndarray, tmp_path: Path) -> None:
    wave = np.r_[hiss(-60, 1), voice[: 3 * RATE], NOTHING, hiss(-60, 1), voice[3 * RATE :], NOTHING]
    soundfile.write(tmp_path / "a.wav", wave, RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "b.flac", resample(wave, RATE, 44_100), 44_100)
    for recording in (wave, tmp_path / "a.wav", tmp_path / "b.flac"):
        heard = encoder.listen(recording)
        np.testing.assert_array_equal(encoder.encode(recording), encoder.encode_heard([heard.samples]))
        np.testing.assert_array_equal(heard.condition, measure_condition(heard.samples, RATE))
        if recording is wave or recording == tmp_path / "a.wav":
            np.testing.assert_array_equal(heard.condition, encoder.listen(wave).condition)
        rows = [{"path": str(recording), "speaker": "a"}]
        if isinstance(recording, Path):
            embedded = encoder.encode_manifest(Manifest.from_rows(rows, root=tmp_path))
            assert embedded.speech_s.tolist() == [heard.speech_s]
            np.testing.assert_array_equal(embedded.condition, heard.condition[None])
    decision = encoder.verify(wave, voice)
    enroll, test = encoder.encode([wave, voice])
    assert decision.score == pytest.approx(encoder.verifier.backend.score_pairs(
        encoder.verifier.backend.enroll(enroll[None], np.zeros(1, np.int64)), test[None], np.zeros(1, np.int32),
        np.zeros(1, np.int32),
    )[0], abs=1e-4)  # fmt: skip


def test_where_nobody_speaks_everything_but_zeros_is_embedded(
    encoder: SpeakerEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = hiss(-20, 3)
    expected = encoder.encode(noise, trim_silence=None)
    padded = np.r_[noise, NOTHING]
    np.testing.assert_allclose(encoder.encode(padded), expected, atol=1e-4)
    assert encoder.verify(padded, padded).same_speaker is None
    monkeypatch.setattr(sources, "MAX_WHOLE_S", 1.0)
    long = encoder.encode(padded, trim_silence=None)
    np.testing.assert_allclose(encoder.encode(padded), long, atol=1e-4)


def test_windows_keep_their_times(encoder: SpeakerEncoder, voice: np.ndarray) -> None:
    wave = np.r_[voice[: RATE + 4000], NOTHING, voice[RATE + 4000 :]]
    windows = encoder.encode_windows(wave, window_s=1.5, hop_s=0.5)
    left_out = set(np.arange(0.0, 6.5, 0.5)) - set(windows.start_s)
    assert left_out == {1.5}  # the one that lies within the zeros
    at = windows.start_s.tolist().index(0.5)
    np.testing.assert_allclose(
        windows.embeddings[at : at + 1], encoder.encode(voice[RATE // 2 : RATE + 4000], trim_silence=None), atol=1e-4
    )


def test_too_little_beside_zeros(encoder: SpeakerEncoder, voice: np.ndarray) -> None:
    with pytest.raises(TooShortError, match=r"recording 0: 0\.100 s of speech in 2\.100 s of audio are less than"):
        encoder.encode(np.r_[voice[RATE : RATE + 1600], NOTHING])


def test_pyannotes_call_leaves_zeros_out(encoder: SpeakerEncoder, voice: np.ndarray) -> None:
    import torch

    embedding = PyannoteEmbedding(encoder)
    both = np.stack([np.r_[voice, NOTHING], np.r_[voice[:1600], np.zeros(len(voice) + len(NOTHING) - 1600)]])
    found = embedding(torch.from_numpy(both.astype(np.float32))[:, None])
    np.testing.assert_allclose(found[0], encoder.encode(voice, trim_silence=None)[0], atol=1e-4)
    assert np.isnan(found[1]).all()


def test_training_chunks_hold_no_zeros(voice: np.ndarray, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.r_[voice, np.zeros(10 * RATE)], RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "nothing.wav", np.zeros(RATE), RATE)
    manifest = Manifest.from_rows([{"path": f"{name}.wav", "speaker": "a"} for name in ("a", "nothing")], root=tmp_path)
    data = ChunkDataset(manifest, np.zeros(2, np.int64), {0: "a"}, rows=np.arange(2), sample_rate_hz=RATE)
    for seed in (CENTERED, *range(20)):
        chunk = data[ChunkRequest(0, 2 * RATE, seed)].waveform
        assert chunk is not None
        assert len(chunk) == 2 * RATE
        assert len(without_zeros(chunk, RATE)) == 2 * RATE
    whole = data[ChunkRequest(0, WHOLE, CENTERED)].waveform
    np.testing.assert_array_equal(whole, voice)
    # a recording of zeros alone stays what it is; the scan before a training leaves it out
    assert data[ChunkRequest(1, RATE, CENTERED)].waveform.tolist() == [0.0] * RATE


def test_runs_of_zeros() -> None:
    wave = np.ones(1000, np.float32)
    assert without_zeros(wave, RATE) is wave
    for start, length, kept in ((0, 160, 840), (500, 159, 1000), (839, 161, 839), (333, 400, 600)):
        zeros = wave.copy()
        zeros[start : start + length] = 1e-9
        assert len(without_zeros(zeros, RATE)) == kept
    assert len(without_zeros(np.zeros(1000, np.float32), RATE)) == 0
    assert len(without_zeros(np.zeros(0, np.float32), RATE)) == 0
