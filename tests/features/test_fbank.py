"""Fbank against kaldi-native-fbank's own output, by hand, padded, through gradients, and on bad input."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import kaldi_native_fbank
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from support.tolerances import BATCHED
from xvectors.errors import ConfigError, ShapeError, TooShortError
from xvectors.features import FRAMES_PER_BLOCK, LEVEL_DBFS, Fbank, mean_normalize

KALDI_SILENCE = math.log(np.finfo(np.float32).eps)


def kaldi(wave: Tensor, **changes: Any) -> Tensor:
    """Features [frames, mels] by kaldi-native-fbank without dither, from settings named as ours."""
    rate = changes.get("sample_rate_hz", 16_000)
    options = kaldi_native_fbank.FbankOptions()
    frame, mel = options.frame_opts, options.mel_opts
    frame.dither = 0.0
    frame.samp_freq = rate
    frame.frame_length_ms = changes.get("frame_length_ms", 25.0)
    frame.frame_shift_ms = changes.get("frame_shift_ms", 10.0)
    frame.preemph_coeff = changes.get("preemphasis", 0.97)
    frame.remove_dc_offset = changes.get("remove_dc", True)
    frame.window_type = changes.get("window", "povey")
    frame.snip_edges = changes.get("snip_edges", True)
    mel.num_bins = changes.get("num_mels", 24)
    mel.low_freq = changes.get("low_frequency_hz", 20.0)
    mel.high_freq = changes.get("high_frequency_hz", 0.0)
    options.use_power = changes.get("use_power", True)
    fbank = kaldi_native_fbank.OnlineFbank(options)
    fbank.accept_waveform(rate, wave.numpy())
    fbank.input_finished()
    return torch.from_numpy(np.stack([fbank.get_frame(i) for i in range(fbank.num_frames_ready)]))


def speechlike(samples: int, rate_hz: int = 16_000, seed: int = 0) -> Tensor:
    """Within [-1, 1]: a gliding voice with falling harmonics, pauses and a noise floor 50 dB below it."""
    generator = np.random.default_rng(seed)
    t = np.arange(samples) / rate_hz
    f0 = 120 + 30 * np.sin(2 * np.pi * 1.5 * t + seed)
    phase = 2 * np.pi * np.cumsum(f0) / rate_hz
    wave = sum(np.sin(k * phase + k * k) / k for k in range(1, 25)) * (np.sin(2 * np.pi * 0.9 * t) > -0.5)
    return torch.from_numpy((0.2 * wave + 0.001 * generator.standard_normal(samples)).astype(np.float32))


def noise(samples: int, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(seed))


def assert_equals_kaldi(wave: Tensor, **changes: Any) -> None:
    ours, theirs = Fbank(**changes)(wave)[0], kaldi(wave, **changes)
    assert ours.shape == theirs.shape
    torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=0.0)


@pytest.mark.parametrize("scale", [1.0, 32_768.0])
@pytest.mark.parametrize("num_mels", [24, 80])
@pytest.mark.parametrize("rate", [8_000, 16_000])
def test_equals_kaldi(rate: int, num_mels: int, scale: float) -> None:
    for wave in (speechlike(2 * rate, rate), noise(2 * rate)):
        assert_equals_kaldi(scale * wave, sample_rate_hz=rate, num_mels=num_mels)


@pytest.mark.parametrize(
    "changes",
    [
        {"window": "hamming"},
        {"window": "hanning"},
        {"window": "rectangular"},
        {"preemphasis": 0.0},
        {"preemphasis": 0.9, "window": "hamming"},
        {"remove_dc": False},
        {"snip_edges": False},
        {"snip_edges": False, "frame_length_ms": 20.0, "frame_shift_ms": 12.5},
        {"use_power": False},
        {"low_frequency_hz": 100.0, "high_frequency_hz": 3800.0},
        {"high_frequency_hz": -400.0},
        {"frame_length_ms": 32.0, "frame_shift_ms": 8.0, "num_mels": 40},
        {"frame_length_ms": 10.0, "frame_shift_ms": 15.0},
        {"sample_rate_hz": 22_050, "num_mels": 80},
        {"sample_rate_hz": 44_100, "num_mels": 64, "snip_edges": False},
    ],
    ids=str,
)
def test_equals_kaldi_in_every_setting(changes: dict[str, Any]) -> None:
    rate = changes.get("sample_rate_hz", 16_000)
    for wave in (speechlike(rate, rate) + 0.1, 3000 * noise(rate, seed=1)):
        assert_equals_kaldi(wave, **changes)


@settings(max_examples=30, deadline=None)
@given(samples=st.integers(80, 1400))
def test_reflects_short_recordings_as_kaldi_does(samples: int) -> None:
    """Down to half a shift, where the reflection goes back and forth several times within a frame."""
    assert_equals_kaldi(noise(samples, seed=samples), snip_edges=False, num_mels=12)


@settings(max_examples=30, deadline=None)
@given(samples=st.integers(400, 1400))
def test_has_the_frames_kaldi_has(samples: int) -> None:
    assert Fbank()(noise(samples)).shape[1] == len(kaldi(noise(samples)))


@pytest.mark.parametrize("snip_edges", [True, False])
def test_silence_is_the_floor(snip_edges: bool) -> None:
    wave = torch.zeros(4000)
    features = Fbank(snip_edges=snip_edges)(wave)
    torch.testing.assert_close(features, torch.full_like(features, KALDI_SILENCE), atol=1e-5, rtol=0.0)
    assert_equals_kaldi(wave, snip_edges=snip_edges)


@pytest.mark.real
def test_equals_kaldi_on_real_speech(speechocean: Path) -> None:
    import soundfile

    files = sorted(speechocean.rglob("*.flac"))[::250]
    assert len(files) >= 5
    for file in files:
        samples, rate = soundfile.read(file, dtype="float32")
        assert_equals_kaldi(torch.from_numpy(samples), sample_rate_hz=rate)


@pytest.mark.parametrize("gain", [1.0, 1e-1, 1e-3, 1e-5, 32_768.0])
def test_level_does_not_matter_where_it_is_normalized(gain: float) -> None:
    """From -20 dBFS to -120, and at Kaldi's scale; a power of ten rounds every sample, to 6e-8 of itself."""
    fbank = Fbank(num_mels=80, normalize_level=True)
    expected = fbank(speechlike(16_000))
    torch.testing.assert_close(fbank(gain * speechlike(16_000)), expected, atol=1e-3, rtol=0.0)
    assert (
        expected[..., 40:].min() > KALDI_SILENCE + 2
    )  # the voice's pauses; pre-emphasis takes the lowest filters down
    assert Fbank(num_mels=80)(1e-3 * speechlike(16_000))[..., 40:].min() == pytest.approx(KALDI_SILENCE, abs=1e-5)


