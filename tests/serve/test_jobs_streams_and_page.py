"""Diarizations as jobs, decisions while one speaks, and the page."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import soundfile
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

import xvectors
from support.service import RATE, b64, wav
from xvectors.audio.decoding.untrusted import Decoder
from xvectors.diarization import Diarizer
from xvectors.diarization.streaming import StreamingDiarizer
from xvectors.encoder import SpeakerEncoder
from xvectors.serve.jobs import Jobs

STREAM = "ws://localhost:8000/v1/stream"
Voices = list[list[bytes]]
PAGE = Path(xvectors.__file__).parent / "serve" / "page"


def samples_of(content: bytes) -> np.ndarray:
    return soundfile.read(io.BytesIO(content), dtype="float32")[0]


def pcm(content: bytes) -> bytes:
    return (samples_of(content) * 32767).astype("<i2").tobytes()


def finished(client: TestClient, place: str) -> dict[str, object]:
    for _ in range(600):
        job = client.get(place).json()
        if job["stage"] in ("done", "failed"):
            return dict(job)
        time.sleep(0.05)
    raise AssertionError(job)


def test_a_diarization_is_a_job_with_a_result(client: TestClient, system: SpeakerEncoder, voices: Voices) -> None:
    meeting = np.concatenate([samples_of(each[0]) for each in (*voices, *voices)])
    begun = client.post("/v1/diarize", files={"file": wav(meeting)}, data={"speakers": "2"})
    assert begun.status_code == 202
    job = finished(client, begun.headers["location"])
    expected = Diarizer(system).diarize(samples_of(wav(meeting)), speakers="2")
    assert (job["stage"], job["progress"], job["error"]) == ("done", 1.0, None)
    found = job["result"]["turns"]  # type: ignore[index]
    assert [(turn["start_s"], turn["end_s"], turn["speaker"]) for turn in found] == [
        (turn.start_s, turn.end_s, turn.speaker) for turn in expected
    ]
    assert client.delete(begun.headers["location"]).status_code == 204
    assert client.get(begun.headers["location"]).status_code == 404


def test_a_recording_that_cannot_be_read_fails_its_job(client: TestClient) -> None:
    begun = client.post("/v1/diarize", files={"file": b"RIFF nothing"})
    job = finished(client, f"/v1/diarize/{begun.json()['id']}")
    assert job["stage"] == "failed"
    assert "not a sound file" in str(job["error"])
    assert client.post("/v1/diarize", json={"audio": "UklGRg==", "speakers": "0"}).status_code == 422


def test_jobs_belong_to_a_tenant_and_are_forgotten(system: SpeakerEncoder) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    with Decoder() as decoder:
        jobs = Jobs(decoder, max_duration_s=60, max_jobs=1, kept_s=60, now=lambda: now)
        job = jobs.add("acme", b"nothing", system, None, None)
        assert job is not None
        assert jobs.add("acme", b"nothing", system, None, None) is None, "one at a time"
        assert jobs.find("other", job.id) is None
        assert not jobs.remove("other", job.id)
        while job.expires_at is None:
            time.sleep(0.01)
        assert jobs.find("acme", job.id) is job
        now += timedelta(seconds=60)
        assert jobs.find("acme", job.id) is None
        jobs.close()


def test_a_stream_goes_on_until_it_can_tell(client: TestClient, voices: Voices) -> None:
    ann, bob = voices
    for name, recordings in (("ann", ann), ("bob", bob)):
        body = {"name": name, "audio": [b64(each) for each in recordings[:2]]}
        assert client.post("/v1/voice/register", json=body).status_code == 200
    sound = pcm(ann[2])
    whole = client.post("/v1/voice/verify", json={"audio1": b64(ann[2]), "speaker": "ann"}).json()
    with client.websocket_connect(STREAM) as socket:
        socket.send_json({"speaker": "ann", "sample_rate_hz": RATE, "prior": 0.5})
        answers = []
        for start in range(0, len(sound), RATE):  # half a second each
            socket.send_bytes(sound[start : start + RATE])
            if start // RATE % 2:
                answers.append(socket.receive_json())
                if answers[-1]["final"]:
                    break
        else:
            socket.send_text("")
            answers.append(socket.receive_json())
    assert [answer["decision"] for answer in answers[:-1]] == ["go_on"] * (len(answers) - 1)
    assert answers[-1]["final"]
    assert answers[-1]["decision"] in (whole["decision"], "accept", "cannot_tell")
    assert {answer["prior"] for answer in answers} == {0.5}
    assert answers[-1]["threshold"] == pytest.approx(0.0, abs=1e-9)
    assert set(answers[-1]["notes"]) <= set(whole["recordings"][0]["notes"])
    with client.websocket_connect(STREAM) as socket:
        socket.send_json({})
        socket.send_bytes(bytes(2 * RATE))
        assert socket.receive_json()["decision"] == "go_on", "silence"
        socket.send_text("")
        assert (socket.receive_json()["decision"]) == "cannot_tell"


def test_a_stream_says_who_spoke_when(client: TestClient, system: SpeakerEncoder, voices: Voices) -> None:
    ann, bob = voices
    assert client.post("/v1/voice/register", json={"name": "ann", "audio": [b64(each) for each in ann]}).is_success
    sound = b"".join(pcm(each) for each in (ann[0], ann[1], bob[0], bob[1]))
    turns = []
    with client.websocket_connect(STREAM) as socket:
        socket.send_json({"diarize": True})
        for start in range(0, len(sound), 2 * RATE + 1):  # odd pieces of a second
            socket.send_bytes(sound[start : start + 2 * RATE + 1])
        socket.send_text("")
        answer = {"final": False}
        while not answer["final"]:
            answer = socket.receive_json()
            turns += answer["turns"]
        with pytest.raises(WebSocketDisconnect):
            socket.receive_json()
    assert answer["heard_s"] == pytest.approx(len(sound) / 2 / RATE, abs=1e-3)
    assert answer["model_fingerprint"] == system.fingerprint
    gallery = client.app.state.service.galleries.of("default")  # type: ignore[attr-defined]
    expected = StreamingDiarizer(system, gallery=gallery)
    samples = np.frombuffer(sound, dtype="<i2").astype(np.float32) / np.float32(32768)
    whole = [*expected.feed(samples), *expected.finish()]
    assert [(turn["start_s"], turn["end_s"], turn["speaker"], turn["name"]) for turn in turns] == [
        (pytest.approx(turn.start_s), pytest.approx(turn.end_s), turn.speaker, turn.name) for turn in whole
    ]
    assert len(whole) > 3
    assert answer["joined"] == dict(expected.joined)


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        ("{", "invalid"),
        ('{"sample_rate_hz": 1}', "invalid"),
        ('{"diarize": true, "speaker": "ann"}', "invalid"),
        ('{"speaker": "eve"}', "unknown-speaker"),
    ],
)
def test_a_stream_that_cannot_begin_says_why(client: TestClient, start: str, kind: str) -> None:
    with client.websocket_connect(STREAM) as socket:
        socket.send_text(start)
        socket.send_bytes(bytes(2 * RATE))
        assert socket.receive_json()["type"] == f"/problems/{kind}"
        with pytest.raises(WebSocketDisconnect):
            socket.receive_json()


def test_streams_of_foreign_pages_are_refused(client: TestClient) -> None:
    with (
        pytest.raises(WebSocketDisconnect),
        client.websocket_connect(STREAM, headers={"origin": "https://evil.example"}),
    ):
        pass


def test_streams_count_as_requests(serve: Callable[..., TestClient]) -> None:
    client = serve(max_requests=1)
    with client.websocket_connect(STREAM) as socket:
        assert client.get("/v1/speakers").status_code == 503
        with pytest.raises(WebSocketDisconnect), client.websocket_connect(STREAM):
            pass
        socket.send_text("{")
        socket.receive_json()
    assert client.get("/v1/speakers").status_code == 200


def test_metrics_count_recordings_and_decisions(serve: Callable[..., TestClient], voices: Voices) -> None:
    client = serve()
    client.post("/v1/voice/verify", json={"audio1": b64(voices[0][0]), "audio2": b64(voices[0][1])})
    client.post("/v1/voice/embed", json={"audio": "UklGRg=="})
    text = client.get("/metrics").text
    assert "xvectors_speech_seconds_count 2.0" in text
    assert "xvectors_recordings_unusable_total 1.0" in text
    assert "xvectors_batch_recordings_sum 2.0" in text
    assert 'xvectors_llr_count{endpoint="verify"} 1.0' in text
    assert 'xvectors_requests_total{method="POST",route="/v1/voice/embed",status="422"} 1.0' in text


def test_the_page_and_its_files_come_from_this_host_alone(client: TestClient) -> None:
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    for name in re.findall(r'(?:src|href)="(page/[^"]+)"', page.text):
        assert client.get(f"/{name}").status_code == 200
    assert client.get("/page/..%2Fservice.py").status_code == 404
    for path in PAGE.iterdir():
        assert not re.search(r"https?://", path.read_text()), path.name
        assert client.get(f"/page/{path.name}").content == path.read_bytes()


def test_every_text_of_the_page_is_in_one_file() -> None:
    texts = set(re.findall(r"^  (\w+):", (PAGE / "strings.js").read_text(), re.MULTILINE))
    used = set(re.findall(r'data-text="(\w+)"', (PAGE / "index.html").read_text()))
    for name in ("app.js", "map.js", "service.js"):
        used |= set(re.findall(r"strings\.(?!js\b)(\w+)", (PAGE / name).read_text()))
    assert used == texts
    body = re.sub(r"<head>.*</head>", "", (PAGE / "index.html").read_text(), flags=re.DOTALL)
    assert set(re.sub(r"<[^>]+>", " ", body).split()) == {"xvectors"}
