"""Embed a corpus of any size into a folder of parts.

_embedding.json          the system and corpus of the parts; a run with others is refused
part-00000.parquet       the first rows of the manifest (or part-00000.npz), and so on
_failures/part-00000.csv the rows of that part that could not be embedded
_failures.csv            the failures of all parts, written when a run ends

Readers of Parquet folders skip files whose name starts with `_`. The rows of a part depend only on the corpus, so a run
can continue a killed one, and any number of shards can write to one folder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xvectors.audio import Channel
from xvectors.audio.vad import NO_TRIMMING, DetectorName
from xvectors.corpus import Manifest
from xvectors.encoder import Embedded, SpeakerEncoder, save_embeddings
from xvectors.encoder.results import durations
from xvectors.errors import CheckpointError, ConfigError, StorageError
from xvectors.files import atomic_write, exclusive, write_text
from xvectors.files.npz import read_npz
from xvectors.files.tables import write_table
from xvectors.progress import progress_bar
from xvectors.text import nearest

FORMAT_VERSION = 2
"""Format 2 has conditions."""
PARQUET, NPZ = "parquet", "npz"
FORMATS = (PARQUET, NPZ)
ROWS_PER_PART = 1000
"""Recordings in a part; a killed run loses at most this many embeddings."""
DESCRIPTION, FAILURES = "_embedding.json", "_failures"
FAILURE_COLUMNS = ("row", "id", "path", "reason")


@dataclass(frozen=True, kw_only=True)
class PartsWritten:
    """Counts of a run: parts that existed already, parts written, rows embedded, and rows that failed."""

    num_there: int
    num_written: int
    num_embedded: int
    num_failed: int


def parse_shard(text: str) -> tuple[int, int]:
    """Parse a shard "i/n" to (i, n). Raises ConfigError unless 1 <= i <= n."""
    first, separator, last = text.partition("/")
    if not separator or not first.isdecimal() or not last.isdecimal() or not 1 <= int(first) <= int(last):
        raise ConfigError(f"shard {text!r} must have the form i/n, from 1/n to n/n, as in 1/4")
    return int(first), int(last)


def embed_in_parts(
    encoder: SpeakerEncoder,
    manifest: Manifest,
    out: Path | str,
    *,
    part_format: str = PARQUET,
    shard: tuple[int, int] = (1, 1),
    rows_per_part: int = ROWS_PER_PART,
    channel: Channel | Sequence[Channel] | None = None,
    batch_size: int = 32,
    trim_silence: DetectorName | None = "energy",
    progress: bool = False,
) -> PartsWritten:
    """Embed a corpus into the folder `out`, part by part; existing parts are kept.

    Recordings that cannot be used are listed in `_failures.csv`, not raised. Except for the manifest itself, memory
    does not grow with the corpus.

    Parameters
    ----------
    part_format
        "parquet": the columns id, path, speaker, gender, age, start_s, duration_s, speech_s, and condition and
        embedding (lists of fixed size). "npz": the arrays of `save_embeddings`.
    shard
        (i, n): write the i-th part and every n-th after it, with i from 1. Shards may run at the same time, also on
        machines that share the folder.
    rows_per_part
        Number of recordings in a part.
    channel, batch_size, trim_silence, progress
        As in `SpeakerEncoder.encode_manifest`.

    Raises
    ------
    ConfigError
        A setting is not possible, or the folder holds parts of another system, corpus or setting; the message says
        which.
    StorageError
        The folder cannot be written. Existing parts stay whole.
    """
    if part_format not in FORMATS:
        raise ConfigError(f"part format {part_format!r} is unknown{nearest(part_format, FORMATS)}")
    if rows_per_part < 1:
        raise ConfigError(f"rows_per_part must be at least 1, not {rows_per_part}")
    index, count = shard
    if not 1 <= index <= count:
        raise ConfigError(f"shard {index} of {count} does not exist; shards count from 1")
    out = Path(out)
    description = _describe(encoder, manifest, part_format, rows_per_part, trim_silence, channel)
    _agree(out, description)
    lock = out / f".shard-{index}-of-{count}.lock"
    with exclusive(lock, of=f"{out}, shard {index} of {count}"):
        own = range(index - 1, _num_parts(description), count)
        todo = [number for number in own if not _part(out, number, part_format).is_file()]
        rows_of = {number: _rows(number, description) for number in own}
        total = sum(map(len, rows_of.values()))
        done = total - sum(len(rows_of[number]) for number in todo)
        num_embedded = num_failed = 0
        with progress_bar("embedding", total, enabled=progress, done=done) as shown:
            for number in todo:
                embedded = encoder.encode_manifest(
                    manifest,
                    rows=rows_of[number],
                    channel=channel,
                    batch_size=batch_size,
                    trim_silence=trim_silence,
                )
                # failures are written first, so that an existing part has all of its failures
                _write_failures(_failures_of(out, number), manifest, embedded)
                if part_format == PARQUET:
                    _write_parquet(_part(out, number, part_format), manifest, embedded, description)
                else:
                    save_embeddings(_part(out, number, part_format), manifest, embedded)
                num_embedded += len(embedded.rows)
                num_failed += len(embedded.failures)
                shown.advance(len(rows_of[number]))
        _join_failures(out)
    return PartsWritten(
        num_there=len(own) - len(todo), num_written=len(todo), num_embedded=num_embedded, num_failed=num_failed
    )


def read_parts(folder: Path | str) -> dict[str, NDArray[Any]]:
    """Read all parts of a finished folder, in the manifest's order.

    Returns embeddings [n, dim] and the columns id, path, speaker, gender, age, duration_s and speech_s, [n] each, and
    condition [n, 6], which parts of earlier versions lack.
    Raises CheckpointError if the folder is not one of embeddings, or if parts are missing or damaged.
    """
    folder = Path(folder)
    description = _read_description(folder)
    if description is None:
        raise CheckpointError(f"{folder} holds no {DESCRIPTION}, so it is not a folder of embeddings")
    count = _num_parts(description)
    paths = []
    for number in range(count):  # stop at the first missing part: a damaged description may claim any number
        paths.append(_part(folder, number, description["part_format"]))
        if not paths[-1].is_file():
            there = sum(path.suffix == paths[-1].suffix for path in folder.glob("part-*"))
            raise CheckpointError(
                f"{folder} lacks {count - there} of its {count} parts, such as {paths[-1].name}; run the same "
                "`xvectors embed` again, which continues where it stopped"
            )
    read = read_parquet if description["part_format"] == PARQUET else _read_npz
    parts = [read(path) for path in paths]
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def fingerprint_of_parts(folder: Path | str) -> str | None:
    """Return the fingerprint of the system that a folder of parts was embedded with; None for another folder."""
    description = _read_description(Path(folder))
    return None if description is None else str(description["system_sha256"])


def _describe(
    encoder: SpeakerEncoder,
    manifest: Manifest,
    part_format: str,
    rows_per_part: int,
    trim_silence: str | None,
    channel: Channel | Sequence[Channel] | None,
) -> dict[str, Any]:
    corpus = hashlib.sha256()
    for column in (manifest.path, manifest.id):
        corpus.update(column.offsets.tobytes())
        corpus.update(column.data.tobytes())
    corpus.update("\0".join(manifest.speakers).encode("utf-8", "surrogateescape"))
    for numbers in (manifest.speaker_index, manifest.start_s, manifest.duration_s):
        corpus.update(numbers.tobytes())
    if channel is not None:
        corpus.update(repr(channel).encode())
    return {
        "format_version": FORMAT_VERSION,
        "system_sha256": encoder.fingerprint,
        "corpus_sha256": corpus.hexdigest(),
        "num_rows": len(manifest),
        "embedding_dim": encoder.embedding_dim,
        "part_format": part_format,
        "rows_per_part": rows_per_part,
        "trim_silence": trim_silence or NO_TRIMMING,
    }


DIFFERENCES = {
    "format_version": "another version of xvectors",
    "system_sha256": "another system",
    "corpus_sha256": "another corpus or channel, or the corpus was changed",
    "num_rows": "a corpus of {0} rows, not {1}",
    "embedding_dim": "embeddings of {0} dimensions, not {1}",
    "part_format": "{0} parts, not {1}",
    "rows_per_part": "parts of {0} rows, not {1}",
    "trim_silence": "trim_silence {0!r}, not {1!r}",
}


def _agree(out: Path, description: dict[str, Any]) -> None:
    """Write the description of a new folder. Raises ConfigError if the folder has a different one."""
    if out.is_file():
        raise StorageError(f"{out} is a file; name a folder for the parts")
    if _read_description(out) is None:
        if any(out.glob("part-*")):
            raise ConfigError(f"{out} holds parts without {DESCRIPTION}, so their corpus is unknown; name another one")
        write_text(out / DESCRIPTION, json.dumps(description, indent=1) + "\n")
    # read it again, because another shard may have written it first
    there = _read_description(out) or {}
    differing = [
        DIFFERENCES[key].format(there.get(key), value) for key, value in description.items() if there.get(key) != value
    ]
    if differing:
        raise ConfigError(f"{out} was begun with {'; '.join(differing)}; name another folder, or remove this one")


def _read_description(folder: Path) -> dict[str, Any] | None:
    path = folder / DESCRIPTION
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}; remove the folder and embed again") from error
    minimum = {"num_rows": 0, "rows_per_part": 1, "embedding_dim": 1}
    if (
        not isinstance(found, dict)
        or not found.keys() >= DIFFERENCES.keys()
        or not all(type(found[key]) is int and found[key] >= count for key, count in minimum.items())
        or found["part_format"] not in FORMATS
    ):
        raise CheckpointError(f"{path} is damaged; remove the folder and embed again")
    return found


def _num_parts(description: dict[str, Any]) -> int:
    return int(-(-description["num_rows"] // description["rows_per_part"]))


def _rows(number: int, description: dict[str, Any]) -> NDArray[np.int64]:
    size = description["rows_per_part"]
    return np.arange(number * size, min((number + 1) * size, description["num_rows"]), dtype=np.int64)


def _part(folder: Path, number: int, part_format: str) -> Path:
    return folder / f"part-{number:05d}.{part_format}"


def _failures_of(folder: Path, number: int) -> Path:
    return folder / FAILURES / f"part-{number:05d}.csv"


def _write_parquet(path: Path, manifest: Manifest, embedded: Embedded, description: dict[str, Any]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    rows = embedded.rows
    vectors = pa.array(embedded.embeddings.reshape(-1))
    columns = {
        "id": pa.array(_text(manifest.id[row]) for row in rows.tolist()),
        "path": pa.array(_text(str(manifest.full_path(row))) for row in rows.tolist()),
        "speaker": pa.array(_text(manifest.speakers[index]) for index in manifest.speaker_index[rows].tolist()),
        "gender": pa.array(manifest.gender[rows]),
        "age": pa.array(manifest.age[rows]),
        "start_s": pa.array(manifest.start_s[rows]),
        "duration_s": pa.array(durations(manifest, embedded)),
        "speech_s": pa.array(embedded.speech_s),
        "condition": pa.FixedSizeListArray.from_arrays(
            pa.array(embedded.condition.reshape(-1)), embedded.condition.shape[1]
        ),
        "embedding": pa.FixedSizeListArray.from_arrays(vectors, description["embedding_dim"]),
    }
    texts = {
        "id": pa.string(),
        "path": pa.string(),
        "speaker": pa.string(),
    }  # a part without rows does not tell the types
    columns = {name: column.cast(texts[name]) if name in texts else column for name, column in columns.items()}
    table = pa.table(columns, metadata={"xvectors": json.dumps(description)})
    with atomic_write(path, private=True) as temporary:
        parquet.write_table(table, temporary)


def read_parquet(
    path: Path, aliases: Mapping[str, Sequence[str]] | None = None, others: Sequence[str] = ()
) -> dict[str, NDArray[Any]]:
    """Read the columns of one part, as `read_parts` returns them; CheckpointError if it is damaged.

    With `aliases` of the names, also a table of another program, which needs only ids and a column of lists. `others`
    are further columns that are read as text if they exist; what is null is empty.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.ParquetFile(path).read()
        if aliases is not None:
            names = {alias: key for key, some in aliases.items() for alias in some}
            table = table.rename_columns([names.get(name, name) for name in table.column_names])
        column = "embeddings" if aliases is not None else "embedding"
        vectors = table[column].combine_chunks()
        if aliases is None and not isinstance(vectors.type, pa.FixedSizeListType):
            raise ValueError(f"embedding is of the type {vectors.type}, not a list of fixed size")
        found = {"embeddings": _vectors(vectors)}
        for key in ("id", "path", "speaker"):
            if aliases is None or key in table.column_names:
                found[key] = np.array(table[key].to_pylist(), dtype=np.str_)
        for key in ("gender", "age", "duration_s", "speech_s"):
            if aliases is None or key in table.column_names:
                found[key] = table[key].to_numpy()
        for key in others:
            if key in table.column_names and key not in found:
                found[key] = np.array(["" if cell is None else str(cell) for cell in table[key].to_pylist()], np.str_)
        if "condition" in table.column_names and pa.types.is_fixed_size_list(table["condition"].type):
            found["condition"] = _vectors(table["condition"].combine_chunks())
    except (OSError, ValueError, LookupError, AttributeError, TypeError, pa.ArrowException) as error:
        remedy = "remove it and embed again" if aliases is None else "write it again, with one list of numbers a row"
        raise CheckpointError(f"{path} is damaged: {error}; {remedy}") from error
    return found


