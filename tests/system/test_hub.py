"""Systems on the hub, whose library is a stub here: nothing is fetched."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest

from xvectors import SpeakerEncoder
from xvectors.errors import CheckpointError, MissingExtraError
from xvectors.system import find_system
from xvectors.system.hub import FILES, fetch_files, is_on_hub
from xvectors.training.calibrate import calibrate


class Hub:
    """Stands for huggingface_hub: what it was asked for, and the folder or error it answers with."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[dict[str, object]] = []
        self.answer: Path | Exception = Path()
        module = types.ModuleType("huggingface_hub")
        module.snapshot_download = self.download
        monkeypatch.setitem(sys.modules, "huggingface_hub", module)

    def download(self, **asked: object) -> str:
        self.asked.append(asked)
        if isinstance(self.answer, Exception):
            raise self.answer
        return str(self.answer)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    return Hub(monkeypatch)


def test_a_system_on_the_hub_is_loaded(hub: Hub) -> None:
    hub.answer = find_system("starter").path
    here = SpeakerEncoder.from_pretrained(device="cpu")
    there = SpeakerEncoder.from_pretrained("hf://someone/voices", device="cpu")
    assert there.fingerprint == here.fingerprint
    assert hub.asked == [{"repo_id": "someone/voices", "revision": None, "allow_patterns": FILES}]


@pytest.mark.parametrize("address", ["hf://someone/voices@v1.0", Path("hf://someone/voices@v1.0")])
def test_a_revision_and_a_path_that_lost_a_slash(hub: Hub, address: str | Path) -> None:
    hub.answer = find_system("starter").path
    assert find_system(address).path == hub.answer
    assert hub.asked == [{"repo_id": "someone/voices", "revision": "v1.0", "allow_patterns": FILES}]


@pytest.mark.parametrize("address", ["hf://voices", "hf://", "hf://a/b/c", "hf://a/b@"])
def test_other_forms(hub: Hub, address: str) -> None:
    with pytest.raises(CheckpointError, match="has the form hf://owner/name or hf://owner/name@revision"):
        fetch_files(address, FILES)
    assert hub.asked == []


def test_what_only_looks_alike_is_a_path() -> None:
    assert not is_on_hub("exp/hf")
    assert not is_on_hub(Path("hf") / "xv")


@pytest.mark.parametrize("error", [OSError("404 Client Error\nmore lines"), ValueError("404 Client Error")])
def test_a_download_that_fails(hub: Hub, error: Exception) -> None:
    hub.answer = error
    with pytest.raises(CheckpointError, match=r"^hf://a/b: cannot be downloaded \(404 Client Error\); check the name"):
        find_system("hf://a/b")


def test_the_hubs_copy_is_not_written_to(hub: Hub, toy_corpus: Path) -> None:
    hub.answer = find_system("starter").path
    with pytest.raises(CheckpointError, match="the hf://a/b system belongs to the hub's cache; copy its folder"):
        calibrate("hf://a/b", data=toy_corpus)


def test_a_repository_of_something_else(hub: Hub, tmp_path: Path) -> None:
    hub.answer = tmp_path
    with pytest.raises(CheckpointError, match=r"holds no model; looked for .*safetensors"):
        SpeakerEncoder.from_pretrained("hf://a/b")


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'xvectors\[hub\]', or download the repository by hand"):
        SpeakerEncoder.from_pretrained("hf://a/b")


def test_the_library_itself_has_errors_of_these_kinds() -> None:
    """What fetch_files catches, where the library is installed."""
    errors = pytest.importorskip("huggingface_hub.errors")
    for name in ("HfHubHTTPError", "RepositoryNotFoundError", "LocalEntryNotFoundError", "HFValidationError"):
        assert issubclass(getattr(errors, name), OSError | ValueError), name
