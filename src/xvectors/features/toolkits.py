"""The features that other toolkits' speaker models were trained with, as settings of `Fbank`."""

from __future__ import annotations

from dataclasses import replace

from xvectors.config import FeaturesConfig

THREE_D_SPEAKER = FeaturesConfig(num_mels=80, mean_normalization=True, normalize_level=False)
"""3D-Speaker: Kaldi's filterbanks of samples in [-1, 1]."""

WESPEAKER = replace(THREE_D_SPEAKER, window="hamming", sample_scale=32768.0)
"""WeSpeaker, and pyannote's models of it: Kaldi's filterbanks of 16-bit integers, with a Hamming window."""

_STFT = FeaturesConfig(
    preemphasis=0.0,
    remove_dc=False,
    periodic_window=True,
    fft_length=400,
    center_padding="zeros",
    low_frequency_hz=0.0,
    normalize_level=False,
)

SPEECHBRAIN = replace(
    _STFT,
    num_mels=80,
    window="hamming",
    triangles="symmetric",
    log="decibel",
    energy_floor=1e-10,
    top_db=80.0,
    mean_normalization=True,
)
"""SpeechBrain's ECAPA-TDNN and ResNet. Its x-vector has 24 filters."""

REDIMNET = replace(
    _STFT,
    num_mels=72,
    preemphasis=0.97,
    preemphasis_over="recording",
    window="hamming",
    fft_length=512,
    center_padding="reflect",
    low_frequency_hz=20.0,
    high_frequency_hz=7600.0,
    triangles="hz",
    energy_offset=1e-6,
    mean_normalization=True,
)
"""ReDimNet: torchaudio's filterbanks of the pre-emphasized recording. Some sizes have 60 filters; the published ones a
shift of 15 ms."""

REDIMNET_NORM_SIGNAL = replace(
    REDIMNET, remove_dc=True, remove_dc_over="recording", normalize_level=True, sample_scale=10.0**1.5
)
"""ReDimNet with `norm_signal`: samples have the mean 0 and the standard deviation 1, which is 30 dB above -30 dBFS."""

REDIMNET2 = replace(
    REDIMNET_NORM_SIGNAL,
    periodic_window=False,
    center_padding="none",
    edge_zeros_ms=5.0,
    triangles="mel",
    stretched_bins=True,
    power_floor=1e-8,
    energy_floor=2e-8,
    energy_offset=1e-8,
)
"""ReDimNet2: filterbanks of a Fourier transform by convolution, of samples with the mean 0 and the deviation 1."""

RESEMBLYZER = replace(
    _STFT,
    num_mels=40,
    window="hanning",
    extra_frames=2,
    mel_scale="slaney",
    triangles="hz",
    equal_area=True,
    log="none",
    normalize_level=True,
    level_increase_only=True,
)
"""Resemblyzer: librosa's filterbanks, without a logarithm, of recordings that are not below -30 dBFS."""

KALDI_VOXCELEB = FeaturesConfig(
    num_mels=30,
    num_ceps=30,
    high_frequency_hz=7600.0,
    snip_edges=False,
    sample_scale=32768.0,
    mean_normalization=True,
    mean_window_frames=300,
    normalize_level=False,
)
"""Kaldi's x-vector for VoxCeleb (egs/voxceleb/v2): cepstra, less their mean over three seconds."""

KALDI_SRE16 = replace(KALDI_VOXCELEB, sample_rate_hz=8000, num_mels=23, num_ceps=23, high_frequency_hz=3700.0)
"""Kaldi's x-vector for telephone speech (egs/sre16/v2)."""

TOOLKITS = {
    "3D-Speaker": THREE_D_SPEAKER,
    "WeSpeaker": WESPEAKER,
    "SpeechBrain": SPEECHBRAIN,
    "ReDimNet": REDIMNET,
    "ReDimNet (norm_signal)": REDIMNET_NORM_SIGNAL,
    "ReDimNet2": REDIMNET2,
    "Resemblyzer": RESEMBLYZER,
    "Kaldi (VoxCeleb)": KALDI_VOXCELEB,
    "Kaldi (SRE16)": KALDI_SRE16,
}
