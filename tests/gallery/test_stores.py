"""What every store of enrolled speakers does, in a file and on a server."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from support.conditions import some_conditions
from support.drawn_voices import Voices, make_voices
from support.gallery_places import NOW, OTHER, SYSTEM, Place, voiceprint
from xvectors.errors import BusyError, GalleryError, UnknownSpeakerError
from xvectors.gallery import Gallery, SqliteStore, Store, export_gallery, import_gallery
from xvectors.gallery.shortlist import SHORTLIST_SIZE
from xvectors.gallery.store import NamedVoiceprint
from xvectors.verification import Verifier, cosine_verifier

SOON = NOW + timedelta(days=1)


def counts(store: Store) -> dict[str, int]:
    return {speaker.name: speaker.num_voiceprints for speaker in store.speakers(NOW)}


def test_a_gallery_that_is_not_there(place: Place) -> None:
    with pytest.raises(GalleryError, match=r"there is no gallery yet.*; make one with `xvectors enroll NAME a\.wav`"):
        place.open()
    with place.open(create=True) as store:
        assert store.speakers(NOW) == []
    with place.open() as store:
        assert (store.state(NOW).revision, store.changed_since(0)) == (0, [])


def test_what_is_added_comes_back(place: Place) -> None:
    with place.open(create=True) as store:
        assert store.add("alice", [voiceprint(1, consent="signed"), voiceprint(2, audio=b"RIFF\0\xff")]) == 0
        assert store.add("bob", [voiceprint(3, OTHER)]) == 0
        assert store.add("alice", [voiceprint(4, duration_s=1.5, expires_at=SOON)]) == 2
    with place.open() as store:
        alice, bob = store.speakers(NOW)
        assert (alice.name, alice.num_voiceprints, alice.num_expired, alice.num_kept) == ("alice", 3, 0, 1)
        assert (alice.duration_s, alice.systems, alice.consent) == (6.5, (SYSTEM,), ("signed",))
        assert (alice.enrolled_at, alice.expires_at) == (NOW, SOON)
        assert (bob.name, bob.systems, bob.consent, bob.expires_at) == ("bob", (OTHER,), (), None)
        (block,) = store.blocks(SYSTEM, NOW)
        np.testing.assert_array_equal(block.embeddings, [voiceprint(seed).embedding for seed in (1, 2, 4)])
        assert (block.embeddings.dtype, block.duration_s.tolist()) == (np.float32, [2.5, 2.5, 1.5])
        ids = [store.id_of("alice"), store.id_of("bob")]
        assert set(block.speaker.tolist()) == {ids[0]}
        assert store.names_of([*ids, 10**6]) == dict(zip(ids, ("alice", "bob"), strict=True))
        assert store.speaker_ids(SYSTEM, NOW).tolist() == ids[:1]
        assert store.names_of_others(SYSTEM, NOW) == store.names_of_others(SYSTEM, NOW, ids) == ["bob"]
        assert store.names_of_others(SYSTEM, NOW, ids[:1]) == []
        assert store.voiceprints_of([], SYSTEM, NOW).embeddings.shape == (0, 0)
        entries = list(store.voiceprints())
        assert [entry.speaker for entry in entries] == ["alice"] * 3 + ["bob"]
        assert [store.audio(entry.number) for entry in entries] == [None, b"RIFF\0\xff", None, None]
        assert entries[0].voiceprint.consent == "signed"


def test_conditions_come_back(place: Place) -> None:
    first, second = some_conditions(2)
    second[4] = np.nan
    with place.open(create=True) as store:
        store.add("alice", [voiceprint(1, condition=first), voiceprint(2), voiceprint(3, condition=second)])
        for block in (*store.blocks(SYSTEM, NOW), store.voiceprints_of([store.id_of("alice")], SYSTEM, NOW)):
            assert block.condition.dtype == np.float32
            np.testing.assert_array_equal(block.condition, [first, np.full(6, np.nan), second])
        assert store.voiceprints_of([], SYSTEM, NOW).condition.shape == (0, 6)
        found = [entry.voiceprint.condition for entry in store.voiceprints()]
        np.testing.assert_array_equal(found[0], first)
        assert found[1] is None
        np.testing.assert_array_equal(found[2], second)


def test_expired_voiceprints_match_no_longer_and_are_purged(place: Place) -> None:
    with place.open(create=True) as store:
        store.add("alice", [voiceprint(1, expires_at=SOON)])
        store.add("bob", [voiceprint(2), voiceprint(3, expires_at=SOON + timedelta(days=1))])
        assert [store.state(at).next_expiry for at in (NOW, SOON)] == [SOON, SOON + timedelta(days=1)]
        assert [len(store.speaker_ids(SYSTEM, at)) for at in (NOW, SOON)] == [2, 1]
        alice = store.speakers(SOON)[0]
        assert (alice.num_voiceprints, alice.num_expired, alice.systems, alice.expires_at) == (0, 1, (), None)
        assert [len(block.speaker) for block in store.blocks(SYSTEM, SOON)] == [2]
        before = store.state(SOON)
        assert store.purge(NOW) == 0
        assert store.purge(SOON) == 1
        assert counts(store) == {"bob": 2}
        assert store.state(SOON).removals > before.removals


def test_forgetting_a_speaker_or_the_last_enrollment(place: Place) -> None:
    with place.open(create=True) as store:
        store.add("alice", [voiceprint(1, audio=b"one", consent="signed")])
        store.add("alice", [voiceprint(2), voiceprint(3)])
        store.add("bob", [voiceprint(4)])
        before = store.state(NOW)
        assert store.forget("alice", last=True) == 2
        assert store.state(NOW).removals == before.removals + 1
        np.testing.assert_array_equal(next(store.blocks(SYSTEM, NOW)).embeddings[0], voiceprint(1).embedding)
        number = store.id_of("alice")
        assert store.forget("alice", last=True) == 1
        assert counts(store) == {"bob": 1}
        assert list(store.kept_recordings(OTHER, NOW)) == []
        assert store.names_of([number]) == {}
        store.add("alice", [voiceprint(5)])
        assert store.id_of("alice") > number  # never given to another speaker
        assert store.forget("alice") == 1


def test_a_name_that_is_not_there(place: Place) -> None:
    with place.open(create=True) as store:
        store.add("alice", [voiceprint(1)])
        revision = store.state(NOW).revision
        for name, remedy in (
            ("Alicia", "did you mean 'alice'?"),
            ("zoe", "`xvectors speakers` lists all names"),
            ("\0", "`xvectors speakers` lists all names"),
            ("\udce9'; DROP TABLE speakers --", "`xvectors speakers` lists all names"),
        ):
            with pytest.raises(UnknownSpeakerError) as raised:
                store.forget(name)
            assert str(raised.value) == f"no speaker {name} is enrolled in {store.location}; {remedy}"
        assert (counts(store), store.state(NOW).revision) == ({"alice": 1}, revision)


def test_one_speaker_and_a_page_of_speakers(place: Place) -> None:
    with place.open(create=True) as store:
        for seed, name in enumerate(("bob", "Zoë", "alice", "\U0001f600", "zed")):
            store.add(name, [voiceprint(seed, consent=f"of {name}"), voiceprint(seed + 10, OTHER, expires_at=SOON)])
        everybody = store.speakers(NOW)
        assert [speaker.name for speaker in everybody] == ["Zoë", "alice", "bob", "zed", "\U0001f600"]
        assert [store.speaker(speaker.name, NOW) for speaker in everybody] == everybody
        bob = store.speaker("bob", SOON)
        assert (bob.num_voiceprints, bob.num_expired, bob.consent) == (1, 1, ("of bob",))
        assert store.speakers(NOW, limit=2) == everybody[:2]
        assert store.speakers(NOW, after="alice", limit=2) == everybody[2:4]
        assert store.speakers(NOW, after="b") == everybody[2:]
        assert store.speakers(NOW, after="\U0001f600", limit=2) == []
        for name in ("Bob", "bo", "\0", "\udce9"):
            with pytest.raises(UnknownSpeakerError):
                store.speaker(name, NOW)


def test_any_name_will_do(place: Place) -> None:
    names = sorted(["'; DROP TABLE speakers --", "Zoë 声", "%s %(now)s {}", "a" * 200, 'quoted "name"', "\\x00"])
    with place.open(create=True) as store:
        for seed, name in enumerate(names):
            store.add(name, [voiceprint(seed, consent=name)])
        assert [(speaker.name, speaker.consent) for speaker in store.speakers(NOW)] == [(n, (n,)) for n in names]
        assert [store.forget(name) for name in names] == [1] * len(names)


def test_revisions_and_who_changed_since(place: Place) -> None:
    with place.open(create=True) as store, place.open() as other:
        store.add("alice", [voiceprint(1)])
        first = other.state(NOW)
        other.add("bob", [voiceprint(2)])
        second = store.state(NOW)
        assert (second.revision, second.removals) == (first.revision + 1, first.removals)
        assert store.changed_since(first.revision) == [store.id_of("bob")]
        store.add("alice", [voiceprint(3)])
        assert other.changed_since(second.revision) == [store.id_of("alice")]
        assert store.changed_since(store.state(NOW).revision) == []


def test_another_system(place: Place) -> None:
    new = voiceprint(9).embedding
    with place.open(create=True) as store:
        store.add("alice", [voiceprint(1, OTHER, audio=b"kept"), voiceprint(2, OTHER)])
        store.add("bob", [voiceprint(3, OTHER)])
        ((number, name, audio),) = [
            (kept.voiceprint, kept.speaker, kept.audio) for kept in store.kept_recordings(SYSTEM, NOW)
        ]
        assert (name, audio) == ("alice", b"kept")
        before = store.state(NOW)
        (condition,) = some_conditions(1)
        assert store.replace(number, new, SYSTEM, condition)
        assert store.state(NOW).removals > before.removals
        assert not store.replace(10**6, new, SYSTEM)
        (block,) = store.blocks(SYSTEM, NOW)
        np.testing.assert_array_equal(block.embeddings, [new])
        np.testing.assert_array_equal(block.condition, [condition])
        assert store.names_of_others(SYSTEM, NOW) == ["bob"]
        assert store.rebind(OTHER, SYSTEM) == 2
        assert store.rebind(OTHER, SYSTEM) == 0
        assert len(next(store.blocks(SYSTEM, NOW)).speaker) == 3


def test_one_process_at_a_time_re_enrolls(place: Place) -> None:
    def hold(store: Store) -> None:
        with store.exclusive():
            pass

    with place.open(create=True) as store, place.open() as other, ThreadPoolExecutor(1) as elsewhere:
        with store.exclusive(), pytest.raises(BusyError):
            elsewhere.submit(hold, other).result()
        elsewhere.submit(hold, other).result()


def test_export_and_import(place: Place, tmp_path: Path) -> None:
    """From a gallery of any kind to a file, and from the file to a gallery of any kind."""
    out = tmp_path / "out" / "everybody.sqlite"
    with place.open(create=True) as store:
        store.add("alice", [voiceprint(1, audio=b"sound", consent="yes"), voiceprint(2, OTHER, size=32)])
        store.add("bob", [voiceprint(3, expires_at=SOON, condition=some_conditions(1)[0])])
        assert export_gallery(store, out) == 3
        everybody = store.speakers(NOW)
        with SqliteStore(out) as copy:
            assert copy.speakers(NOW) == everybody
        gallery = Gallery(store, system=SYSTEM, verifier=cosine_verifier(), now=lambda: NOW)
        done = import_gallery(gallery, out)
        assert (done.num_added, done.num_known, done.merged) == (0, 3, ())
        store.forget("alice")
        store.forget("bob")
        store.add("bob", [voiceprint(4)])
        state = store.state(NOW)
        with pytest.raises(GalleryError, match=r"enrolled here already.*\(bob\); nothing was imported.*--merge"):
            import_gallery(gallery, out)
        assert (store.state(NOW), counts(store)) == (state, {"bob": 1})
        done = import_gallery(gallery, out, merge=True)
        assert (done.num_added, done.num_known, done.merged) == (3, 0, ("bob",))
        assert store.speakers(NOW)[0] == everybody[0]
        assert [kept.audio for kept in store.kept_recordings(OTHER, NOW)] == [b"sound"]
        assert counts(store) == {"alice": 2, "bob": 2}
        conditions = [entry.voiceprint.condition for entry in store.voiceprints() if entry.speaker == "bob"]
        assert conditions[0] is None
        np.testing.assert_array_equal(conditions[1], some_conditions(1)[0])
        with SqliteStore(tmp_path / "other.sqlite", create=True) as other:
            other.add("carol", [voiceprint(5, size=10)])
            with pytest.raises(GalleryError, match=r"carol has 10 dimensions, but others of the same system have 64"):
                store.add_all(other, merge=False)
        assert counts(store) == {"alice": 2, "bob": 2}


ENROLLER = """
import sys
import numpy as np
from datetime import UTC, datetime
from xvectors.gallery import Voiceprint, open_store
location, name, number = sys.argv[1], sys.argv[2], int(sys.argv[3])
with open_store(location, create=True) as store:
    for each in range(number):
        one = Voiceprint(embedding=np.full(8, each + 1, np.float32), duration_s=1.0, system="a" * 64,
                         enrolled_at=datetime.now(UTC))
        who = name if each % 2 else "everybody"
        store.add(who, [one])
        print(who, flush=True)
        if each % 5 == 4:
            store.add("fleeting " + name, [one])
            assert store.forget("fleeting " + name) == 1