@pytest.mark.parametrize("scale", [1.0, 32_768.0])
def test_normalized_features_are_kaldis_of_the_leveled_samples(scale: float) -> None:
    """An offset counts as no level: beside a voice of -17 dBFS, half of full scale changes nothing."""
    wave = speechlike(16_000) + 0.5
    leveled = wave * (10 ** (LEVEL_DBFS / 20) / wave.double().std(correction=0)).float()
    ours = Fbank(num_mels=80, normalize_level=True)(scale * wave)[0]
    torch.testing.assert_close(ours, kaldi(leveled, num_mels=80), atol=1e-3, rtol=0.0)


def test_digital_silence_is_not_amplified() -> None:
    features = Fbank(normalize_level=True)(torch.zeros(4000))
    torch.testing.assert_close(features, torch.full_like(features, KALDI_SILENCE), atol=1e-5, rtol=0.0)


def test_the_scale_of_16_bit_integers_is_that_of_kaldi() -> None:
    """Quiet speech and digital silence too: the floor lies 20.8 lower relative to the samples."""
    wave = torch.cat([1e-3 * speechlike(8000), torch.zeros(4000)])
    ours = Fbank(num_mels=80, sample_scale=32_768.0)(wave)[0]
    torch.testing.assert_close(ours, kaldi(32_768.0 * wave, num_mels=80), atol=1e-3, rtol=0.0)
    assert (ours.min(), Fbank(num_mels=80)(wave).min()) == pytest.approx((KALDI_SILENCE, KALDI_SILENCE), abs=1e-5)
    unscaled = Fbank(num_mels=80)(wave)[0] + 2 * math.log(32_768)
    assert (ours - unscaled)[:45].min() < -1.0  # where only the unscaled features are at the floor


def test_a_tone_peaks_in_the_filter_around_it() -> None:
    """1 kHz is 1000 mel: of 24 filters from 32 to 2840 mel, 112 apart, the ninth is centered at 1042."""
    tone = torch.sin(2 * math.pi * 1000 * torch.arange(16_000) / 16_000)
    assert Fbank()(tone)[0].mean(dim=0).argmax() == 8


def test_five_seconds_are_498_frames_of_24_mels() -> None:
    fbank = Fbank()
    features = fbank(noise(80_000))
    assert features.shape == (1, 498, 24)
    assert features.dtype == torch.float32
    assert fbank(noise(80_000).expand(3, -1)).shape == (3, 498, 24)


