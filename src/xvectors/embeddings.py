"""Read and write embedded corpora: an npz file, a CSV table, or a folder of parts or a single part of it.

Embeddings of other programs are read too: npz and Parquet files whose arrays or columns have usual names.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xvectors.audio.condition import CONDITION_NAMES
from xvectors.corpus import Manifest
from xvectors.encoder import Embedded, save_embeddings
from xvectors.encoder.results import durations
from xvectors.encoder.sharded import DESCRIPTION, read_parquet, read_parts
from xvectors.errors import CheckpointError, ConfigError, ManifestError
from xvectors.files import IS_FOLDER, why_no_file
from xvectors.files.npz import read_npz
from xvectors.files.tables import Table, write_table

SUFFIXES = (".npz", ".csv", ".parquet")
"""Suffixes of the files that `write_embeddings` writes, and of a folder of parts."""
TEXTS, NUMBERS = ("id", "path", "speaker"), ("gender", "age", "duration_s")
ALIASES = {
    "embeddings": ("embeddings", "embedding", "vectors", "vector", "xvectors", "xvector"),
    "id": ("id", "ids", "name", "names", "utt", "utts", "utterance", "utterance_id", "key", "keys"),
    "speaker": ("speaker", "speakers", "speaker_id", "spk", "spk_id"),
}
"""Names that other programs give to arrays and columns; the first is ours."""


def check_suffix(path: Path) -> None:
    """Raise ConfigError unless the suffix of `path` says in which format to write embeddings."""
    if path.suffix.lower() not in SUFFIXES:
        raise ConfigError(
            f"{path}: the suffix chooses the format: .npz (one file of arrays), .csv (a table) or .parquet (a folder "
            "of parts); end the name in one of them"
        )


def write_embeddings(path: Path, manifest: Manifest, embedded: Embedded) -> None:
    """Write embeddings to one file: a table if `path` ends in .csv, else an npz file (`save_embeddings`).

    The table has the columns id, path, speaker, gender, age, duration_s, e0, e1, ...; numbers read back exactly.
    Raises StorageError if the file cannot be written.
    """
    if path.suffix.lower() != ".csv":
        save_embeddings(path, manifest, embedded)
        return
    rows = embedded.rows.tolist()
    names = (
        (manifest.id[row], str(manifest.full_path(row)), manifest.speakers[manifest.speaker_index[row]]) for row in rows
    )
    numbers = zip(
        manifest.gender[embedded.rows].tolist(),
        map(_number, manifest.age[embedded.rows]),
        map(_number, durations(manifest, embedded)),
        strict=True,
    )
    vectors = (map(str, row) for row in embedded.embeddings)
    write_table(
        path,
        [*TEXTS, *NUMBERS, *(f"e{at}" for at in range(embedded.embeddings.shape[1]))],
        ([*texts, *others, *vector] for texts, others, vector in zip(names, numbers, vectors, strict=True)),
        errors="backslashreplace",
        private=True,
    )


def are_embeddings(path: Path) -> bool:
    """Return whether `path` is a file or folder of embeddings, judged by its name or, for a folder, its contents."""
    return path.suffix.lower() in (".npz", ".parquet") or (path / DESCRIPTION).is_file()


def load_embeddings(path: Path | str, *columns: str, optional: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
    """Read embeddings that `xvectors embed` wrote, in any format, or another program as npz or Parquet.

    Another program's arrays or columns may have the names in `ALIASES`. Returns `embeddings` float32 [n, dim], the
    named columns [n], and those of the `optional` columns that exist; columns of a Parquet file that other programs
    added are text. `condition` is float32 [n, 6]; another program's array or column of that name, such as text, does
    not count as one.
    Raises CheckpointError if the file is missing, damaged or of another kind, or lacks a column.
    """
    path = Path(path)
    why = why_no_file(path)
    if why and why != IS_FOLDER:
        raise CheckpointError(f"{path}: {why}; `xvectors embed DATA -o {path}` writes embeddings")
    try:
        if why == IS_FOLDER:
            found = read_parts(path)
        elif path.suffix.lower() == ".parquet":
            known = {"embeddings", *TEXTS, *NUMBERS, "speech_s", "condition"}
            found = read_parquet(path, ALIASES, [key for key in (*columns, *optional) if key not in known])
        elif path.suffix.lower() == ".csv":
            found = _read_csv(path)
        else:
            wanted = {alias: key for key in ("embeddings", *columns, *optional) for alias in ALIASES.get(key, (key,))}
            found = {}
            for alias, array in read_npz(path, wanted).items():
                if wanted[alias] not in found or alias == wanted[alias]:
                    found[wanted[alias]] = array
        if "condition" in found:
            found = _with_condition(found)
        missing = [key for key in ("embeddings", *columns) if key not in found]
        if missing:
            raise ValueError(f"it has no {', '.join(missing)}")
        if found["embeddings"].dtype.kind not in "fiu":
            raise ValueError(f"embeddings are of the type {found['embeddings'].dtype}, not numbers")
        found["embeddings"] = found["embeddings"].astype(np.float32, copy=False)
        if found["embeddings"].ndim != 2:
            raise ValueError(f"embeddings have the shape {list(found['embeddings'].shape)}, not [n, dim]")
        chosen = {key: found[key] for key in ("embeddings", *columns, *optional) if key in found}
        for key, values in chosen.items():
            if key not in ("embeddings", "condition") and values.shape != (len(found["embeddings"]),):
                raise ValueError(f"{key} has the shape {list(values.shape)}, not one value for each embedding")
        return chosen
    except CheckpointError:
        raise
    except (OSError, ValueError, LookupError) as error:
        raise CheckpointError(f"{path} is damaged or not an embeddings file: {error}") from error


def _with_condition(found: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return the columns with `condition` as float32 [n, 6], or without it if it is of another kind.

    Raises ValueError for measures that are infinite, or not one row for each embedding.
    """
    condition = found["condition"]
    if condition.dtype.kind != "f" or condition.ndim != 2 or condition.shape[1] != len(CONDITION_NAMES):
        return {key: values for key, values in found.items() if key != "condition"}
    if len(condition) != len(found.get("embeddings", condition)) or np.isinf(condition).any():
        raise ValueError("condition has infinite values, or not one row for each embedding")
    return {**found, "condition": condition.astype(np.float32, copy=False)}


def _read_csv(path: Path) -> dict[str, NDArray[Any]]:
    """Read a table of `write_embeddings`. Raises ValueError, or its subclass ManifestError, for another file."""
    table = Table(path)
    places = {name: at for at, name in enumerate(table.header)}
    dim = sum(name[:1] == "e" and name[1:].isdecimal() for name in places)
    vectors = [places[f"e{at}"] for at in range(dim)]
    if not dim:
        raise ManifestError(f"{path}: its header names no columns e0, e1, ...")
    rows = [row for block in table.blocks() for row in block]
    found: dict[str, NDArray[Any]] = {
        "embeddings": np.array([[row[at] for at in vectors] for row in rows], dtype=np.str_).astype(np.float32)
    }
    if not rows:
        found["embeddings"] = np.empty((0, dim), dtype=np.float32)
    for name in TEXTS:
        if name in places:
            found[name] = np.array([row[places[name]] for row in rows], dtype=np.str_)
    for name in NUMBERS:
        if name in places:
            found[name] = np.array([row[places[name]] or "nan" for row in rows], dtype=np.str_).astype(np.float64)
    if "gender" in found:
        found["gender"] = found["gender"].astype(np.int8)
    return found


def _number(value: Any) -> str:
    return "" if np.isnan(value) else str(value)
