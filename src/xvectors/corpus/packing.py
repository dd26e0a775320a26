"""Pack a corpus into tar shards in WebDataset's layout: KEY.flac and KEY.json for each recording.

Few large files are read faster than millions of small ones. The rows are shuffled, so that every shard is a random
sample of the corpus, for readers that go through one shard after another. `manifest.csv` beside the shards lists the
recordings as paths into them, by which this package reads them in any order.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xvectors.corpus.columns import GENDER_NAMES
from xvectors.corpus.manifest import Manifest
from xvectors.corpus.packed import PackedStrings
from xvectors.errors import AudioError, ConfigError, ManifestError, MissingExtraError
from xvectors.files import atomic_write, exclusive, write_text
from xvectors.files.tars import members, read_member, split_member
from xvectors.progress import progress_bar
from xvectors.text import short_repr

logger = logging.getLogger(__name__)

PER_SHARD = 1000
"""Recordings in a shard: at 8 s each, about 130 MB of FLAC."""
SEED = 0
MANIFEST, PLAN = "manifest.csv", "pack.json"
WIDE = ("PCM_24", "PCM_32", "FLOAT", "DOUBLE")
"""Encodings that are packed with 24 bits a sample, all others with 16."""


@short_repr("num_shards", "num_left_out")
@dataclass(frozen=True, eq=False)
class Packed:
    """The manifest of a packed corpus, and numbers of its shards and of recordings that could not be packed."""

    manifest: Manifest
    num_shards: int
    num_left_out: int


def pack(
    manifest: Manifest,
    out: str | Path,
    *,
    per_shard: int = PER_SHARD,
    workers: int | None = None,
    progress: bool = False,
) -> Packed:
    """Write the recordings of `manifest` to shards in the folder `out`.

    Whole FLAC files are copied as they are. Others are encoded as FLAC without loss at their own rate, with all
    channels; floating-point samples are rounded to 24 bits. A segment becomes a recording of its own. Recordings that
    cannot be decoded are left out, with a warning. Shards that an interrupted run has finished are kept.

    Parameters
    ----------
    per_shard
        Largest number of recordings in a shard.
    workers
        Number of threads that decode and encode, by default one per processor.

    Raises
    ------
    ConfigError
        `per_shard` is below 1, or `out` holds shards of another corpus or size.
    ManifestError
        No recording could be packed.
    StorageError
        A file cannot be written. BusyError if another process writes to `out`.
    """
    if per_shard < 1:
        raise ConfigError(f"a shard of {per_shard} recordings: it must hold at least 1")
    out = Path(out)
    order = np.random.default_rng(SEED).permutation(len(manifest))
    plan = json.dumps({"corpus": _fingerprint(manifest), "recordings": len(manifest), "per_shard": per_shard}) + "\n"
    with exclusive(out / ".lock", of=str(out)):
        _check_plan(out, plan)
        places: list[str] = []
        rows: list[int] = []
        num_shards = -(-len(order) // per_shard)
        with (
            ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool,
            progress_bar("Packing", len(order), enabled=progress) as bar,
        ):
            for number in range(num_shards):
                first = number * per_shard
                shard = out / f"shard-{number:06d}.tar"
                planned = order[first : first + per_shard]
                if not shard.is_file():
                    _write_shard(shard, manifest, planned, first, pool)
                there = members(str(shard))
                for place, row in enumerate(planned.tolist(), first):
                    if f"{_key(place)}.flac" in there:
                        places.append(f"{shard.name}/{_key(place)}.flac")
                        rows.append(row)
                bar.advance(len(planned))
        if not rows:
            raise ManifestError(f"{manifest.source or 'the corpus'}: none of its recordings could be packed")
        packed = _packed(manifest, np.array(rows), places, out)
        packed.write_csv(out / MANIFEST)
    return Packed(packed, num_shards, len(manifest) - len(rows))


def _key(place: int) -> str:
    return f"{place:09d}"


def _fingerprint(manifest: Manifest) -> str:
    sha = hashlib.sha256()
    starts, durations = manifest.start_s.tolist(), manifest.duration_s.tolist()
    for row, path in enumerate(manifest.path):
        speaker = manifest.speakers[manifest.speaker_index[row]]
        sha.update(f"{path}\0{starts[row]}\0{durations[row]}\0{speaker}\n".encode("utf-8", "surrogateescape"))
    return sha.hexdigest()


def _check_plan(out: Path, plan: str) -> None:
    """Check that the folder is empty or holds the same plan, which is then written."""
    path = out / PLAN
    if path.is_file():
        if path.read_text(encoding="utf-8") != plan:
            raise ConfigError(f"{out} holds shards of another corpus, or of another size; name another folder")
        return
    if any(each.name != ".lock" for each in out.iterdir()):
        raise ConfigError(f"{out} is not empty; name a new folder for the shards")
    write_text(path, plan)


def _write_shard(
    shard: Path, manifest: Manifest, rows: NDArray[np.int64], first: int, pool: ThreadPoolExecutor
) -> None:
    with atomic_write(shard) as temporary, tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
        for place, (row, content) in enumerate(_encoded(manifest, rows, pool), first):
            if content is not None:
                _add(tar, f"{_key(place)}.flac", content)
                facts = json.dumps(_facts(manifest, row), ensure_ascii=False)
                _add(tar, f"{_key(place)}.json", facts.encode("utf-8", "surrogateescape"))


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


def _encoded(
    manifest: Manifest, rows: NDArray[np.int64], pool: ThreadPoolExecutor
) -> Iterator[tuple[int, bytes | None]]:
    """Yield rows and their recordings as FLAC, a few at a time, so that memory holds few."""
    block = 64
    for first in range(0, len(rows), block):
        some = rows[first : first + block].tolist()
        yield from zip(some, pool.map(lambda row: _flac(manifest, row), some), strict=True)


def _flac(manifest: Manifest, row: int) -> bytes | None:
    from xvectors import audio

    path, start_s = manifest.full_path(row), float(manifest.start_s[row])
    stated_s = float(manifest.duration_s[row])
    whole = not manifest.has_segments or (start_s == 0 and np.isnan(stated_s))
    try:
        info = audio.probe(path)
        if whole and info.format == "FLAC":
            inside = split_member(path)
            return path.read_bytes() if inside is None else read_member(*inside)
        duration_s = None if whole or np.isnan(stated_s) else stated_s
        samples = np.concatenate(list(audio.blocks(path, start_s=start_s, duration_s=duration_s)))
        return audio.encode_flac(samples, info.sample_rate_hz, "PCM_24" if info.subtype in WIDE else "PCM_16")
    except (AudioError, MissingExtraError) as error:
        logger.warning("left out: %s", error)
        return None


def _facts(manifest: Manifest, row: int) -> dict[str, object]:
    """Return what the manifest says of a recording, for readers that do not read the manifest."""
    utterance = manifest.row(row)
    facts: dict[str, object] = {"id": utterance.id, "speaker": utterance.speaker}
    if utterance.gender >= 0:
        facts["gender"] = GENDER_NAMES[utterance.gender]
    if not np.isnan(utterance.age):
        facts["age"] = utterance.age
    if utterance.session is not None:
        facts["session"] = utterance.session
    return facts | {name: column[row] for name, column in manifest.extra.items() if column[row]}


def _packed(manifest: Manifest, rows: NDArray[np.int64], places: list[str], out: Path) -> Manifest:
    taken = manifest.take(rows)
    return replace(
        taken,
        path=PackedStrings.from_strings(places),
        start_s=np.zeros(len(rows)),
        states_segments=False,
        faults={},
        passed_over={},
        root=out.absolute(),
        source=out / MANIFEST,
    )
