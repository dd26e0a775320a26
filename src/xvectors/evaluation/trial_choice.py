"""Which trials a corpus is measured on. In: its manifest, and a trial list or none. Out: pairs of its rows, in words
where they come from, and what was wrong with the list."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xvectors.corpus import Manifest
from xvectors.errors import ManifestError
from xvectors.text import agree, count
from xvectors.trials import RecordingRows, TrialList, Trials, all_pairs, count_pairs, read_trials, sample_trials

MOST_PAIRS = 5_000_000
SEED = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class ChosenTrials:
    """Trials between rows of a manifest; `findings` says what was wrong with the list, a line each."""

    trials: Trials
    source: str
    findings: tuple[str, ...] = ()


def choose_trials(manifest: Manifest, path: str | Path | None, embedded_rows: ArrayLike | None = None) -> ChosenTrials:
    """All pairs of the rows, sampled where these are more than 5 million, or the trials of the list at `path`.

    Parameters
    ----------
    embedded_rows
        [n] the rows of the manifest that could be embedded, by default all. Trials are pairs of places in this array;
        those of a list that name another row are counted and left out.

    Raises
    ------
    ManifestError
        No trials of a kind; a list that is no such list, or names recordings that the manifest does not have.
    """
    rows = np.arange(len(manifest)) if embedded_rows is None else np.asarray(embedded_rows)
    if path is not None:
        return _listed(manifest, Path(path), rows)
    speakers = manifest.speaker_index[rows]
    pairs = sum(count_pairs(speakers))
    if pairs <= MOST_PAIRS:
        return ChosenTrials(trials=all_pairs(speakers), source="all pairs")
    per_speaker = max(1, MOST_PAIRS // (2 * len(np.unique(speakers))))
    trials = sample_trials(speakers, per_speaker=per_speaker, seed=SEED)
    source = (
        f"{len(trials):,} of all {pairs:,} pairs, at most {per_speaker:,} target and {per_speaker:,} non-target trials "
        f"a speaker, seed {SEED}"
    )
    return ChosenTrials(trials=trials, source=source)


def _listed(manifest: Manifest, path: Path, rows: NDArray[np.int64]) -> ChosenTrials:
    trial_list = read_trials(path)
    resolved = trial_list.resolve(_names_that_fit(manifest, trial_list))
    place = np.full(len(manifest), -1, dtype=np.int32)
    place[rows] = np.arange(len(rows), dtype=np.int32)
    enroll, test = place[resolved.trials.enroll], place[resolved.trials.test]
    usable = (enroll >= 0) & (test >= 0)
    findings = list(resolved.findings.lines())
    if not usable.all():
        lost = len(usable) - np.count_nonzero(usable)
        findings.append(f"{lost:,} of {len(usable):,} trials of recordings that could not be embedded, left out")
    trials = Trials(enroll=enroll[usable], test=test[usable], target=resolved.trials.target[usable])
    for kind, number in (("target", trials.num_target), ("non-target", trials.num_nontarget)):
        if not number:
            raise ManifestError(f"{path}: no {kind} trials are left; error rates need trials of both kinds")
    same = manifest.speaker_index[rows[trials.enroll]] == manifest.speaker_index[rows[trials.test]]
    wrong = np.flatnonzero(same != trials.target)
    if len(wrong):
        at = wrong[0]
        names = [manifest.id[int(rows[side[at]])] for side in (trials.enroll, trials.test)]
        kind = "target" if trials.target[at] else "non-target"
        raise ManifestError(
            f"{path}: {count(len(wrong), 'trial')} {agree(len(wrong), 'contradicts', 'contradict')} the "
            f"speakers of the corpus, such as the {kind} trial "
            f"{names[0]} {names[1]}; correct the labels or the corpus"
        )
    return ChosenTrials(trials=trials, source=str(path), findings=tuple(findings))


def _names_that_fit(manifest: Manifest, trial_list: TrialList) -> RecordingRows:
    """The names of the recordings by which the list knows most of them: ids, paths, or the files' names."""
    return max(_namings(manifest), key=lambda naming: np.count_nonzero(naming.rows(trial_list.names) >= 0))


def _namings(manifest: Manifest) -> Iterator[RecordingRows]:
    yield RecordingRows(manifest.id)  # ids are unique
    paths = list(manifest.path)
    for names in (paths, [Path(path).name for path in paths]):
        if len(set(names)) == len(names):
            yield RecordingRows(names)
