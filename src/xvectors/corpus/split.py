"""Split a corpus: speakers into train+val and test, and the utterances of the former into train and val.

The order comes from keyed hashes of the names, so it does not depend on the process or the order of the rows.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xvectors.corpus.columns import NO_SPLIT, TEST, TRAIN, VAL
from xvectors.corpus.manifest import Manifest
from xvectors.errors import ManifestError
from xvectors.text import short_repr

logger = logging.getLogger(__name__)

AUTO = -1.0
"""As a proportion: TEST_PROP or HELD_OUT_PROP, or more, to measure on at least ENOUGH speakers if these are at most
MAX_MEASURED_SHARE of all."""
TEST_PROP = 0.05
HELD_OUT_PROP = 0.1
ENOUGH = 10
"""With fewer speakers, error rates and calibrations depend too much on the individual voices."""
MAX_MEASURED_SHARE = 0.2
MIN_TO_HOLD_OUT_OF = 10
"""With fewer training speakers none are held out: three would be too many to lose."""
MIN_HELD_OUT = 3
"""With two speakers, all non-target trials would compare one pair of voices."""
MAX_HELD_OUT = 200
"""19,900 pairs of voices suffice for an error rate and a calibration."""


@short_repr()
@dataclass(frozen=True, eq=False)
class Split:
    """The split of a corpus.

    Attributes
    ----------
    assignment : int8 [rows], TRAIN, VAL, TEST, or NO_SPLIT for rows that a subset leaves out
    train_speakers, test_speakers : names in seeded order
    held_out_speakers : names; all their rows are in VAL, whose other rows are of train speakers
    """

    assignment: NDArray[np.int8]
    train_speakers: tuple[str, ...]
    test_speakers: tuple[str, ...]
    held_out_speakers: tuple[str, ...] = ()


def split_corpus(
    manifest: Manifest,
    *,
    train_test_prop: float = 0.95,
    train_val_prop: float = 0.9,
    held_out_prop: float = 0.0,
    seed: int = 0,
    keep_sessions: bool = False,
    speaker_subset: Sequence[int] | None = None,
) -> Split:
    """Split speakers into train+val and test, and the utterances of the former into train and val.

    Parameters
    ----------
    train_test_prop
        Share of the speakers for train+val, rounded. Below 1, at least 2 speakers of 4 or more (1 of 3) are for
        testing, so that there are trials. AUTO tests a twentieth of the speakers with several recordings, but at least
        10 if that is at most a fifth of them; at least half of them stay for training. If no speaker has several
        recordings, none are tested: there would be no target trials.
    train_val_prop
        Share of their utterances for training, over all speakers together: rounding is carried over to the next
        speaker. Each keeps at least one training utterance.
    held_out_prop
        Share of the train+val speakers that are held out: never trained on, with all utterances in val, for the error
        rate on unseen speakers during training and for the calibration. Above 0 it means 3 to 200 speakers if there
        are 10 or more, else none. AUTO is a tenth, but at least 10 speakers if that is at most a fifth of all.
        Speakers with one utterance are never held out, and half of the others stay for training.
    seed
        Determines the order of speakers and utterances.
    keep_sessions
        Whether all utterances of a session, of any speaker, are on one side of train/val. The share is then met as
        far as whole sessions allow; a speaker with a single session is for training.
    speaker_subset
        (train+val, test): keep only this many speakers, the first in the seeded order. Their rows have the same
        assignment as without a subset.

    Raises
    ------
    ManifestError
        For proportions that are neither AUTO nor within (0, 1], too few speakers, a subset larger than the corpus, and
        a speaker set to both test and train or val.

    Notes
    -----
    Rows keep a `split` set in the manifest, and their speakers stay on that side; the others are split. A speaker with
    all rows set to val is held out. A warning is logged if sessions leave nothing to validate on.
    """
    for name, share in (("train_test_prop", train_test_prop), ("train_val_prop", train_val_prop)):
        if not (0.0 < share <= 1.0 or (share == AUTO and name == "train_test_prop")):
            raise ManifestError(f"{name} is {share}; it must be above 0 and at most 1")
    if not (0.0 <= held_out_prop < 1.0 or held_out_prop == AUTO):
        raise ManifestError(f"held_out_prop is {held_out_prop}; it must be at least 0 and below 1")
    train, test = _divide_speakers(manifest, train_test_prop, seed)
    train, held_out = _hold_out(manifest, train, held_out_prop)
    if len(train) < 2:
        raise ManifestError(
            f"only {len(train)} of {len(manifest.speakers)} speakers for training with "
            f"train_test_prop={train_test_prop}, at least 2 are needed; add speakers or raise the proportion"
        )
    assignment = np.full(len(manifest), NO_SPLIT, dtype=np.int8)
    assignment[np.isin(manifest.speaker_index, test)] = TEST
    assignment[np.isin(manifest.speaker_index, held_out)] = VAL
    divide = _divide_sessions if keep_sessions else _divide_utterances
    divide(manifest, train, assignment, train_val_prop, seed)
    if speaker_subset is not None:
        train, test = _subset(train, test, speaker_subset)
        assignment[~np.isin(manifest.speaker_index, [*train, *test])] = NO_SPLIT
        held_out = []
    names = manifest.speakers
    return Split(assignment, *(tuple(names[s] for s in part) for part in (train, test, held_out)))


def _divide_speakers(manifest: Manifest, share: float, seed: int) -> tuple[list[int], list[int]]:
    """Return the speaker numbers for train+val and for test, both in seeded order."""
    count = len(manifest.speakers)
    in_test = np.zeros(count, dtype=np.bool_)
    in_train = np.zeros(count, dtype=np.bool_)
    in_test[manifest.speaker_index[manifest.split == TEST]] = True
    in_train[manifest.speaker_index[(manifest.split == TRAIN) | (manifest.split == VAL)]] = True
    for speaker in np.flatnonzero(in_test & in_train):
        raise ManifestError(
            f"speaker {manifest.speakers[speaker]!r} is set to test and to train or val in the split column; "
            "a test speaker must be unseen, so give all rows one side"
        )
    order = sorted(range(count), key=lambda s: _digest(seed, "speaker", manifest.speakers[s].encode(*_UTF8)))
    free = [s for s in order if not in_test[s] and not in_train[s]]
    if share == AUTO:
        taken = _take_for_test(manifest, free, int(in_test.sum()))
    else:
        num_test = len(free) - round(share * len(free))
        if free and share < 1.0:
            num_test = max(num_test, min(_fewest_tested(count) - int(in_test.sum()), len(free)))
        taken = free[len(free) - num_test :]
    tested = in_test.copy()
    tested[taken] = True
    return [s for s in order if not tested[s]], [s for s in order if tested[s]]


def _take_for_test(manifest: Manifest, free: list[int], num_given: int) -> list[int]:
    """Choose the speakers to test under AUTO, in addition to those of the split column."""
    sizes = np.bincount(manifest.speaker_index, minlength=len(manifest.speakers))
    num_several = int((sizes > 1).sum())
    several = [s for s in free if sizes[s] > 1]
    wanted = max(_enough(num_several, TEST_PROP, num_several), _fewest_tested(len(sizes))) - num_given
    count = max(0, min(wanted, num_several // 2, len(several)))
    taken = several[len(several) - count :]
    if taken and count < wanted < 3:  # impostors, for whom one recording is enough
        single = [s for s in free if sizes[s] == 1]
        taken += single[len(single) - (wanted - count) :]
    return taken


def _fewest_tested(num_speakers: int) -> int:
    return 2 if num_speakers >= 4 else num_speakers - 2


def _enough(num_speakers: int, share: float, num_all: int) -> int:
    """Return a share of the speakers, but at least ENOUGH if that is at most a fifth of all."""
    return max(round(share * num_speakers), min(ENOUGH, int(MAX_MEASURED_SHARE * num_all)))


def _hold_out(manifest: Manifest, train: list[int], share: float) -> tuple[list[int], list[int]]:
    """Separate the held-out speakers from `train`: those set to val throughout, and a share of the free ones."""
    sizes = np.bincount(manifest.speaker_index, minlength=len(manifest.speakers))
    in_val = np.bincount(manifest.speaker_index[manifest.split == VAL], minlength=len(sizes))
    is_set = np.bincount(manifest.speaker_index[manifest.split != NO_SPLIT], minlength=len(sizes)) > 0
    given = [s for s in train if in_val[s] == sizes[s]]
    count = 0
    if share != 0 and len(train) >= MIN_TO_HOLD_OUT_OF:
        several = int((sizes > 1).sum())
        wanted = _enough(len(train), HELD_OUT_PROP, several) if share == AUTO else round(share * len(train))
        # keep half of the speakers with several recordings: the others teach little about what a voice has in common
        left = sum(sizes[s] > 1 for s in train) - (several + 1) // 2
        most = max(min(MAX_HELD_OUT, left), 0)
        count = min(max(MIN_HELD_OUT, wanted), most) - len(given)
        if len(given) + count < MIN_HELD_OUT:
            count = 0
    free = [s for s in train if not is_set[s] and sizes[s] > 1]
    chosen = {*given, *free[len(free) - max(count, 0) :]}
    return [s for s in train if s not in chosen], [s for s in train if s in chosen]


def _divide_utterances(
    manifest: Manifest, speakers: list[int], assignment: NDArray[np.int8], share: float, seed: int
) -> None:
    """Set TRAIN and VAL in `assignment`, speaker by speaker, carrying over the rounding."""
    by_speaker = np.argsort(manifest.speaker_index, kind="stable")
    ends = np.cumsum(np.bincount(manifest.speaker_index, minlength=len(manifest.speakers)))
    starts = ends - np.bincount(manifest.speaker_index, minlength=len(manifest.speakers))
    owed = 0.0
    for speaker in speakers:
        rows = by_speaker[starts[speaker] : ends[speaker]]
        fixed = manifest.split[rows]
        assignment[rows] = np.where(fixed == NO_SPLIT, TRAIN, fixed)
        free = rows[fixed == NO_SPLIT]
        if not len(free):
            continue
        owed += (1.0 - share) * len(free)
        # keep one row for training, unless the split column already does
        available = len(free) if TRAIN in fixed else len(free) - 1
        for _, row in sorted((_digest(seed, "utterance", _bytes(manifest, row)), row) for row in free.tolist()):
            if available > 0 and abs(owed - 1) < abs(owed):
                assignment[row] = VAL
                owed -= 1
                available -= 1
        # do not take the share of speakers with a single utterance from the next speaker at once
        owed = min(owed, 1.0)


def _divide_sessions(
    manifest: Manifest, speakers: list[int], assignment: NDArray[np.int8], share: float, seed: int
) -> None:
    """Like `_divide_utterances`, by whole sessions of any speaker; a row without a session is its own."""
    sessions = manifest.session_index
    rows = np.flatnonzero(np.isin(manifest.speaker_index, speakers))
    is_set = manifest.split[rows] != NO_SPLIT
    assignment[rows] = np.where(is_set, manifest.split[rows], TRAIN)
    given, free = rows[is_set], rows[~is_set]
    # rows of a session follow those that the split column sets; training wins if it names both sides
    for side in (VAL, TRAIN):
        followed = np.unique(sessions[given[manifest.split[given] == side]])
        follows = (sessions[free] >= 0) & np.isin(sessions[free], followed)
        assignment[free[follows]] = side
    undecided = free[(sessions[free] < 0) | ~np.isin(sessions[free], sessions[given])]

    unit_of = np.where(sessions[undecided] >= 0, sessions[undecided], -1 - undecided)
    units = _split_by(undecided, unit_of) if len(undecided) else []
    units.sort(key=lambda unit: _unit_key(manifest, unit, seed))
    members = [np.unique(manifest.speaker_index[unit]).tolist() for unit in units]
    units_of: dict[int, list[int]] = {speaker: [] for speaker in speakers}
    for number, who in enumerate(members):
        for speaker in who:
            units_of[speaker].append(number)
    trains_already = np.setdiff1d(rows, undecided)
    trains_already = trains_already[assignment[trains_already] == TRAIN]
    left = {speaker: len(mine) for speaker, mine in units_of.items()}
    for speaker in np.unique(manifest.speaker_index[trains_already]).tolist():
        left[speaker] += 1
    free_rows = np.bincount(manifest.speaker_index[free], minlength=len(manifest.speakers))

    owed, in_val = 0.0, set()
    for speaker in speakers:
        owed += (1.0 - share) * int(free_rows[speaker])
        for number in units_of[speaker]:
            unit, who = units[number], members[number]
            fits = number not in in_val and abs(owed - len(unit)) < abs(owed)
            if fits and all(left[other] > 1 for other in who):
                assignment[unit] = VAL
                owed -= len(unit)
                in_val.add(number)
                for other in who:
                    left[other] -= 1
        owed = min(owed, float(max((len(units[number]) for number in units_of[speaker]), default=1)))
    _check_all_train(manifest, speakers, assignment)
    if share < 1.0 and not (assignment[rows] == VAL).any():
        logger.warning(
            "keep_sessions leaves nothing to validate on: there are too few sessions, or each holds too much of the "
            "corpus; give a session name to recordings made together only"
        )


def _split_by(rows: NDArray[np.int64], keys: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    order = np.argsort(keys, kind="stable")
    return np.split(rows[order], np.flatnonzero(np.diff(keys[order])) + 1)


def _check_all_train(manifest: Manifest, speakers: list[int], assignment: NDArray[np.int8]) -> None:
    training = np.zeros(len(manifest.speakers), dtype=np.bool_)
    training[manifest.speaker_index[assignment == TRAIN]] = True
    for speaker in speakers:
        if not training[speaker]:
            raise ManifestError(
                f"speaker {manifest.speakers[speaker]!r} speaks only in sessions that the split column sets to val; "
                "set one of them to train, or disable keep_sessions"
            )


def _subset(train: list[int], test: list[int], wanted: Sequence[int]) -> tuple[list[int], list[int]]:
    num_train, num_test = wanted
    if num_train < 2 or num_test < 0:
        raise ManifestError(
            f"speaker_subset is {list(wanted)}; it takes at least 2 speakers for train+val and 0 for test"
        )
    for name, asked, there in (("train+val", num_train, len(train)), ("test", num_test, len(test))):
        if asked > there:
            raise ManifestError(
                f"speaker_subset asks for {asked} {name} speakers, there are {there}; "
                "ask for fewer or change train_test_prop"
            )
    return train[:num_train], test[:num_test]


_UTF8 = ("utf-8", "surrogateescape")


def _bytes(manifest: Manifest, row: int) -> bytes:
    offsets = manifest.id.offsets
    return manifest.id.data[offsets[row] : offsets[row + 1]].tobytes()


def _unit_key(manifest: Manifest, unit: NDArray[np.int64], seed: int) -> bytes:
    session = int(manifest.session_index[unit[0]])
    if session < 0:
        return _digest(seed, "utterance", _bytes(manifest, int(unit[0])))
    return _digest(seed, "session", manifest.sessions[session].encode(*_UTF8))


def _digest(seed: int, kind: str, name: bytes) -> bytes:
    return hashlib.blake2b(name, digest_size=16, key=f"{kind} {seed}".encode()).digest()
