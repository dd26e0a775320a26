"""Find what makes error rates misleading: test data that the system was trained on, and labels that look wrong."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xvectors.backends import length_normalize
from xvectors.corpus import TEST, VAL, Manifest
from xvectors.text import agree, count, first_few
from xvectors.trials import sample_recordings
from xvectors.verification.label_check import TwoVoices, find_two_voices

SUSPECT_QUANTILE = 0.99
"""Quantile of the cosines within speakers; recordings of two speakers that are closer are worth listening to."""
MAX_SUSPECTS = 20
MAX_COMPARED = 40_000  # recordings; comparing all pairs takes about 10 s on two cores
BLOCK_VALUES = 4_000_000  # cosines at once: 16 MB
LEVELS = 20_000  # bins in which the cosines of one speaker are counted


@dataclass(frozen=True, kw_only=True)
class SharedRecording:
    """A test recording, a row of the manifest, that is the training recording `train_path` by "path" or "content"."""

    row: int
    train_path: str
    by: str


@dataclass(frozen=True, kw_only=True)
class SuspectPair:
    """Recordings of two speakers that sound alike: rows `a` < `b` of the manifest, and their cosine."""

    a: int
    b: int
    cosine: float


@dataclass(frozen=True, kw_only=True)
class Leakage:
    """Overlap of training and test data, and doubtful labels; `checked` is False without the training corpus."""

    checked: bool
    shared_speakers: tuple[str, ...] = ()
    """Names of test speakers that the network was trained on."""
    calibration_speakers: tuple[str, ...] = ()
    """Names of test speakers that the calibration or back-end was fitted on."""
    shared_recordings: tuple[SharedRecording, ...] = ()
    suspect_pairs: tuple[SuspectPair, ...] = ()
    """Pairs of different speakers that are closer than 99 % of the pairs within speakers, closest first."""
    num_suspect_pairs: int = 0
    """Number of such pairs, of which `suspect_pairs` holds the closest."""
    num_compared: int = 0
    """Number of recordings that were compared with each other: all, or a sample of a large corpus."""
    two_voices: tuple[TwoVoices, ...] = ()
    """Test speakers whose recordings seem to be of two people."""


def find_leakage(
    manifest: Manifest,
    embeddings: ArrayLike,
    *,
    trained_speakers: Iterable[str],
    calibration_speakers: Iterable[str] = (),
    training_corpus: Manifest | None = None,
) -> Leakage:
    """Compare test recordings with the training data and with each other.

    All pairs of recordings are compared, whatever the trials are. Of more than 40,000 recordings, a sample with as
    many of each speaker as possible is compared.

    Parameters
    ----------
    manifest, embeddings
        The n test recordings and their embeddings [n, D].
    trained_speakers, calibration_speakers
        Names of the speakers that the network was trained on, and that the calibration or back-end was fitted on.
    training_corpus
        The system's corpus.csv, of which only the training rows count. Files that no longer exist are compared by path
        alone.

    Raises
    ------
    ShapeError
        An embedding is zero.
    """
    tested = set(manifest.speakers)
    shared = [] if training_corpus is None else _shared_recordings(manifest, training_corpus)
    suspects, num_suspects, num_compared = _suspect_pairs(embeddings, manifest.speaker_index)
    return Leakage(
        checked=training_corpus is not None,
        shared_speakers=tuple(sorted(tested & set(trained_speakers))),
        calibration_speakers=tuple(sorted(tested & set(calibration_speakers))),
        shared_recordings=tuple(shared),
        suspect_pairs=tuple(suspects),
        num_suspect_pairs=num_suspects,
        num_compared=num_compared,
        two_voices=tuple(find_two_voices(embeddings, np.array(manifest.speakers)[manifest.speaker_index])),
    )


def leakage_lines(leakage: Leakage, manifest: Manifest) -> list[str]:
    """Turn the findings into warnings of one sentence each."""
    lines = []
    num_speakers = len(manifest.speakers)
    if names := leakage.shared_speakers:
        begin = _of(len(names), num_speakers, "test speakers", "bears a name that was", "bear names that were")
        lines.append(
            f"{begin} trained on ({first_few(names)}): if they are the same people, the error rates are too low"
        )
    if names := leakage.calibration_speakers:
        begin = _of(len(names), num_speakers, "test speakers", "bears a name", "bear names")
        lines.append(
            f"{begin} that the calibration was fitted on ({first_few(names)}): the calibration loss is too low"
        )
    if leakage.shared_recordings:
        recordings = [manifest.id[found.row] for found in leakage.shared_recordings]
        begin = _of(len(recordings), len(manifest), "test recordings", "was", "were")
        lines.append(
            f"{begin} trained on ({first_few(recordings)}): the error rates are too low; leave these recordings out"
        )
    if leakage.num_suspect_pairs:
        nearest = leakage.suspect_pairs[0]
        pairs, are = count(leakage.num_suspect_pairs, "pair"), agree(leakage.num_suspect_pairs, "is", "are")
        lines.append(
            f"{pairs} of recordings of two speakers {are} closer than 99 % of the pairs of one speaker, such as "
            f"{manifest.id[nearest.a]} and {manifest.id[nearest.b]} (cosine {nearest.cosine:.3f}); listen to them, "
            "because a label may be wrong"
        )
    ids = list(manifest.id) if leakage.two_voices else []
    lines += [
        f"{found.sentence(ids)}: if so, many false rejections are correct decisions; listen, and correct the labels"
        for found in leakage.two_voices
    ]
    return lines


def cohort_line(in_cohort: Sequence[str], manifest: Manifest) -> str:
    """Warn that test speakers are in the cohort of the score normalization."""
    begin = _of(len(in_cohort), len(manifest.speakers), "test speakers", "is", "are")
    return (
        f"{begin} in the cohort of the score normalization ({first_few(in_cohort)}): their target scores are too low; "
        "give a cohort of other speakers"
    )


def _of(number: int, total: int, things: str, one: str, more: str) -> str:
    """Begin a sentence with a number out of a total, and the verb that agrees with it."""
    return f"{number:,} of the {total:,} {things} {agree(number, one, more)}"


def _shared_recordings(manifest: Manifest, training: Manifest) -> list[SharedRecording]:
    """Find test recordings that were trained on, by path and start, or by the bytes of whole files."""
    training = training.take(~np.isin(training.split, (VAL, TEST)))
    trained_at = dict(_places(training))
    by_size: defaultdict[int, list[str]] = defaultdict(list)
    if not training.has_segments:
        for path in set(trained_at.values()):
            if (size := _size(path)) is not None:
                by_size[size].append(path)
    digests: dict[str, str] = {}

    def digest(path: str) -> str:
        if path not in digests:
            with open(path, "rb") as file:
                digests[path] = hashlib.file_digest(file, "sha256").hexdigest()
        return digests[path]

    found = []
    has_segments = manifest.has_segments
    for row, (place, path) in enumerate(_places(manifest)):
        if place in trained_at:
            found.append(SharedRecording(row=row, train_path=trained_at[place], by="path"))
        elif not has_segments and (size := _size(path)) is not None:
            same = next((other for other in by_size.get(size, ()) if digest(other) == digest(path)), None)
            if same is not None:
                found.append(SharedRecording(row=row, train_path=same, by="content"))
    return found


def _places(manifest: Manifest) -> list[tuple[tuple[str, float], str]]:
    paths = [os.path.realpath(manifest.full_path(row)) for row in range(len(manifest))]
    return [((path, start), path) for path, start in zip(paths, manifest.start_s.tolist(), strict=True)]


def _size(path: str) -> int | None:
    """Return the size of a file in bytes; None if it does not exist."""
    return os.path.getsize(path) if Path(path).is_file() else None


def _suspect_pairs(embeddings: ArrayLike, speakers: NDArray[np.int32]) -> tuple[list[SuspectPair], int, int]:
    """Find the closest pairs of different speakers; return them, the number of all, and the recordings compared.

    A first pass over all pairs finds the bound, a second the pairs beyond it.
    """
    rows = np.arange(len(speakers))
    if len(rows) > MAX_COMPARED:
        each = max(2, MAX_COMPARED // len(np.unique(speakers)))
        rows = sample_recordings(speakers, each=each, at_most=MAX_COMPARED)
    unit, speaker = length_normalize(embeddings)[rows], speakers[rows]
    counts = np.zeros(LEVELS + 1, dtype=np.int64)
    for _, cosines, same, later in _blocks(unit, speaker):
        levels = np.ceil((cosines[same & later] + 1) / 2 * LEVELS)
        counts += np.bincount(levels.clip(0, LEVELS).astype(np.int64), minlength=LEVELS + 1)
    if not counts.any():
        return [], 0, len(rows)
    below = np.cumsum(counts)
    bound = 2 * int(np.searchsorted(below, SUSPECT_QUANTILE * below[-1])) / LEVELS - 1
    found: list[SuspectPair] = []
    number = 0
    for start, cosines, same, later in _blocks(unit, speaker):
        a, b = np.nonzero((cosines > bound) & ~same & later)
        number += len(a)
        nearest = np.argsort(-cosines[a, b], kind="stable")[:MAX_SUSPECTS]
        pairs = zip(a[nearest] + start, b[nearest] + start, cosines[a[nearest], b[nearest]], strict=True)
        found += [SuspectPair(a=int(rows[i]), b=int(rows[j]), cosine=min(float(c), 1.0)) for i, j, c in pairs]
        found = sorted(found, key=lambda pair: -pair.cosine)[:MAX_SUSPECTS]
    return found, number, len(rows)


def _blocks(
    unit: NDArray[np.float32], speaker: NDArray[np.int32]
) -> Iterator[tuple[int, NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]]:
    """Yield blocks: the first row, cosines with it and all later rows, and masks of same speaker and of later row."""
    size = max(1, BLOCK_VALUES // len(unit))
    columns = np.arange(len(unit))
    for start in range(0, len(unit), size):
        block = slice(start, start + size)
        same = speaker[start:] == speaker[block, None]
        yield start, unit[block] @ unit[start:].T, same, columns[start:] > columns[block, None]
