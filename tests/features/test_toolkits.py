"""The features of other toolkits, against torch.stft with filters by the textbook, and kaldi-native-fbank's MFCC."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from typing import Any

import kaldi_native_fbank
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from support.tolerances import BATCHED
from xvectors.config import FeaturesConfig
from xvectors.errors import ConfigError, TooShortError
from xvectors.export.graph import GraphFbank
from xvectors.features import Fbank, mean_normalize
from xvectors.features.toolkits import (
    KALDI_SRE16,
    KALDI_VOXCELEB,
    REDIMNET,
    REDIMNET2,
    REDIMNET_NORM_SIGNAL,
    RESEMBLYZER,
    SPEECHBRAIN,
    TOOLKITS,
    WESPEAKER,
)

EVERY = pytest.mark.parametrize("features", TOOLKITS.values(), ids=TOOLKITS)


def fbank(features: FeaturesConfig, **changes: Any) -> Fbank:
    return Fbank(**asdict(replace(features, **changes)))


def voice(samples: int, seed: int = 0, rate_hz: int = 16_000) -> Tensor:
    """A gliding voice of -20 dBFS with pauses over a noise floor 50 dB below it, and digital silence at the end."""
    generator = np.random.default_rng(seed)
    t = np.arange(samples) / rate_hz
    phase = 2 * np.pi * np.cumsum(120 + 30 * np.sin(2 * np.pi * 1.5 * t + seed)) / rate_hz
    wave = sum(np.sin(k * phase + k * k) / k for k in range(1, 25)) * (np.sin(2 * np.pi * 0.9 * t) > -0.5)
    wave = 0.1 * wave + 0.0005 * generator.standard_normal(samples)
    wave[samples * 9 // 10 :] = 0.0
    return torch.from_numpy(wave.astype(np.float32))


def htk_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    return 700 * (10 ** (mel / 2595) - 1)


def slaney_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(mel < 15, mel * 200 / 3, 1000 * 6.4 ** ((mel - 15) / 27))


def filters(corners_hz: NDArray[np.float64], fft_length: int, *, symmetric: bool = False) -> Tensor:
    """Triangles over frequency [bins, mels], one value after the other."""
    table = np.zeros((fft_length // 2 + 1, len(corners_hz) - 2))
    for m in range(table.shape[1]):
        left, center, right = corners_hz[m : m + 3]
        right = center + (center - left) if symmetric else right
        for k in range(len(table)):
            hz = k * 16_000 / fft_length
            table[k, m] = max(0.0, min((hz - left) / (center - left), (right - hz) / (right - center)))
    return torch.from_numpy(table)


def power(wave: Tensor, window: Tensor, fft_length: int, pad_mode: str) -> Tensor:
    """Power spectrum [frames, bins] by torch's own transform, in float64."""
    stft = torch.stft(
        wave.double(), fft_length, 160, 400, window.double(), center=True, pad_mode=pad_mode, return_complex=True
    )
    return stft.abs().square().T


def speechbrain(wave: Tensor, num_mels: int) -> Tensor:
    mel = np.linspace(0, 2595 * math.log10(1 + 8000 / 700), num_mels + 2)
    spectrum = power(wave, torch.hamming_window(400, dtype=torch.float64), 400, "constant")
    decibel = 10 * (spectrum @ filters(htk_hz(mel), 400, symmetric=True)).clamp(min=1e-10).log10()
    return torch.maximum(decibel, decibel.max() - 80.0)


def redimnet(wave: Tensor, num_mels: int) -> Tensor:
    low, high = (2595 * math.log10(1 + hz / 700) for hz in (20, 7600))
    padded = functional.pad(wave.double()[None], (1, 0), mode="reflect")[0]
    spectrum = power(padded[1:] - 0.97 * padded[:-1], torch.hamming_window(400, dtype=torch.float64), 512, "reflect")
    logarithm = (spectrum @ filters(htk_hz(np.linspace(low, high, num_mels + 2)), 512) + 1e-6).log()
    return logarithm - logarithm.mean(dim=0)


def of_unit_deviation(wave: Tensor, epsilon: float) -> Tensor:
    return (wave.double() - wave.double().mean()) / (wave.double().std(correction=0) + epsilon)


