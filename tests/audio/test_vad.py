"""Where somebody speaks, and embedding that alone."""

from __future__ import annotations

import subprocess
import sys
import types

import numpy as np
import pytest
import torch

from xvectors import SpeakerEncoder
from xvectors.audio.vad import SileroDetector, as_detector_name, find_detector, find_spoken, join_segments
from xvectors.encoder import sources
from xvectors.errors import ConfigError, MissingExtraError, TooShortError

RATE = 16_000


def syllables(duration_s: float, seed: int = 0, rate: int = RATE) -> np.ndarray:
    """A buzz whose loudness swings by 20 dB four times a second, as speech does, with no pause of its own."""
    generator = np.random.default_rng(seed)
    t = np.arange(round(duration_s * rate)) / rate
    swing = 10 ** (-(1 + np.cos(2 * np.pi * 4 * t)) / 2)
    buzz = sum(np.sin(2 * np.pi * 120 * k * t + generator.uniform(0, 6.28)) / k for k in range(1, 25))
    return (0.1 * swing * buzz).astype(np.float32)


def scene(noise_db: float, rate: int = RATE, gain: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """8 s with speech from 1 to 3 and 4.5 to 6.5 s, noise `noise_db` below it; and the truth, sample by sample."""
    wave, truth = np.zeros(8 * rate, np.float32), np.zeros(8 * rate, bool)
    for start_s in (1.0, 4.5):
        at = slice(round(start_s * rate), round((start_s + 2) * rate))
        wave[at], truth[at] = syllables(2.0, rate=rate), True
    power = np.square(wave[truth]).mean() * 10 ** (-noise_db / 10)
    noise = np.random.default_rng(1).standard_normal(len(wave)).astype(np.float32)
    return gain * (wave + np.float32(power**0.5) * noise), truth


def found(wave: np.ndarray, rate: int = RATE) -> np.ndarray:
    mask = np.zeros(len(wave), bool)
    for first, end in find_spoken(wave, rate):
        mask[first:end] = True
    return mask


@pytest.mark.parametrize("noise_db", [60.0, 30.0, 15.0, 10.0])
@pytest.mark.parametrize(("rate", "gain"), [(16_000, 1.0), (8_000, 0.02), (44_100, 0.3)])
def test_energy_finds_speech_in_noise(noise_db: float, rate: int, gain: float) -> None:
    wave, truth = scene(noise_db, rate, gain)
    mask = found(wave, rate)
    assert (mask & truth).sum() / truth.sum() > 0.97
    # 0.3 s stay at four edges
    assert (mask & ~truth).sum() / rate < 1.4


def test_energy_drops_a_click_and_fills_a_short_pause() -> None:
    wave, _ = scene(60.0)
    wave[round(0.3 * RATE) : round(0.34 * RATE)] = 0.5
    assert find_spoken(wave, RATE)[0, 0] > 0.6 * RATE
    wave[4 * RATE // 2 : round(2.2 * RATE)] = 0
    assert len(find_spoken(wave, RATE)) == 2


def test_energy_finds_a_sentence_in_much_silence() -> None:
    wave = 1e-4 * np.random.default_rng(0).standard_normal(120 * RATE).astype(np.float32)
    wave[60 * RATE : 62 * RATE] += syllables(2.0)
    segments = find_spoken(wave, RATE)
    assert len(segments) == 1
    np.testing.assert_allclose(segments[0] / RATE, [59.7, 62.3], atol=0.08)


@pytest.mark.parametrize("length", [0, 10, 319, 320, 5 * RATE])
def test_energy_finds_nobody_in_noise_or_silence(length: int) -> None:
    wave = np.random.default_rng(0).standard_normal(length).astype(np.float32) * 0.1
    assert find_spoken(wave, RATE).shape == (0, 2)
    assert find_spoken(np.zeros(length, np.float32), RATE).shape == (0, 2)


def test_the_end_behind_the_last_frame_belongs_to_the_speech() -> None:
    wave = syllables(2.0)[: 2 * RATE - 7]
    assert find_spoken(wave, RATE).tolist() == [[0, len(wave)]]


def test_trimmed_embeddings_are_those_of_the_speech(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = SpeakerEncoder.from_pretrained(device="cpu")
    wave, truth = scene(40.0)
    segments = find_spoken(wave, RATE)
    trimmed = encoder.encode(wave, trim_silence="energy")
    np.testing.assert_allclose(trimmed, encoder.encode_heard([join_segments(wave, segments)]), atol=1e-4)
    np.testing.assert_array_equal(encoder.encode(wave), trimmed)  # the default
    speech, whole = encoder.encode([wave[truth], wave], trim_silence=None)

    def cosine(one: np.ndarray, other: np.ndarray) -> float:
        return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))

    assert cosine(trimmed[0], speech) > cosine(whole, speech) + 0.05
    # a long recording is trimmed piece by piece
    monkeypatch.setattr(sources, "MAX_WHOLE_S", 4.0)
    halves = [encoder.encode(half, trim_silence="energy")[0] for half in (wave[: 4 * RATE], wave[4 * RATE :])]
    weights = [sum(np.diff(find_spoken(half, RATE))[:, 0]) for half in (wave[: 4 * RATE], wave[4 * RATE :])]
    long = encoder.encode(wave, trim_silence="energy")
    np.testing.assert_allclose(long[0], np.average(halves, axis=0, weights=weights), atol=1e-4)


def test_unknown_and_missing_detectors(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_detector(None) is None
    assert as_detector_name("none") is None
    with pytest.raises(ConfigError, match="'webrtc' is not a VAD; give energy or silero"):
        find_detector("webrtc")
    monkeypatch.setitem(sys.modules, "silero_vad", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'xvectors\[vad\]', or use 'energy'"):
        find_detector("silero")


def stub(monkeypatch: pytest.MonkeyPatch, found: list[dict[str, int]]) -> list[tuple[int, int]]:
    """A silero_vad that finds `found`; what it was asked is (samples, rate)."""
    asked = []

    def get_speech_timestamps(audio: torch.Tensor, model: object, sampling_rate: int) -> list[dict[str, int]]:
        assert (model, audio.dtype) == ("network", torch.float32)
        asked.append((len(audio), sampling_rate))
        return found

    module = types.ModuleType("silero_vad")
    module.get_speech_timestamps = get_speech_timestamps
    module.load_silero_vad = lambda: "network"
    monkeypatch.setitem(sys.modules, "silero_vad", module)
    return asked


def test_silero_is_asked_at_16_khz(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = stub(monkeypatch, [{"start": 1600, "end": 3200}, {"start": 8000, "end": 16001}])
    segments = SileroDetector()(np.ones(8_000, np.float32), 8_000)
    assert asked == [(16_000, 16_000)]
    assert segments.tolist() == [[800, 1600], [4000, 8000]]


def test_a_recording_without_speech_is_too_short(monkeypatch: pytest.MonkeyPatch) -> None:
    stub(monkeypatch, [])
    encoder = SpeakerEncoder.from_pretrained(device="cpu")
    with pytest.raises(TooShortError, match=r"recording 0: 0\.000 s of speech in 2\.000 s of audio are less than"):
        encoder.encode(syllables(2.0), trim_silence="silero")


@pytest.mark.slow
def test_silero_itself_leaves_torch_its_threads() -> None:
    """The real package, where it is installed, in a process of its own: to import it is to set torch's threads."""
    pytest.importorskip("silero_vad")
    code = (
        "import numpy as np, torch; torch.set_num_threads(2)\n"
        "from xvectors.audio.vad import SileroDetector\n"
        "noise = 0.1 * np.random.default_rng(0).standard_normal(32_000).astype(np.float32)\n"
        "assert SileroDetector()(noise, 16_000).shape == (0, 2)\n"
        "assert torch.get_num_threads() == 2"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.real
def test_silero_itself_finds_real_speech(speechocean) -> None:
    pytest.importorskip("silero_vad")
    from xvectors.audio import read
    from xvectors.corpus import open_corpus

    detector = SileroDetector()
    for row in (0, 700):
        wave, rate = read(open_corpus(speechocean).full_path(row))
        quiet = np.zeros(2 * rate, np.float32)
        segments = detector(np.concatenate([quiet, wave, quiet]), rate)
        assert len(segments) >= 1
        assert segments[0, 0] > 1.9 * rate
        assert segments[-1, 1] < 2.1 * rate + len(wave)
