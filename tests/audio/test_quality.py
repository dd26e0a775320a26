"""What is said about a recording, against recordings whose truth is known."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from support.voices import RATE, mixed, spoken
from xvectors.audio import encode_decode, resample
from xvectors.audio.quality import Meter, Quality, estimate_snr_db, quality_of
from xvectors.augment.noise import colored_noise
from xvectors.corpus import open_corpus


def voice(number: int = 0, snr_db: float = 30.0) -> np.ndarray:
    return mixed(*spoken(5, 6)[number], snr_db)


def low_passed(wave: np.ndarray, cutoff_hz: float) -> np.ndarray:
    """Through a filter that falls by 6 dB at `cutoff_hz` and by 70 dB 50 Hz on, then rounded to 16 bits."""
    taps = np.arange(-800, 801)
    filtered = np.convolve(
        wave, 2 * cutoff_hz / RATE * np.sinc(2 * cutoff_hz / RATE * taps) * np.blackman(1601), "same"
    )
    return np.round(filtered * 32768) / 32768


@pytest.mark.parametrize(("snr_db", "error_db"), [(30, 2), (25, 2), (20, 2), (15, 2), (10, 2), (5, 4)])
def test_the_snr_of_synthetic_voices(snr_db: float, error_db: float) -> None:
    errors = [estimate_snr_db(mixed(*parts, snr_db), RATE) - snr_db for parts in spoken(5, 24)]
    assert np.abs(errors).max() <= error_db
    assert abs(np.mean(errors)) <= 1


def test_the_snr_is_not_known_without_speech_or_without_pauses() -> None:
    assert math.isnan(estimate_snr_db(0.1 * np.random.default_rng(0).standard_normal(2 * RATE), RATE))
    assert math.isnan(estimate_snr_db(np.zeros(RATE), RATE))
    wave = voice()
    middle = len(wave) // 2
    assert math.isnan(estimate_snr_db(wave[middle : middle + RATE // 20], RATE))


@pytest.mark.parametrize("cutoff_hz", [3000, 4000, 5000, 6500])
def test_the_bandwidth_of_filtered_voices(cutoff_hz: float) -> None:
    for number in range(6):
        assert quality_of(low_passed(voice(number), cutoff_hz), RATE).bandwidth_hz == pytest.approx(cutoff_hz, abs=200)


def test_an_upsampled_8_khz_file_is_recognized_and_a_wideband_one_is_not_doubted() -> None:
    for number in range(6):
        wave = voice(number)
        upsampled = np.round(resample(resample(wave, RATE, 8_000), 8_000, RATE) * 32768) / 32768
        found = quality_of(upsampled, RATE)
        assert found.bandwidth_hz == pytest.approx(4_000, abs=200)
        assert (
            "narrow band: nothing above 3.9 kHz, as on a telephone line, though it is sampled at 16000 Hz"
            in found.notes
        )
        assert quality_of(wave, RATE).bandwidth_hz == RATE / 2
        # at its own rate nothing cuts the band off
        narrow = quality_of(resample(wave, RATE, 8_000), 8_000)
        assert narrow.bandwidth_hz == 4_000
        assert narrow.notes == ("narrow band: nothing above 4.0 kHz, as on a telephone line",)
        assert quality_of(resample(wave, RATE, 44_100), 44_100).bandwidth_hz == pytest.approx(8_000, abs=250)


def test_a_real_mp3_encoder_is_seen() -> None:
    """LAME at its default quality passes up to about 7.3 kHz of 16 kHz sound."""
    for number in range(6):
        decoded = encode_decode(voice(number), RATE, "MP3", "MPEG_LAYER_III", compression_level=0.5)
        assert quality_of(decoded, RATE).bandwidth_hz == pytest.approx(7_300, abs=200)


@pytest.mark.parametrize("share", [0.002, 0.01, 0.05])
def test_clipping_is_counted(share: float) -> None:
    for wave in (voice(0), voice(1)):
        ceiling = np.quantile(np.abs(wave), 1 - share)
        clipped = np.clip(wave / ceiling, -1, 32767 / 32768)
        truth = np.mean(np.abs(clipped) >= 32767 / 32768)
        for level in (1.0, 0.5):  # made quieter afterwards it is as clipped
            found = quality_of(level * clipped, RATE)
            assert found.clipped_share == pytest.approx(truth, rel=0.01)
            assert any(note.startswith("clipped: ") for note in found.notes) == (found.clipped_share >= 0.001)


def test_unclipped_sound_is_not_clipped() -> None:
    t = np.arange(RATE) / RATE
    assert quality_of(0.9 * np.sin(2 * np.pi * 100 * t), RATE).clipped_share == 0
    assert [quality_of(voice(number), RATE).clipped_share for number in range(6)] == [0] * 6


def test_silence_zeros_and_offset() -> None:
    wave = voice()
    alone = quality_of(wave, RATE)
    padded = np.concatenate([np.zeros(9 * len(wave), np.float32), wave])
    found = quality_of(padded + np.float32(0), RATE)
    assert found.silent_share == pytest.approx(0.9, abs=0.01)
    assert found.zero_share == pytest.approx(0.9, abs=0.001)
    assert found.speech_s == pytest.approx(alone.speech_s, abs=0.1)
    assert found.notes == ("silent for 90% of the time, all of it exact zeros",)
    assert quality_of(wave + np.float32(0.05), RATE).dc_offset == pytest.approx(0.05, abs=0.001)
    assert "DC offset: the mean of the samples is +0.05 of full scale" in quality_of(wave + 0.05, RATE).notes
    nothing = quality_of(np.zeros(RATE), RATE)
    assert (nothing.speech_s, nothing.silent_share, nothing.zero_share, nothing.peak) == (0, 1, 1, 0)
    assert math.isnan(nothing.bandwidth_hz)


@pytest.mark.parametrize("level_dbfs", [-20, -45, -60])
def test_the_level_of_speech(level_dbfs: int) -> None:
    """Down to -60 dBFS in 16 bits the same speech, SNR and band are found, but for what the rounding adds."""
    wave = voice()
    loud = quality_of(wave, RATE)
    quiet = np.round(wave * 10 ** ((level_dbfs - loud.level_dbfs) / 20) * 32768) / 32768
    found = quality_of(quiet, RATE)
    assert found.level_dbfs == pytest.approx(level_dbfs, abs=0.2)
    assert found.speech_s == pytest.approx(loud.speech_s, abs=0.05)
    assert found.snr_db == pytest.approx(loud.snr_db, abs=1.5)
    assert found.bandwidth_hz == loud.bandwidth_hz
    assert found.silent_share == 0
    assert found.notes == (("very quiet: the speech is at -60 dBFS",) if level_dbfs == -60 else ())
    assert math.isnan(quality_of(np.zeros(RATE), RATE).level_dbfs)


def test_a_good_recording_has_no_notes_and_a_noisy_one_says_so() -> None:
    assert quality_of(voice(), RATE).notes == ()
    assert "noisy: the speech is about 5 dB above the noise" in quality_of(voice(1, snr_db=5), RATE).notes


def test_pieces_give_what_the_whole_gives() -> None:
    whole = np.concatenate([voice(number) for number in range(6)] * 3)
    meter = Meter(RATE)
    for start in range(0, len(whole), 7 * RATE):
        meter.add(whole[start : start + 7 * RATE])
    pieces, at_once = meter.quality(), quality_of(whole, RATE)
    for name in ("speech_s", "snr_db", "bandwidth_hz", "silent_share", "dc_offset", "duration_s", "peak"):
        assert getattr(pieces, name) == pytest.approx(getattr(at_once, name), rel=0.01), name


@pytest.mark.parametrize("count", [0, 1, 100, 640])
def test_next_to_nothing(count: int) -> None:
    found = quality_of(np.full(count, 0.1, np.float32), RATE)
    assert (found.duration_s, found.speech_s, found.clipped_share) == (count / RATE, 0, 0.0 if count < 2 else 1.0)


def test_json_holds_no_nan() -> None:
    found = quality_of(np.zeros(RATE), RATE).to_dict()
    assert json.loads(json.dumps(found, allow_nan=False))["snr_db"] is None
    assert found["notes"] == ["silent for 100% of the time, all of it exact zeros"]
    assert set(found) == {*Quality.__dataclass_fields__, "notes"}


@pytest.mark.slow
@pytest.mark.real
def test_real_speech(speechocean) -> None:
    """Real rooms: their own noise is below what is added. Full band, up to encoders' 7.4 kHz."""
    from xvectors.audio import read
    from xvectors.corpus.synth.sessions import active_power

    manifest = open_corpus(speechocean).take(np.arange(0, 2500, 50))
    generator = np.random.default_rng(0)
    errors = []
    for row in range(len(manifest)):
        wave, _ = read(manifest.full_path(row))
        own = quality_of(wave, RATE)
        assert own.bandwidth_hz >= 7_000
        assert 0.25 * own.duration_s <= own.speech_s <= 0.9 * own.duration_s
        upsampled = np.round(resample(resample(wave, RATE, 8_000), 8_000, RATE) * 32768) / 32768
        assert quality_of(upsampled, RATE).bandwidth_hz == pytest.approx(4_000, abs=200)
        noise = colored_noise(len(wave), RATE, generator.choice([0, -3, -6]), generator)
        snr_db = generator.choice([10, 15, 20])
        gain = np.sqrt(active_power(wave, RATE)) / np.std(noise) * 10 ** (-snr_db / 20)
        errors.append(estimate_snr_db(wave + noise * np.float32(gain), RATE) - snr_db)
    assert np.abs(errors).max() <= 5
    assert abs(np.mean(errors)) <= 2