def redimnet2(wave: Tensor, num_mels: int) -> Tensor:
    """Transform by transform; bins below the Nyquist frequency count as evenly spaced up to it, in mel."""
    wave = of_unit_deviation(wave, 1e-8)
    wave = torch.cat((wave[:1] - 0.97 * wave[1:2], wave[1:] - 0.97 * wave[:-1]))
    padded = np.concatenate((np.zeros(80), wave.numpy(), np.zeros(80)))
    starts = range(0, len(padded) - 399, 160)
    spectra = np.stack([np.fft.rfft(padded[i : i + 400] * np.hamming(400), 512)[:256] for i in starts])
    mel = 2595 * np.log10(1 + np.linspace(0, 8000, 256) / 700)
    corners = np.linspace(*(2595 * math.log10(1 + hz / 700) for hz in (20, 7600)), num_mels + 2)
    table = np.zeros((256, num_mels))
    for m in range(num_mels):
        left, center, right = corners[m : m + 3]
        for k in range(1, 256):
            table[k, m] = max(0.0, min((mel[k] - left) / (center - left), (right - mel[k]) / (right - center)))
    energies = np.maximum(np.maximum(np.abs(spectra) ** 2, 1e-8) @ table, 1e-8)
    logarithm = torch.from_numpy(np.log(energies + 1e-8))
    return logarithm - logarithm.mean(dim=0)


def resemblyzer(wave: Tensor) -> Tensor:
    corners = slaney_hz(np.linspace(0, 15 + 27 * math.log(8) / math.log(6.4), 42))
    area = torch.from_numpy(2 / (corners[2:] - corners[:-2]))
    rms = wave.double().square().mean().sqrt()
    wave = functional.pad(wave * max(1.0, 10 ** (-30 / 20) / float(rms)), (0, 320))  # two frames more
    return power(wave, torch.hann_window(400, dtype=torch.float64), 400, "constant") @ (filters(corners, 400) * area)


def kaldi_mfcc(wave: Tensor, features: FeaturesConfig) -> Tensor:
    """Cepstra [frames, num_ceps] by kaldi-native-fbank, of 16-bit integers, without mean normalization."""
    options = kaldi_native_fbank.MfccOptions()
    frame, mel = options.frame_opts, options.mel_opts
    frame.dither, frame.samp_freq, frame.snip_edges = 0.0, features.sample_rate_hz, features.snip_edges
    mel.num_bins, mel.low_freq, mel.high_freq = features.num_mels, 20.0, features.high_frequency_hz
    options.num_ceps, options.use_energy = features.num_ceps, features.energy_as_c0
    options.cepstral_lifter = features.cepstral_lifter
    mfcc = kaldi_native_fbank.OnlineMfcc(options)
    mfcc.accept_waveform(features.sample_rate_hz, (32_768.0 * wave).numpy())
    mfcc.input_finished()
    return torch.from_numpy(np.stack([mfcc.get_frame(i) for i in range(mfcc.num_frames_ready)]))


@pytest.mark.parametrize("samples", [400, 16_000, 16_079])
@pytest.mark.parametrize("num_mels", [24, 80])
def test_speechbrain(num_mels: int, samples: int) -> None:
    """In decibels, where 1e-3 is 2e-4 of a natural logarithm."""
    ours = fbank(SPEECHBRAIN, num_mels=num_mels, mean_normalization=False)(voice(samples))[0].double()
    theirs = speechbrain(voice(samples), num_mels)
    torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=0.0)
    assert samples == 400 or float(theirs.max() - theirs.min()) == pytest.approx(80.0)  # the bound is at work
    normalized = fbank(SPEECHBRAIN, num_mels=num_mels)(voice(samples))[0].double()
    torch.testing.assert_close(normalized, theirs - theirs.mean(dim=0), atol=1e-3, rtol=0.0)


@pytest.mark.parametrize("samples", [257, 16_000, 16_159])
@pytest.mark.parametrize("num_mels", [60, 72])
def test_redimnet(num_mels: int, samples: int) -> None:
    ours = fbank(REDIMNET, num_mels=num_mels)(voice(samples))[0].double()
    torch.testing.assert_close(ours, redimnet(voice(samples), num_mels), atol=1e-3, rtol=0.0)


