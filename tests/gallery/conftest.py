"""A verifier that learned from simulated speakers, others to use it on, and the places where galleries can be."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from support.drawn_voices import Voices, make_voices
from support.gallery_places import Place, new_place
from support.postgres import Server, running_server
from xvectors.verification import Basis, Verifier, learn_verifier


@pytest.fixture
def voices() -> Voices:
    return make_voices(40, seed=1)


@pytest.fixture(scope="session")
def verifier() -> Verifier:
    voices = make_voices(30, seed=2)
    rows, speakers, recording, duration, whole = [], [], [], [], []
    for speaker in range(30):
        for number in range(4):
            for seconds in (5.0, 0.5, 1.0, 2.0):
                rows.append(voices.record(speaker, seconds)[0][0])
                speakers.append(f"s{speaker:02d}")
                recording.append(4 * speaker + number)
                duration.append(seconds)
                whole.append(seconds > 2)
    basis = Basis(
        embeddings=np.array(rows),
        speakers=np.array(speakers),
        recording=np.array(recording),
        duration_s=np.array(duration),
        whole=np.array(whole),
    )
    return learn_verifier(basis)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A PostgreSQL server with pgvector; what it confirms is not synced to the disk."""
    with running_server("-c", "fsync=off") as started:
        yield started


@pytest.fixture(params=["file", "server"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A place of every kind, without a gallery as yet."""
    if request.param == "file":
        return Place(str(tmp_path / "data" / "gallery.sqlite"))
    return new_place(request.getfixturevalue("server"))
