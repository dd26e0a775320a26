"""Examine one recording, and cache the findings on disk, keyed by path, size and modification time."""

from __future__ import annotations

import hashlib
import logging
import math
import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TypeAlias

import numpy as np

from xvectors.errors import (
    AudioError,
    EmptyFileError,
    ManifestError,
    MissingExtraError,
    MissingFileError,
    StorageError,
    TruncatedFileError,
)
from xvectors.files import user_folder, why_no_file
from xvectors.files.tables import Table, write_table

logger = logging.getLogger(__name__)

CLIPPED_SHARE = 0.01  # share of samples at full scale above which a recording counts as clipped
# a segment may end this much after its file, since tables round times
SEGMENT_TOLERANCE_S = 0.05
FULL_SCALE = 32767 / 32768
# the largest value of encodings with a coarser grid
COARSE_FULL_SCALE = {
    "PCM_S8": 127 / 128,
    "PCM_U8": 127 / 128,
    "ULAW": 32124 / 32768,
    "ALAW": 32256 / 32768,
}
CACHE_VERSION = "2"

Place: TypeAlias = tuple[str, float, float | None]


class Reason(StrEnum):
    """Why a recording is left out. INCOMPLETE, CANCELED and CLIPPED only cause a warning."""

    MISSING = "missing"
    EMPTY = "empty"
    TRUNCATED = "truncated"
    UNREADABLE = "unreadable"
    OUTSIDE = "segment outside the file"
    CONTRADICTORY = "contradictory times"
    TOO_SHORT = "too short"
    SILENT = "silent"
    NOT_FINITE = "not finite"
    DUPLICATE = "duplicate"
    TWO_SPEAKERS = "two speakers"
    INCOMPLETE = "end missing"
    CANCELED = "channels cancel"
    NOT_UTF8 = "name not UTF-8"
    CLIPPED = "clipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """Findings about one utterance.

    `fault` is None if the utterance can be used; `digest` is that of its decoded samples. `incomplete` says what is
    missing at the end of its file, `canceled` which channel was used because the channels cancel; both may be empty.
    """

    duration_s: float = math.nan
    sample_rate_hz: int = 0
    clipped_share: float = 0.0
    digest: str = ""
    fault: Reason | None = None
    detail: str = ""
    incomplete: str = ""
    canceled: str = ""

    @property
    def lasts(self) -> bool:
        """Whether the finding holds for the same bytes; an unreadable file may only need an extra."""
        return self.fault not in {Reason.MISSING, Reason.UNREADABLE}


@dataclass(frozen=True, slots=True)
class Key:
    """The segment of a finding, and the state of its file."""

    path: str
    start_s: float
    stated_s: float | None  # None: to the end of the file
    size: int
    mtime_ns: int

    @property
    def place(self) -> Place:
        return self.path, self.start_s, self.stated_s


def examine(path: str, start_s: float, stated_s: float | None, *, contents: bool) -> Finding:
    """Read the header of a recording and, with `contents`, its samples. Never raises for a broken file.

    `stated_s` is the duration of the segment; None for a segment to the end of the file.
    """
    if stated_s is not None and stated_s < 0:
        return Finding(fault=Reason.CONTRADICTORY, detail="start, end and duration contradict each other")
    # imported here: reading manifests does not need audio libraries
    from xvectors import audio

    try:
        info = audio.probe(path)
        length_s = info.duration_s - start_s
        if length_s <= 0 or (stated_s is not None and length_s + SEGMENT_TOLERANCE_S < stated_s):
            wanted = "" if stated_s is None else f" and lasts {stated_s:g} s"
            detail = f"it starts at {start_s:g} s{wanted}, the file lasts {info.duration_s:.3f} s"
            return Finding(sample_rate_hz=info.sample_rate_hz, fault=Reason.OUTSIDE, detail=detail)
        duration_s = length_s if stated_s is None else min(stated_s, length_s)
        if not contents:
            return Finding(duration_s, info.sample_rate_hz, incomplete="; ".join(info.notes))
        return _listen(path, start_s, duration_s, info)
    except MissingFileError as error:
        return Finding(fault=Reason.MISSING, detail=str(error))
    except EmptyFileError as error:
        return Finding(fault=Reason.EMPTY, detail=str(error))
    except TruncatedFileError as error:
        return Finding(fault=Reason.TRUNCATED, detail=str(error))
    except (AudioError, MissingExtraError) as error:
        return Finding(fault=Reason.UNREADABLE, detail=str(error))


def _listen(path: str, start_s: float, duration_s: float, info: object) -> Finding:
    from xvectors import audio
    from xvectors.audio.sound import MAX_SAMPLE

    assert isinstance(info, audio.AudioInfo)
    full_scale = COARSE_FULL_SCALE.get(info.subtype, FULL_SCALE)
    digest = hashlib.blake2b(f"{info.sample_rate_hz} {info.num_channels}".encode(), digest_size=16)
    num_samples = num_clipped = 0
    is_silent = is_finite = True
    for block in audio.blocks(path, start_s=start_s, duration_s=duration_s):
        digest.update(block.tobytes())
        loudest = np.abs(block)
        num_samples += block.size
        peak = float(loudest.max(initial=0.0))
        is_finite = is_finite and peak <= MAX_SAMPLE
        if peak >= full_scale:
            num_clipped += int(np.count_nonzero(loudest >= full_scale))
        is_silent = is_silent and peak == 0.0
    fault, detail = None, ""
    if not is_finite:
        fault, detail = Reason.NOT_FINITE, "holds NaN, infinite or absurdly large samples"
    elif is_silent:
        fault, detail = Reason.SILENT, "all samples are zero"
    share = num_clipped / max(1, num_samples)
    canceled = audio.canceled(path)
    return Finding(
        *(duration_s, info.sample_rate_hz, share, digest.hexdigest(), fault, detail),
        incomplete="; ".join(info.notes),
        canceled="" if canceled is None else canceled.note,
    )


class FindingCache:
    """Findings of earlier scans, kept beside the corpus or in the cache folder of the user."""

    HEADER = (
        *("path", "start_s", "stated_s", "size", "mtime_ns"),
        *("duration_s", "sample_rate_hz", "clipped_share", "digest"),
        *("fault", "detail", "incomplete", "canceled", f"version {CACHE_VERSION}"),
    )

    def __init__(self, source: Path) -> None:
        name = ".scan.csv" if source.is_dir() else f"{source.stem}.scan.csv"
        self._beside = (source if source.is_dir() else source.parent) / name
        place = hashlib.blake2b(os.fsencode(os.path.abspath(source)), digest_size=16).hexdigest()
        self._in_home: Path | None = None
        try:
            self._in_home = user_folder("cache") / f"{place}.scan.csv"
        except StorageError as error:
            logger.info("the scan can be cached beside the corpus only: %s", error)
        self._found: dict[Place, tuple[Key, Finding]] = {}
        for path in (self._beside, self._in_home):
            if path is not None and not why_no_file(path):
                self._found |= self._load(path)

    def get(self, key: Key, *, contents: bool) -> Finding | None:
        known_key, finding = self._found.get(key.place, (None, Finding()))
        if known_key != key or (contents and not finding.digest and finding.fault is None):
            return None
        return finding

    def put(self, key: Key, finding: Finding) -> None:
        if finding.lasts:
            self._found[key.place] = key, finding

    def save(self) -> None:
        """Write all findings. If that fails, the next scan reads every recording again."""
        # respect a read-only folder even as root
        if self._beside.parent.stat().st_mode & 0o222:
            try:
                self._write(self._beside)
                return
            except StorageError as error:
                logger.info("%s", error)
        if self._in_home is None:
            logger.warning("the scan cannot be cached; the next one will read every recording again")
            return
        logger.info("%s: cannot be written; the scan is cached in %s", self._beside.parent, self._in_home)
        try:
            self._write(self._in_home)
        except StorageError as error:
            logger.warning("%s; the next scan will read every recording again", error)

    def _write(self, path: Path) -> None:
        rows = (
            (
                *(key.path, key.start_s, "" if key.stated_s is None else key.stated_s),
                *(key.size, key.mtime_ns),
                *(found.duration_s, found.sample_rate_hz, found.clipped_share, found.digest),
                *("" if found.fault is None else found.fault.value, found.detail),
                *(found.incomplete, found.canceled, ""),
            )
            for key, found in self._found.values()
        )
        # a name that is not UTF-8 is written so that it never matches: its file is read every time
        write_table(path, self.HEADER, rows, errors="backslashreplace")

    def _load(self, path: Path) -> dict[Place, tuple[Key, Finding]]:
        found: dict[Place, tuple[Key, Finding]] = {}
        try:
            table = Table(path)
            if tuple(table.header) != self.HEADER:
                raise ManifestError(f"{path}: written by another version or program")
            for rows in table.blocks():
                for row in rows:
                    key = Key(row[0], float(row[1]), float(row[2]) if row[2] else None, int(row[3]), int(row[4]))
                    fault = Reason(row[9]) if row[9] else None
                    measured = Finding(float(row[5]), int(row[6]), float(row[7]), row[8], fault, *row[10:13])
                    found[key.place] = key, measured
        except ValueError as error:  # includes ManifestError and cells that are not numbers
            logger.warning("the cache of earlier scans is ignored and will be rewritten: %s", error)
            return {}
        return found
