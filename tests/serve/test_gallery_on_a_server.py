"""The service over a gallery on a PostgreSQL server, which goes down and comes back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from starlette.testclient import TestClient

from support.postgres import running_server
from support.service import b64
from xvectors.errors import UnavailableError
from xvectors.gallery import open_store
from xvectors.serve import app as serving

Voices = list[list[bytes]]
Serve = Callable[..., TestClient]
PLACE = "postgresql://ann@db.example/voices"


def down(*_: object, **__: object) -> None:
    raise UnavailableError(f"{PLACE}: the server cannot be used: refused; start the server, or correct host and port")


def test_a_gallery_that_cannot_be_reached_is_503_and_its_place_is_no_answer(
    client: TestClient, voices: Voices, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = client.app.state.service.galleries.of("default").store  # type: ignore[attr-defined]
    with monkeypatch.context() as broken:
        for method in ("state", "speakers", "speaker", "speaker_ids", "id_of", "add", "forget", "voiceprints_of"):
            broken.setattr(store, method, down)
        audio = b64(voices[0][0])
        for answer in (
            client.get("/readyz"),
            client.get("/v1/speakers"),
            client.get("/v1/speakers/ann"),
            client.post("/v1/voice/register", json={"name": "ann", "audio": audio}),
            client.post("/v1/voice/identify", json={"audio": audio}),
            client.post("/v1/voice/forget", json={"id": "ann"}),
        ):
            found = answer.json()
            assert (answer.status_code, found["type"]) == (503, "/problems/unavailable")
            assert (found["detail"], answer.headers["retry-after"]) == ("the gallery's server does not answer", "5")
            assert "not confirmed" in found["remedy"]
            assert "db.example" not in answer.text
            assert f"{found['request_id']} {PLACE}: " in caplog.text
        assert client.get("/healthz").status_code == 200
        assert client.post("/v1/voice/embed", json={"audio": audio}).status_code == 200
    assert client.get("/readyz").status_code == 200


def test_what_could_not_be_purged_is_purged_the_next_time(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "PURGE_S", 0.02)
    client = serve()
    purged = threading.Semaphore(0)
    answers = iter([down, lambda: purged.release() or 0])
    monkeypatch.setattr(
        client.app.state.service.galleries,  # type: ignore[attr-defined]
        "purge",
        lambda: next(answers, lambda: 0)(),
    )
    assert purged.acquire(timeout=10)


@pytest.mark.slow
def test_a_killed_database_loses_nothing_acknowledged_and_the_service_goes_on(serve: Serve, voices: Voices) -> None:
    with running_server() as server:
        client = serve(gallery=server.url, rate_per_s=None)
        stop = threading.Event()
        acknowledged: list[list[str]] = [[] for _ in range(8)]
        refused: list[list[dict[str, object]]] = [[] for _ in range(8)]

        def enroll(who: int) -> None:
            number = 0
            while not stop.is_set():
                name = f"{who}-{number}"
                answer = client.post("/v1/voice/register", json={"name": name, "audio": b64(voices[who % 2][0])})
                if answer.status_code == 200:
                    acknowledged[who].append(name)
                    number += 1
                else:
                    refused[who].append(answer.json())

        def wait_for(what: list[list[object]], more: int) -> None:
            before = [len(each) for each in what]
            deadline = time.monotonic() + 60
            while any(len(each) < count + more for each, count in zip(what, before, strict=True)):
                assert time.monotonic() < deadline
                time.sleep(0.02)

        with ThreadPoolExecutor(8) as pool:
            enrolling = [pool.submit(enroll, who) for who in range(8)]
            try:
                wait_for(acknowledged, 1)  # type: ignore[arg-type]
                server.stop(kill=True)
                wait_for(refused, 1)  # type: ignore[arg-type]
                for path in ("/readyz", "/v1/speakers", "/v1/speakers/0-0"):
                    answer = client.get(path)
                    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/unavailable")
                assert client.get("/healthz").status_code == 200
                server.start()
                wait_for(acknowledged, 2)  # type: ignore[arg-type]
            finally:
                stop.set()
            assert [each.result() for each in enrolling] == [None] * 8
        assert {answer["type"] for each in refused for answer in each} == {"/problems/unavailable"}
        assert client.get("/readyz").status_code == 200
        with open_store(server.url) as store:
            there = {speaker.name for speaker in store.speakers(datetime.now(UTC))}
        assert there >= {name for each in acknowledged for name in each}
