"""`xvectors import` from file to system, the files it refuses, and downloads that stop."""

from __future__ import annotations

import errno
import hashlib
import http.server
import json
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
import torch
from torch import Tensor

from support.commands import run
from support.published import golden, golden_checkpoint
from xvectors import SpeakerEncoder
from xvectors.errors import CheckpointError, StorageError
from xvectors.files import digest
from xvectors.system.importers import sources

FAMILY = "wespeaker-xvector"
CONTENT = bytes(range(256)) * 4000


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    return golden_checkpoint(golden(FAMILY))


def refused(path: Path, *options: str) -> str:
    """What the command says of a file that it refuses; no system is left behind."""
    output = path.parent / "refused"
    printed = run("import", path, "-o", output, *options, status=2)
    assert not (output / "system.toml").exists()
    assert "Traceback" not in printed.stderr
    assert path.name in printed.stderr
    return " ".join(printed.stderr.split())


def test_a_published_model_becomes_a_system(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    half = {key: value.half() if value.dim() > 1 else value for key, value in tensors.items()}
    path = tmp_path / "avg_model.pt"
    torch.save({"model": half, "optimizer": {"state": {0: {"exp_avg": torch.ones(9)}}}, "epoch": 7}, path)
    (tmp_path / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n# A card\n", encoding="utf-8")
    printed = run("import", path, "-o", tmp_path / "system", "--sha256", digest(path).upper(), "--json")
    origin = json.loads(printed.stdout)["origin"]
    assert (origin["family"], origin["license"], origin["sha256"]) == (FAMILY, "cc-by-4.0", digest(path))
    assert "half precision" in origin["notes"][0]
    assert "reconstructed" in printed.stderr, "no published weights of this family were compared"
    written = tomllib.loads((tmp_path / "system" / "system.toml").read_text(encoding="utf-8"))
    assert written["num_speakers"] == 0
    assert written["origin"] == origin
    assert SpeakerEncoder.from_pretrained(tmp_path / "system").embedding_dim == 512
    assert "holds a system already" in run("import", path, "-o", tmp_path / "system", status=2).stderr.replace(
        "\n", " "
    )


def test_files_that_are_refused(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    path = tmp_path / "model.pt"
    torch.save(tensors, path)
    assert "it is another file" in refused(path, "--sha256", "0" * 64)
    assert "three blocks" in refused(path, "--family", "3dspeaker-campplus")
    said = run("import", path, "-o", tmp_path / "refused", "--family", "nobody", status=2).stderr
    assert "unknown family 'nobody'" in said
    assert FAMILY in said
    complete = path.read_bytes()
    path.write_bytes(complete[: len(complete) // 2])
    assert "damaged" in refused(path)
    gone = ["frame_2.conv_1d.weight", "seg_1.bias"]
    torch.save({key: value for key, value in tensors.items() if key not in gone}, path)
    said = refused(path, "--family", FAMILY)
    assert all(key in said for key in gone), said
    torch.save({"classifier.weight": torch.ones(4, 8), "classifier.bias": torch.ones(4)}, path)
    said = refused(path)
    assert "classifier.weight" in said
    assert FAMILY in said, "the families that were tried"


@pytest.fixture
def address() -> Iterator[str]:
    """A server on this machine that sends CONTENT, by ranges too; the first answer breaks off halfway."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            stated = self.headers.get("Range")
            start = int(stated.removeprefix("bytes=").rstrip("-")) if stated else 0
            if self.path != "/model.pt":
                return self.send_error(404)
            self.send_response(206 if stated else 200)
            self.send_header("Content-Length", str(len(CONTENT) - start))
            self.end_headers()
            self.wfile.write(CONTENT[start:] if stated else CONTENT[: len(CONTENT) // 2])
            return None

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/model.pt"
        server.shutdown()


def test_a_download_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setattr(sources, "user_folder", lambda kind: tmp_path)
    with pytest.raises(CheckpointError, match=f"after 512,000 of {len(CONTENT):,} bytes; run the command again"):
        sources.download(address)
    path = sources.download(address)
    assert digest(path) == hashlib.sha256(CONTENT).hexdigest()
    with mock.patch("urllib.request.urlopen", side_effect=AssertionError("the cache answers")):
        assert sources.download(address) == path
    with pytest.raises(CheckpointError, match="cannot be downloaded"):
        sources.download(address.replace("model.pt", "none.pt"))
    with pytest.raises(CheckpointError, match="check the address and the network"):
        sources.download("http://127.0.0.1:9/model.pt")


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setattr(sources, "user_folder", lambda kind: tmp_path)
    full = OSError(errno.ENOSPC, "No space left on device")
    with mock.patch.object(Path, "open", side_effect=full), pytest.raises(StorageError, match="No space left"):
        sources.download(address)
