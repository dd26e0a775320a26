"""The whole of it: seeds, folders of noise and rooms, settings that cannot be, and waveforms that break things."""

from __future__ import annotations

import logging
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from xvectors import audio
from xvectors.augment import Augmenter, speed
from xvectors.augment.pools import open_pool
from xvectors.config import CODECS, AugmentConfig
from xvectors.errors import AudioError, ConfigError, ShapeError

RATE = 16_000
EVERYTHING = {
    f"{name}_prob": 1.0 for name in ("reverb", "noise", "equalizer", "gain", "clip", "telephone", "codec")
} | {"codecs": CODECS}


def tone(hz: float, duration_s: float, rate: int = RATE, amplitude: float = 0.3) -> np.ndarray:
    return (amplitude * np.sin(2 * np.pi * hz * np.arange(round(duration_s * rate)) / rate)).astype(np.float32)


def speech(num_samples: int = RATE, seed: int = 0) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal(num_samples, dtype=np.float32)


def voice(generator: np.random.Generator, num_samples: int, row: int) -> np.ndarray:
    return tone(generator.uniform(100, 1000), num_samples / RATE / 2 + 0.01)


def ratio_db(clean: np.ndarray, added: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(clean.astype(np.float64) ** 2) / np.mean(added.astype(np.float64) ** 2)))


@pytest.fixture(scope="module")
def noise_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MUSAN's layout: tones whose frequency tells the file, at several rates and channel counts."""
    root = tmp_path_factory.mktemp("musan")
    stereo = np.stack([tone(1000, 3.0, 44_100), tone(1000, 3.0, 44_100, 0.1)], axis=1)
    for name, samples, rate in [
        ("noise/free/sound/a.wav", stereo, 44_100),
        ("noise/b.flac", tone(1500, 0.3, 8_000), 8_000),
        ("music/classical/c.ogg", tone(2000, 4.0, 22_050), 22_050),
        ("d.wav", tone(2500, 2.0), RATE),
        *((f"speech/us-gov/{i}.wav", tone(3000 + 250 * i, 2.0), RATE) for i in range(10)),
    ]:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        audio.write(root / name, samples, rate, "VORBIS" if name.endswith("ogg") else "PCM_16")
    return root


def test_nothing_is_done_unless_asked_for() -> None:
    wave = speech()
    np.testing.assert_array_equal(Augmenter(AugmentConfig(), RATE)(wave, 0), wave)


def test_importing_it_needs_no_torch() -> None:
    code = "import sys, xvectors.augment; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_seed_decides_and_no_order_does() -> None:
    augmenter = Augmenter(AugmentConfig(**EVERYTHING), RATE, voice)
    waves = {seed: speech(4000, seed) for seed in range(6)}
    first = {seed: augmenter(wave, seed) for seed, wave in waves.items()}
    copy = pickle.loads(pickle.dumps(augmenter))
    for seed in reversed(waves):
        np.testing.assert_array_equal(copy(waves[seed], seed), first[seed])
    assert not np.allclose(augmenter(waves[0], 1), first[0], atol=1e-3)
    large = 2**62 - 1
    np.testing.assert_array_equal(augmenter(waves[0], large), augmenter(waves[0], large))


def test_switching_an_effect_off_leaves_the_others_as_they_were() -> None:
    wave = speech()
    for seed in range(5):
        both = Augmenter(AugmentConfig(noise_prob=1.0, gain_prob=1.0), RATE)(wave, seed)
        noise = Augmenter(AugmentConfig(noise_prob=1.0), RATE)(wave, seed)
        gain = Augmenter(AugmentConfig(gain_prob=1.0), RATE)(wave, seed)
        np.testing.assert_allclose(both, noise * (gain[0] / wave[0]), rtol=1e-4, atol=1e-7)


