"""Limits of size, time, number and rate, foreign web pages, hostile recordings, logs and the audit trail."""

from __future__ import annotations

import io
import json
import logging
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
import soundfile
from starlette.testclient import TestClient

from support.service import RATE, b64
from xvectors.serve.guarding.limits import RateLimit

Voices = list[list[bytes]]
Serve = Callable[..., TestClient]


def silent_flac(seconds: int) -> bytes:
    """Silence in FLAC, which takes 400 samples a byte: an hour in 140 kB."""
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", RATE, 1, "PCM_16", format="FLAC") as sound:
        for _ in range(seconds // 60):
            sound.write(np.zeros(60 * RATE, dtype=np.float32))
    return file.getvalue()


def promising_wav(num_frames: int) -> bytes:
    """A WAV file of ten samples whose header promises more."""
    head = struct.pack(
        "<4sI4s4sIHHIIHH", b"RIFF", (36 + 2 * num_frames) % 2**32, b"WAVE", b"fmt ", 16, 1, 1, RATE, 2 * RATE, 2, 16
    )
    return head + b"data" + struct.pack("<I", (2 * num_frames) % 2**32) + bytes(20)


def promising_flac(num_frames: int) -> bytes:
    """A FLAC file of a second whose header promises more."""
    file = io.BytesIO()
    soundfile.write(file, 0.1 * np.random.default_rng(0).standard_normal(RATE), RATE, format="FLAC")
    content = bytearray(file.getvalue())
    stated = int.from_bytes(content[18:26], "big")
    content[18:26] = (stated >> 36 << 36 | num_frames).to_bytes(8, "big")
    return bytes(content)


@pytest.mark.parametrize(
    "content", [silent_flac(3600), promising_wav(2**30), promising_wav(2**31), promising_flac(2**31)]
)
def test_a_recording_that_promises_hours_is_refused(client: TestClient, content: bytes) -> None:
    answer = client.post("/v1/voice/embed", files={"file": content})
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/recording")
    assert client.get("/readyz").status_code == 200


def test_too_large_a_request_is_refused_before_and_while_it_comes(serve: Serve) -> None:
    client = serve(max_body_bytes=10_000)
    answer = client.post("/v1/voice/embed", json={"audio": "A" * 20_000})
    assert (answer.status_code, answer.json()["type"]) == (413, "/problems/too-large")

    def endless() -> Iterator[bytes]:
        yield b'{"audio": "'
        for _ in range(100):
            yield b"A" * 1000

    answer = client.post("/v1/voice/embed", content=endless(), headers={"content-type": "application/json"})
    assert answer.status_code == 413


def test_too_long_a_recording_is_refused(serve: Serve, voices: Voices) -> None:
    client = serve(max_duration_s=0.5)
    answer = client.post("/v1/voice/embed", files={"file": voices[0][0]})
    assert answer.status_code == 422
    assert "at most 0.5 s are accepted" in answer.json()["detail"]


def test_more_requests_at_a_time_than_allowed_are_told_to_come_again(
    serve: Serve, voices: Voices, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = serve(max_requests=2)
    entered, leave = threading.Semaphore(0), threading.Event()
    service = client.app.state.service  # type: ignore[attr-defined]
    analyze = service.analyze

    def waiting(recording: bytes) -> object:
        entered.release()
        assert leave.wait(30)
        return analyze(recording)

    monkeypatch.setattr(service, "analyze", waiting)
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(client.post, "/v1/voice/analyze", files={"file": voices[0][0]}) for _ in range(2)]
        for _ in asked:
            assert entered.acquire(timeout=30)
        refused = client.get("/v1/speakers")
        assert client.get("/healthz").status_code == 200
        leave.set()
        assert [each.result().status_code for each in asked] == [200, 200]
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert client.get("/v1/speakers").status_code == 200


def test_a_bucket_holds_two_seconds() -> None:
    limit = RateLimit(per_s=2.0)
    assert [limit.wait_s("a", 0.0) for _ in range(5)] == [0.0, 0.0, 0.0, 0.0, 0.5]
    assert limit.wait_s("b", 0.0) == 0.0
    assert limit.wait_s("a", 0.5) == 0.0
    assert limit.wait_s("a", 0.5) == 0.5


def test_more_requests_a_second_than_allowed(serve: Serve) -> None:
    client = serve(rate_per_s=0.01)
    assert client.get("/v1/speakers").status_code == 200
    answer = client.get("/v1/speakers")
    assert (answer.status_code, answer.json()["type"]) == (429, "/problems/too-many")
    assert 0 < int(answer.headers["retry-after"]) <= 100


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "evil.example:8000"},
        {"origin": "https://evil.example"},
        {"origin": "http://localhost:9000"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
    ],
)
def test_web_pages_of_others_are_refused(client: TestClient, headers: dict[str, str]) -> None:
    answer = client.post("/v1/voice/forget", json={"id": "ann"}, headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (403, "/problems/forbidden")
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_its_own_page_is_not(client: TestClient) -> None:
    own = {"origin": "http://localhost:8000", "sec-fetch-site": "same-origin"}
    assert client.get("/v1/speakers", headers=own).status_code == 200
    for host in ("127.0.0.1:8000", "[::1]:8000", "localhost"):
        assert client.get("/v1/speakers", headers={"host": host}).status_code == 200


def test_names_are_neither_paths_nor_sql(client: TestClient, voices: Voices) -> None:
    names = ["../../etc/passwd", "'; DROP TABLE speakers; --", "a%b", "a b?c#d", "ünïcode", "x/../y"]
    for name in names:
        assert client.post("/v1/voice/register", json={"name": name, "audio": b64(voices[0][0])}).status_code == 200
    listed = [each["name"] for each in client.get("/v1/speakers").json()["speakers"]]
    assert sorted(listed) == sorted(names)
    page = client.get("/v1/speakers", params={"limit": 4}).json()
    rest = client.get("/v1/speakers", params={"limit": 4, "after": page["next"]}).json()
    assert [each["name"] for each in page["speakers"] + rest["speakers"]] == listed
    for name in names:
        path = f"/v1/speakers/{quote(name, safe='')}"
        assert client.get(path).json()["name"] == name
        assert client.delete(path).json() == {"removed": 1}


def test_logs_and_the_audit_trail_name_nobody(
    serve: Serve, voices: Voices, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    client = serve(audit=tmp_path / "audit.jsonl")
    caplog.set_level(logging.DEBUG)
    client.post("/v1/voice/register", json={"name": "Ann Exemplar", "audio": b64(voices[0][0])})
    client.post("/v1/voice/verify", json={"audio1": b64(voices[0][1]), "speaker": "Ann Exemplar"})
    client.post("/v1/voice/identify", json={"audio": b64(voices[0][1])})
    client.get("/v1/speakers/Ann%20Exemplar")
    client.delete("/v1/speakers/Ann%20Exemplar")
    client.get("/v1/speakers/Ann%20Exemplar")
    ours = [row.getMessage() for row in caplog.records if row.name.startswith(("xvectors", "uvicorn"))]
    assert len(ours) == 6
    assert not [text for text in ours if "Exemplar" in text]
    assert "/v1/speakers/{name" in ours[-1]
    trail = (tmp_path / "audit.jsonl").read_text()
    assert "Exemplar" not in trail
    rows = [json.loads(line) for line in trail.splitlines()]
    assert [row["event"] for row in rows] == ["enroll", "verify", "identify", "forget"]
    audit = client.app.state.service.audit  # type: ignore[attr-defined]
    assert {rows[0]["speaker"], rows[1]["speaker"], rows[3]["speaker"]} == {audit.speaker("Ann Exemplar")}
    assert rows[1]["decision"] in ("accept", "reject", "cannot_tell")
    assert all(path.stat().st_mode & 0o077 == 0 for path in tmp_path.glob("audit*"))


def test_uploads_touch_no_disk(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    client = serve()

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a file on disk")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "rollover", refuse)
    content = np.random.default_rng(0).bytes(3_000_000)
    answer = client.post("/v1/voice/embed", files={"file": content})
    assert answer.json()["type"] == "/problems/recording"