def _vectors(column: Any) -> NDArray[Any]:
    """Return a column of lists as a matrix [n, dim]. Raises ValueError for lists that differ in length."""
    import pyarrow as pa

    if column.null_count or column.flatten().null_count:
        raise ValueError("an embedding or condition is null, or has a null in it")
    if not isinstance(column.type, pa.FixedSizeListType):
        lengths, counts = np.unique(column.value_lengths().to_numpy(), return_counts=True)
        if len(lengths) > 1:
            odd = ", ".join(f"{number:,} of {length}" for length, number in zip(lengths, counts, strict=True))
            raise ValueError(f"embeddings differ in their number of dimensions: {odd}")
        dim = int(lengths[0]) if len(lengths) else 0
    else:
        dim = column.type.list_size
    vectors: NDArray[Any] = column.flatten().to_numpy(zero_copy_only=False)
    return vectors.reshape(len(column), dim)


def _read_npz(path: Path) -> dict[str, NDArray[Any]]:
    try:
        return read_npz(path)
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged: {error}; remove it and embed again") from error


def _write_failures(path: Path, manifest: Manifest, embedded: Embedded) -> None:
    if not embedded.failures:
        path.unlink(missing_ok=True)  # left by a run that was killed before it wrote the part
        return
    rows = [
        (row, _text(manifest.id[row]), _text(str(manifest.full_path(row))), _text(" ".join(reason.split())))
        for row, reason in embedded.failures
    ]
    write_table(path, FAILURE_COLUMNS, rows)


def _join_failures(out: Path) -> None:
    listed = sorted((out / FAILURES).glob("part-*.csv"))
    rows = [path.read_text(encoding="utf-8").partition("\n")[2] for path in listed]
    write_text(out / f"{FAILURES}.csv", ",".join(FAILURE_COLUMNS) + "\n" + "".join(rows))


def _text(name: str) -> str:
    """Escape what UTF-8 cannot encode."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")
