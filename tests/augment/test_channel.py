"""Microphones, lines and codecs: bands by their spectra, companding by tables, everything in place."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from xvectors import audio
from xvectors.augment.channel import a_law, clipped, coded, equalized, mu_law, telephone
from xvectors.augment.spectrum import fast_length
from xvectors.config import CODECS
from xvectors.errors import AudioError

RATE = 16_000


def gain_db(before: np.ndarray, after: np.ndarray, low_hz: float, high_hz: float) -> float:
    """Change of the power between two frequencies."""
    frequencies = np.fft.rfftfreq(len(before), 1 / RATE)
    band = (frequencies >= low_hz) & (frequencies < high_hz)
    window = np.hanning(len(before))
    powers = [np.sum(np.abs(np.fft.rfft(wave * window)[band]) ** 2) for wave in (before, after)]
    return float(10 * np.log10(powers[1] / powers[0] + 1e-20))


def white(num_samples: int = 2 * RATE, seed: int = 0) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal(num_samples, dtype=np.float32)


def test_telephone_band() -> None:
    wave = white()
    wide = telephone(wave, RATE, band_pass=False)
    assert gain_db(wave, wide, 20, 3500) == pytest.approx(0.0, abs=0.1)
    assert gain_db(wave, wide, 4200, 8000) < -60
    narrow = telephone(wave, RATE, band_pass=True)
    assert gain_db(wave, narrow, 500, 3000) == pytest.approx(0.0, abs=0.2)
    assert gain_db(wave, narrow, 280, 320) == pytest.approx(-3.0, abs=0.7)
    assert gain_db(wave, narrow, 3370, 3430) == pytest.approx(-3.0, abs=0.7)
    assert gain_db(wave, narrow, 0, 150) < -30
    assert gain_db(wave, narrow, 4200, 8000) < -60


@pytest.mark.parametrize("rate", [4_000, 8_000, 11_025, 16_000, 44_100])
def test_every_rate_and_length(rate: int) -> None:
    for num_samples in (1, 2, 3, 999, 4001):
        wave = white(num_samples)
        for band_pass in (False, True):
            result = telephone(wave, rate, band_pass=band_pass)
            assert result.shape == wave.shape
            assert np.isfinite(result).all()


def positive_levels(subtype: str) -> np.ndarray:
    """The 128 non-negative values that libsndfile decodes from the 256 codes, in units of 1 / 32768."""
    decoded, _ = soundfile.read(
        io.BytesIO(bytes(range(256))), samplerate=8000, channels=1, format="RAW", subtype=subtype, dtype="int16"
    )
    magnitudes = np.unique(np.abs(decoded.astype(np.int64)))
    assert len(magnitudes) == 128
    return magnitudes


def test_mu_law_is_g711() -> None:
    levels = positive_levels("ULAW") / 32768
    # G.711 table 2a: steps of 2 from 1 to 31, of 4 to 95, ..., of 256 to 8159, of 8192 in all.
    edges = [1.0]
    for segment in range(8):
        edges += [edges[-1] + 2 ** (segment + 1) * i for i in range(1, 17 if segment else 16)]
    assert edges[-1] == 8159
    samples = np.random.default_rng(0).uniform(0, 1, 20_000) ** 3
    places = np.searchsorted(edges, samples.astype(np.float32) * 8192, side="right")
    expected = levels[np.minimum(places, 127)]
    np.testing.assert_array_equal(mu_law(samples.astype(np.float32)), expected.astype(np.float32))
    np.testing.assert_array_equal(mu_law(-samples.astype(np.float32)), -expected.astype(np.float32))
    np.testing.assert_array_equal(mu_law(levels.astype(np.float32)), levels.astype(np.float32))
    np.testing.assert_array_equal(mu_law(np.float32([0, 1, -1, 2])) * 8192, [0, 8031, -8031, 8031])


def test_a_law_is_g711() -> None:
    levels = positive_levels("ALAW") / 32768
    # G.711 table 1a: steps of 2 up to 64, of 4 to 128, ..., of 128 to 4096.
    edges = [2.0 * i for i in range(1, 33)]
    for segment in range(6):
        edges += [edges[-1] + 4 * 2**segment * i for i in range(1, 17)]
    assert edges[-1] == 4096
    samples = (np.random.default_rng(0).uniform(0, 1, 20_000) ** 3).astype(np.float32)
    expected = levels[np.minimum(np.searchsorted(edges, samples * 4096, side="right"), 127)].astype(np.float32)
    np.testing.assert_array_equal(a_law(samples), expected)
    np.testing.assert_array_equal(a_law(-samples), -expected)
    np.testing.assert_array_equal(a_law(np.float32([0, 1, -1, 2])) * 4096, [1, 4032, -4032, 4032])


@pytest.mark.parametrize("codec", CODECS)
def test_codecs_keep_length_place_and_most_of_the_sound(codec: str) -> None:
    time = np.arange(2 * RATE + 1) / RATE
    # A sweep from 300 to 1800 Hz that swells and fades: every codec carries it, and any shift would show.
    wave = (0.3 * np.sin(2 * np.pi * (300 + 375 * time) * time) * np.sin(np.pi * time / 2) ** 2).astype(np.float32)
    for seed in range(4):
        result = coded(wave, RATE, codec, np.random.default_rng(seed))
        assert result.shape == wave.shape
        assert result.dtype == np.float32
        lags = np.fft.irfft(np.fft.rfft(result, 1 << 17) * np.conj(np.fft.rfft(wave, 1 << 17)))
        lag = int(np.argmax(lags))
        assert min(lag, (1 << 17) - lag) <= 2
        assert 0.01 < 1 - np.corrcoef(wave, result)[0, 1] ** 2 + 0.01 < 0.2
        assert not np.array_equal(result, wave)


@pytest.mark.parametrize("codec", CODECS)
def test_codecs_take_what_is_louder_than_full_scale(codec: str) -> None:
    wave = 5 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE).astype(np.float32)
    result = coded(wave, RATE, codec, np.random.default_rng(0))
    middle = slice(RATE // 4, RATE // 2)
    assert np.sqrt(np.mean(result[middle] ** 2)) == pytest.approx(5 / np.sqrt(2), rel=0.15)


@pytest.mark.real
@pytest.mark.parametrize("codec", CODECS)
def test_real_speech_stays_in_place(codec: str, speechocean: Path) -> None:
    path = sorted(speechocean.rglob("*.flac"))[0]
    wave, _ = audio.read(path, sample_rate_hz=RATE, duration_s=2.0)
    result = coded(wave, RATE, codec, np.random.default_rng(1))
    lags = np.fft.irfft(np.fft.rfft(result, 1 << 16) * np.conj(np.fft.rfft(wave, 1 << 16)))
    assert min(int(np.argmax(lags)), (1 << 16) - int(np.argmax(lags))) <= 2
    assert np.corrcoef(wave, result)[0, 1] > 0.7


def test_encode_decode_equals_writing_and_reading(tmp_path: Path) -> None:
    wave = white(RATE)
    audio.write(tmp_path / "x.ogg", wave, RATE, "VORBIS")
    np.testing.assert_array_equal(audio.encode_decode(wave, RATE, "OGG", "VORBIS"), audio.read(tmp_path / "x.ogg")[0])
    for num_samples in (0, 1, 161):
        assert audio.encode_decode(wave[:num_samples], 8000, "WAV", "GSM610").shape == (num_samples,)


def test_encode_decode_names_what_cannot_be() -> None:
    wave = white(800)
    with pytest.raises(AudioError, match=r"cannot encode 12345 Hz as OPUS OGG .*choose another encoding"):
        audio.encode_decode(wave, 12_345, "OGG", "OPUS")
    with pytest.raises(AudioError, match="cannot encode 8000 Hz as NOTHING OGG"):
        audio.encode_decode(wave, 8000, "OGG", "NOTHING")
    with pytest.raises(AudioError, match="MP3 with compression level 1 "):
        audio.encode_decode(wave, 8000, "MP3", "MPEG_LAYER_III", compression_level=1.0)
    wave[5] = np.nan
    with pytest.raises(AudioError, match="NaN or infinite samples cannot be encoded as GSM610; repair them first"):
        audio.encode_decode(wave, 8000, "WAV", "GSM610")


def test_clipping_depth() -> None:
    wave = np.array([0.0, 0.5, -1.0, 0.2], np.float32)
    half_db = 20 * np.log10(2)
    np.testing.assert_allclose(clipped(wave, half_db), [0.0, 0.5, -0.5, 0.2], atol=1e-6)
    np.testing.assert_array_equal(clipped(wave, 0.0), wave)


def test_equalizer_is_a_smooth_filter_without_delay() -> None:
    wave = np.zeros(RATE, np.float32)
    wave[8000] = 1.0
    spectra = []
    for seed in range(20):
        result = equalized(wave, RATE, 8.0, np.random.default_rng(seed))
        assert np.argmax(np.abs(result)) == 8000
        np.testing.assert_allclose(result[8001:8400], result[7999:7600:-1], atol=1e-5)
        spectra.append(20 * np.log10(np.abs(np.fft.rfft(result)) + 1e-9))
    at_1_khz = np.array(spectra)[:, 1000]
    assert np.abs(at_1_khz).max() < 3 * 8 + 1
    assert 2 < at_1_khz.std() < 12


def test_fast_lengths() -> None:
    for n in [*range(1, 300), 4097, 48_000, 66_001]:
        size = fast_length(n)
        assert n <= size <= max(n + 1, 1.17 * n)
        for factor in (2, 3, 5, 7, 11):
            while size % factor == 0:
                size //= factor
        assert size == 1
