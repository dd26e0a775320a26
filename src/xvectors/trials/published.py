"""Trial lists that are published with a corpus, with the ids of its prepared manifest as names.

VoxCeleb1-O, E and H are explained on the VoxCeleb site; the lists whose names end in 2 are the cleaned ones, which
papers report on. CN-Celeb's list is that of CN-Celeb.E.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xvectors.corpus.published import Found, Prepared
from xvectors.errors import ManifestError
from xvectors.text import count, first_few
from xvectors.trials.list_files import read_trials, write_trials
from xvectors.trials.names import without_suffix
from xvectors.trials.pairs import Trials


@dataclass(frozen=True, kw_only=True)
class PublishedList:
    """A published trial list: its name, its file, its number of trials, and the id of a recording that it names."""

    name: str
    file: str
    num_trials: int
    id_of: Callable[[str], str]


def _evaluated(name: str) -> str:
    """Return the id for `id00800-enroll` or `test/id00800-singing-01-002.wav`."""
    return f"eval/{without_suffix(name)}" if "/" in name else f"eval/enroll/{without_suffix(name)}"


LISTS = {
    "voxceleb": (
        PublishedList(name="VoxCeleb1-O", file="veri_test2.txt", num_trials=37_611, id_of=without_suffix),
        PublishedList(name="VoxCeleb1-E", file="list_test_all2.txt", num_trials=579_818, id_of=without_suffix),
        PublishedList(name="VoxCeleb1-H", file="list_test_hard2.txt", num_trials=550_894, id_of=without_suffix),
        PublishedList(name="VoxCeleb1-O-uncleaned", file="veri_test.txt", num_trials=37_720, id_of=without_suffix),
        PublishedList(name="VoxCeleb1-E-uncleaned", file="list_test_all.txt", num_trials=581_480, id_of=without_suffix),
        PublishedList(
            name="VoxCeleb1-H-uncleaned", file="list_test_hard.txt", num_trials=552_536, id_of=without_suffix
        ),
    ),
    "cn-celeb": (
        PublishedList(name="CN-Celeb-E", file="eval/lists/trials.lst", num_trials=3_484_292, id_of=_evaluated),
    ),
}
"""Lists by corpus."""


@dataclass(frozen=True, kw_only=True)
class WrittenList:
    """What became of a published list. `trials` is None if it was not written, and `why` then says why."""

    name: str
    num_trials: int = 0
    num_target: int = 0
    num_published: int = 0
    trials: Path | None = None
    recordings: Path | None = None
    why: str = ""

    def line(self) -> str:
        """Return the result as a line of text."""
        if self.trials is None:
            return f"{self.name}: not written: {self.why}"
        figures = f"{self.trials}: {count(self.num_trials, 'trial')}, {self.num_target:,} target"
        if self.num_trials == self.num_published:
            return f"{figures}, as published"
        return f"{figures}; published are {self.num_published:,}"


def write_published_trials(prepared: Prepared) -> list[WrittenList]:
    """Write the trial lists of a corpus that lie beside its archives or recordings.

    `NAME.trials.csv` in the prepared folder has the trials, `NAME.csv` the manifest of their recordings, for `xvectors
    evaluate --data NAME.csv --trials NAME.trials.csv`. A list of which recordings are missing is not written: error
    rates on the rest could not be compared.

    Raises
    ------
    ManifestError
        For a file that is not a trial list. StorageError if a file cannot be written.
    """
    found = Found((), prepared.places)
    rows: dict[str, int] = {}
    written = []
    for published in LISTS.get(prepared.corpus, ()):
        path = found.companion(published.file)
        if path is not None:
            rows = rows or {utterance_id: row for row, utterance_id in enumerate(prepared.manifest.id)}
            written.append(_written(published, path, prepared, rows))
    return written


def _written(published: PublishedList, path: Path, prepared: Prepared, rows: dict[str, int]) -> WrittenList:
    listed = read_trials(path, as_published=True)
    ids = [published.id_of(name) for name in listed.names]
    missing = [name for name, utterance_id in zip(listed.names, ids, strict=True) if utterance_id not in rows]
    if missing:
        why = f"{len(missing):,} of its {count(len(ids), 'recording')} are not there, such as {first_few(missing)}"
        return WrittenList(name=published.name, why=why)
    trials = Trials(enroll=listed.enroll, test=listed.test, target=listed.target)
    manifest = prepared.manifest.take(np.sort([rows[utterance_id] for utterance_id in ids]))
    _check_speakers(path, trials, [prepared.manifest.speaker_index[rows[each]] for each in ids], ids)
    recordings, out = (prepared.out / f"{published.name}{suffix}.csv" for suffix in ("", ".trials"))
    manifest.write_csv(recordings)
    write_trials(out, trials, ids)
    return WrittenList(
        name=published.name,
        num_trials=len(trials),
        num_target=trials.num_target,
        num_published=published.num_trials,
        trials=out,
        recordings=recordings,
    )


def _check_speakers(path: Path, trials: Trials, speakers: list[np.int32], ids: list[str]) -> None:
    """Raise ManifestError if the list and the folders disagree about who is the same speaker."""
    numbers = np.array(speakers)
    wrong = np.flatnonzero((numbers[trials.enroll] == numbers[trials.test]) != trials.target)
    if len(wrong):
        at = int(wrong[0])
        kind = "target" if trials.target[at] else "non-target"
        raise ManifestError(
            f"{path}: {count(len(wrong), 'trial')} contradict the folders of the speakers, such as the {kind} trial "
            f"{ids[trials.enroll[at]]} {ids[trials.test[at]]}; take the published list"
        )
