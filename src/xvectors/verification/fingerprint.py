"""The fingerprint of a system: one value for everything that its embeddings depend on.

Embeddings are comparable where features, network and weights are the same. Calibrations and galleries are bound to
the fingerprint, so that a changed line of system.toml is an error and not another answer.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from xvectors.config import FeaturesConfig, parse_toml
from xvectors.config.tables import from_mapping
from xvectors.errors import CheckpointError, ConfigError
from xvectors.files import digest
from xvectors.text import first_few

SYSTEM_FORMAT_VERSION = 3
"""The format of system.toml. 2: every setting of the features is stated, and the fingerprint covers them.
3: keys and weights in American spelling, lists as TOML lists, and `embedding.*` for `embed.*` in the weights."""

STATED_FEATURES = (
    *("sample_rate_hz", "num_mels", "frame_length_ms", "frame_shift_ms", "preemphasis", "remove_dc", "window"),
    *("snip_edges", "low_frequency_hz", "high_frequency_hz", "use_power", "mean_normalization", "normalize_level"),
)
"""Settings of the features that every system of format 3 states. Systems from before a later setting lack it, so it
has its default there, and the fingerprint leaves out later settings that have their defaults."""


class FingerprintFiles(Protocol):
    """The files of a system directory that a fingerprint covers."""

    @property
    def path(self) -> Path: ...

    @property
    def description(self) -> Path: ...

    @property
    def weights(self) -> Path: ...


def fingerprint_of(folder: FingerprintFiles) -> str:
    """Return the SHA-256, in hex, of a system's features, network, channel and weights.

    Raises CheckpointError where system.toml or the weights cannot be read, or a setting is missing.
    """
    try:
        table = parse_toml(folder.description.read_text(encoding="utf-8"), str(folder.description))
    except (OSError, UnicodeDecodeError, ConfigError) as error:
        raise CheckpointError(f"{folder.description} cannot be read: {error}") from error
    check_format(table, folder.path)
    return fingerprint(embedding_settings(table, str(folder.description)), weights_digest(folder.weights))


def fingerprint(settings: Mapping[str, Any], weights_sha256: str) -> str:
    """Return the fingerprint of settings from `embedding_settings` and the digest of the weights."""
    content = json.dumps({**settings, "weights_sha256": weights_sha256}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(content.encode()).hexdigest()


def embedding_settings(table: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return what embeddings depend on besides the weights: features, model and channel of a system.toml.

    Raises CheckpointError for a missing or impossible setting. None of `STATED_FEATURES` has a default here: features
    other than those that were trained on give embeddings that look sound and are not.
    """
    recipe = table.get("recipe")
    parts = {key: recipe.get(key) if isinstance(recipe, Mapping) else None for key in ("features", "model", "data")}
    tables = {key: part for key, part in parts.items() if isinstance(part, Mapping)}
    needed = [("features", name) for name in STATED_FEATURES]
    needed += [("model", "name"), ("data", "channel")]
    if missing := [f"recipe.{table}.{key}" for table, key in needed if key not in tables.get(table, {})]:
        raise CheckpointError(f"{source} is damaged: it lacks {first_few(missing)}; {PUT_BACK}")
    try:
        checked = from_mapping(FeaturesConfig, tables["features"], source, "recipe.features.")
    except ConfigError as error:
        raise CheckpointError(f"{error}; {PUT_BACK}") from error
    defaults = dataclasses.asdict(FeaturesConfig())
    features = {
        name: value
        for name, value in dataclasses.asdict(checked).items()
        if name in STATED_FEATURES or value != defaults[name]
    }
    return {
        "features": features,
        "model": dict(tables["model"]),
        "channel": tables["data"]["channel"],
    }


PUT_BACK = "put back a copy of the file"


def check_format(table: Mapping[str, Any], folder: Path) -> None:
    """Raise CheckpointError, with the remedy, for a system.toml of another version."""
    version = table.get("format_version")
    if version in (1, 2):
        raise CheckpointError(
            f"{folder} was written by an earlier xvectors; `xvectors upgrade {folder}` brings it up to date"
        )
    if version != SYSTEM_FORMAT_VERSION:
        raise CheckpointError(
            f"{folder / 'system.toml'}: format version {version!r} is not {SYSTEM_FORMAT_VERSION}; this system was "
            "written by another version of xvectors, use that one"
        )


def weights_digest(weights: Path) -> str:
    """Return the SHA-256 of model.safetensors. Raises CheckpointError if it cannot be read."""
    try:
        return digest(weights)
    except OSError as error:
        raise CheckpointError(f"{weights} cannot be read: {error.strerror or error}") from error
