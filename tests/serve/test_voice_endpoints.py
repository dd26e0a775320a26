"""The endpoints under /v1/voice answer as the encoder and the gallery do, for JSON and forms alike."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

from support.service import RATE, b64, wav
from xvectors.encoder import SpeakerEncoder
from xvectors.gallery import Speaker, open_gallery

Voices = list[list[bytes]]


def test_verify_answers_as_the_encoder_does(client: TestClient, system: SpeakerEncoder, voices: Voices) -> None:
    ann, bob = voices
    for first, second in ((ann[0], ann[1]), (ann[0], bob[0])):
        expected = system.verify(first, second, p_target=0.2)
        body = {"audio1": b64(first), "audio2": f"data:audio/wav;base64,{b64(second)}", "prior": 0.2}
        answer = client.post("/v1/voice/verify", json=body)
        found = answer.json()
        assert answer.status_code == 200
        verdicts = {"same speaker": "accept", "different speakers": "reject", "cannot tell": "cannot_tell"}
        assert found["decision"] == verdicts[expected.answer]
        assert found["verified"] is (expected.same_speaker is True)
        assert found["llr"] == pytest.approx(expected.llr, abs=1e-3)
        assert found["probability"] == pytest.approx(expected.probability, abs=1e-3)
        assert (found["prior"], found["threshold"]) == (0.2, expected.threshold)
        assert found["speech_s"] == expected.recordings[1].quality.speech_s
        assert [each["notes"] for each in found["recordings"]] == [
            list(each.quality.notes) for each in expected.recordings
        ]
        assert found["reasons"] == list(expected.reasons)
        assert (found["model"], found["model_fingerprint"]) == ("model.onnx", system.fingerprint)
        assert found["request_id"] == answer.headers["x-request-id"]


def test_a_form_is_answered_as_json_is(client: TestClient, voices: Voices) -> None:
    first, second = voices[0][:2]
    as_json = client.post("/v1/voice/verify", json={"audio1": b64(first), "audio2": b64(second)}).json()
    parts = [("file", first), ("file", second)]
    named = [("audio2", second), ("audio1", first)]
    for files in (parts, named):
        as_form = client.post("/v1/voice/verify", files=files, data={"prior": "0.5"}).json()
        assert as_form["llr"] == pytest.approx(as_json["llr"], abs=1e-6)
        assert as_form["decision"] == as_json["decision"]


def test_from_register_to_forget(client: TestClient, system: SpeakerEncoder, voices: Voices, tmp_path: Path) -> None:
    ann, bob = voices
    for name, (first, second, _) in (("ann", ann), ("bob", bob)):
        answer = client.post(
            "/v1/voice/register",
            json={"name": name, "audio": [b64(first), b64(second)], "consent": "for the door", "expires": "2999-01-01"},
        )
        found = answer.json()
        assert answer.status_code == 200
        assert (found["num_added"], found["num_before"], found["doubts"]) == (2, 0, [])
        assert found["speaker"]["consent"] == ["for the door"]
        assert found["speaker"]["expires_at"] == "2999-01-01T00:00:00+00:00"

    with open_gallery(tmp_path / "g.sqlite", system=system, create=True) as gallery:
        for name, recordings in (("ann", ann), ("bob", bob)):
            heard = [system.listen(each) for each in recordings[:2]]
            rows = system.encode_heard([each.samples for each in heard])
            gallery.enroll(name, rows, [each.speech_s for each in heard], condition=[each.condition for each in heard])
        expected = gallery.identify_recording(system, ann[2])
        decision = system.verify(gallery.speaker("ann"), bob[2])

    found = client.post("/v1/voice/identify", files={"file": ann[2]}, data={"top_k": "2"}).json()
    assert found["speaker"] == expected.speaker
    assert found["num_enrolled"] == 2
    assert [match["name"] for match in found["matches"]] == [match.speaker for match in expected.matches]
    np.testing.assert_allclose(
        [match["llr"] for match in found["matches"]], [match.llr for match in expected.matches], atol=1e-3
    )
    assert found["p_nobody"] == pytest.approx(expected.p_nobody, abs=1e-3)

    found = client.post("/v1/voice/verify", json={"audio1": b64(bob[2]), "speaker": "ann"}).json()
    assert found["speaker"] == "ann"
    assert found["llr"] == pytest.approx(decision.llr, abs=1e-3)

    assert client.post("/v1/voice/forget", json={"id": "ann"}).status_code == 204
    assert client.post("/v1/voice/forget", json={"id": "ann"}).status_code == 404


def test_embed_and_analyze(client: TestClient, system: SpeakerEncoder, voices: Voices) -> None:
    recording = voices[0][0]
    heard = system.listen(recording)
    found = client.post("/v1/voice/embed", json={"audio": b64(recording)}).json()
    np.testing.assert_allclose(found["embedding"], system.encode_heard([heard.samples])[0], atol=1e-4)
    assert (found["dim"], found["speech_s"]) == (system.embedding_dim, heard.speech_s)

    found = client.post("/v1/voice/analyze", files={"file": recording}).json()
    assert (found["usable"], found["reasons"]) == (True, [])
    assert found["recording"]["snr_db"] == pytest.approx(heard.quality.snr_db, abs=1e-6)
    tone = wav((0.1 * np.sin(np.arange(2 * RATE) * 0.2)).astype(np.float32))
    found = client.post("/v1/voice/analyze", files={"file": tone}).json()
    assert not found["usable"]
    assert found["reasons"]


def test_what_has_too_little_speech_is_no_answer_and_enrolls_nobody(client: TestClient, voices: Voices) -> None:
    silence = wav(np.zeros(2 * RATE, dtype=np.float32))
    found = client.post("/v1/voice/verify", json={"audio1": b64(voices[0][0]), "audio2": b64(silence)}).json()
    assert (found["decision"], found["llr"], found["verified"]) == ("cannot_tell", None, False)
    assert found["reasons"] == ["the second recording is silent"]
    body = {"name": "ann", "audio": [b64(voices[0][0]), b64(silence)]}
    answer = client.post("/v1/voice/register", json=body)
    assert answer.status_code == 422
    assert answer.json()["type"] == "/problems/recording"
    assert answer.json()["detail"] == "recording 1 is silent"
    assert client.get("/v1/speakers").json() == {"speakers": [], "next": None}


@pytest.mark.parametrize(
    ("path", "body", "status", "kind", "word"),
    [
        ("verify", {"audio1": "UklGRg=="}, 422, "invalid", "audio2"),
        ("verify", {"audio1": "http://localhost/a.wav", "audio2": "UklGRg=="}, 422, "invalid", "address"),
        ("verify", {"audio1": "%%%%", "audio2": "UklGRg=="}, 422, "invalid", "base64"),
        ("verify", {"audio1": "data:audio/wav,abc", "audio2": "UklGRg=="}, 422, "invalid", "data URI"),
        ("verify", {"audio1": "UklGRg==", "audio2": "UklGRg==", "threshold": 0.25}, 422, "invalid", "threshold"),
        ("verify", {"audio1": "UklGRg==", "audio2": "UklGRg==", "prior": 1}, 422, "invalid", "prior"),
        ("verify", {"audio1": "UklGRg==", "audio2": "UklGRg=="}, 422, "recording", "first recording"),
        ("verify", {"audio1": "UklGRg==", "speaker": "eve"}, 404, "unknown-speaker", "eve"),
        ("embed", {"audio": "UklGRg==", "model": "other"}, 422, "invalid", "other"),
        ("identify", {"audio": ""}, 422, "invalid", "audio"),
        ("register", {"name": "a\u202eb", "audio": "UklGRg=="}, 422, "invalid", "name"),
        ("register", {"name": "ann", "audio": "UklGRg==", "expires": "2001-01-01"}, 422, "invalid", "expiry"),
        ("register", {"name": "ann", "audio": []}, 422, "invalid", "audio"),
        ("forget", {}, 422, "invalid", "id"),
    ],
)
def test_problems_say_what_to_correct(
    client: TestClient, path: str, body: dict[str, object], status: int, kind: str, word: str
) -> None:
    answer = client.post(f"/v1/voice/{path}", json=body)
    found = answer.json()
    assert (answer.status_code, found["type"], found["status"]) == (status, f"/problems/{kind}", status)
    assert answer.headers["content-type"] == "application/problem+json"
    assert word in json.dumps(found)
    assert found["remedy"]
    assert client.get(found["type"]).json()["title"] == found["title"]


@pytest.mark.parametrize(
    ("content", "media_type", "status"),
    [
        (b"{", "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b"x", "text/plain", 415),
        (b"--b\r\nno form", "multipart/form-data; boundary=b", 400),
        (b"x", "multipart/form-data", 400),
    ],
)
def test_bodies_that_cannot_be_read(client: TestClient, content: bytes, media_type: str, status: int) -> None:
    answer = client.post("/v1/voice/embed", content=content, headers={"content-type": media_type})
    assert answer.status_code == status
    assert answer.json()["remedy"]


def test_nobody_enrolled_is_a_problem_without_the_place_of_the_gallery(client: TestClient, voices: Voices) -> None:
    answer = client.post("/v1/voice/identify", files={"file": voices[0][0]})
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/gallery")
    assert "no enrolled speakers" in answer.json()["detail"]
    assert ".sqlite" not in answer.text


def test_a_speaker_is_looked_up_alone_and_a_page_in_its_turn(
    client: TestClient, voices: Voices, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ann", "bob", "cara"):
        assert client.post("/v1/voice/register", json={"name": name, "audio": b64(voices[0][0])}).status_code == 200
    store = client.app.state.service.galleries.of("default").store  # type: ignore[attr-defined]
    listed, asked = store.speakers, []

    def speakers(now: datetime, **which: object) -> list[Speaker]:
        asked.append(which)
        return list(listed(now, **which))

    with monkeypatch.context() as watched:
        watched.setattr(store, "speakers", speakers)
        found = client.get("/v1/speakers/bob").json()
        assert (found["name"], found["num_voiceprints"], asked) == ("bob", 1, [])
        page = client.get("/v1/speakers", params={"after": "ann\0zzz", "limit": 1}).json()
    assert ([each["name"] for each in page["speakers"]], page["next"]) == (["bob"], "bob")
    assert asked == [{"after": "ann", "limit": 2}]
    answer = client.get("/v1/speakers/bobby")
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/unknown-speaker")
