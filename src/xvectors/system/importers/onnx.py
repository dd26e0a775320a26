"""Any .onnx file that maps filterbanks or a waveform to a vector, with its front-end stated.

sherpa-onnx's metadata (`framework`, `sample_rate`, `normalize_samples`, `feature_normalize_type`, `output_dim`) are
read: they name the toolkit that trained the network, whose features are taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from xvectors.config import FeaturesConfig, ModelConfig, Recipe, override_recipe
from xvectors.errors import CheckpointError, ConfigError
from xvectors.features.toolkits import THREE_D_SPEAKER, WESPEAKER
from xvectors.system.folder import ONNX_SUFFIX
from xvectors.system.importers.family import Family, Imported
from xvectors.system.onnx_network import describe
from xvectors.system.onnx_session import Sessions
from xvectors.system.serialization import ONNX
from xvectors.text import nearest

KALDI = FeaturesConfig(num_mels=80, sample_scale=32768.0, normalize_level=False)
PRESETS = {"wespeaker": WESPEAKER, "3d-speaker": THREE_D_SPEAKER, "kaldi": KALDI}
"""Features by the names that `--features` takes; `kaldi` has filterbanks of 16-bit samples without their mean."""
STATE = (
    f"give --features {', '.join(PRESETS)}, and settings that differ, such as --features num_mels=40 --features "
    "window=hamming"
)


def convert_onnx(path: Path, stated: Sequence[str] = ()) -> Imported:
    """Find out what a file takes and returns, and which features it needs.

    Parameters
    ----------
    stated
        A preset or settings of `FeaturesConfig` as key=value, which come before the file's metadata.

    Raises
    ------
    CheckpointError
        The file is no importable network, or does not say what its features are.
    ConfigError
        A preset or setting is unknown.
    """
    sessions = Sessions(path)
    session = sessions.whole
    metadata = dict(session.get_modelmeta().custom_metadata_map)
    if "xvectors.format_version" in metadata:
        raise CheckpointError(f"{path}: was exported by xvectors; it needs no import: --system {path}")
    shape = session.get_inputs()[0].shape if session.get_inputs() else []
    takes_waveforms = len(shape) == 2
    features, notes = _front_end(path, metadata, stated, needed=not takes_waveforms)
    if len(shape) == 3 and isinstance(shape[2], int):
        if shape[2] != features.dimension and any(text.startswith(("num_mels=", "num_ceps=")) for text in stated):
            raise ConfigError(f"{path}: takes {shape[2]} values a frame, and --features states {features.dimension}")
        features = features if features.num_ceps else replace(features, num_mels=shape[2])
    settings = describe(sessions, features.dimension)
    if (dim := metadata.get("output_dim")) not in (None, str(settings["embedding_dim"])):
        raise CheckpointError(
            f"{path}: its metadata state output_dim {dim}, its vectors have {settings['embedding_dim']}"
        )
    return Imported(features=features, model=ModelConfig(name=ONNX, settings=settings), weights={}, notes=notes)


def _front_end(
    path: Path, metadata: Mapping[str, str], stated: Sequence[str], *, needed: bool
) -> tuple[FeaturesConfig, tuple[str, ...]]:
    """The features, and what was taken from where."""
    presets = [text for text in stated if "=" not in text]
    for name in presets:
        if name not in PRESETS:
            raise ConfigError(f"--features {name}: unknown{nearest(name, PRESETS)}; {STATE}")
    if len(presets) > 1:
        raise ConfigError(f"--features: {' and '.join(presets)} cannot both be its features")
    framework = metadata.get("framework", "")
    if presets:
        features, note = PRESETS[presets[0]], f"features of {presets[0]}, as the user stated"
    elif framework in PRESETS:
        features, note = PRESETS[framework], f"features of {framework}, as the file's metadata state"
    elif stated or not needed:
        features, note = replace(KALDI, sample_scale=1.0), "features as the user stated, Kaldi's otherwise"
    else:
        raise CheckpointError(f"{path}: does not say how its features are computed; {STATE}")
    features = _by_metadata(path, features, metadata)
    settings = [f"features.{text}" for text in stated if "=" in text]
    features = override_recipe(Recipe(name=ONNX, features=features), settings).features
    return features, (note,) if needed else ()


def _by_metadata(path: Path, features: FeaturesConfig, metadata: Mapping[str, str]) -> FeaturesConfig:
    """Take in what sherpa-onnx's metadata state."""
    try:
        if "sample_rate" in metadata:
            features = replace(features, sample_rate_hz=int(metadata["sample_rate"]))
        if "normalize_samples" in metadata:
            features = replace(features, sample_scale=1.0 if int(metadata["normalize_samples"]) else 32768.0)
    except ValueError as error:
        raise CheckpointError(f"{path}: its metadata are damaged: {error}") from error
    kind = metadata.get("feature_normalize_type", "")
    if kind not in ("", "global-mean"):
        raise CheckpointError(f"{path}: its metadata state feature_normalize_type {kind}; only global-mean is known")
    return replace(features, mean_normalization=True) if kind else features


FAMILY = Family(
    name="onnx",
    title="ONNX file",
    matches=lambda source: source.path.suffix.lower() == ONNX_SUFFIX,
    convert=lambda source: convert_onnx(source.path),
    seen=True,
)
