"""Windows of a recording, whole and chunk by chunk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from support.waves import RATE, noises
from xvectors.encoder import SpeakerEncoder, Windows, sources
from xvectors.errors import AudioError, ConfigError, TooShortError

WAVE = noises([0.5, 3.25])[1]


def fed(encoder: SpeakerEncoder, wave: np.ndarray, cuts: list[int], **settings: float) -> Windows:
    stream = encoder.stream(**settings)
    parts = [stream.feed(chunk) for chunk in np.split(wave, cuts)]
    return Windows.join([*parts, stream.finish()])


def assert_equal(one: Windows, other: Windows) -> None:
    np.testing.assert_array_equal(one.start_s, other.start_s)
    np.testing.assert_array_equal(one.end_s, other.end_s)
    np.testing.assert_allclose(one.embeddings, other.embeddings, atol=1e-4)


def test_windows_are_what_their_samples_are(encoder: SpeakerEncoder) -> None:
    windows = encoder.encode_windows(WAVE, window_s=1.5, hop_s=0.5)
    assert windows.start_s.tolist() == [0.0, 0.5, 1.0, 1.5, 1.75]
    assert windows.end_s.tolist() == [1.5, 2.0, 2.5, 3.0, 3.25]
    assert (len(windows), windows.embeddings.dtype) == (5, np.float32)
    parts = [WAVE[round(s * RATE) : round(e * RATE)] for s, e in zip(windows.start_s, windows.end_s, strict=True)]
    np.testing.assert_allclose(windows.embeddings, encoder.encode(parts), atol=1e-4)
    assert np.abs(windows.embeddings[0] - windows.embeddings[1]).max() > 1e-3  # the comparison could fail


def test_the_defaults_are_those_of_the_stream(encoder: SpeakerEncoder) -> None:
    assert_equal(encoder.encode_windows(WAVE), fed(encoder, WAVE, []))
    assert encoder.encode_windows(WAVE).start_s[1] == 0.5


@pytest.mark.parametrize("seed", range(3))
def test_a_stream_does_not_depend_on_its_chunks(encoder: SpeakerEncoder, seed: int) -> None:
    generator = np.random.default_rng(seed)
    wave = WAVE[: generator.integers(RATE, len(WAVE))]
    settings = {"window_s": float(generator.uniform(0.2, 1.2)), "hop_s": float(generator.uniform(0.1, 0.2))}
    expected = encoder.encode_windows(wave, **settings)
    for count in (1, 3, 50):
        cuts = np.sort(generator.integers(0, len(wave) + 1, count)).tolist()
        assert_equal(fed(encoder, wave, cuts, **settings), expected)
    assert_equal(fed(encoder, wave, list(range(0, len(wave), 160)), **settings), expected)


def test_windows_come_as_soon_as_they_are_complete(encoder: SpeakerEncoder) -> None:
    stream = encoder.stream(window_s=1.0, hop_s=0.5)
    assert len(stream.feed(WAVE[: RATE - 1])) == 0
    first = stream.feed(WAVE[RATE - 1 : RATE])
    assert (first.start_s.tolist(), first.end_s.tolist()) == ([0.0], [1.0])
    assert stream.feed(torch.from_numpy(WAVE[RATE : 2 * RATE])).start_s.tolist() == [0.5, 1.0]
    assert stream.finish().start_s.tolist() == []  # nothing is left over
    with pytest.raises(ConfigError, match="this stream is finished"):
        stream.feed(WAVE)
    with pytest.raises(ConfigError, match="this stream is finished"):
        stream.finish()


def test_a_stream_keeps_a_window_and_no_more(encoder: SpeakerEncoder) -> None:
    stream = encoder.stream(window_s=0.5, hop_s=0.5)
    for _ in range(40):
        stream.feed(WAVE[: RATE // 4])
    assert stream.num_samples == 10 * RATE
    assert len(stream._kept) <= RATE // 2


def test_a_file_at_another_rate(encoder: SpeakerEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    t = np.arange(3 * 44_100) / 44_100
    wave = sum(np.sin(2 * np.pi * f * t * (1 + 0.1 * t)) for f in (200, 900, 2500)).astype(np.float32) * 0.1
    soundfile.write(tmp_path / "a.wav", wave, 44_100, subtype="FLOAT")
    whole = encoder.encode_windows(tmp_path / "a.wav", window_s=1.0)
    assert whole.end_s[-1] == 3.0
    assert_equal(encoder.encode_windows(wave, window_s=1.0, sample_rate_hz=44_100), whole)
    chunks = fed(encoder, wave, list(range(0, len(wave), 5_000)), window_s=1.0, sample_rate_hz=44_100)
    np.testing.assert_allclose(chunks.embeddings, whole.embeddings, atol=1e-3)
    np.testing.assert_allclose(chunks.end_s, whole.end_s, atol=1 / RATE)
    monkeypatch.setattr(sources, "MAX_WHOLE_S", 1.0)
    monkeypatch.setattr(sources, "BLOCK_S", 0.3)
    long = encoder.encode_windows(tmp_path / "a.wav", window_s=1.0)
    np.testing.assert_allclose(long.embeddings, whole.embeddings, atol=1e-3)
    np.testing.assert_allclose(long.end_s, whole.end_s, atol=1 / RATE)


def test_a_recording_shorter_than_a_window_is_one(encoder: SpeakerEncoder) -> None:
    windows = encoder.encode_windows(WAVE[:RATE], window_s=1.5)
    assert (windows.start_s.tolist(), windows.end_s.tolist()) == ([0.0], [1.0])
    np.testing.assert_allclose(windows.embeddings, encoder.encode(WAVE[:RATE]), atol=1e-5)
    with pytest.raises(TooShortError, match=r"recording 0: 0\.100 s of audio are less than the 0\.165 s"):
        encoder.encode_windows(WAVE[:1600])
    stream = encoder.stream()
    stream.feed(WAVE[:1600])
    assert len(stream.finish()) == 0


def test_windows_without_sound_are_left_out(encoder: SpeakerEncoder) -> None:
    wave = np.concatenate([WAVE[:RATE], np.zeros(3 * RATE, np.float32), WAVE[:RATE]])
    windows = encoder.encode_windows(wave, window_s=1.0, hop_s=0.5)
    assert windows.start_s.tolist() == [0.0, 0.5, 3.5, 4.0]
    with pytest.raises(AudioError, match="recording 0: only zeros"):
        encoder.encode_windows(np.zeros(RATE * 3, np.float32))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window_s": 0.1}, "window_s is 0.1; the network needs at least 0.165 s, such as 1.5"),
        ({"window_s": float("nan")}, "window_s is nan"),
        ({"hop_s": 0.0}, "hop_s is 0.0; it must be above 0 and at most window_s, 1.5"),
        ({"hop_s": 2.0}, "hop_s is 2.0"),
        ({"batch_size": 0}, "batch_size must be at least 1, not 0"),
    ],
)
def test_impossible_windows(encoder: SpeakerEncoder, settings: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        encoder.encode_windows(WAVE, **settings)
    with pytest.raises(ConfigError, match=message):
        encoder.stream(**settings)


def test_chunks_that_are_no_waveform(encoder: SpeakerEncoder) -> None:
    stream = encoder.stream()
    with pytest.raises(AudioError, match="the stream: a waveform must be one-dimensional floats"):
        stream.feed(np.zeros(10, np.int16))
    with pytest.raises(AudioError, match="the stream: the samples are NaN"):
        stream.feed(np.full(10, np.nan))
