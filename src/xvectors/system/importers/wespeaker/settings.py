"""What the `config.yaml` beside a WeSpeaker model says about its features and pooling."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from xvectors.config import FeaturesConfig
from xvectors.errors import CheckpointError
from xvectors.system.importers.family import Imported, Source
from xvectors.system.importers.plain_yaml import read_settings

NAME = "config.yaml"
FBANK = "fbank_args"
FBANK_KEYS = ("num_mel_bins", "frame_length", "frame_shift", "dither", "window_type")
"""Settings of WeSpeaker's filterbanks; dither is of the training alone."""
WINDOWS = ("hamming", "povey", "hanning", "rectangular")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The mappings of a config.yaml."""

    path: Path
    table: Mapping[str, Any]

    def get(self, key: str, kind: type | tuple[type, ...], default: Any) -> Any:
        """Return a setting by its dotted key, `default` where it is left out or null.

        Raises CheckpointError for a value of another kind.
        """
        value: Any = self.table
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        # a mapping without entries is a key without a value
        if value is None or (isinstance(value, Mapping) and not value):
            return default
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self.refused(key, value, "a value of another kind is expected")
        return value

    def refused(self, key: str, value: object, why: str) -> CheckpointError:
        return CheckpointError(f"{self.path}: {key} is {value!r}; {why}")


def read_beside(source: Source) -> Settings | None:
    """Read the config.yaml in the folder of the weights, if there is one."""
    path = source.path.parent / NAME
    return Settings(path=path, table=read_settings(path)) if path.is_file() else None


def configured(source: Source, features: FeaturesConfig, pooling: str) -> FeaturesConfig:
    """Return the features with what config.yaml says of them; unchanged where there is no such file.

    Parameters
    ----------
    features
        Those of the toolkit, with as many filterbanks as the network takes.
    pooling
        WeSpeaker's name of the pooling that the import computes.

    Raises
    ------
    CheckpointError
        A setting is not supported, or contradicts the tensors; the file and the key are named.
    """
    settings = read_beside(source)
    if settings is None:
        return features
    front_end = settings.get("dataset_args.frontend", str, "fbank")
    if front_end != "fbank":
        raise settings.refused("dataset_args.frontend", front_end, "only networks on filterbanks (fbank) are imported")
    check_pooling(settings, pooling)
    for key in ("dataset_args.fbank_args.num_mel_bins", "model_args.feat_dim"):
        mels = settings.get(key, int, features.num_mels)
        if mels != features.num_mels:
            raise settings.refused(key, mels, f"the network in {source.path.name} takes {features.num_mels}")
    options = settings.get(f"dataset_args.{FBANK}", Mapping, {})
    for key in options:
        if key not in FBANK_KEYS:
            raise settings.refused(
                f"dataset_args.{FBANK}.{key}", options[key], f"supported are {', '.join(FBANK_KEYS)}"
            )
    window = settings.get(f"dataset_args.{FBANK}.window_type", str, features.window)
    if window not in WINDOWS:
        raise settings.refused(f"dataset_args.{FBANK}.window_type", window, f"it must be one of {', '.join(WINDOWS)}")
    if settings.get("dataset_args.cmvn_args.norm_var", bool, False):
        raise settings.refused("dataset_args.cmvn_args.norm_var", True, "features of unit variance are not supported")
    return replace(
        features,
        sample_rate_hz=settings.get("dataset_args.resample_rate", int, features.sample_rate_hz),
        frame_length_ms=float(settings.get(f"dataset_args.{FBANK}.frame_length", (int, float), 25)),
        frame_shift_ms=float(settings.get(f"dataset_args.{FBANK}.frame_shift", (int, float), 10)),
        window=window,
        mean_normalization=settings.get("dataset_args.cmvn", bool, True)
        and settings.get("dataset_args.cmvn_args.norm_mean", bool, True),
    )


def with_settings(source: Source, imported: Imported, pooling: str) -> Imported:
    """Return an import with the features of its config.yaml; arguments and errors of `configured`.

    Published error rates are left out where the features are not those of the published models.
    """
    features = configured(source, imported.features, pooling)
    return replace(imported, features=features, figures=imported.figures if features == imported.features else {})


def check_pooling(settings: Settings, pooling: str) -> None:
    """Raise CheckpointError where config.yaml names another pooling."""
    stated = settings.get("model_args.pooling_func", str, pooling)
    if stated != pooling:
        raise settings.refused("model_args.pooling_func", stated, f"networks of this kind are imported with {pooling}")
