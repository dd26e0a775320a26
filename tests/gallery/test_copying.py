"""Copies from one gallery to another, in a file or on a server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from support.commands import run
from support.conditions import some_conditions
from support.gallery_places import NOW, OTHER, Place, voiceprint
from xvectors.errors import ConfigError, GalleryError
from xvectors.gallery import SqliteStore, copy_gallery
from xvectors.gallery.store import NamedVoiceprint


@pytest.fixture
def source(tmp_path: Path) -> str:
    with SqliteStore(tmp_path / "source.sqlite", create=True) as store:
        store.add("alice", [voiceprint(1, audio=b"sound", consent="signed"), voiceprint(2, OTHER, size=8)])
        store.add("bob", [voiceprint(3, condition=some_conditions(1)[0])])
    return str(tmp_path / "source.sqlite")


def test_there_and_back(source: str, place: Place, tmp_path: Path) -> None:
    back = str(tmp_path / "back.sqlite")
    assert run("gallery", "copy", source, place.location).stdout == "copied: 3 voiceprints; there already: 0\n"
    assert run("gallery", "copy", place.location, back).stdout == "copied: 3 voiceprints; there already: 0\n"
    with SqliteStore(source) as first, place.open() as second, SqliteStore(back) as third:
        assert first.speakers(NOW) == second.speakers(NOW) == third.speakers(NOW)
        for one, other in zip(first.voiceprints(), third.voiceprints(), strict=True):
            assert one.speaker == other.speaker
            np.testing.assert_array_equal(one.voiceprint.embedding, other.voiceprint.embedding)
            np.testing.assert_array_equal(one.voiceprint.condition, other.voiceprint.condition)
            assert first.audio(one.number) == third.audio(other.number)


def test_a_copy_that_is_repeated_adds_what_is_new(source: str, place: Place) -> None:
    assert copy_gallery(source, place.location) == (3, 0)
    assert copy_gallery(source, place.location) == (0, 3)
    with SqliteStore(source) as store:
        store.add("carol", [voiceprint(4)])
        store.add("bob", [voiceprint(5)])
    with pytest.raises(GalleryError, match=r"would get more voiceprints \(bob\); nothing was imported.*add --merge"):
        copy_gallery(source, place.location)
    with place.open() as store:
        assert [speaker.name for speaker in store.speakers(NOW)] == ["alice", "bob"]
    copied = run("gallery", "copy", source, place.location, "--merge").stdout
    assert copied == "copied: 2 voiceprints; there already: 3\n"


def test_a_copy_that_breaks_off_adds_nothing(place: Place) -> None:
    class Breaking:
        def voiceprints(self) -> Iterator[NamedVoiceprint]:
            for number in range(5000):
                yield NamedVoiceprint(speaker=f"s{number}", number=number, voiceprint=voiceprint(number, size=4))
            raise ConnectionResetError("the other server went away")

        def audio(self, number: int) -> bytes | None:
            return b"some" if number == 7 else None

    with place.open(create=True) as store:
        with pytest.raises(ConnectionResetError):
            store.add_all(Breaking(), merge=False)
        assert (store.speakers(NOW), store.state(NOW).revision) == ([], 0)


def test_a_copy_to_itself(source: str, place: Place) -> None:
    copy_gallery(source, place.location)
    with pytest.raises(ConfigError, match="is both the gallery to copy and the one to copy to"):
        copy_gallery(place.location, place.location)
