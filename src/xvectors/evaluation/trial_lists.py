"""Trial lists of a corpus: the trials that a system is measured on, and lists written to a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xvectors.corpus import Manifest, open_corpus
from xvectors.embeddings import are_embeddings, load_embeddings
from xvectors.errors import ManifestError
from xvectors.text import agree, count
from xvectors.trials import (
    RecordingRows,
    TrialList,
    Trials,
    all_pairs,
    count_pairs,
    read_trials,
    sample_trials,
    write_trials,
)
from xvectors.trials.sampling import Relation

MAX_PAIRS = 5_000_000
"""Largest number of trials for which all pairs are measured; more are sampled."""
MAX_WRITTEN_PAIRS = 50_000_000
"""Largest number of trials for which a list of all pairs is written, which takes some gigabytes."""
SEED = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class ChosenTrials:
    """Trials between rows of a manifest; `findings` lists the problems of a trial list, one line each."""

    trials: Trials
    source: str
    findings: tuple[str, ...] = ()


def choose_trials(manifest: Manifest, path: str | Path | None, embedded_rows: ArrayLike | None = None) -> ChosenTrials:
    """Choose the trials to measure on: the list at `path`, or all pairs, sampled if there are more than 5 million.

    Parameters
    ----------
    embedded_rows
        [n] the rows of the manifest that could be embedded, by default all. Trials are pairs of indices into this
        array; trials of a list with other rows are counted and left out.

    Raises
    ------
    ManifestError
        No trials of a kind; a file that is not a trial list or names recordings that are not in the manifest.
    """
    rows = np.arange(len(manifest)) if embedded_rows is None else np.asarray(embedded_rows)
    if path is not None:
        return _listed(manifest, Path(path), rows)
    speakers = manifest.speaker_index[rows]
    pairs = sum(count_pairs(speakers))
    if pairs <= MAX_PAIRS:
        return ChosenTrials(trials=all_pairs(speakers), source="all pairs")
    per_speaker = max(1, MAX_PAIRS // (2 * len(np.unique(speakers))))
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
    """Choose the names that match most of the list: ids, paths, or file names."""
    return max(_namings(manifest), key=lambda naming: np.count_nonzero(naming.rows(trial_list.names) >= 0))


def _namings(manifest: Manifest) -> Iterator[RecordingRows]:
    yield RecordingRows(manifest.id)  # ids are unique
    paths = list(manifest.path)
    for names in (paths, [Path(path).name for path in paths]):
        if len(set(names)) == len(names):
            yield RecordingRows(names)


def make_trials(
    source: str | Path,
    out: str | Path,
    *,
    metadata: str | Path | None = None,
    speaker_level: int | None = None,
    per_speaker: int | None = None,
    nontarget_gender: Relation = "any",
    target_session: Relation = "any",
    seed: int = 0,
    form: str = "csv",
) -> Trials:
    """Write a list of all pairs of recordings, or of `per_speaker` target and non-target trials for each speaker.

    `source` is a corpus, or embeddings that `xvectors embed` wrote, which hold no sessions. The other parameters are
    those of `sample_trials` and `write_trials`.

    Raises
    ------
    CheckpointError
        Missing or damaged embeddings.
    ManifestError
        A corpus that cannot be read, a missing column, no trials of a kind, more than 50 million pairs.
    ConfigError
        An unknown relation or form, `per_speaker` below 1.
    """
    names: Sequence[str]
    if are_embeddings(Path(source)):
        if target_session != "any":
            raise ManifestError(f"{source} does not say which recordings are of one session; name the corpus instead")
        arrays = load_embeddings(Path(source), "id", "speaker", "gender")
        names, speakers, genders, sessions = arrays["id"].tolist(), arrays["speaker"], arrays["gender"], None
    else:
        manifest = open_corpus(source, metadata=metadata, speaker_level=speaker_level)
        names, speakers, genders = list(manifest.id), np.asarray(manifest.speaker_index), manifest.gender
        sessions = manifest.session_index if manifest.sessions else None
    if per_speaker is None and (pairs := sum(count_pairs(speakers))) > MAX_WRITTEN_PAIRS:
        raise ManifestError(
            f"{source}: {len(names):,} recordings make {pairs:,} pairs, more than "
            f"{MAX_WRITTEN_PAIRS:,}; give --per-speaker N"
        )
    trials = sample_trials(
        speakers,
        per_speaker=per_speaker,
        gender=genders,
        session=sessions,
        nontarget_gender=nontarget_gender,
        target_session=target_session,
        seed=seed,
    )
    write_trials(out, trials, names, form=form)
    return trials