def test_probabilities_and_ranges() -> None:
    augmenter = Augmenter(AugmentConfig(gain_prob=0.3), RATE)
    gains_db = np.array([20 * np.log10(augmenter(np.ones(1, np.float32), seed)[0]) for seed in range(3000)])
    drawn = gains_db[gains_db != 0]
    assert len(drawn) / 3000 == pytest.approx(0.3, abs=0.03)
    assert -20 <= drawn.min() < -19.5
    assert 5.5 < drawn.max() <= 6 + 1e-5
    assert drawn.mean() == pytest.approx(-7, abs=1)


def test_made_noise_keeps_to_its_ratios() -> None:
    augmenter = Augmenter(AugmentConfig(noise_prob=1.0, noise_snr_min_db=3.0, noise_snr_max_db=4.0), RATE)
    for seed in range(20):
        wave = speech(8000, seed)
        assert 2.95 < ratio_db(wave, augmenter(wave, seed) - wave) < 4.05


def peaks_hz(samples: np.ndarray) -> list[int]:
    """The tones of at least a tenth of the strongest's amplitude, to the nearest 50 Hz."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    top = (spectrum[1:-1] > spectrum[:-2]) & (spectrum[1:-1] >= spectrum[2:]) & (spectrum[1:-1] > 0.1 * spectrum.max())
    return sorted({round((i + 1) * RATE / len(samples) / 50) * 50 for i in np.flatnonzero(top)})


def test_noise_files_of_any_rate_channels_and_length(noise_folder: Path) -> None:
    augmenter = Augmenter(AugmentConfig(noise_prob=1.0, noise_folder=str(noise_folder)), RATE)
    wave = speech(RATE)
    heard: dict[tuple[int, ...], list[float]] = {}
    counts = []
    for seed in range(250):
        added = augmenter(wave, seed) - wave
        tones = peaks_hz(added)
        if tones[0] >= 2900:
            counts.append(len(tones))
            for hz in tones:
                heard.setdefault((hz,), []).append(0.0)
        else:
            heard.setdefault(tuple(tones), []).append(ratio_db(wave, added))
            if tones == [1500]:  # 0.3 s, repeated without gaps
                assert np.abs(added).reshape(-1, 800).mean(axis=1).min() > 0.8 * np.abs(added).mean()
    # Every file is heard, at its own pitch, and every number of voices; none twice in one babble.
    assert set(heard) == {(hz,) for hz in (1000, 1500, 2000, 2500)} | {(3000 + 250 * i,) for i in range(10)}
    assert set(counts) == {3, 4, 5, 6, 7}
    for hz, (low, high) in {1000: (0, 15), 1500: (0, 15), 2500: (0, 15), 2000: (5, 15)}.items():
        assert low - 0.05 < min(heard[(hz,)]) < max(heard[(hz,)]) < high + 0.05
    assert len(counts) / 250 == pytest.approx(1 / 3, abs=0.09)


def test_each_voice_of_the_babble_keeps_to_its_ratio(noise_folder: Path) -> None:
    folder = str(noise_folder / "speech")
    mine = [tone(hz, 0.7) for hz in (200, 300, 400, 500)]
    augmenter = Augmenter(
        AugmentConfig(noise_prob=1.0, babble_voices_max=3), RATE, lambda g, n, row: mine[g.integers(4)]
    )
    wave = tone(1000, 1.0)
    babbles = 0
    for seed in range(40):
        added = augmenter(wave, seed) - wave
        spectrum = 2 * np.abs(np.fft.rfft(added)) / len(added)
        total = sum(spectrum[hz] ** 2 for hz in (200, 300, 400, 500)) / 2
        if total > 0.95 * np.mean(added**2):
            babbles += 1
            # Three voices, of which some may be the same one: together 13 to 20 dB, less three voices' sum.
            assert 13 - 20 * np.log10(3) - 0.1 < ratio_db(wave, added) < 20 - 10 * np.log10(3) + 2
    assert 10 < babbles < 30
    assert len(open_pool(folder, "noise_folder")) == 10


def test_only_the_wanted_segment_is_read(noise_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = open_pool(str(noise_folder), "noise_folder").by_kind()["music"]
    wanted = []
    real = audio.read

    def spy(source: audio.Source, **arguments: object) -> tuple[audio.Samples, int]:
        wanted.append((arguments["start_s"], arguments["duration_s"]))
        return real(source, **arguments)

    monkeypatch.setattr(audio, "read", spy)
    for seed in range(20):
        assert pool.segment(0, 8000, RATE, np.random.default_rng(seed)).shape == (8000,)
    starts = [start for start, _ in wanted]
    assert {duration for _, duration in wanted} == {0.5}
    assert 0 <= min(starts) < 1.0 < 2.5 < max(starts) <= 3.5


def test_impulse_responses_from_a_folder(tmp_path: Path) -> None:
    response = np.zeros((2000, 2), np.float32)
    response[100] = [0.8, 0.4]
    response[900] = [0.4, -0.2]
    audio.write(tmp_path / "rir.wav", response, 32_000)
    augmenter = Augmenter(AugmentConfig(reverb_prob=1.0, reverb_folder=str(tmp_path)), RATE)
    wave = np.zeros(4000, np.float32)
    wave[1000] = 1.0
    echoes = set()
    for seed in range(12):
        wet = augmenter(wave, seed)
        assert np.argmax(np.abs(wet)) == 1000
        assert np.sum(wet**2) == pytest.approx(1.0, rel=1e-3)
        echoes.add(round(float(wet[1400] / wet[1000]), 1))
    assert echoes == {0.5, -0.5}  # either channel alone, never their mix


def test_unreadable_recordings_are_left_out_with_one_warning(
    noise_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for i in range(3):
        (tmp_path / f"broken{i}.wav").write_bytes(b"no sound")
    (tmp_path / "good.wav").write_bytes((noise_folder / "d.wav").read_bytes())
    with caplog.at_level(logging.WARNING):
        augmenter = Augmenter(AugmentConfig(noise_prob=1.0, noise_folder=str(tmp_path)), RATE)
        for seed in range(10):
            assert peaks_hz(augmenter(np.ones(RATE, np.float32), seed) - 1) == [2500]
    (record,) = caplog.records
    assert "augment.noise_folder: left out 3 of 4 recordings that cannot be read; the first: " in record.getMessage()
    assert "broken0.wav" in record.getMessage()


def test_recordings_that_turn_out_damaged_give_way_to_others(
    noise_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    audio.write(tmp_path / "nan.wav", np.full(40_000, np.nan, np.float32), RATE, "FLOAT")
    config = AugmentConfig(noise_prob=1.0, noise_folder=str(tmp_path))
    augmenter = Augmenter(config, RATE)
    message = r"augment.noise_folder: none of its 1 recordings can be read; the last: .*nan.wav: .*NaN or infinite"
    with pytest.raises(ConfigError, match=message):
        augmenter(speech(), 0)
    (tmp_path / "good.wav").write_bytes((noise_folder / "d.wav").read_bytes())
    augmenter = Augmenter(config, RATE)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        for seed in range(10):
            assert peaks_hz(augmenter(np.ones(RATE, np.float32), seed) - 1) == [2500]
    assert [record.getMessage().count("nan.wav") for record in caplog.records] == [1]


def test_folders_that_cannot_be_used(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    for key in ("noise", "reverb"):

        def attempt(folder: Path, key: str = key) -> Augmenter:
            return Augmenter(AugmentConfig(**{f"{key}_prob": 0.5, f"{key}_folder": str(folder)}), RATE)

        with pytest.raises(ConfigError, match=rf"augment.{key}_folder = .*/empty' holds no recordings; fill it, or"):
            attempt(empty)
        with pytest.raises(ConfigError, match=rf"augment.{key}_folder = .*/none' is not a folder; correct it, or"):
            attempt(tmp_path / "none")
    (empty / "x.wav").write_bytes(b"")
    with pytest.raises(
        ConfigError, match=r"none of its 1 recordings can be read; the first: .*x.wav: the file is empty"
    ):
        attempt(empty)


@pytest.mark.parametrize("effect", ["noise", "reverb"])
def test_a_folder_that_no_effect_uses_is_refused(effect: str, noise_folder: Path) -> None:
    message = (
        rf"augment.{effect}_folder = .* has no effect while augment.{effect}_prob = 0; "
        rf"set augment.{effect}_prob, to 0.3 perhaps, or leave the folder empty"
    )
    with pytest.raises(ConfigError, match=message):
        Augmenter(AugmentConfig(**{f"{effect}_folder": str(noise_folder)}), RATE)


def test_the_babble_source_is_told_whose_recording_it_is() -> None:
    told = []

    def spoken(generator: np.random.Generator, num_samples: int, row: int) -> np.ndarray:
        told.append(row)
        return voice(generator, num_samples, row)

    augmenter = Augmenter(AugmentConfig(noise_prob=1.0), RATE, spoken)
    for seed in range(10):
        augmenter(speech(), seed, row=41)
    assert set(told) == {41}


def test_broken_voices_are_left_out_of_the_babble(caplog: pytest.LogCaptureFixture) -> None:
    def broken(generator: np.random.Generator, num_samples: int, row: int) -> np.ndarray:
        if generator.random() < 0.5:
            raise AudioError("gone.wav: no such file")
        return np.full(num_samples, np.nan, np.float32)

    augmenter = Augmenter(AugmentConfig(noise_prob=1.0), RATE, broken)
    with caplog.at_level(logging.WARNING):
        results = [augmenter(speech(), seed) for seed in range(10)]
    assert all(np.isfinite(result).all() for result in results)
    messages = {record.getMessage() for record in caplog.records}
    assert messages == {
        "left out of the babble: gone.wav: no such file",
        "left out of the babble: a voice without samples, or with some that are NaN or infinite",
    }


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"noise_prob": 1.5}, "augment.noise_prob = 1.5 must be between 0 and 1"),
        ({"codec_prob": -0.1}, "augment.codec_prob = -0.1 must be between 0 and 1"),
        ({"gain_prob": float("nan")}, "augment.gain_prob = nan must be between 0 and 1"),
        ({"clip_prob": "often"}, "augment.clip_prob must be a number, not 'often'"),
        ({"reverb_prob": True}, "augment.reverb_prob must be a number, not True"),
        ({"noise_folder": 3}, "augment.noise_folder must be a string, not 3"),
        ({"babble_voices_min": 3.5}, "augment.babble_voices_min must be a whole number, not 3.5"),
        ({"babble_voices_min": 0}, "augment.babble_voices_min = 0 must be between 1 and 100"),
        ({"babble_voices_min": 8}, "augment.babble_voices_min = 8 must be at most augment.babble_voices_max = 7"),
        ({"noise_snr_min_db": 20}, "augment.noise_snr_min_db = 20 must be at most augment.noise_snr_max_db = 15"),
        ({"music_snr_max_db": 1e9}, "augment.music_snr_max_db = 1000000000.0 must be between -60 and 100"),
        ({"rt60_min_s": 1.0}, "augment.rt60_min_s = 1 must be at most augment.rt60_max_s = 0.9"),
        ({"rt60_min_s": 0.0}, "augment.rt60_min_s = 0.0 must be between 0.05 and 5"),
        ({"equalizer_max_db": -1}, "augment.equalizer_max_db = -1.0 must be between 0 and 60"),
        ({"time_mask_max_share": 2}, "augment.time_mask_max_share = 2.0 must be between 0 and 1"),
        ({"time_masks": -1}, "augment.time_masks = -1 must be between 0 and 100"),
        ({"codecs": ["gsm", "mp4"]}, "augment.codecs: unknown codec 'mp4'; did you mean 'mp3'?"),
        ({"codecs": [], "codec_prob": 0.1}, "augment.codecs is empty, but augment.codec_prob is above 0; list some of"),
    ],
)
def test_settings_that_cannot_be(setting: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("?", r"\?")):
        AugmentConfig(**setting)


def test_a_codec_that_libsndfile_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacks(samples: np.ndarray, rate: int, kind: str, subtype: str, **level: float) -> np.ndarray:
        raise AudioError("cannot encode")

    monkeypatch.setattr("xvectors.augment.channel.encode_decode", lacks)
    Augmenter(AugmentConfig(codec_prob=0.1, codecs=["mu-law", "a-law"]), RATE)
    with pytest.raises(
        ConfigError, match=r"augment.codecs: the installed libsndfile has no gsm .*take it out of the list"
    ):
        Augmenter(AugmentConfig(codec_prob=0.1), RATE)


def test_waveforms_that_are_none() -> None:
    augmenter = Augmenter(AugmentConfig(gain_prob=1.0), RATE)
    with pytest.raises(ShapeError, match=r"floating point \[samples\], not int16 \[8\]; divide integers"):
        augmenter(np.zeros(8, np.int16), 0)
    with pytest.raises(ShapeError, match=r"not float32 \[2, 8\]"):
        augmenter(np.zeros((2, 8), np.float32), 0)
    assert augmenter(np.zeros(0, np.float32), 0).shape == (0,)
    with pytest.raises(ConfigError, match="sample_rate_hz = 0 must be positive"):
        Augmenter(AugmentConfig(), 0)


ALL_EFFECTS = {rate: Augmenter(AugmentConfig(**EVERYTHING), rate, voice) for rate in (8_000, RATE)}


@settings(deadline=None, max_examples=40)
@given(
    wave=st.one_of(
        arrays.arrays(np.float32, st.integers(1, 600), elements=st.floats(-1, 1, width=32)),
        st.builds(np.full, st.integers(1, 5000), st.sampled_from([0.0, 1.0, -0.5, 1e-7, 1e-30]), st.just(np.float32)),
        st.builds(lambda n: np.sign(speech(n)), st.integers(1, 5000)),
    ),
    seed=st.integers(0, 2**62),
    rate=st.sampled_from([8_000, RATE]),
)
def test_every_waveform_comes_back_finite_and_of_its_length(wave: np.ndarray, seed: int, rate: int) -> None:
    before = wave.copy()
    result = ALL_EFFECTS[rate](wave, seed)
    assert result.shape == wave.shape
    assert result.dtype == np.float32
    assert np.isfinite(result).all()
    np.testing.assert_array_equal(wave, before)


def test_silence_stays_silent() -> None:
    quiet = {name: value for name, value in EVERYTHING.items() if not name.startswith("codec")}
    augmenter = Augmenter(AugmentConfig(**quiet), RATE, voice)
    for seed in range(10):
        np.testing.assert_array_equal(augmenter(np.zeros(8000, np.float32), seed), 0)


@pytest.mark.parametrize("factor", [0.9, 1.0, 1.1])
def test_speed_shortens_and_raises_the_pitch(factor: float) -> None:
    wave = tone(1000, 2.0)
    result = speed(wave, factor)
    assert len(result) == round(len(wave) / factor)
    spectrum = np.abs(np.fft.rfft(result * np.hanning(len(result))))
    assert np.argmax(spectrum) * RATE / len(result) == pytest.approx(1000 * factor, abs=1)
    assert np.sqrt(np.mean(result**2)) == pytest.approx(np.sqrt(np.mean(wave**2)), rel=0.01)


def test_speeds_that_cannot_be() -> None:
    for factor in (0.0, -1.0, 90.0, float("nan")):
        with pytest.raises(ConfigError, match=r"speed factor .* must be between 0.5 and 2, usually 0.9 or 1.1"):
            speed(tone(100, 0.1), factor)