@pytest.mark.parametrize("samples", [257, 16_159])
def test_redimnet_of_unit_deviation(samples: int) -> None:
    wave = 0.3 + voice(samples)  # a recording with a DC offset
    theirs = redimnet(of_unit_deviation(wave, 1e-6), 72)
    torch.testing.assert_close(fbank(REDIMNET_NORM_SIGNAL)(wave)[0].double(), theirs, atol=2e-3, rtol=0.0)


@pytest.mark.parametrize("samples", [240, 399, 400, 16_000, 16_159])
@pytest.mark.parametrize("num_mels", [60, 72])
def test_redimnet2(num_mels: int, samples: int) -> None:
    wave = 0.3 + voice(samples)
    ours = fbank(REDIMNET2, num_mels=num_mels)(wave)[0].double()
    torch.testing.assert_close(ours, redimnet2(wave, num_mels), atol=2e-3, rtol=0.0)


@pytest.mark.parametrize("gain", [1.0, 0.01])
def test_resemblyzer(gain: float) -> None:
    wave = gain * voice(16_000)
    theirs = resemblyzer(wave)
    assert theirs.max() > 1e-3
    torch.testing.assert_close(fbank(RESEMBLYZER)(wave)[0].double(), theirs, atol=1e-6 * float(theirs.max()), rtol=1e-4)


@pytest.mark.parametrize("changes", [{}, {"energy_as_c0": False}, {"num_ceps": 13, "cepstral_lifter": 0.0}], ids=str)
@pytest.mark.parametrize("features", [KALDI_VOXCELEB, KALDI_SRE16], ids=["voxceleb", "sre16"])
def test_kaldi_mfcc(features: FeaturesConfig, changes: dict[str, Any]) -> None:
    features = replace(features, **changes, mean_normalization=False, mean_window_frames=0)
    wave = voice(2 * features.sample_rate_hz, rate_hz=features.sample_rate_hz)
    ours, theirs = fbank(features)(wave)[0], kaldi_mfcc(wave, features)
    assert theirs.abs().max() > 20.0
    torch.testing.assert_close(ours, theirs, atol=2e-3, rtol=0.0)  # liftered up to 12 times


def test_wespeaker_is_kaldi_of_integers() -> None:
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.dither, options.frame_opts.window_type, options.mel_opts.num_bins = 0.0, "hamming", 80
    online = kaldi_native_fbank.OnlineFbank(options)
    online.accept_waveform(16_000, (32_768.0 * voice(16_000)).numpy())
    theirs = torch.from_numpy(np.stack([online.get_frame(i) for i in range(online.num_frames_ready)]))
    torch.testing.assert_close(fbank(WESPEAKER)(voice(16_000))[0], theirs - theirs.mean(dim=0), atol=1e-3, rtol=0.0)


@pytest.mark.parametrize(("frames", "window"), [(1, 300), (299, 300), (300, 300), (301, 300), (700, 300), (40, 7)])
def test_sliding_mean_frame_by_frame(frames: int, window: int) -> None:
    """Kaldi's window: from half before each frame, and moved inwards at the ends."""
    x = 5 + torch.randn(frames, 3, generator=torch.Generator().manual_seed(frames), dtype=torch.float64)
    expected = torch.empty_like(x)
    for t in range(frames):
        start, end = t - window // 2, t - window // 2 + window
        if start < 0:
            start, end = 0, end - start
        if end > frames:
            start, end = max(0, start - (end - frames)), frames
        expected[t] = x[t] - x[start:end].mean(dim=0)
    torch.testing.assert_close(mean_normalize(x[None], window_frames=window)[0], expected)
    batch = torch.full((2, frames + 50, 3), float("nan"), dtype=torch.float64)
    batch[:, :frames] = x
    both = mean_normalize(batch, torch.tensor([frames, frames]), window_frames=window)
    torch.testing.assert_close(both[:, :frames], expected.expand(2, -1, -1))
    assert not both[:, frames:].any()


