"""Systems and models on the hub, for which a server on this machine stands in."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
import torch

from support.commands import run
from support.formula_weights import formula_state
from support.hub_server import TOKEN, HubServer, hub_server, use_in_this_process
from xvectors import SpeakerEncoder
from xvectors.errors import CheckpointError, MissingExtraError, StorageError
from xvectors.models import XVector
from xvectors.system import find_system
from xvectors.system.hub import FILES, fetch_files, is_on_hub
from xvectors.system.importers import importing
from xvectors.system.serialization import read_description
from xvectors.training.calibrate import calibrate

SYSTEM = {
    "system.toml": b"format_version = 3\n",
    "model.safetensors": bytes(range(256)) * 400,
    "README.md": b"---\nlicense: cc-by-4.0\n---\n",
}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    pytest.importorskip("huggingface_hub")
    with hub_server() as server:
        use_in_this_process(monkeypatch, server, str(tmp_path / "home"))
        server.put("someone/voices", dict(SYSTEM))
        yield server


def refused(address: str, *, error: type[Exception] = CheckpointError) -> str:
    """What is said of an address: one sentence that names it."""
    with pytest.raises(error) as raised:
        fetch_files(address, FILES)
    said = str(raised.value)
    assert said.startswith(f"{address}: ")
    assert "\n" not in said
    return said


def downloads(hub: HubServer) -> list[str | None]:
    """The ranges of the downloads of weights, None for whole files."""
    return [asked for method, path, asked in hub.asked if method == "GET" and path.endswith(".safetensors")]


def test_files_are_downloaded_once(hub: HubServer) -> None:
    hub.put("someone/voices", {**SYSTEM, "train.py": b"code", "pytorch_model.bin": b"pickled"})
    folder = fetch_files("hf://someone/voices", FILES)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == SYSTEM
    assert fetch_files("hf://someone/voices", FILES) == folder
    assert downloads(hub) == [None]


@pytest.mark.parametrize("form", [str, Path])
def test_a_revision_and_a_path_that_lost_a_slash(hub: HubServer, form: type) -> None:
    first = hub.repositories["someone/voices"].branches["main"]
    hub.put("someone/voices", {**SYSTEM, "system.toml": b"later\n"})
    assert fetch_files(form(f"hf://someone/voices@{first}"), FILES).name == first
    assert (fetch_files(form("hf://someone/voices"), FILES) / "system.toml").read_bytes() == b"later\n"


@pytest.mark.parametrize("address", ["hf://voices", "hf://", "hf://a/b/c", "hf://a/b@"])
def test_other_forms(address: str) -> None:
    with pytest.raises(CheckpointError, match="has the form hf://owner/name or hf://owner/name@revision"):
        fetch_files(address, FILES)


def test_what_only_looks_alike_is_a_path() -> None:
    assert not is_on_hub("exp/hf")
    assert not is_on_hub(Path("hf") / "xv")


def test_what_the_hub_does_not_have(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.put("someone/secret", dict(SYSTEM), private=True)
    for name in ("someone/none", "someone/secret"):  # of which the hub says the same, without a token
        said = refused(f"hf://{name}")
        assert "no such repository on the hub, or it is private" in said
        assert "`hf auth login`, or set HF_TOKEN" in said
    assert "no branch, tag or commit v9; check what follows the @" in refused("hf://someone/voices@v9")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert (fetch_files("hf://someone/secret", FILES) / "system.toml").is_file()
    assert "check the name" in refused("hf://someone/none")


def test_without_a_network(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was downloaded works, the rest is refused with the remedy; offline by choice, and without an answer."""
    constants = pytest.importorskip("huggingface_hub").constants
    folder = fetch_files("hf://someone/voices", FILES)
    asked = len(hub.asked)
    with monkeypatch.context() as patch:
        patch.setattr(constants, "HF_HUB_OFFLINE", True)
        assert fetch_files("hf://someone/voices", FILES) == folder
        assert "not in the cache, and HF_HUB_OFFLINE forbids" in refused("hf://someone/other")
    assert len(hub.asked) == asked
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert fetch_files("hf://someone/voices", FILES) == folder
    said = refused("hf://someone/other")
    assert "the hub at http://127.0.0.1:9 does not answer" in said
    assert said.endswith("check the network")


@pytest.mark.parametrize("name", ["model.safetensors", "system.toml"])
def test_a_file_with_another_digest_is_refused_and_not_kept(hub: HubServer, name: str) -> None:
    hub.damaged = {name}
    assert f"{name} has the digest" in refused("hf://someone/voices")
    hub.damaged = set()
    assert (fetch_files("hf://someone/voices", FILES) / name).read_bytes() == SYSTEM[name]


def test_a_download_that_breaks_off_is_resumed(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 10_000)
    hub.cut_after = 50_000
    folder = fetch_files("hf://someone/voices", FILES)
    assert downloads(hub) == [None, "bytes=50000-"]
    assert (folder / "model.safetensors").read_bytes() == SYSTEM["model.safetensors"]


def test_a_full_disk(hub: HubServer) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with mock.patch("huggingface_hub.snapshot_download", side_effect=full):
        said = refused("hf://someone/voices", error=StorageError)
    assert "No space left on device; make room, or set HF_HOME" in said


def test_a_model_of_another_toolkit(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is imported with the commit in [origin], by the command and by `from_pretrained`, which keeps it."""
    monkeypatch.setattr(importing, "user_folder", lambda kind: tmp_path / "cache")
    path = tmp_path / "model.pt"
    torch.save(formula_state(XVector(0.02, num_speakers=2, embedding_dim=8)), path)
    commit = hub.put("lab/xvector", {"model.pt": path.read_bytes(), "README.md": SYSTEM["README.md"], "run.py": b""})
    hub.put("lab/xvector", {"README.md": b"moved"})
    run("import", f"hf://lab/xvector@{commit}", "-o", tmp_path / "system")
    origin = read_description(find_system(tmp_path / "system")).origin or {}
    assert (origin["source"], origin["revision"]) == (f"hf://lab/xvector@{commit}", commit)
    assert (origin["license"], origin["family"]) == ("cc-by-4.0", "exercise")
    encoder = SpeakerEncoder.from_pretrained(f"hf://lab/xvector@{commit}", device="cpu")
    assert encoder.fingerprint == SpeakerEncoder.from_pretrained(tmp_path / "system", device="cpu").fingerprint
    assert not any(path.endswith("run.py") for _, path, _ in hub.asked)
    with pytest.raises(CheckpointError, match=r"holds no model; looked for .*safetensors"):
        SpeakerEncoder.from_pretrained("hf://lab/xvector")


def test_the_hubs_copy_is_not_written_to(hub: HubServer, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="the hf://someone/voices system belongs to the hub's cache; copy"):
        calibrate("hf://someone/voices", data=tmp_path)


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'xvectors\[hub\]', or download the repository by hand"):
        SpeakerEncoder.from_pretrained("hf://a/b")
