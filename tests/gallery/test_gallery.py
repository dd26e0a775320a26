"""Deciding who it is: open set, two systems, expiry, enrollment from several recordings."""

from __future__ import annotations

import itertools
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from support.commands import run
from support.conditions import record_conditions, some_conditions
from support.drawn_voices import OTHER, SYSTEM, Voices, make_voices
from support.tolerances import ROUNDING
from xvectors.audio.condition import unknown_conditions
from xvectors.backends import BACKENDS, LDA, PLDA, Backend, LengthNorm
from xvectors.corpus.synth import synthesize
from xvectors.encoder import SpeakerEncoder
from xvectors.errors import AudioError, ConfigError, GalleryError, ShapeError, UnknownSpeakerError
from xvectors.gallery import Gallery, Identification, SqliteStore, open_gallery
from xvectors.gallery.shortlist import SHORTLIST_SIZE
from xvectors.gallery.store import Voiceprints
from xvectors.trials import Trials
from xvectors.verification import Verifier, cosine_verifier
from xvectors.verification.speaker_models import model_speakers

START = datetime(2030, 5, 1, 12, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with SqliteStore(tmp_path / "gallery.sqlite", create=True) as opened:
        yield opened


@pytest.fixture
def gallery(store: SqliteStore, verifier: Verifier, clock: Clock) -> Gallery:
    return Gallery(store, system=SYSTEM, verifier=verifier, now=clock)


def test_one_name_is_decided_as_a_trial_is(gallery: Gallery, verifier: Verifier, voices: Voices) -> None:
    (enrolled,), _ = voices.record(0, 4.0)
    (test,), _ = voices.record(0, 2.0)
    gallery.enroll("alice", enrolled[None], [4.0])
    match = gallery.verify("alice", test, 2.0)
    trial = Trials(enroll=np.array([0]), test=np.array([1]), target=np.array([True]))
    score = verifier.score(np.stack([enrolled, test]), trial)
    (llr,) = verifier.llrs(score, [4.0], [2.0])
    assert match.score == pytest.approx(score[0], abs=ROUNDING)
    assert match.llr == pytest.approx(llr, abs=ROUNDING)
    assert (match.threshold, match.same_speaker) == (0.0, True)
    assert match.probability == pytest.approx(1 / (1 + np.exp(-llr)))
    (impostor,), _ = voices.record(1, 2.0)
    refused = gallery.verify("alice", impostor, 2.0)
    assert refused.same_speaker is False
    assert refused.llr < 0 < match.llr


def test_several_recordings_are_one_weighted_by_their_seconds(gallery: Gallery, voices: Voices) -> None:
    rows, seconds = voices.record(0, 3.0, 0.5, 1.5)
    gallery.enroll("in two steps", rows[:2], seconds[:2])
    gallery.enroll("in two steps", rows[2:], seconds[2:])
    gallery.enroll("joined", (np.array([0.6, 0.1, 0.3]) @ rows)[None], [5.0])
    (test,), _ = voices.record(0, 2.0)
    stepwise, joined = (gallery.verify(name, test, 2.0) for name in ("in two steps", "joined"))
    assert stepwise.score == pytest.approx(joined.score, abs=ROUNDING)
    assert stepwise.llr == pytest.approx(joined.llr, abs=1e-5)


def test_no_recording_counts_more_than_the_longest_that_the_calibration_knows(gallery: Gallery, voices: Voices) -> None:
    """5 s here. Whoever says that a recording lasts an hour does not outweigh the others."""
    (own,), _ = voices.record(0, 5.0)
    (other,), _ = voices.record(1, 5.0)
    (test,), _ = voices.record(0, 5.0)
    gallery.enroll("honest", [own, other], [5.0, 5.0])
    gallery.enroll("claimed", [own, other], [5.0, 3600.0])
    honest, claimed = (gallery.verify(name, test, 5.0) for name in ("honest", "claimed"))
    assert (claimed.score, claimed.llr) == (honest.score, honest.llr)


def test_identification_is_open_set(gallery: Gallery, voices: Voices) -> None:
    """Of 20 enrolled and 20 others, at the threshold for 20: mistakes are rare, and most of the enrolled are found."""
    for speaker in range(20):
        gallery.enroll(f"s{speaker}", *voices.record(speaker, 4.0, 4.0))
    found = []
    for speaker in range(40):
        (row,), _ = voices.record(speaker, 4.0)
        found.append(gallery.identify(row, 4.0))
    assert {(each.num_enrolled, each.p_target, each.decided, len(each.matches)) for each in found} == {
        (20, 0.5, True, 3)
    }
    assert found[0].matches[0].threshold == pytest.approx(np.log(20))
    right = sum(each.speaker == f"s{speaker}" for speaker, each in enumerate(found[:20]))
    wrong = sum(each.speaker not in (None, f"s{speaker}") for speaker, each in enumerate(found[:20]))
    strangers = sum(each.speaker is not None for each in found[20:])
    assert (right, wrong, strangers) == (20, 0, 0)


def test_one_enrolled_speaker_is_identified_as_verified(gallery: Gallery, voices: Voices) -> None:
    """One rule, whatever the evidence: a name where `verify` says the same, nobody where it says different."""
    gallery.enroll("ann", *voices.record(0, 0.5))
    answers = set()
    for step, prior in itertools.product(np.linspace(0.0, 1.0, 41), (0.5, 0.05)):
        row = ((1 - step) * voices.means[0] + step * voices.means[1]).astype(np.float32)
        found, match = (
            gallery.identify(row, 1.0, p_target=prior),
            gallery.verify("ann", row, 1.0, p_target=prior),
        )
        assert found.matches == (match,)
        decided = {True: ("ann", True), False: (None, True), None: (None, False)}[match.same_speaker]
        assert (found.speaker, found.decided) == decided
        assert found.most_likely == ("ann" if match.probability > 0.5 else None)
        assert match.probability + found.p_nobody == pytest.approx(1.0, abs=1e-12)
        answers.add(found.answer)
    assert answers == {
        "ann",
        "nobody enrolled",
        "cannot tell, most likely ann",
        "cannot tell, most likely nobody enrolled",
    }


def test_many_speakers_need_more_than_the_bound_of_llrs(gallery: Gallery, voices: Voices) -> None:
    """With an LLR of 2.5 at most, one of forty enrolled speakers has a probability of 13 % at best."""
    assert gallery.verifier.bounds is not None
    bounded = replace(gallery.verifier, bounds=(-2.5, 2.5))
    few = Gallery(gallery.store, system=SYSTEM, verifier=bounded)
    for speaker in range(40):
        rows, seconds = voices.record(speaker, 4.0)
        few.enroll(f"s{speaker:02d}", rows, seconds)
    found = few.identify(voices.record(0, 4.0)[0][0], 4.0)
    assert found.matches[0].speaker == "s00"
    assert (found.speaker, found.decided) == (None, False)
    assert "LLRs of at most 2.5, too little for 40 enrolled speakers" in found.reasons[1]
    assert "xvectors calibrate" in found.reasons[1]


def test_two_who_are_alike_are_not_told_apart(gallery: Gallery, voices: Voices) -> None:
    (row,), _ = voices.record(0, 4.0)
    gallery.enroll("ann", row[None], [4.0])
    gallery.enroll("her twin", row[None], [4.0])
    found = gallery.identify(voices.record(0, 4.0)[0][0], 4.0)
    assert (found.speaker, found.decided) == (None, False)
    assert found.answer.startswith("cannot tell, most likely ")
    assert found.reasons == ("the speaker is enrolled, but ann and her twin sound too much alike",)
    assert [match.probability for match in found.matches] == [pytest.approx(0.5, abs=0.01)] * 2
    assert found.to_dict()["answer"] == found.answer


def test_a_certain_answer_of_the_prior_says_so(gallery: Gallery, voices: Voices) -> None:
    gallery.enroll("ann", *voices.record(0, 0.5))
    step = 0.5
    row = ((1 - step) * voices.means[0] + step * voices.means[1]).astype(np.float32)
    llr = gallery.verify("ann", row, 1.0).llr
    assert llr is not None
    prior = 1 / (1 + np.exp(llr + np.log(5)))  # nobody enrolled 5 times as probable afterwards
    found = gallery.identify(row, 1.0, p_target=prior)
    assert found.p_nobody == pytest.approx(5 / 6)
    assert (found.decided, bool(found.reasons)) == (True, abs(llr) < np.log(4))


def test_more_enrolled_need_more_evidence(gallery: Gallery, voices: Voices) -> None:
    """Were it one trial against each of 30, most strangers would pass for somebody; of 60 recordings 8 do."""
    for speaker in range(30):
        gallery.enroll(f"s{speaker}", *voices.record(speaker, 0.5))
    strangers = [gallery.identify(voices.record(speaker, 0.5)[0][0], 0.5) for speaker in (*range(30, 40),) * 6]
    assert sum(each.matches[0].llr > 0 for each in strangers) >= 40
    assert sum(each.speaker is not None for each in strangers) <= 10


def test_the_prior_can_be_stated(gallery: Gallery, voices: Voices) -> None:
    for speaker in range(4):
        gallery.enroll(f"s{speaker}", *voices.record(speaker, 4.0))
    (row,), _ = voices.record(0, 1.0)
    for prior in (0.02, 0.9):
        found = gallery.identify(row, 1.0, p_target=prior, top=4)
        likelihood = np.exp([match.llr for match in found.matches])
        joint = np.append(prior / 4 * likelihood, 1 - prior)
        probabilities = [*(match.probability for match in found.matches), found.p_nobody]
        np.testing.assert_allclose(probabilities, joint / joint.sum(), rtol=1e-9, atol=1e-300)
        # as probable as nobody: p / 4 exp(threshold) = 1 - p
        assert found.matches[0].threshold == pytest.approx(np.log(4 * (1 - prior) / prior))
    with pytest.raises(ConfigError, match=r"p_target|prior"):
        gallery.identify(row, 1.0, p_target=1.0)
    with pytest.raises(ConfigError, match="top is 0"):
        gallery.identify(row, 1.0, top=0)


def test_a_system_without_calibration_ranks_and_does_not_decide(store: SqliteStore, voices: Voices) -> None:
    gallery = Gallery(store, system=SYSTEM, verifier=cosine_verifier())
    done = gallery.enroll("alice", *voices.record(0, 4.0, 4.0))
    assert (done.checked, done.doubts) == (False, ())
    gallery.enroll("bob", *voices.record(1, 4.0))
    (row,), _ = voices.record(0, 4.0)
    found = gallery.identify(row, 4.0)
    assert (found.speaker, found.decided) == (None, False)
    assert [match.speaker for match in found.matches] == ["alice", "bob"]
    best = found.matches[0]
    assert (best.llr, best.probability, best.threshold, best.same_speaker) == (None, None, None, None)
    assert found.matches[1].score < best.score <= 1
    alone = gallery.verify("alice", row, 4.0)
    assert (alone.score, alone.same_speaker) == (pytest.approx(best.score, abs=ROUNDING), None)


def test_two_systems_are_never_compared(store: SqliteStore, verifier: Verifier, voices: Voices) -> None:
    gallery = Gallery(store, system=SYSTEM, verifier=verifier)
    other = Gallery(store, system=OTHER, verifier=verifier)
    gallery.enroll("alice", *voices.record(0, 4.0))
    (row,), _ = voices.record(0, 4.0)
    remedy = r"enroll again with this one; `xvectors re-enroll` does so where the recordings were kept \(--keep-audio\)"
    with pytest.raises(GalleryError, match=f"alice was enrolled with another system than this one .*: {remedy}"):
        other.verify("alice", row, 4.0)
    with pytest.raises(GalleryError, match=f"all 1 speakers .* were enrolled with other systems .*: {remedy}"):
        other.identify(row, 4.0)
    # of different widths even, and side by side
    other.enroll("bob", np.ones((1, 5)), [4.0])
    other.enroll("alice", np.ones((1, 5)), [4.0])
    found = gallery.identify(row, 4.0)
    assert (found.speaker, found.num_enrolled, found.left_out) == ("alice", 1, ("bob",))
    assert other.identify(np.ones(5), 4.0).num_enrolled == 2
    with pytest.raises(UnknownSpeakerError, match="no speaker carol is enrolled"):
        gallery.verify("carol", row, 4.0)


def test_expired_voiceprints_never_match(gallery: Gallery, clock: Clock, voices: Voices) -> None:
    """Also in a process that read them before."""
    day = timedelta(days=1)
    gallery.enroll("alice", *voices.record(0, 4.0), expires_at=START + day)
    gallery.enroll("bob", *voices.record(1, 4.0))
    (row,), _ = voices.record(0, 4.0)
    clock.now = START + day - timedelta(seconds=1)
    assert gallery.identify(row, 4.0).speaker == "alice"
    clock.now = START + day
    found = gallery.identify(row, 4.0)
    assert (found.speaker, found.num_enrolled, found.left_out) == (None, 1, ())
    assert [match.speaker for match in found.matches] == ["bob"]
    with pytest.raises(GalleryError, match="all voiceprints of alice have expired; enroll alice again"):
        gallery.verify("alice", row, 4.0)
    gallery.enroll("alice", *voices.record(0, 4.0), consent="again")
    assert gallery.identify(row, 4.0).speaker == "alice"
    for past in (clock.now, clock.now.replace(tzinfo=None) + day):
        with pytest.raises(ConfigError, match="give a future time with its time zone"):
            gallery.enroll("alice", *voices.record(0, 4.0), expires_at=past)


def test_adding_to_a_name_says_so_and_two_voices_are_doubted(gallery: Gallery, voices: Voices) -> None:
    first = gallery.enroll("alice", *voices.record(0, 4.0, 4.0))
    assert (first.num_added, first.num_before, first.checked, first.doubts) == (2, 0, True, ())
    again = gallery.enroll("  alice ", *voices.record(0, 4.0))
    assert (again.speaker, again.num_before, again.doubts, again.repeated) == ("alice", 2, (), ())
    mixed = [voices.record(speaker, 4.0)[0] for speaker in (0, 1, 0)]
    doubtful = gallery.enroll("alice", np.concatenate(mixed), [4.0] * 3)
    assert (doubtful.num_added, doubtful.num_before) == (3, 3)  # warned about, not refused
    (doubt,) = doubtful.doubts
    assert (doubt.recording, doubt.threshold) == (1, 0.0)
    assert doubt.llr < 0
    two = gallery.enroll("nobody in particular", np.concatenate(mixed[:2]), [4.0] * 2)
    assert [doubt.recording for doubt in two.doubts] == [0, 1]


def test_what_cannot_be_enrolled(gallery: Gallery) -> None:
    good = np.ones((1, 32), dtype=np.float32)
    for embeddings, seconds in (
        (good * np.nan, [1.0]),
        (good * 0, [1.0]),
        (good[0], [1.0]),
        (good[:0], []),
        (good, [0.0]),
        (good, [np.inf]),
        (good, [1.0, 2.0]),
    ):
        with pytest.raises(ShapeError):
            gallery.enroll("alice", embeddings, seconds)
    with pytest.raises(ShapeError, match="2 sound files for 1 embeddings"):
        gallery.enroll("alice", good, [1.0], audio=[b"a", b"b"])
    for name, reason in (("", "empty"), (" \t", "empty"), ("a\nb", "control characters"), ("x" * 201, "at most 200")):
        with pytest.raises(ConfigError, match=reason):
            gallery.enroll(name, good, [1.0])
    assert gallery.store.speakers(START) == []
    gallery.enroll("wide", good, [1.0])
    with pytest.raises(ShapeError, match="embeddings have 31 dimensions, but those of wide by the same system have 32"):
        gallery.enroll("wide", good[:, 1:], [1.0])
    gallery.store.forget("wide")
    with pytest.raises(
        GalleryError,
        match=r"has no enrolled speakers, or all have expired; enroll one with `xvectors enroll NAME a\.wav`",
    ):
        gallery.identify(good[0], 1.0)


def test_re_enrolling_renews_what_was_kept(store: SqliteStore, verifier: Verifier, voices: Voices) -> None:
    old = Gallery(store, system=OTHER, verifier=verifier)
    audio = [b"alice 1", b"alice 2"]
    old.enroll("alice", np.ones((2, 5)), [1.0, 2.0], audio=audio, consent="signed", condition=some_conditions(2, 7))
    old.enroll("bob", np.ones((1, 5)), [1.0])
    old.enroll("carol", np.ones((1, 5)), [1.0], audio=[b"broken"])
    (row,), _ = voices.record(0, 3.0)

    conditions = some_conditions(2)

    def encode(audio: bytes) -> tuple[np.ndarray, float, np.ndarray | None]:
        if audio == b"broken":
            raise AudioError("cannot be decoded")
        number = int(audio[-1:])
        return row + number * 0.01, 3.0, conditions[1] if number == 2 else None

    gallery = Gallery(store, system=SYSTEM, verifier=verifier)
    done = gallery.re_enroll(encode)
    assert done.renewed == {"alice": 2}
    assert done.failed == ("carol: cannot be decoded",)
    assert done.without_audio == ("bob", "carol")
    assert gallery.verify("alice", row, 3.0).same_speaker
    assert store.speakers(START)[0].consent == ("signed",)
    assert gallery.re_enroll(encode).renewed == {}
    renewed = store.voiceprints_of([store.id_of("alice")], SYSTEM, START)
    np.testing.assert_array_equal(renewed.condition, [np.full(6, np.nan), conditions[1]])


def simulated_store(path: Path, voices: Voices, count: int) -> SqliteStore:
    store = SqliteStore(path, create=True)
    gallery = Gallery(store, system=SYSTEM, verifier=cosine_verifier())
    for speaker in range(count):
        gallery.enroll(f"s{speaker}", *voices.record(speaker, 3.0))
    return store


def test_a_large_gallery_answers_as_one_compared_as_a_whole(
    tmp_path: Path, verifier: Verifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    voices = make_voices(2 * SHORTLIST_SIZE + 37, seed=4)
    count = len(voices.means) - 10
    with simulated_store(tmp_path / "g.sqlite", voices, count) as store:
        searching = Gallery(store, system=SYSTEM, verifier=verifier)
        queries = [voices.record(speaker, 2.0)[0][0] for speaker in (0, 250, count - 1, count + 5)]
        found = [searching.identify(query, 2.0, top=5) for query in queries]
        assert searching._shortlist._copy is not None
        assert searching._shortlist._copy.search is not None
        monkeypatch.setattr("xvectors.gallery.shortlist.SHORTLIST_SIZE", 10_000)
        whole = Gallery(store, system=SYSTEM, verifier=verifier)
        for query, some in zip(queries, found, strict=True):
            every = whole.identify(query, 2.0, top=5)
            assert [(m.speaker, m.llr) for m in every.matches] == [(m.speaker, m.llr) for m in some.matches]
            assert (every.speaker, every.decided) == (some.speaker, some.decided)
            # those that were not compared are taken for as likely as the least likely of those that were
            pairs = zip(every.matches, some.matches, strict=True)
            assert all(0.99 * one.probability <= other.probability <= one.probability for one, other in pairs)
        assert found[0].num_enrolled == count
        assert found[0].matches[0].threshold == pytest.approx(np.log(count))


def test_a_large_gallery_follows_what_others_change(
    tmp_path: Path, verifier: Verifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is added is read alone; what is taken away is gone from memory too."""
    voices = make_voices(SHORTLIST_SIZE + 30, seed=4)
    with simulated_store(tmp_path / "g.sqlite", voices, SHORTLIST_SIZE + 10) as store, SqliteStore(store.path) as other:
        searching = Gallery(store, system=SYSTEM, verifier=verifier)
        writing = Gallery(other, system=SYSTEM, verifier=verifier)
        elsewhere = Gallery(other, system=OTHER, verifier=verifier)
        whole_reads = []
        read_all = store.blocks
        monkeypatch.setattr(store, "blocks", lambda *given: whole_reads.append(given) or read_all(*given))

        def asked(speaker: int) -> Identification:
            query = voices.record(speaker, 3.0)[0][0]
            found = searching.identify(query, 3.0, top=5)
            assert found == Gallery(other, system=SYSTEM, verifier=verifier).identify(query, 3.0, top=5)
            return found

        assert asked(0).matches[0].speaker == "s0"
        elsewhere.enroll("late", np.ones((1, 5)), [3.0])
        assert asked(1).left_out == ("late",)
        writing.enroll("new", *voices.record(SHORTLIST_SIZE + 20, 3.0, 3.0))
        writing.enroll("late", *voices.record(SHORTLIST_SIZE + 21, 3.0, 3.0))
        writing.enroll("s2", *voices.record(SHORTLIST_SIZE + 22, 60.0))
        assert asked(SHORTLIST_SIZE + 20).matches[0].speaker == "new"
        assert asked(SHORTLIST_SIZE + 21).matches[0].speaker == "late"
        found = asked(SHORTLIST_SIZE + 22)
        assert (found.matches[0].speaker, found.num_enrolled, found.left_out) == ("s2", SHORTLIST_SIZE + 12, ())
        assert len(whole_reads) == 1
        other.forget("s0")
        assert "s0" not in {match.speaker for match in asked(0).matches}
        assert len(whole_reads) == 2
        # embedded again with another system, nobody is left to compare with this one
        kept = Gallery(other, system=SYSTEM, verifier=verifier)
        kept.enroll("kept", *voices.record(SHORTLIST_SIZE + 23, 3.0), audio=[b"sound"])
        assert asked(SHORTLIST_SIZE + 23).matches[0].speaker == "kept"
        elsewhere.re_enroll(lambda audio: (np.ones(5, dtype=np.float32), 3.0, None))
        assert asked(SHORTLIST_SIZE + 23).left_out == ("kept",)


@pytest.mark.parametrize("name", ["cosine", "wccn", "lda_plda", "asnorm"])
def test_every_back_end_searches_as_it_scores(name: str) -> None:
    """Models' rows by the rows of a recording are the back-end's scores, whatever the other models are."""
    training = make_voices(60, seed=5)
    rows = np.concatenate([training.record(speaker, 3.0, 3.0, 3.0)[0] for speaker in range(60)])
    names = np.repeat(np.arange(60), 3)
    make = {**BACKENDS, "lda_plda": lambda: Backend([LDA(dim=8), LengthNorm()], PLDA())}[name]
    backend = make().fit(rows, names)
    voices = make_voices(50, seed=6)
    block = Voiceprints(
        speaker=np.repeat(np.arange(50), 2),
        embeddings=np.concatenate([voices.record(speaker, 3.0, 1.0)[0] for speaker in range(50)]),
        duration_s=np.tile([3.0, 1.0], 50),
        condition=unknown_conditions(100),
    )
    test = voices.record(7, 2.0)[0]
    models = model_speakers(Verifier(backend=backend, name=name), block.speaker, block.embeddings, block.duration_s)
    scores = backend.score_matrix(models.models, test)[:, 0]
    left, _ = backend.project(models.models, block.embeddings[:1])
    _, right = backend.project(backend.enroll(test, [0], average=True), test)
    np.testing.assert_allclose(left @ right[0], scores, rtol=1e-4, atol=1e-4)
    assert scores.std() > 0.1


def test_threads_share_a_gallery(gallery: Gallery, verifier: Verifier) -> None:
    """As those of a server: each enrolls its own speakers and asks for them at once."""

    def work(number: int) -> list[str | None]:
        voices = make_voices(15, seed=100 + number)
        found = []
        for speaker in range(15):
            gallery.enroll(f"{number} {speaker}", *voices.record(speaker, 9.0, 9.0))
            found.append(gallery.identify(voices.record(speaker, 9.0)[0][0], 9.0).speaker)
        return found

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(work, range(4)))
    assert answers == [[f"{number} {speaker}" for speaker in range(15)] for number in range(4)]
    assert len(gallery.store.speakers(START)) == 60


def test_a_gallery_needs_no_torch() -> None:
    script = """
import sys
sys.modules["torch"] = None
import numpy as np, tempfile
from datetime import UTC, datetime
from xvectors.gallery import Identification, Gallery, SqliteStore
from xvectors.verification import cosine_verifier
with tempfile.TemporaryDirectory() as folder, SqliteStore(f"{folder}/g.sqlite", create=True) as store:
    gallery = Gallery(store, system="a" * 64, verifier=cosine_verifier())
    gallery.enroll("alice", np.eye(3)[:1], [1.0])
    print(gallery.identify(np.array([1.0, 0.1, 0.0]), 1.0).matches[0].speaker)
"""
    ended = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert ended.stdout == "alice\n"


def test_the_calibration_is_given_the_conditions_of_both_sides(
    gallery: Gallery, voices: Voices, monkeypatch: pytest.MonkeyPatch
) -> None:
    enrolled, (tested,) = some_conditions(3), some_conditions(1, seed=1)
    enrolled[1, 4] = np.nan
    rows, _ = voices.record(0, 1.0, 3.0)
    gallery.enroll("alice", rows, [1.0, 3.0], condition=enrolled[:2])
    gallery.enroll("bob", *voices.record(1, 2.0), condition=enrolled[2:])
    gallery.enroll("carol", *voices.record(2, 2.0))
    mean = (enrolled[0] + 3 * enrolled[1]) / 4
    mean[4] = enrolled[0, 4]
    (test,), _ = voices.record(0, 2.0)
    calls = record_conditions(monkeypatch)

    gallery.verify("alice", test, 2.0, condition=tested)
    np.testing.assert_allclose(calls[0][0], [mean], rtol=1e-6)
    np.testing.assert_array_equal(calls[0][1], [tested])
    gallery.identify(test, 2.0, condition=tested)
    np.testing.assert_allclose(calls[1][0], [mean, enrolled[2], np.full(6, np.nan)], rtol=1e-6)
    np.testing.assert_array_equal(calls[1][1], [tested] * 3)
    gallery.identify(test, 2.0)
    assert np.isnan(calls[2][1]).all()

    # what is enrolled is compared with what was, and with each other
    calls.clear()
    gallery.enroll("bob", *voices.record(1, 2.0), condition=[tested])
    np.testing.assert_array_equal(calls[0], [enrolled[2:], [tested]])


@pytest.mark.parametrize("condition", [np.ones(6), np.ones((1, 5)), np.full((1, 6), np.inf), np.ones((2, 6))])
def test_conditions_that_are_none(gallery: Gallery, voices: Voices, condition: np.ndarray) -> None:
    rows, seconds = voices.record(0, 2.0)
    with pytest.raises(ShapeError, match="give 6 measures of each of 1 recordings, NaN where one is unknown"):
        gallery.enroll("alice", rows, seconds, condition=condition)
    assert gallery.store.speakers(START) == []
    gallery.enroll("alice", rows, seconds)
    for ask in (
        lambda: gallery.verify("alice", rows[0], 2.0, condition=np.ones(5)),
        lambda: gallery.identify(rows[0], 2.0, condition=np.full(6, -np.inf)),
    ):
        with pytest.raises(ShapeError, match="give 6 measures"):
            ask()


def test_recordings_are_enrolled_and_compared_with_their_conditions(
    calibrated_starter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synthesize(tmp_path / "made", speakers=2, utterances=2, seed=12, workers=1)
    first, second, other = sorted((tmp_path / "made").glob("synth-*/*.flac"))[:3]
    options = ("--gallery", tmp_path / "g.sqlite", "--system", calibrated_starter)
    run("enroll", "ann", first, second, *options, "--keep-audio", "--device", "cpu")
    encoder = SpeakerEncoder.from_pretrained(calibrated_starter, device="cpu")
    heard = [encoder.listen(path) for path in (first, second, other)]
    conditions = np.stack([one.condition for one in heard])
    with open_gallery(tmp_path / "g.sqlite", system=encoder) as gallery:
        (block,) = gallery.store.blocks(encoder.fingerprint, gallery.now())
        np.testing.assert_array_equal(block.condition, conditions[:2])
        mean = np.average(
            conditions[:2],
            axis=0,
            weights=np.minimum([one.speech_s for one in heard[:2]], float(encoder.verifier.basis["longest_s"])),
        )
        calls = record_conditions(monkeypatch)
        gallery.identify_recording(encoder, other)
        encoder.verify(gallery.speaker("ann"), other)
        for enroll, test in calls:
            np.testing.assert_allclose(enroll, [mean], rtol=1e-5)
            np.testing.assert_array_equal(test, conditions[2:])
        assert len(calls) == 2
        gallery.store.rebind(encoder.fingerprint, OTHER)
    with closing(sqlite3.connect(tmp_path / "g.sqlite")) as connection:
        connection.execute("UPDATE voiceprints SET condition = NULL")
        connection.commit()
    run("re-enroll", *options, "--device", "cpu")
    with SqliteStore(tmp_path / "g.sqlite") as store:
        np.testing.assert_array_equal([entry.voiceprint.condition for entry in store.voiceprints()], conditions[:2])
