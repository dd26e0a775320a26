"""The features of Kaldi's x-vectors: MFCC as conf/mfcc.conf states, less their mean over three seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from xvectors.config import FeaturesConfig
from xvectors.config.tables import from_mapping
from xvectors.errors import CheckpointError, ConfigError
from xvectors.features import Fbank
from xvectors.features.toolkits import KALDI_SRE16, KALDI_VOXCELEB

FEATURES_NOTE = (
    "no mfcc.conf is beside the model; its features are those of {recipe}, whose networks take {num} coefficients too"
)
BY_COEFFICIENTS = {30: ("egs/voxceleb/v2", KALDI_VOXCELEB), 23: ("egs/sre16/v2", KALDI_SRE16)}
"""Recipe and features by the number of coefficients."""
MFCC_OPTIONS: Mapping[str, str] = {
    "sample-frequency": "sample_rate_hz",
    "num-mel-bins": "num_mels",
    "num-ceps": "num_ceps",
    "frame-length": "frame_length_ms",
    "frame-shift": "frame_shift_ms",
    "preemphasis-coefficient": "preemphasis",
    "remove-dc-offset": "remove_dc",
    "window-type": "window",
    "snip-edges": "snip_edges",
    "low-freq": "low_frequency_hz",
    "high-freq": "high_frequency_hz",
    "cepstral-lifter": "cepstral_lifter",
    "use-energy": "energy_as_c0",
}
"""Options of compute-mfcc-feats, and the settings of `FeaturesConfig` that are the same."""
IGNORED_OPTIONS = ("dither", "allow-downsample", "allow-upsample", "verbose", "max-feature-vectors")
"""Options that do not change features, apart from dither, which is random."""
MFCC_DEFAULTS = replace(
    KALDI_VOXCELEB, num_mels=23, num_ceps=13, snip_edges=True, low_frequency_hz=20.0, high_frequency_hz=0.0
)
"""compute-mfcc-feats without options, then the sliding mean of the recipes."""


def find_features(path: Path, input_dim: int) -> tuple[FeaturesConfig, tuple[str, ...]]:
    """Return the features of a network with this number of inputs, and where they are known from if not from a file."""
    folder = path.parent
    places = [folder / "mfcc.conf", folder / "conf" / "mfcc.conf"]
    if folder.parent.name == "exp":
        places.append(folder.parent.parent / "conf" / "mfcc.conf")
    for place in places:
        if place.is_file():
            features = read_mfcc_conf(place)
            if features.num_ceps != input_dim:
                raise CheckpointError(
                    f"{place}: states {features.num_ceps} coefficients, and {path.name} takes {input_dim}; put the "
                    "file of this model there"
                )
            return features, ()
    if input_dim not in BY_COEFFICIENTS:
        raise CheckpointError(
            f"{path}: takes {input_dim} coefficients, and no mfcc.conf is beside it; put there the configuration that "
            "its features were computed with"
        )
    recipe, features = BY_COEFFICIENTS[input_dim]
    return features, (FEATURES_NOTE.format(recipe=recipe, num=input_dim),)


def read_mfcc_conf(path: Path) -> FeaturesConfig:
    """Read the options of compute-mfcc-feats, one a line. Raises CheckpointError for one that has no equal here."""
    settings: dict[str, Any] = {}
    for line in read_config(path).splitlines():
        text = line.partition("#")[0].strip()
        if not text:
            continue
        name, _, value = text.removeprefix("--").partition("=")
        name, value = name.strip().replace("_", "-"), value.strip()
        if name in IGNORED_OPTIONS:
            continue
        if name not in MFCC_OPTIONS:
            raise CheckpointError(f"{path}: the option {text} has no equal here, so the features cannot be the same")
        setting = MFCC_OPTIONS[name]
        try:
            settings[setting] = _parsed(value, getattr(MFCC_DEFAULTS, setting))
        except ValueError as error:
            raise CheckpointError(f"{path}: {text} is not a value of this option") from error
    try:
        features = from_mapping(FeaturesConfig, {**asdict(MFCC_DEFAULTS), **settings}, str(path), "")
        Fbank(**asdict(features))  # checks what depends on several settings
    except ConfigError as error:
        raise CheckpointError(f"{path}: cannot be applied: {error}") from error
    return features


def _parsed(text: str, default: object) -> bool | int | float | str:
    if isinstance(default, bool):
        if text not in ("", "true", "false"):
            raise ValueError(text)
        return text != "false"
    if isinstance(default, int):
        number = float(text)
        if number % 1:
            raise ValueError(text)
        return int(number)
    return float(text) if isinstance(default, float) else text


def read_config(path: Path) -> str:
    """Return the text of a configuration file. Raises CheckpointError where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
