"""Downloads into the cache: those that stop, servers that ignore ranges, files that changed or have another digest."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from support.commands import run
from support.file_server import FileServer, serving
from xvectors.errors import CheckpointError, StorageError
from xvectors.files import digest
from xvectors.system.importers import sources

CONTENT = bytes(range(256)) * 4000
HALF = len(CONTENT) // 2
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setattr(sources, "user_folder", lambda kind: tmp_path)
    with serving(FileServer(CONTENT)) as file:
        yield file


def stop_halfway(server: FileServer) -> None:
    server.cut_after = HALF
    with pytest.raises(CheckpointError, match=f"after {HALF:,} of {len(CONTENT):,} bytes; run the command again"):
        sources.download(server.address)


def kept(tmp_path: Path) -> list[str]:
    return [path.name for path in tmp_path.rglob("*") if path.is_file()]


def test_a_download_goes_on_where_it_stopped(tmp_path: Path, server: FileServer) -> None:
    stop_halfway(server)
    path = sources.download(server.address)
    assert server.asked == [None, f"bytes={HALF}-"]
    assert digest(path) == SHA256
    with mock.patch("urllib.request.urlopen", side_effect=AssertionError("the cache answers")):
        assert sources.download(server.address, SHA256.upper()) == path
    assert kept(tmp_path) == ["model.pt"]


@pytest.mark.parametrize("tag", ['"one"', ""])
def test_a_server_that_ignores_ranges(server: FileServer, tag: str) -> None:
    server.tag = tag
    stop_halfway(server)
    server.ranges = "ignored"
    assert digest(sources.download(server.address)) == SHA256


def test_a_server_that_sends_another_range(server: FileServer) -> None:
    stop_halfway(server)
    server.ranges = "wrong"
    with pytest.raises(CheckpointError, match="sent another range than asked for"):
        sources.download(server.address)
    assert digest(sources.download(server.address)) == SHA256, "from the start again"


def test_a_file_that_changed_on_the_server(server: FileServer) -> None:
    stop_halfway(server)
    server.content, server.tag = CONTENT[::-1], '"two"'
    assert sources.download(server.address).read_bytes() == CONTENT[::-1]


def test_a_download_that_was_killed_before_it_got_its_name(server: FileServer, tmp_path: Path) -> None:
    path = sources.download(server.address)
    path.rename(path.with_name("model.pt.part"))
    assert digest(sources.download(server.address)) == SHA256
    assert server.asked == [None, f"bytes={len(CONTENT)}-", None]


def test_a_file_with_another_digest_is_not_kept(server: FileServer, tmp_path: Path) -> None:
    server.content = CONTENT[::-1]
    said = run("import", server.address, "-o", tmp_path / "system", "--sha256", SHA256, status=2).stderr
    assert server.address in said
    assert SHA256 in said
    assert hashlib.sha256(CONTENT[::-1]).hexdigest() in said
    assert kept(tmp_path) == ["model.pt.validator"]
    server.content = CONTENT
    path = sources.download(server.address, SHA256)
    assert digest(path) == SHA256
    # as after a new release under the same address
    server.content = CONTENT[::-1]
    assert sources.download(server.address, hashlib.sha256(CONTENT[::-1]).hexdigest()) == path
    assert path.read_bytes() == CONTENT[::-1]


def test_what_cannot_be_downloaded(server: FileServer) -> None:
    with pytest.raises(CheckpointError, match="cannot be downloaded"):
        sources.download(server.address.replace("model.pt", "none.pt"))
    with pytest.raises(CheckpointError, match="check the address and the network"):
        sources.download("http://127.0.0.1:9/model.pt")


def test_a_full_disk(server: FileServer) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    with mock.patch.object(Path, "open", side_effect=full), pytest.raises(StorageError, match="No space left"):
        sources.download(server.address)
