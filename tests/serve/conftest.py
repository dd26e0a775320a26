"""Recordings of synthetic voices, and the service over the bundled system."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from support.service import ADDRESS, wav
from xvectors.corpus.synth.espeak import Espeak
from xvectors.corpus.synth.generate import make, plan
from xvectors.encoder import SpeakerEncoder
from xvectors.serve import Settings, create_app
from xvectors.serve.encoder import load_system

Serve = Callable[..., TestClient]


@pytest.fixture(scope="session")
def voices() -> list[list[bytes]]:
    """Three recordings of each of two voices, as WAV files."""
    with tempfile.TemporaryDirectory() as scratch:
        engine = Espeak(Path(scratch))
        return [
            [wav(sum(make(engine, 5, speaker, plan(5, speaker, number))[1:])) for number in range(3)]
            for speaker in range(2)
        ]


@pytest.fixture(scope="session")
def system() -> SpeakerEncoder:
    return load_system("starter", threads=1)


@pytest.fixture(scope="session")
def serve_in(system: SpeakerEncoder) -> Callable[..., AbstractContextManager[TestClient]]:
    """Make a client of a service in a folder, with these settings."""

    def make_client(folder: Path, **settings: object) -> TestClient:
        chosen = Settings(**{"gallery": folder / "gallery.sqlite", "decoders": 1, **settings})  # type: ignore[arg-type]
        return TestClient(create_app(system, chosen), base_url=ADDRESS, raise_server_exceptions=False)

    return make_client


@pytest.fixture(scope="session")
def shared(serve_in: Callable[..., TestClient], tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A service without keys that all tests share."""
    folder = tmp_path_factory.mktemp("served")
    with serve_in(folder, audit=folder / "audit.jsonl", rate_per_s=None, body_timeout_s=5.0) as client:
        yield client


@pytest.fixture
def client(shared: TestClient) -> Iterator[TestClient]:
    """The shared service, with nobody enrolled."""
    yield shared
    for speaker in shared.get("/v1/speakers").json()["speakers"]:
        assert shared.post("/v1/voice/forget", json={"id": speaker["id"]}).status_code == 204


@pytest.fixture
def serve(serve_in: Callable[..., TestClient], tmp_path: Path) -> Iterator[Serve]:
    """Start services of a test's own, in its folder."""
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(serve_in(tmp_path, **settings))
