"""Upgrade of system directories that an earlier version wrote."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError

from xvectors.backends.storage import upgrade_backend
from xvectors.config import parse_toml, to_toml
from xvectors.config.tables import parse_list
from xvectors.errors import CheckpointError
from xvectors.files import atomic_write, write_text
from xvectors.system.folder import SystemFolder
from xvectors.system.serialization import read_text, subtable
from xvectors.verification.fingerprint import (
    SYSTEM_FORMAT_VERSION,
    check_format,
    embedding_settings,
    fingerprint,
    weights_digest,
)
from xvectors.verification.verifier import FORMAT_VERSION as CALIBRATION_FORMAT_VERSION

RENAMED_KEYS = {
    "mean_normalisation": "mean_normalization",
    "optimiser": "optimizer",
    "equaliser_prob": "equalizer_prob",
    "equaliser_max_db": "equalizer_max_db",
}
"""Keys of recipes in formats 1 and 2, in British spelling, and the keys of today."""
LISTS = ("speeds", "codecs", "custom")
"""Keys of recipes whose values were strings of words in formats 1 and 2."""
RENAMED_WEIGHTS = {"embed.": "embedding.", "factorised.": "factorized."}
"""Prefixes of tensor names in formats 1 and 2, and the prefixes of today."""


def upgrade_system(folder: SystemFolder) -> str | None:
    """Upgrade a system directory of an earlier format.

    Formats 1 and 2 had other names of some keys and tensors. Format 1 did not state `normalize_level`. With mean
    normalization the level only matters at the floor of the filterbanks, where weights of format 1 do better with
    level normalization. Without mean normalization, the weights have learned the levels of their recordings, and level
    normalization stays off.

    Returns
    -------
    The value to which calibrations and galleries of this system were bound (the digest of the weights in format 1, the
    fingerprint in format 2), or None if the system is up to date.

    Raises
    ------
    CheckpointError
        For an incomplete system, which stays unchanged.
    """
    table = parse_toml(read_text(folder.description), str(folder.description))
    version = table.get("format_version")
    if version == SYSTEM_FORMAT_VERSION:
        return None
    bound_before = old_weights = weights_digest(folder.weights)
    content = _with_renamed_tensors(folder.weights)
    weights = hashlib.sha256(content).hexdigest()
    if version in (1, 2):
        old_recipe = subtable(table, "recipe", folder.description)
        recipe = _recipe_of_today(old_recipe)
        features = recipe.get("features")
        if version == 1 and isinstance(features, Mapping):
            recipe["features"] = {"normalize_level": features.get("mean_normalization") is True, **features}
        if version == 2:
            parts = {key: dict(subtable(old_recipe, key, folder.description)) for key in ("features", "model", "data")}
            channel = parts.pop("data").get("channel")
            bound_before = fingerprint({**parts, "channel": channel}, old_weights)
        table = {**table, "recipe": recipe, "format_version": SYSTEM_FORMAT_VERSION}
    check_format(table, folder.path)
    new = fingerprint(embedding_settings(table, str(folder.description)), weights)
    calibration = None
    if folder.calibration.is_file():
        calibration = parse_toml(read_text(folder.calibration), str(folder.calibration))
        bound_to = calibration.pop("weights_sha256", None) or calibration.get("system_sha256")
        if bound_to not in (bound_before, new):  # it is the new one after an interrupted upgrade
            raise CheckpointError(
                f"{folder.calibration} was learned with other weights or features than those of {folder.path}; remove "
                "it, upgrade, and calibrate again with `xvectors calibrate`"
            )
        calibration.update(format_version=CALIBRATION_FORMAT_VERSION, system_sha256=new)
    # system.toml is written last: an interrupted upgrade can be repeated
    if folder.backend.is_file():
        upgrade_backend(folder.backend)
    if calibration is not None:
        write_text(folder.calibration, to_toml(calibration))
    if weights != old_weights:
        with atomic_write(folder.weights) as temporary:
            temporary.write_bytes(content)
    write_text(folder.description, to_toml(table))
    return bound_before


def _recipe_of_today(table: Mapping[str, Any]) -> dict[str, Any]:
    """Rename the keys of a recipe and of its tables, and split strings of words into lists."""
    recipe: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            value = _recipe_of_today(value)
        elif key in LISTS and isinstance(value, str):
            value = parse_list(value, key)
        recipe[RENAMED_KEYS.get(key, key)] = value
    return recipe


def _with_renamed_tensors(path: Path) -> bytes:
    """Return the content of a weights file with the tensor names of today."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            names, metadata = list(file.keys()), file.metadata()
        renamed = {name: name for name in names}
        for old, now in RENAMED_WEIGHTS.items():
            renamed |= {name: now + name.removeprefix(old) for name in names if name.startswith(old)}
        if all(name == now for name, now in renamed.items()):
            return path.read_bytes()
        weights = safetensors.torch.load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged, or not a safetensors file: {error}") from error
    return safetensors.torch.save({renamed[name]: value for name, value in weights.items()}, metadata=metadata)