@pytest.mark.parametrize(
    ("snip_edges", "frames"),
    [(True, {0: 0, 399: 0, 400: 1, 559: 1, 560: 2}), (False, {0: 0, 79: 0, 80: 1, 239: 1, 240: 2})],
)
def test_num_frames_of_numbers_and_tensors(snip_edges: bool, frames: dict[int, int]) -> None:
    fbank = Fbank(snip_edges=snip_edges)
    assert {samples: fbank.num_frames(samples) for samples in frames} == frames
    counted = fbank.num_frames(torch.tensor(list(frames)))
    assert counted.dtype == torch.int64
    assert counted.tolist() == list(frames.values())


@pytest.mark.parametrize("normalize_level", [False, True])
@pytest.mark.parametrize("mean_normalization", [False, True])
@pytest.mark.parametrize("snip_edges", [False, True])
def test_padding_does_not_leak(snip_edges: bool, mean_normalization: bool, normalize_level: bool) -> None:
    fbank = Fbank(
        snip_edges=snip_edges,
        mean_normalization=mean_normalization,
        normalize_level=normalize_level,
        num_mels=40,
    )
    lengths = [8000, 401, 400, 5437]
    batch = torch.full((4, 9000), float("nan"))
    for row, samples in enumerate(lengths):
        batch[row, :samples] = speechlike(samples, seed=row)
    features = fbank(batch, torch.tensor(lengths))
    for row, samples in enumerate(lengths):
        alone = fbank(speechlike(samples, seed=row))[0]
        frames = fbank.num_frames(samples)
        assert len(alone) == frames
        torch.testing.assert_close(features[row, :frames], alone, atol=BATCHED, rtol=0.0)
        assert not features[row, frames:].any()


