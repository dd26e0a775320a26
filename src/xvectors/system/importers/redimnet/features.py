"""The features of ReDimNet and ReDimNet2, from the settings that their checkpoints state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import torch

from xvectors.config import FeaturesConfig
from xvectors.errors import CheckpointError
from xvectors.features import Fbank
from xvectors.features.toolkits import REDIMNET2, REDIMNET_NORM_SIGNAL
from xvectors.system.importers.family import Source

FRONT_ENDS = {"pt": "torchaudio", "pt_mel": "torchaudio", "tf": "convolutions", "tf_mel": "convolutions"}
SPEC_KINDS: Mapping[str, type | tuple[type, ...]] = {
    "n_fft": int,
    "win_length": int,
    "sample_rate": int,
    "f_min": (int, float),
    "f_max": (int, float),
    "eps": (int, float),
    "norm_signal": bool,
    "do_preemph": bool,
    "spec_norm": str,
}
"""Settings of the features, and what their values are."""
TRAINING_KEYS = ("do_spec_aug", "freq_mask_width", "time_mask_width", "freq_start_bin", "num_apply_spec_aug", "n_mels")
"""Settings of the features that are of the training alone, or are stated elsewhere."""
MAX_DIFFERENCE = 1e-4
"""Largest difference between a checkpoint's own tables of the features and ours."""


def by_convolutions(options: Mapping[str, Any], sample_rate_hz: int, hop_length: int) -> FeaturesConfig:
    """Return the features that the authors compute by convolutions (TFMelBanks)."""
    epsilon = float(options.get("eps", 1e-8))
    return with_options(
        replace(
            REDIMNET2,
            edge_zeros_ms=(hop_length // 2) * 1000 / sample_rate_hz,
            power_floor=epsilon,
            energy_floor=2 * epsilon,
            energy_offset=epsilon,
        ),
        options,
        sample_rate_hz,
        hop_length,
    )


def with_options(
    features: FeaturesConfig, options: Mapping[str, Any], sample_rate_hz: int, hop_length: int
) -> FeaturesConfig:
    normalized = bool(options.get("norm_signal", False))
    return replace(
        features,
        sample_rate_hz=sample_rate_hz,
        frame_length_ms=options.get("win_length", 400) * 1000 / sample_rate_hz,
        frame_shift_ms=hop_length * 1000 / sample_rate_hz,
        fft_length=options.get("n_fft", 512),
        low_frequency_hz=float(options.get("f_min", 20)),
        high_frequency_hz=float(options.get("f_max", 7600)),
        preemphasis=0.97 if options.get("do_preemph", True) else 0.0,
        remove_dc=normalized,
        remove_dc_over="recording" if normalized else "frame",
        normalize_level=normalized,
        sample_scale=REDIMNET_NORM_SIGNAL.sample_scale if normalized else 1.0,
    )


def check_options(where: str, options: Mapping[str, Any]) -> None:
    """Raise CheckpointError for settings of the features that are not supported."""
    for key, value in options.items():
        if key in TRAINING_KEYS:
            continue
        if key not in SPEC_KINDS or not isinstance(value, SPEC_KINDS[key]):
            raise CheckpointError(
                f"{where}.{key} is {value!r}, which is not supported; known are {', '.join(SPEC_KINDS)}"
            )
        if SPEC_KINDS[key] is int and options[key] < 1:
            raise CheckpointError(f"{where}.{key} is {value}; it must be at least 1")
    if options.get("spec_norm", "mn") != "mn":
        raise CheckpointError(f"{where}.spec_norm is {options['spec_norm']!r}; only mn, the mean, is supported")


def check_tables(source: Source, features: FeaturesConfig, prefix: str) -> None:
    """Raise CheckpointError where tables of the features in the checkpoint are not those of our settings."""
    fbank = Fbank(**asdict(features))
    filters = fbank.filters if features.power_floor else fbank.filters[::2]
    expected = {
        "1.flipped_filter": torch.tensor([-features.preemphasis, 1.0]),
        "2.spectrogram.window": fbank.window,
        "2.mel_scale.fb": filters,
        "2.real_kernel_pt": fbank.window,
        "2.melbanks_pt": filters[:-1].T,
    }
    for name, ours in expected.items():
        theirs = source.tensors.get(f"{prefix}{name}")
        if theirs is None:
            continue
        if name.endswith("kernel_pt"):
            theirs = theirs[0]  # at the frequency 0 there is the window alone
        if theirs.numel() != ours.numel() or (theirs.flatten() - ours.flatten()).abs().max() > MAX_DIFFERENCE:
            raise CheckpointError(
                f"{source.path}: {prefix}{name} is not what its configuration says, so its features are unknown"
            )
