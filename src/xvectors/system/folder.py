"""Where a system is. In: a name: a path, `starter`, or hf://owner/name. Out: the paths of its directory. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from xvectors.errors import CheckpointError
from xvectors.system.hub import fetch_system, is_on_hub

STARTER = "starter"
"""The name of the system that comes with the package, wherever a system directory is asked for."""

ONNX_SUFFIX = ".onnx"
"""Of exported systems, which are a file."""


@dataclass(frozen=True)
class SystemFolder:
    """The paths of one system directory."""

    path: Path

    @property
    def description(self) -> Path:
        return self.path / "system.toml"

    @property
    def weights(self) -> Path:
        return self.path / "model.safetensors"

    @property
    def exported(self) -> Path:
        """The same system for onnxruntime, where somebody exported it: what runs where torch is not installed."""
        return self.path / "model.onnx"

    @property
    def speakers(self) -> Path:
        return self.path / "speakers.csv"

    @property
    def corpus(self) -> Path:
        return self.path / "corpus.csv"

    @property
    def backend(self) -> Path:
        return self.path / "backend.npz"

    @property
    def calibration(self) -> Path:
        return self.path / "calibration.toml"

    @property
    def history(self) -> Path:
        return self.path / "history.csv"

    @property
    def checkpoint(self) -> Path:
        return self.path / "state" / "checkpoint.pt"

    @property
    def lock(self) -> Path:
        """Held by the process that trains or calibrates the system."""
        return self.path / ".lock"

    @property
    def left_out(self) -> Path:
        return self.path / "left_out.csv"

    @property
    def report(self) -> Path:
        return self.path / "report"


def starter_folder() -> SystemFolder:
    """Where the bundled starter system is, or would be."""
    return SystemFolder(Path(str(resources.files("xvectors.system") / STARTER)))


def find_system(name: str | Path) -> SystemFolder:
    """The system directory called `name`.

    A path; `starter` where no system of that name stands here; or `hf://owner/name`, which is downloaded from the hub
    the first time (extra `hub`).

    Raises CheckpointError where this installation came without the starter system, or the hub does not give one;
    MissingExtraError without the extra.
    """
    if is_on_hub(name):
        return SystemFolder(fetch_system(name))
    if str(name) != STARTER or SystemFolder(Path(name)).description.is_file():
        return SystemFolder(Path(name))
    folder = starter_folder()
    if not folder.description.is_file():
        raise CheckpointError("this installation holds no starter system; name a system directory instead")
    return folder
