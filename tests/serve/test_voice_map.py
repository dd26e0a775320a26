"""The map of voices: coordinates, neighbors and the share of the variance that it shows."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

from xvectors.gallery import Gallery, SqliteStore, Voiceprint
from xvectors.serve.voice_map import map_voices
from xvectors.verification import cosine_verifier

SYSTEM = "a" * 64


def voiceprint(*numbers: float, system: str = SYSTEM) -> Voiceprint:
    row = np.array(numbers, dtype=np.float32)
    return Voiceprint(embedding=row, duration_s=2.0, system=system, enrolled_at=datetime.now(UTC))


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    return Gallery(SqliteStore(tmp_path / "g.sqlite", create=True), system=SYSTEM, verifier=cosine_verifier())


def test_voices_that_sound_alike_are_close(gallery: Gallery) -> None:
    assert map_voices(gallery).points == ()
    gallery.store.add("cara", [voiceprint(0, 0, 2), voiceprint(0, 0, 5)])
    (alone,) = map_voices(gallery).points
    assert (alone.name, alone.x, alone.y, alone.nearest, alone.cosine) == ("cara", 0.0, 0.0, None, None)
    gallery.store.add("ann", [voiceprint(3, 4, 0)])
    gallery.store.add("elsewhere", [voiceprint(1, 0, 0, system="b" * 64)])
    two = map_voices(gallery)
    assert [(point.name, abs(point.x)) for point in two.points] == [("ann", 1.0), ("cara", 1.0)]
    assert sorted(point.x for point in two.points) == [-1.0, 1.0]
    assert (two.num_speakers, two.shown_share) == (2, pytest.approx(1.0, abs=1e-6))

    gallery.store.add("bob", [voiceprint(4, 3, 0)])
    found = map_voices(gallery)
    ann, bob, cara = found.points
    assert (ann.nearest, bob.nearest) == ("bob", "ann")
    assert ann.cosine == pytest.approx(24 / 25, abs=1e-6)
    assert cara.cosine == pytest.approx(0.0, abs=1e-6)
    assert found.shown_share == pytest.approx(1.0, abs=1e-6), "three points lie in a plane"
    # their distances are those of the directions: sqrt(2 - 2 cosine), up to one scale
    places = np.array([(point.x, point.y) for point in found.points])
    distances = np.linalg.norm(places[[0, 0, 1]] - places[[1, 2, 2]], axis=1)
    np.testing.assert_allclose(distances / distances[1], [np.sqrt(0.08 / 2), 1.0, 1.0], atol=1e-5)
    assert np.abs(places).max() == pytest.approx(1.0)


def test_a_large_gallery_is_shown_in_part(gallery: Gallery) -> None:
    rng = np.random.default_rng(0)
    for number in range(9):
        gallery.store.add(f"s{number}", [voiceprint(*rng.standard_normal(8))])
    found = map_voices(gallery, at_most=3)
    assert ([point.name for point in found.points], found.num_speakers) == (["s0", "s4", "s8"], 9)
    everybody = map_voices(gallery)
    assert len(everybody.points) == 9
    assert 0.2 < everybody.shown_share < 0.9


def test_the_service_answers_with_it(client: TestClient) -> None:
    assert client.get("/v1/map").json() == {"points": [], "num_speakers": 0, "shown_share": 1.0}
    gallery = client.app.state.service.galleries.of("default")  # type: ignore[attr-defined]
    gallery.store.add("ann", [voiceprint(3, 4, 0, system=gallery.system)])
    gallery.store.add("bob", [voiceprint(4, 3, 0, system=gallery.system)])
    answer = client.get("/v1/map")
    assert answer.status_code == 200
    assert [(point["name"], point["nearest"]) for point in answer.json()["points"]] == [("ann", "bob"), ("bob", "ann")]