"""


def test_concurrent_enrollers_lose_nothing(place: Place) -> None:
    """Processes race to make the gallery, enroll the same and different names, and forget."""
    arguments = [sys.executable, "-c", ENROLLER, place.location]
    started = [
        subprocess.Popen([*arguments, f"writer {number}", "20"], stdout=subprocess.PIPE, text=True)
        for number in range(3)
    ]
    said: Counter[str] = Counter()
    for process in started:
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0
        said.update(output.splitlines())
    with place.open() as store:
        assert counts(store) == said
        assert sum(said.values()) == 60
        assert store.state(NOW).revision == 60 + 2 * 12


def enrolled(store: Store, voices: Voices, count: int) -> None:
    """Enroll `count` voices as s0, s1, ... in one change."""

    class Source:
        def voiceprints(self) -> object:
            for speaker in range(count):
                (row,), _ = voices.record(speaker, 3.0)
                one = voiceprint(0, embedding=row, duration_s=3.0)
                yield NamedVoiceprint(speaker=f"s{speaker}", number=speaker, voiceprint=one)

        def audio(self, number: int) -> None:
            return None

    store.add_all(Source(), merge=False)


def test_the_shortlist_follows_what_anybody_changes(place: Place, verifier: Verifier) -> None:
    """A search that is kept answers as a new one, after every kind of change by another process."""
    number, now = SHORTLIST_SIZE + 10, [NOW]
    voices = make_voices(number + 30, seed=4)
    with place.open(create=True) as store, place.open() as other:
        enrolled(other, voices, number)

        def gallery(store: Store, system: str = SYSTEM) -> Gallery:
            return Gallery(store, system=system, verifier=verifier, now=lambda: now[0])

        searching, writing = gallery(store), gallery(other)

        def asked(speaker: int) -> tuple[str, int, tuple[str, ...]]:
            query = voices.record(speaker, 9.0)[0][0]
            found = searching.identify(query, 9.0, top=5)
            assert found == gallery(other).identify(query, 9.0, top=5)
            return found.matches[0].speaker, found.num_enrolled, found.left_out

        assert asked(0) == ("s0", number, ())
        gallery(other, OTHER).enroll("late", np.ones((1, 5)), [3.0])
        assert asked(1) == ("s1", number, ("late",))
        writing.enroll("new", *voices.record(number + 20, 3.0, 3.0))
        writing.enroll("late", *voices.record(number + 21, 3.0, 3.0))
        writing.enroll("s2", *voices.record(number + 22, 60.0))
        assert asked(number + 20) == ("new", number + 2, ())
        assert asked(number + 21) == ("late", number + 2, ())
        assert asked(number + 22) == ("s2", number + 2, ())
        other.forget("s2", last=True)
        assert asked(2) == ("s2", number + 2, ())
        other.forget("s0")
        name, count, _ = asked(0)
        assert (name != "s0", count) == (True, number + 1)
        writing.enroll("brief", *voices.record(number + 23, 9.0), expires_at=SOON)
        assert asked(number + 23) == ("brief", number + 2, ())
        now[0] = SOON
        name, count, _ = asked(number + 23)
        assert (name != "brief", count) == (True, number + 1)
        now[0] = NOW  # the clock of another machine is behind
        assert asked(number + 23) == ("brief", number + 2, ())
        other.purge(SOON)
        assert asked(1) == ("s1", number + 1, ())
        (row,), _ = voices.record(number + 24, 3.0)
        kept = next(each.number for each in other.voiceprints() if each.speaker == "s5")
        other.replace(kept, row, OTHER)
        assert asked(1) == ("s1", number, ("s5",))
        other.replace(kept, row, SYSTEM)
        assert asked(number + 24) == ("s5", number + 1, ())


def test_few_speakers_are_all_compared(place: Place, verifier: Verifier) -> None:
    voices = make_voices(5, seed=7)
    with place.open(create=True) as store:
        gallery = Gallery(store, system=SYSTEM, verifier=verifier, now=lambda: NOW)
        with pytest.raises(GalleryError, match="has no enrolled speakers"):
            gallery.identify(voices.record(0, 3.0)[0][0], 3.0)
        for speaker in range(3):
            gallery.enroll(f"s{speaker}", *voices.record(speaker, 9.0, 9.0))
        found = gallery.identify(voices.record(1, 9.0)[0][0], 9.0, top=9)
        assert (found.speaker, len(found.matches), found.num_enrolled) == ("s1", 3, 3)
        elsewhere = Gallery(store, system=OTHER, verifier=verifier, now=lambda: NOW)
        with pytest.raises(GalleryError, match=r"all 3 speakers .* were enrolled with other systems"):
            elsewhere.identify(voices.record(1, 3.0)[0][0], 3.0)
