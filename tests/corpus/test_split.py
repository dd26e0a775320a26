"""Splits: exact counts, no speaker on both sides, and the same answer however the rows stand."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xvectors.corpus import NO_SPLIT, TEST, TRAIN, VAL, Manifest, Split, split_corpus
from xvectors.corpus.split import AUTO
from xvectors.errors import ManifestError


def corpus(
    counts: list[int], sessions: int = 0, splits: dict[int, str] | None = None, shared: bool = False
) -> Manifest:
    """Speaker number s with counts[s] utterances, dealt out to so many sessions of its own, or shared by all."""
    rows = []
    for speaker, count in enumerate(counts):
        for utterance in range(count):
            row = {"path": f"s{speaker:04d}/{utterance}.wav", "speaker": f"s{speaker:04d}"}
            whose = "" if shared else f"s{speaker:04d}-"
            row["session"] = f"{whose}v{utterance % sessions}" if sessions else ""
            row["split"] = (splits or {}).get(len(rows), "")
            rows.append(row)
    return Manifest.from_rows(rows)


def counts_of(split: Split) -> tuple[int, int, int, int]:
    return tuple(int((split.assignment == side).sum()) for side in (TRAIN, VAL, TEST, NO_SPLIT))


def check(manifest: Manifest, split: Split) -> None:
    """What holds for every split."""
    names = np.array(manifest.speakers)[manifest.speaker_index]
    train, val, test = (set(names[split.assignment == side]) for side in (TRAIN, VAL, TEST))
    assert train == set(split.train_speakers)
    assert test == set(split.test_speakers)
    assert val <= train
    assert not train & test


def test_the_laboratory_counts() -> None:
    split = split_corpus(corpus([10] * 1094))
    assert (len(split.train_speakers), len(split.test_speakers)) == (1039, 55)
    assert counts_of(split) == (9351, 1039, 550, 0)


def test_the_share_is_met_over_speakers_of_three_utterances() -> None:
    manifest = corpus([3] * 1000)
    split = split_corpus(manifest)
    assert counts_of(split) == (2565, 285, 150, 0)
    check(manifest, split)


@pytest.mark.parametrize(("speakers", "tested"), [(2, 0), (3, 1), (4, 2), (5, 2), (20, 2), (40, 2), (60, 3), (100, 5)])
def test_small_corpora_keep_two_test_speakers(speakers: int, tested: int) -> None:
    assert len(split_corpus(corpus([4] * speakers)).test_speakers) == tested
    assert split_corpus(corpus([4] * speakers), train_test_prop=1.0).test_speakers == ()


@settings(deadline=None, max_examples=60)
@given(
    counts=st.lists(st.integers(1, 12), min_size=4, max_size=40),
    sessions=st.integers(0, 4),
    train_test_prop=st.floats(0.6, 1.0),
    train_val_prop=st.floats(0.3, 1.0),
    seed=st.integers(0, 5),
    keep_sessions=st.booleans(),
    shared=st.booleans(),
)
def test_every_split(
    counts: list[int],
    sessions: int,
    train_test_prop: float,
    train_val_prop: float,
    seed: int,
    keep_sessions: bool,
    shared: bool,
) -> None:
    manifest = corpus(counts, sessions, shared=shared)
    options = {"train_test_prop": train_test_prop, "train_val_prop": train_val_prop, "seed": seed}
    split = split_corpus(manifest, keep_sessions=keep_sessions, **options)
    check(manifest, split)
    if keep_sessions and sessions:
        sides: dict[int, set[int]] = {}
        for row, side in enumerate(split.assignment.tolist()):
            sides.setdefault(int(manifest.session_index[row]), set()).add(side)
        assert not any({TRAIN, VAL} <= side for side in sides.values())
    shuffled = np.random.default_rng(seed).permutation(len(manifest))
    again = split_corpus(manifest.take(shuffled), keep_sessions=keep_sessions, **options)
    assert again.train_speakers == split.train_speakers
    np.testing.assert_array_equal(again.assignment, split.assignment[shuffled])


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(2, 30), min_size=4, max_size=40), st.floats(0.55, 1.0))
def test_the_share_of_val_is_right_to_one_utterance(counts: list[int], share: float) -> None:
    split = split_corpus(corpus(counts), train_val_prop=share)
    train, val, _, _ = counts_of(split)
    assert abs(val - (1 - share) * (train + val)) <= 1.0


def test_speakers_with_one_utterance_train_and_nobody_pays_for_all_of_them() -> None:
    manifest = corpus([1] * 200 + [10] * 5)
    split = split_corpus(manifest, train_test_prop=1.0)
    per_speaker = Counter(manifest.speaker_index[split.assignment == VAL].tolist())
    assert all(count <= 3 for count in per_speaker.values())
    check(manifest, split)


def test_a_single_session_stays_in_train() -> None:
    manifest = corpus([10] * 6, sessions=1)
    assert counts_of(split_corpus(manifest, keep_sessions=True)) == (40, 0, 20, 0)
    assert counts_of(split_corpus(manifest)) == (36, 4, 20, 0)


def test_sessions_meet_the_share_as_far_as_they_go_whole() -> None:
    split = split_corpus(corpus([20] * 50, sessions=4), train_test_prop=1.0, keep_sessions=True)
    assert counts_of(split) == (900, 100, 0, 0)


def test_another_seed_another_split_and_new_rows_disturb_little() -> None:
    manifest = corpus([10] * 100)
    split = split_corpus(manifest)
    assert set(split_corpus(manifest, seed=1).test_speakers) != set(split.test_speakers)
    larger = split_corpus(corpus([10] * 101))
    assert len(set(larger.test_speakers) & set(split.test_speakers)) >= 4
    order = [name for name in larger.train_speakers if name != "s0100"]
    both = [name for name in split.train_speakers if name in set(order)]
    assert [name for name in order if name in set(both)] == both


def test_the_order_is_the_same_in_another_process() -> None:
    code = (
        "from xvectors.corpus import *\n"
        "rows = [{'path': f'{s}/{u}', 'speaker': f'{s}'} for s in range(9) for u in range(4)]\n"
        "split = split_corpus(Manifest.from_rows(rows))\n"
        "print(split.train_speakers, split.test_speakers, split.assignment.tolist())"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1


def test_a_full_split_column_overrides() -> None:
    words = {row: ("train", "train", "val")[row % 3] for row in range(15)} | dict.fromkeys(range(15, 18), "test")
    manifest = corpus([3] * 6, splits=words)
    split = split_corpus(manifest, train_test_prop=0.5)
    np.testing.assert_array_equal(split.assignment, manifest.split)
    assert split.test_speakers == ("s0005",)
    assert set(split.train_speakers) == {"s0000", "s0001", "s0002", "s0003", "s0004"}


def test_rows_without_split_are_divided_beside_the_others() -> None:
    words = {0: "test", 10: "val", 11: "train", 20: "train"}
    manifest = corpus([10] * 40, splits=words)
    split = split_corpus(manifest)
    check(manifest, split)
    for row, word in words.items():
        assert split.assignment[row] == {"train": TRAIN, "val": VAL, "test": TEST}[word]
    assert (split.assignment[:10] == TEST).all()
    # 37 speakers are free: 35 of them train; one test speaker was named.
    assert len(split.test_speakers) == 3
    train, val, test, _ = counts_of(split)
    assert test == 30
    assert abs(val - 38) <= 2
    assert train + val == 370


def test_sessions_follow_the_rows_that_the_column_sets() -> None:
    manifest = corpus([8] * 6, sessions=4, splits={0: "val", 1: "train"})
    split = split_corpus(manifest, keep_sessions=True)
    assert split.assignment[[0, 4]].tolist() == [VAL, VAL]
    assert split.assignment[[1, 5]].tolist() == [TRAIN, TRAIN]


def conversations(pairs: int, each: int) -> Manifest:
    """Two speakers a pair; every session is a conversation of the two, two utterances of each."""
    rows = [
        {"path": f"p{p}/c{c}/{s}-{u}.wav", "speaker": f"p{p}-{s}", "session": f"p{p}-c{c}"}
        for p in range(pairs)
        for c in range(each)
        for s in "ab"
        for u in range(2)
    ]
    return Manifest.from_rows(rows)


def test_a_session_of_two_speakers_is_on_one_side_for_both() -> None:
    manifest = conversations(pairs=20, each=5)
    split = split_corpus(manifest, train_test_prop=1.0, train_val_prop=0.8, keep_sessions=True)
    check(manifest, split)
    assert counts_of(split) == (320, 80, 0, 0)
    for session in range(len(manifest.sessions)):
        assert len(set(split.assignment[manifest.session_index == session].tolist())) == 1


def test_speakers_keep_training_utterances_when_their_sessions_are_shared() -> None:
    """b speaks only in conversations with a, who has others: a conversation is spared only if both can."""
    rows = [
        {"path": f"{s}{c}{u}.wav", "speaker": s, "session": f"c{c}"}
        for s, c, u in [
            ("a", 0, 0),
            ("b", 0, 0),
            ("a", 1, 0),
            ("a", 2, 0),
            ("a", 3, 0),
            ("x", 4, 0),
            ("x", 5, 0),
            ("x", 6, 0),
        ]
    ]
    for seed in range(20):
        split = split_corpus(
            Manifest.from_rows(rows), train_test_prop=1.0, train_val_prop=0.4, keep_sessions=True, seed=seed
        )
        assert split.assignment[:2].tolist() == [TRAIN, TRAIN]
        assert (split.assignment == VAL).sum() >= 3


def test_sessions_that_leave_nothing_to_validate_on_are_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    split = split_corpus(corpus([8] * 10, sessions=2, shared=True), train_test_prop=1.0, keep_sessions=True)
    assert counts_of(split) == (80, 0, 0, 0)
    assert "keep_sessions leaves nothing to validate on" in caplog.text
    assert "recordings made together only" in caplog.text


def test_a_speaker_whose_only_session_the_column_sets_to_val() -> None:
    rows = [
        {"path": "a.wav", "speaker": "a", "session": "c", "split": "val"},
        {"path": "b.wav", "speaker": "b", "session": "c"},
    ]
    rows += [{"path": f"a{i}.wav", "speaker": "a", "session": "d", "split": "train"} for i in range(2)]
    with pytest.raises(ManifestError, match=r"speaker 'b' speaks only in sessions that the split column sets to val"):
        split_corpus(Manifest.from_rows(rows), train_test_prop=1.0, keep_sessions=True)


def test_a_subset_is_the_start_of_the_order() -> None:
    manifest = corpus([10] * 100)
    whole = split_corpus(manifest)
    split = split_corpus(manifest, speaker_subset=[20, 3])
    assert split.train_speakers == whole.train_speakers[:20]
    assert split.test_speakers == whole.test_speakers[:3]
    assert counts_of(split) == (180, 20, 30, 770)
    kept = split.assignment != NO_SPLIT
    np.testing.assert_array_equal(split.assignment[kept], whole.assignment[kept])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train_test_prop": 0.0}, "train_test_prop is 0.0; it must be above 0 and at most 1"),
        ({"train_val_prop": 1.1}, "train_val_prop is 1.1; it must be above 0 and at most 1"),
        ({"train_val_prop": float("nan")}, "train_val_prop is nan"),
        ({"train_test_prop": 0.1}, "only 1 of 10 speakers for training with train_test_prop=0.1, at least 2"),
        ({"speaker_subset": [9, 1]}, r"asks for 9 train\+val speakers, there are 8"),
        ({"speaker_subset": [8, 3]}, "asks for 3 test speakers, there are 2"),
        ({"speaker_subset": [1, 1]}, "speaker_subset is .1, 1.; it takes at least 2"),
    ],
)
def test_impossible_requests(options: dict[str, object], message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        split_corpus(corpus([5] * 10), **options)


def test_contradictory_split_columns() -> None:
    with pytest.raises(ManifestError, match="speaker 's0000' is set to test and to train or val"):
        split_corpus(corpus([3] * 5, splits={0: "test", 1: "val"}))
    with pytest.raises(ManifestError, match="only 1 of 1 speakers"):
        split_corpus(corpus([5]))


def test_speakers_held_out() -> None:
    manifest = corpus([4] * 20)
    split = split_corpus(manifest, train_test_prop=0.8, held_out_prop=0.2)
    assert (len(split.train_speakers), len(split.test_speakers), len(split.held_out_speakers)) == (13, 4, 3)
    assert not set(split.held_out_speakers) & {*split.train_speakers, *split.test_speakers}
    names = np.array(manifest.speakers)[manifest.speaker_index]
    of_held_out = split.assignment[np.isin(names, split.held_out_speakers)]
    assert (of_held_out == VAL).all()
    assert len(of_held_out) == 12
    # the test speakers are those of a division that holds nobody out
    assert split.test_speakers == split_corpus(manifest, train_test_prop=0.8).test_speakers


def test_at_least_three_of_ten_are_held_out_none_of_nine_and_two_hundred_of_many() -> None:
    assert len(split_corpus(corpus([4] * 10), train_test_prop=1.0, held_out_prop=0.05).held_out_speakers) == 3
    assert len(split_corpus(corpus([2] * 500), train_test_prop=1.0, held_out_prop=0.5).held_out_speakers) == 200
    assert split_corpus(corpus([4] * 9), train_test_prop=1.0, held_out_prop=0.05).held_out_speakers == ()


def test_speakers_with_one_utterance_are_not_held_out_nor_all_of_those_with_several() -> None:
    split = split_corpus(corpus([1] * 17 + [4] * 8), train_test_prop=1.0, held_out_prop=0.5)
    assert len(split.held_out_speakers) == 4
    assert set(split.held_out_speakers) < {f"s{number:04d}" for number in range(17, 25)}
    # two of three would be too few to calibrate on
    assert split_corpus(corpus([1] * 17 + [4] * 3), train_test_prop=1.0, held_out_prop=0.5).held_out_speakers == ()


@pytest.mark.parametrize(
    ("speakers", "trained", "held_out", "tested"),
    [
        (4, 2, 0, 2),
        (9, 7, 0, 2),
        (12, 7, 3, 2),
        (20, 12, 4, 4),
        (50, 30, 10, 10),
        (125, 103, 12, 10),
        (400, 342, 38, 20),
    ],
)
def test_ten_speakers_to_test_and_to_calibrate_on_where_the_corpus_affords_them(
    speakers: int, trained: int, held_out: int, tested: int
) -> None:
    manifest = corpus([4] * speakers)
    split = split_corpus(manifest, train_test_prop=AUTO, held_out_prop=AUTO)
    parts = (split.train_speakers, split.held_out_speakers, split.test_speakers)
    assert tuple(map(len, parts)) == (trained, held_out, tested)
    assert len({name for part in parts for name in part}) == speakers
    again = split_corpus(manifest, train_test_prop=AUTO, held_out_prop=AUTO)
    assert (again.assignment == split.assignment).all()
    if speakers >= 20:
        other = split_corpus(manifest, train_test_prop=AUTO, held_out_prop=AUTO, seed=1)
        assert set(other.test_speakers) != set(split.test_speakers)


def test_the_usual_division_is_what_it_was() -> None:
    manifest = corpus([20] * 125)
    chosen, tenth = (split_corpus(manifest, train_test_prop=0.8, held_out_prop=share) for share in (AUTO, 0.1))
    assert (len(chosen.train_speakers), len(chosen.held_out_speakers), len(chosen.test_speakers)) == (90, 10, 25)
    assert (chosen.assignment == tenth.assignment).all()


def test_the_speakers_with_several_recordings_are_shared_out() -> None:
    manifest = corpus([16] * 3 + [1] * 9)
    for seed in range(5):
        split = split_corpus(manifest, train_test_prop=AUTO, held_out_prop=AUTO, seed=seed)
        several = {"s0000", "s0001", "s0002"}
        assert len(several & set(split.train_speakers)) == 2
        assert len(several & set(split.test_speakers)) == 1
        assert len(split.test_speakers) == 2  # with an impostor
        assert split.held_out_speakers == ()
        assert int((split.assignment != TEST).sum()) == 2 * 16 + 8
    # nobody speaks twice: there would be no target trial
    alone = split_corpus(corpus([1] * 30), train_test_prop=AUTO, held_out_prop=AUTO)
    assert (alone.test_speakers, alone.held_out_speakers, len(alone.train_speakers)) == ((), (), 30)
    # of many, those who speak twice are tested
    many = split_corpus(corpus([3] * 60 + [1] * 300), train_test_prop=AUTO, held_out_prop=AUTO)
    assert len(many.test_speakers) == 10
    assert max(many.test_speakers) < "s0060"
    assert set(many.held_out_speakers) < {f"s{number:04d}" for number in range(60)}


def test_given_test_speakers_are_kept_and_count() -> None:
    given = dict.fromkeys(range(12), "test") | dict.fromkeys(range(12, 200), "train")
    split = split_corpus(corpus([4] * 50, splits=given), train_test_prop=AUTO, held_out_prop=AUTO)
    assert set(split.test_speakers) == {"s0000", "s0001", "s0002"}
    given = dict.fromkeys(range(12), "test")
    split = split_corpus(corpus([4] * 50, splits=given), train_test_prop=AUTO, held_out_prop=AUTO)
    assert {"s0000", "s0001", "s0002"} < set(split.test_speakers)
    assert len(split.test_speakers) == 10


def test_a_speaker_set_to_val_throughout_is_held_out() -> None:
    split = split_corpus(corpus([2] * 5, splits={0: "val", 1: "val"}), train_test_prop=1.0)
    assert split.held_out_speakers == ("s0000",)
    assert split.assignment.tolist()[:2] == [VAL, VAL]
    with pytest.raises(ManifestError, match=r"held_out_prop is 1\.0; it must be at least 0 and below 1"):
        split_corpus(corpus([2] * 5), held_out_prop=1.0)