@pytest.mark.parametrize("batch", [1, 3])
def test_blocks_of_frames_change_nothing(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    waves = torch.stack([speechlike(16_000, seed=seed) for seed in range(batch)])
    expected = Fbank()(waves)
    monkeypatch.setitem(FRAMES_PER_BLOCK, "cpu", 17)
    torch.testing.assert_close(Fbank()(waves), expected, atol=1e-5, rtol=0.0)


def test_an_exported_graph_takes_any_number_of_recordings_and_samples() -> None:
    fbank = Fbank(mean_normalization=True).eval()
    free = {0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO}
    graph = torch.export.export(fbank, (torch.zeros(2, 8000),), dynamic_shapes=(free,)).module()
    for waves in (torch.stack([noise(3000)] * 3), torch.stack([noise(250_000)] * 2)):
        torch.testing.assert_close(graph(waves), fbank(waves), atol=BATCHED, rtol=0.0)


def test_mean_normalization_by_hand() -> None:
    nan = float("nan")
    features = torch.tensor([[[1.0, 10.0], [3.0, 20.0], [99.0, nan]], [[1.0, 1.0], [2.0, 2.0], [6.0, 0.0]]])
    expected = torch.tensor([[[-1.0, -5.0], [1.0, 5.0], [0.0, 0.0]], [[-2.0, 0.0], [-1.0, 1.0], [3.0, -1.0]]])
    assert torch.equal(mean_normalize(features, torch.tensor([2, 3])), expected)
    assert torch.equal(mean_normalize(features[1:]), expected[1:])


def test_mean_normalized_features_are_the_features_less_their_mean() -> None:
    wave = speechlike(16_000)
    plain, normalized = Fbank()(wave), Fbank(mean_normalization=True)(wave)
    torch.testing.assert_close(normalized, plain - plain.mean(dim=1, keepdim=True), atol=1e-5, rtol=0.0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_float_types_and_autocast_are_computed_in_float32(dtype: torch.dtype) -> None:
    wave = speechlike(8000).to(dtype)
    expected = Fbank()(wave.float())
    with torch.autocast("cpu", torch.bfloat16):
        features = Fbank()(wave)
    assert features.dtype == torch.float32
    assert torch.equal(features, expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_converted_module_keeps_its_tables(dtype: torch.dtype) -> None:
    wave = speechlike(8000)
    expected = Fbank()(wave)
    assert torch.equal(torch.nn.Sequential(Fbank()).to(dtype)(wave), expected)


def test_gradient_reaches_the_waveform_and_is_the_numerical_one() -> None:
    wave = noise(1200).requires_grad_()
    fbank, upstream = Fbank(num_mels=10), torch.randn(1, 6, 10, generator=torch.Generator().manual_seed(0))
    (gradient,) = torch.autograd.grad(fbank(wave), wave, upstream)
    assert torch.isfinite(gradient).all()
    direction = noise(1200, seed=3)
    step = 1e-3
    with torch.no_grad():
        up, down = ((fbank(wave + sign * step * direction) * upstream).sum().double() for sign in (1, -1))
    numerical = float((up - down) / (2 * step))
    assert float(gradient @ direction) == pytest.approx(numerical, rel=0.02)


@pytest.mark.parametrize("normalize_level", [True, False])
@pytest.mark.parametrize("use_power", [True, False])
def test_gradient_of_silence_and_padding_is_finite(use_power: bool, normalize_level: bool) -> None:
    waves = torch.zeros(2, 2000)
    waves[0] = noise(2000)
    waves.requires_grad_()
    fbank = Fbank(use_power=use_power, mean_normalization=True, normalize_level=normalize_level)
    fbank(waves, torch.tensor([900, 2000])).square().sum().backward()
    assert waves.grad is not None
    assert torch.isfinite(waves.grad).all()
    assert waves.grad[0, :880].any()
    assert not waves.grad[0, 900:].any()


def test_buffers_follow_the_module_but_not_the_state() -> None:
    fbank = Fbank()
    assert fbank.state_dict() == {}
    assert {buffer.device.type for buffer in Fbank().to("meta").buffers()} == {"meta"}
    assert len(list(fbank.buffers())) == 2
    before = noise(4000)
    kept = before.clone()
    fbank(before)
    assert torch.equal(before, kept)


@pytest.mark.parametrize(("snip_edges", "needed"), [(True, 400), (False, 80)])
def test_too_short_names_both_numbers(snip_edges: bool, needed: int) -> None:
    fbank = Fbank(snip_edges=snip_edges)
    assert fbank(torch.zeros(needed)).shape == (1, 1, 24)
    with pytest.raises(TooShortError, match=f"has {needed - 1} samples, but one frame needs {needed}"):
        fbank(torch.zeros(needed - 1))
    with pytest.raises(TooShortError, match=f"recording 1 of the batch has 7 samples, .* needs {needed}"):
        fbank(torch.zeros(2, 1000), torch.tensor([1000, 7]))


def test_bad_waveforms_and_lengths() -> None:
    fbank = Fbank()
    with pytest.raises(ShapeError, match=r"expected \[batch, samples\] or \[samples\], got \[1, 2, 800\]"):
        fbank(torch.zeros(1, 2, 800))
    with pytest.raises(ShapeError, match=r"got \[0, 800\]"):
        fbank(torch.zeros(0, 800))
    with pytest.raises(ShapeError, match=r"waveforms are torch.int16; convert them to float"):
        fbank(torch.zeros(800, dtype=torch.int16))
    with pytest.raises(ShapeError, match=r"lengths must be 2 integers, one per recording, got \[1\]"):
        fbank(torch.zeros(2, 800), torch.tensor([800]))
    with pytest.raises(ShapeError, match=r"integers.*torch.float32"):
        fbank(torch.zeros(2, 800), torch.tensor([1.0, 0.5]))
    with pytest.raises(ShapeError, match=r"lengths\[1\] is 801, but the waveforms hold 800 samples"):
        fbank(torch.zeros(2, 800), torch.tensor([800, 801]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_mels": 0}, "num_mels is 0; it must be at least 1"),
        ({"sample_rate_hz": 0}, "sample_rate_hz is 0; it must be at least 1"),
        ({"preemphasis": 1.5}, "preemphasis is 1.5; it must lie between 0 and 1"),
        ({"preemphasis": math.nan}, "preemphasis is nan; it must lie between 0 and 1"),
        ({"frame_length_ms": 0.01}, "frame_length_ms is 0.01 ms, 0 samples at 16000 Hz; .* at least 2 samples"),
        ({"frame_shift_ms": 0.0}, "frame_shift_ms is 0.0 ms, 0 samples at 16000 Hz; .* at least 1 samples"),
        ({"frame_shift_ms": math.inf}, "frame_shift_ms is inf"),
        ({"low_frequency_hz": -1.0}, "low_frequency_hz is -1.0; it must lie between 0 and .* 8000"),
        ({"low_frequency_hz": 8000.0}, "low_frequency_hz is 8000.0; it must lie between 0 and .* 8000"),
        ({"high_frequency_hz": 8001.0}, "high_frequency_hz is 8001.0, over half the sample rate, 8000; lower"),
        ({"high_frequency_hz": 10.0}, "high_frequency_hz is 10.0, .* and is not above low_frequency_hz, 20"),
        ({"high_frequency_hz": -7990.0}, "high_frequency_hz is -7990.0, which stands for 10 Hz and is not"),
        ({"high_frequency_hz": math.nan}, "high_frequency_hz is nan"),
        ({"window": "hann"}, r"window 'hann' is unknown; did you mean 'hanning'\?"),
        ({"window": "kaiser"}, "window 'kaiser' is unknown; known are hamming, hanning, povey, rectangular"),
        ({"sample_scale": 0.0}, "sample_scale is 0.0; it must be above 0: 1 or 32768"),
        ({"num_mels": 128, "sample_rate_hz": 8000}, "num_mels is 128, too many for 8000 Hz .* lower num_mels"),
    ],
)
def test_impossible_settings(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Fbank(**changes)
