"""Save back-ends and fusions as npz files of plain arrays with a description in TOML. Nothing is ever unpickled."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xvectors.backends.as_norm import ScoreNorm
from xvectors.backends.backend import Backend
from xvectors.backends.cosine import Cosine
from xvectors.backends.estimator import Estimator
from xvectors.backends.fusion import Fusion
from xvectors.backends.plda import PLDA
from xvectors.backends.transforms import LDA, WCCN, Center, LengthNorm, Transform, Whiten
from xvectors.config import parse_toml, to_toml
from xvectors.errors import CheckpointError, XVectorsError
from xvectors.files import atomic_write, why_no_file
from xvectors.files.npz import read_npz

FORMAT_VERSION = 2
"""Format 2 spells the names `Center` and `normalizer` in American English; format 1 had British spelling."""
DESCRIPTION = "description"
KINDS: Mapping[str, type[Estimator]] = {
    kind.__name__: kind for kind in (Center, Whiten, WCCN, LDA, LengthNorm, Cosine, PLDA, ScoreNorm, Fusion)
}


def save_backend(path: Path | str, backend: Backend) -> None:
    """Write a fitted back-end, atomically; ConfigError if it is not fitted, StorageError if it cannot be written."""
    _save(Path(path), backend.parts())


def load_backend(path: Path | str) -> Backend:
    """Load a back-end from `save_backend`. Raises CheckpointError for a missing, damaged or foreign file."""
    parts = _load(Path(path))
    scorer, normalizer = parts.pop("scorer", None), parts.pop("normalizer", None)
    steps = [parts.pop(f"step{number}", None) for number in range(len(parts))]
    if (
        not isinstance(scorer, Cosine | PLDA)
        or not (normalizer is None or isinstance(normalizer, ScoreNorm))
        or not all(isinstance(step, Transform) for step in steps)
    ):
        raise CheckpointError(f"{path} holds no back-end")
    return Backend([step for step in steps if isinstance(step, Transform)], scorer, normalizer)


def save_fusion(path: Path | str, fusion: Fusion) -> None:
    """Write a fitted fusion, atomically; errors are those of `save_backend`."""
    _save(Path(path), {"fusion": fusion})


def load_fusion(path: Path | str) -> Fusion:
    """Load a fusion from `save_fusion`. Errors are those of `load_backend`."""
    fusion = _load(Path(path)).get("fusion")
    if not isinstance(fusion, Fusion):
        raise CheckpointError(f"{path} holds no fusion")
    return fusion


def upgrade_backend(path: Path) -> None:
    """Rewrite a back-end of format 1, which spelled two names differently; any other file stays as it is."""
    try:
        arrays = read_npz(path)
        description = parse_toml(str(arrays.pop(DESCRIPTION)), str(path))
    except (ValueError, KeyError, XVectorsError) as error:
        raise CheckpointError(f"{path} is damaged, or no back-end: {error}") from error
    parts = description.get("parts")
    if description.get("format_version") != 1 or not isinstance(parts, dict):
        return
    for table in parts.values():
        if table.get("kind") == "Centre":
            table["kind"] = Center.__name__
    if "normaliser" in parts:
        parts["normalizer"] = parts.pop("normaliser")
    contents: dict[str, Any] = {name.replace("normaliser.", "normalizer.", 1): array for name, array in arrays.items()}
    contents[DESCRIPTION] = np.array(to_toml({**description, "format_version": FORMAT_VERSION}))
    _write(path, contents)


def digest_of(backend: Backend) -> str:
    """Return the SHA-256, in hex, of a fitted back-end's parameters and arrays."""
    sha256 = hashlib.sha256()
    for name, array in sorted(_contents(backend.parts()).items()):
        values = np.ascontiguousarray(array)
        sha256.update(f"{name} {values.dtype.str} {values.shape} ".encode())
        sha256.update(values.tobytes())
    return sha256.hexdigest()


def _save(path: Path, parts: Mapping[str, Estimator]) -> None:
    _write(path, _contents(parts))


def _contents(parts: Mapping[str, Estimator]) -> dict[str, Any]:
    contents: dict[str, Any] = {
        f"{name}.{key}": array for name, part in parts.items() for key, array in part.arrays().items()
    }
    tables = {
        name: {"kind": type(part).__name__}
        | {key: value for key, value in part.parameters().items() if value is not None}  # TOML knows no None
        for name, part in parts.items()
    }
    contents[DESCRIPTION] = np.array(to_toml({"format_version": FORMAT_VERSION, "parts": tables}))
    return contents


def _write(path: Path, contents: Mapping[str, Any]) -> None:
    with atomic_write(path, private=True) as temporary, temporary.open("wb") as file:
        np.savez(file, **contents)


def _load(path: Path) -> dict[str, Estimator]:
    if why := why_no_file(path):
        raise CheckpointError(f"{path}: {why}; calibrate the system again")
    try:
        arrays = read_npz(path)
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged, or no back-end: {error}") from error
    if DESCRIPTION not in arrays:
        raise CheckpointError(f"{path} holds no description, so it is no back-end")
    try:
        description = parse_toml(str(arrays.pop(DESCRIPTION)), str(path))
        if description.get("format_version") != FORMAT_VERSION:
            raise CheckpointError(
                f"format version {description.get('format_version')!r} is not {FORMAT_VERSION}; "
                "bring its system up to date with `xvectors upgrade`, or use the version of xvectors that wrote it"
            )
        return {name: _part(name, table, arrays) for name, table in description["parts"].items()}
    except (XVectorsError, TypeError, KeyError, AttributeError, np.linalg.LinAlgError) as error:
        raise CheckpointError(f"{path} cannot be read as a back-end: {error}") from error


def _part(name: str, table: dict[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Estimator:
    parameters = dict(table)
    part = KINDS[parameters.pop("kind")](**parameters)
    part.restore({key.removeprefix(f"{name}."): array for key, array in arrays.items() if key.startswith(f"{name}.")})
    return part
