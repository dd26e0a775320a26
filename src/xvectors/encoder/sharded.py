"""Embedding corpora of any size. In: an encoder and a manifest. Out: a folder of parts, each written when it is whole.

_embedding.json          what the parts are made of: another system or corpus is refused
part-00000.parquet       the first rows of the manifest (or part-00000.npz), and so on
_failures/part-00000.csv the rows of that part that could not be embedded
_failures.csv            all of them, written when a run ends

What starts with _ is no data to those who read folders of Parquet files. Which rows a part holds depends on the corpus
alone, so a run goes on where another was killed, and any number of shards write to one folder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
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

FORMAT_VERSION = 1
PARQUET, NPZ = "parquet", "npz"
FORMATS = (PARQUET, NPZ)
ROWS_A_PART = 1000
"""A run that is killed loses at most this many embeddings."""
DESCRIPTION, FAILURES = "_embedding.json", "_failures"
FAILURE_COLUMNS = ("row", "id", "path", "reason")


@dataclass(frozen=True, kw_only=True)
class PartsWritten:
    """What a run did: parts that were there, parts it wrote, rows it embedded and rows it could not embed."""

    num_there: int
    num_written: int
    num_embedded: int
    num_failed: int


def parse_shard(text: str) -> tuple[int, int]:
    """(i, n) of "i/n"; ConfigError unless 1 <= i <= n."""
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
    rows_a_part: int = ROWS_A_PART,
    channel: Channel | Sequence[Channel] | None = None,
    batch_size: int = 32,
    trim_silence: DetectorName | None = "energy",
    progress: bool = False,
) -> PartsWritten:
    """Embed a corpus into the folder `out`, part by part; parts that are there stay as they are.

    Parameters
    ----------
    part_format
        "parquet": columns id, path, speaker, gender, age, start_s, duration_s, speech_s and embedding, a list of
        fixed size.
        "npz": the arrays of `save_embeddings`.
    shard
        (i, n): of the parts, the i-th and every n-th from there on, i from 1. Shards may run at once, on machines that
        share the folder.
    channel
        As in `encode_manifest`.

    Recordings that cannot be used are listed in `_failures.csv`, not fatal. But for the manifest itself, memory does
    not grow with the corpus.

    Raises
    ------
    ConfigError
        An impossible setting, or a folder whose parts were made from another system, corpus or setting; it names what
        differs.
    StorageError
        Nothing can be written; the parts that are there are whole.
    """
    if part_format not in FORMATS:
        raise ConfigError(f"part format {part_format!r} is unknown{nearest(part_format, FORMATS)}")
    if rows_a_part < 1:
        raise ConfigError(f"rows_a_part must be at least 1, not {rows_a_part}")
    index, count = shard
    if not 1 <= index <= count:
        raise ConfigError(f"shard {index} of {count} does not exist; shards count from 1")
    out = Path(out)
    description = _describe(encoder, manifest, part_format, rows_a_part, trim_silence, channel)
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
                # the failures first: a part that is there has all of its own
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
    """All parts of a finished folder as one, in the manifest's order.

    embeddings [n, dim] and id, path, speaker, gender, age, duration_s and speech_s, [n] each, as `save_embeddings`
    writes them.

    Raises CheckpointError for a folder that holds no parts, lacks some, or has a damaged one.
    """
    folder = Path(folder)
    description = _read_description(folder)
    if description is None:
        raise CheckpointError(f"{folder} holds no {DESCRIPTION}, so it is no folder of embeddings")
    count = _num_parts(description)
    paths = []
    for number in range(count):  # up to the first that is not there: the description may claim any number
        paths.append(_part(folder, number, description["part_format"]))
        if not paths[-1].is_file():
            there = sum(path.suffix == paths[-1].suffix for path in folder.glob("part-*"))
            raise CheckpointError(
                f"{folder} lacks {count - there} of its {count} parts, such as {paths[-1].name}; run the same "
                "`xvectors embed` again, which goes on where it stopped"
            )
    read = read_parquet if description["part_format"] == PARQUET else _read_npz
    parts = [read(path) for path in paths]
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def _describe(
    encoder: SpeakerEncoder,
    manifest: Manifest,
    part_format: str,
    rows_a_part: int,
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
        "rows_a_part": rows_a_part,
        "trim_silence": trim_silence or NO_TRIMMING,
    }


DIFFERENCES = {
    "format_version": "another version of xvectors",
    "system_sha256": "another system",
    "corpus_sha256": "another corpus or channel, or the corpus was changed",
    "num_rows": "a corpus of {0} rows, not {1}",
    "embedding_dim": "embeddings of {0} dimensions, not {1}",
    "part_format": "{0} parts, not {1}",
    "rows_a_part": "parts of {0} rows, not {1}",
    "trim_silence": "trim_silence {0!r}, not {1!r}",
}


def _agree(out: Path, description: dict[str, Any]) -> None:
    """Write the description where there is none; ConfigError where there is another."""
    if out.is_file():
        raise StorageError(f"{out} is a file; name a folder for the parts")
    if _read_description(out) is None:
        if any(out.glob("part-*")):
            raise ConfigError(f"{out} holds parts without {DESCRIPTION}, so nobody knows of what; name another folder")
        write_text(out / DESCRIPTION, json.dumps(description, indent=1) + "\n")
    # read again: another shard may have been quicker
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
    least = {"num_rows": 0, "rows_a_part": 1, "embedding_dim": 1}
    if (
        not isinstance(found, dict)
        or not found.keys() >= DIFFERENCES.keys()
        or not all(type(found[key]) is int and found[key] >= count for key, count in least.items())
        or found["part_format"] not in FORMATS
    ):
        raise CheckpointError(f"{path} is damaged; remove the folder and embed again")
    return found


def _num_parts(description: dict[str, Any]) -> int:
    return int(-(-description["num_rows"] // description["rows_a_part"]))


def _rows(number: int, description: dict[str, Any]) -> NDArray[np.int64]:
    size = description["rows_a_part"]
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
        "embedding": pa.FixedSizeListArray.from_arrays(vectors, description["embedding_dim"]),
    }
    texts = {
        "id": pa.string(),
        "path": pa.string(),
        "speaker": pa.string(),
    }  # a part may have no row to tell the type by
    columns = {name: column.cast(texts[name]) if name in texts else column for name, column in columns.items()}
    table = pa.table(columns, metadata={"xvectors": json.dumps(description)})
    with atomic_write(path, private=True) as temporary:
        parquet.write_table(table, temporary)


def read_parquet(path: Path) -> dict[str, NDArray[Any]]:
    """The columns of one part, as `read_parts` gives them. CheckpointError for a damaged file."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.ParquetFile(path).read()
        dim = table.schema.field("embedding").type.list_size
        vectors = table["embedding"].combine_chunks().flatten().to_numpy().reshape(-1, dim)
        texts = {key: np.array(table[key].to_pylist(), dtype=np.str_) for key in ("id", "path", "speaker")}
        numbers = {key: table[key].to_numpy() for key in ("gender", "age", "duration_s", "speech_s")}
    except (OSError, ValueError, LookupError, AttributeError, TypeError, pa.ArrowException) as error:
        raise CheckpointError(f"{path} is damaged: {error}; remove it and embed again") from error
    return {"embeddings": vectors, **texts, **numbers}


def _read_npz(path: Path) -> dict[str, NDArray[Any]]:
    try:
        return read_npz(path)
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged: {error}; remove it and embed again") from error


def _write_failures(path: Path, manifest: Manifest, embedded: Embedded) -> None:
    if not embedded.failures:
        path.unlink(missing_ok=True)  # of a run that was killed before its part was whole
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
    """`name` without what UTF-8 cannot hold, which is written as escapes."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")
