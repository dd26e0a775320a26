"""The client against a running service, sync and async; the how-to's curl examples; OpenAPI."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.documents import ROOT, blocks_of
from support.service import running
from xvectors.client import AsyncClient, Client
from xvectors.errors import AudioFileError, ServiceError

Voices = list[list[bytes]]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running(tmp_path_factory.mktemp("service"), "--rate", 1000) as (_, address, _):
        yield address


def test_the_client_asks_for_everything(address: str, voices: Voices, tmp_path: Path) -> None:
    ann, bob = voices
    path = tmp_path / "a.wav"
    path.write_bytes(ann[0])
    with Client(address) as client:
        assert client.analyze(path).usable
        assert client.embed(ann[0]).dim == len(client.embed(path).embedding)
        added = client.register("ann/é?", [path, ann[1]], consent="for the door", expires="2999-01-01")
        assert (added.num_added, added.speaker.consent) == (2, ["for the door"])
        client.register("bob", bob[0])
        assert [each.name for each in client.speakers(limit=1).speakers] == ["ann/é?"]
        assert client.speakers(after="ann/é?").speakers[0].name == "bob"
        assert client.speaker("ann/é?").num_voiceprints == 2
        assert [(point.name, point.nearest) for point in client.voice_map().points] == [
            ("ann/é?", "bob"), ("bob", "ann/é?")
        ]  # fmt: skip
        first, second = client.verify(ann[2], speaker="ann/é?"), client.verify(ann[2], bob[2], prior=0.1)
        assert (first.speaker, second.speaker, second.prior) == ("ann/é?", None, 0.1)
        assert first.llr is not None
        assert second.llr is not None
        assert first.llr > second.llr
        assert client.identify(ann[2], top_k=1).matches[0].name == "ann/é?"
        assert client.forget("ann/é?", last=True) == 2
        assert client.forget("bob") == 1
        with pytest.raises(ServiceError, match="bob") as refused:
            client.forget("bob")
        assert (refused.value.status, refused.value.kind) == (404, "unknown-speaker")
        assert refused.value.request_id
        with pytest.raises(AudioFileError, match=r"none\.wav"):
            client.embed(tmp_path / "none.wav")


def test_the_async_client_does_the_same(address: str, voices: Voices) -> None:
    async def ask() -> None:
        async with AsyncClient(address) as client:
            await client.register("eve", voices[0][0])
            found = await asyncio.gather(*(client.verify(voices[0][1], speaker="eve") for _ in range(4)))
            assert len({round(each.llr or 0.0, 3) for each in found}) == 1
            assert (await client.identify(voices[0][1])).num_enrolled == 1
            assert (await client.analyze(voices[0][1])).speech_s == (await client.embed(voices[0][1])).speech_s
            assert [each.name for each in (await client.speakers()).speakers] == ["eve"]
            assert (await client.voice_map()).num_speakers == 1
            assert (await client.speaker("eve")).status in ("enrolled", "enrolling")
            assert await client.forget("eve") == 1

    asyncio.run(ask())


def test_a_service_that_is_not_there_or_is_another(tmp_path: Path) -> None:
    with Client("http://127.0.0.1:9", timeout_s=5) as client, pytest.raises(ServiceError, match="xvectors serve"):
        client.speakers()


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_examples_of_the_how_to_run(address: str, voices: Voices, tmp_path: Path) -> None:
    for name, content in {"a1": voices[0][0], "a2": voices[0][1], "x": voices[0][2], "b1": voices[1][0]}.items():
        (tmp_path / f"{name}.wav").write_bytes(content)
    lines = [
        line
        for block in blocks_of(ROOT / "docs" / "how-to" / "serve.md")
        for line in block.text.replace("\\\n", " ").splitlines()
        if "curl" in line and (block.why_not or "").startswith("tests/serve")
    ]
    assert len(lines) >= 8
    answers = []
    for line in lines:
        local = line.replace("http://127.0.0.1:8000", address)
        done = subprocess.run(["bash", "-c", local], cwd=tmp_path, capture_output=True, text=True, check=True)
        answers.append(json.loads(done.stdout))
    assert not [answer for answer in answers if "remedy" in answer]
    assert [answer.get("name") for answer in answers if "doubts" in answer] == ["ann"]
    assert sum("decision" in answer for answer in answers) == 4
    assert answers[-1] == {"removed": 2}


@pytest.mark.slow
def test_it_does_what_its_openapi_says(address: str) -> None:
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{address}/openapi.json", "--checks", checks]
    options = ["--max-examples", "5", "--seed", "1", "--no-color", "--exclude-path", "/v1/reload"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    generated, passed = re.findall(r"(\d+) generated, (\d+) pass", done.stdout)[0]
    assert generated == passed
    assert int(generated) > 100
