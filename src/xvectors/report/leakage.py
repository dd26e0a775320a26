"""What makes error rates better than they are, or worse than the system is. In: the test corpus, its embeddings, and
what the system was trained on. Out: shared speakers and recordings, and pairs that look mislabelled."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from xvectors.corpus import TEST, Manifest
from xvectors.report.measured import Leakage, SharedRecording, SuspectPair
from xvectors.scoring import Trials, cosine_scores

SUSPECT_QUANTILE = 0.99
"""Of one speaker's cosines: recordings of two speakers that are nearer than this are worth listening to."""
MOST_SUSPECTS = 20


def find_leakage(
    manifest: Manifest,
    embeddings: ArrayLike,
    trials: Trials,
    *,
    trained_speakers: Iterable[str],
    calibration_speakers: Iterable[str] = (),
    training_corpus: Manifest | None = None,
) -> Leakage:
    """Compare the rows of `manifest`, with embeddings [n, D] and trials between them, with the training.

    `training_corpus` is corpus.csv of the system; its test rows are not looked at. Files of it that are no longer
    there can only be compared by their paths. ShapeError where embeddings and trials do not fit.
    """
    tested = set(manifest.speakers)
    shared = [] if training_corpus is None else _shared_recordings(manifest, training_corpus)
    suspects = _suspect_pairs(embeddings, trials)
    return Leakage(
        checked=training_corpus is not None,
        shared_speakers=tuple(sorted(tested & set(trained_speakers))),
        calibration_speakers=tuple(sorted(tested & set(calibration_speakers))),
        shared_recordings=tuple(shared),
        suspect_pairs=tuple(suspects[:MOST_SUSPECTS]),
        num_suspect_pairs=len(suspects),
    )


def leakage_lines(leakage: Leakage, manifest: Manifest) -> list[str]:
    """What there is to warn about, a sentence each."""
    lines = []
    if leakage.shared_speakers:
        lines.append(
            f"{len(leakage.shared_speakers)} of the {len(manifest.speakers)} test speakers bear names that were "
            f"trained on ({_few(leakage.shared_speakers)}): if they are the same people, the error rates are too good"
        )
    if leakage.calibration_speakers:
        lines.append(
            f"{len(leakage.calibration_speakers)} of the {len(manifest.speakers)} test speakers bear names that the "
            f"calibration learnt from ({_few(leakage.calibration_speakers)}): its loss may look too small"
        )
    if leakage.shared_recordings:
        names = [manifest.id[found.row] for found in leakage.shared_recordings]
        lines.append(
            f"{len(names)} of the {len(manifest)} test recordings were trained on ({_few(names)}): "
            "the error rates are too good; leave them out"
        )
    if leakage.num_suspect_pairs:
        nearest = leakage.suspect_pairs[0]
        lines.append(
            f"{leakage.num_suspect_pairs} pairs of two speakers' recordings are nearer than all but 1 % of one "
            f"speaker's, such as {manifest.id[nearest.a]} and {manifest.id[nearest.b]} (cosine "
            f"{nearest.cosine:.3f}): listen whether they are mislabelled"
        )
    return lines


def _shared_recordings(manifest: Manifest, training: Manifest) -> list[SharedRecording]:
    """By place (file and start), and by the bytes of whole files."""
    training = training.take(training.split != TEST)
    trained_at = dict(_places(training))
    by_size: defaultdict[int, list[str]] = defaultdict(list)
    if not training.start_s.any():
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
    has_segments = bool(manifest.start_s.any())
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
    """Bytes of a file that is there, None of one that is not."""
    return os.path.getsize(path) if Path(path).is_file() else None


def _suspect_pairs(embeddings: ArrayLike, trials: Trials) -> list[SuspectPair]:
    cosines = cosine_scores(embeddings, trials)
    bound = np.quantile(cosines[trials.target], SUSPECT_QUANTILE)
    at = np.flatnonzero(~trials.target & (cosines > bound))
    at = at[np.argsort(-cosines[at], kind="stable")]
    a = np.minimum(trials.enroll[at], trials.test[at]).tolist()
    b = np.maximum(trials.enroll[at], trials.test[at]).tolist()
    return [SuspectPair(a=i, b=j, cosine=float(c)) for i, j, c in zip(a, b, cosines[at].tolist(), strict=True)]


def _few(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:3]) + (", ..." if len(listed) > 3 else "")