@EVERY
def test_padding_does_not_leak(features: FeaturesConfig) -> None:
    """Neither into edges, levels and means nor into SpeechBrain's largest value; the padding is loud here."""
    extract = fbank(features)
    lengths = [9000, 401, 5437, extract.samples_needed]
    batch = torch.full((4, 9300), 0.9)
    batch[1:, 8000:] = float("nan")
    for row, samples in enumerate(lengths):
        batch[row, :samples] = voice(samples, seed=row)
    together = extract(batch, torch.tensor(lengths))
    counted = extract.num_frames(torch.tensor(lengths))
    for row, samples in enumerate(lengths):
        alone = extract(voice(samples, seed=row))[0]
        assert len(alone) == counted[row] == extract.num_frames(samples)
        assert alone.shape[1] == features.dimension
        scale = max(1.0, float(alone.abs().max()))
        torch.testing.assert_close(together[row, : len(alone)], alone, atol=BATCHED * scale, rtol=0.0)
        assert not together[row, len(alone) :].any()
    with pytest.raises(TooShortError):
        extract(torch.zeros(extract.samples_needed - 1))


@EVERY
def test_the_exported_graph_computes_the_same(features: FeaturesConfig) -> None:
    """More of the fine noise is lost in float32 where digital silence reaches the floor of 1e-10."""
    extract = fbank(features)
    for samples in (round(0.7 * features.sample_rate_hz) + 3, 3 * features.sample_rate_hz + 100):
        waves = torch.stack([voice(samples, seed, features.sample_rate_hz) for seed in range(2)])
        expected, graph = extract(waves), GraphFbank(extract)(waves)
        assert graph.shape == expected.shape
        torch.testing.assert_close(graph, expected, atol=1e-2, rtol=1e-5)
        assert (graph - expected).abs().mean() < 1e-4 * expected.std()


@EVERY
def test_samples_for_is_the_inverse_of_num_frames(features: FeaturesConfig) -> None:
    extract = fbank(features)
    for frames in (1, 2, 5, 300):
        samples = extract.samples_for(frames)
        assert extract.num_frames(samples) >= frames
        assert samples == extract.samples_needed or extract.num_frames(samples - 1) < frames
    assert extract.num_frames(extract.samples_needed - 1) == 0


@EVERY
def test_gradients_are_finite(features: FeaturesConfig) -> None:
    wave = voice(4000).requires_grad_()
    fbank(features)(wave).square().sum().backward()
    assert wave.grad is not None
    assert torch.isfinite(wave.grad).all()
    assert wave.grad.any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fft_length": 256}, "fft_length is 256; it must be even, at least the 400 samples of a frame"),
        ({"fft_length": 513}, "fft_length is 513; it must be even"),
        ({"mel_scale": "bark"}, "mel_scale 'bark' is unknown; known are htk, slaney"),
        ({"triangles": "herz"}, r"triangles 'herz' is unknown; did you mean 'hz'\?"),
        ({"log": "decibels"}, r"log 'decibels' is unknown; did you mean 'decibel'\?"),
        ({"center_padding": "zero"}, r"center_padding 'zero' is unknown; did you mean 'zeros'\?"),
        ({"preemphasis_over": "signal"}, "preemphasis_over 'signal' is unknown; known are frame, recording"),
        ({"extra_frames": 2}, "extra_frames is 2; it must be 0 to 1000, and 0 unless center_padding is zeros"),
        ({"energy_floor": 0.0}, "energy_floor is 0.0; it must be above 0"),
        ({"energy_offset": -1.0}, "energy_offset is -1.0; it must be at least 0"),
        ({"power_floor": math.nan}, "power_floor is nan; it must be at least 0"),
        ({"remove_dc_over": "file"}, "remove_dc_over 'file' is unknown; known are frame, recording"),
        ({"edge_zeros_ms": 12.5}, "edge_zeros_ms is 12.5; it must be less than half of frame_length_ms"),
        ({"edge_zeros_ms": 5.0, "snip_edges": False}, "edge_zeros_ms is 5.0; .* 0 unless snip_edges is true"),
        ({"top_db": 80.0}, "top_db is 80.0; it must be 0 unless log is decibel"),
        ({"num_ceps": 25}, "num_ceps is 25; it must be 0 to num_mels, 24"),
        ({"cepstral_lifter": math.nan}, "cepstral_lifter is nan; it must be at least 0"),
        ({"mean_window_frames": 300}, "mean_window_frames is 300; it must be 0 to 100000, and 0 without mean_norm"),
    ],
)
def test_impossible_settings(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Fbank(**changes)
