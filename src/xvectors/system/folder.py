"""Paths of a system directory, and how a system's name leads to its directory. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from xvectors.errors import CheckpointError
from xvectors.system.hub import FILES, fetch_files, is_on_hub

STARTER = "starter"
"""The name of the bundled system."""

ONNX_SUFFIX = ".onnx"
"""Suffix of an exported system, which is a single file."""

WEIGHTS_SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".safetensors")
"""Suffixes of checkpoints of other toolkits, each a single file."""


@dataclass(frozen=True)
class SystemFolder:
    """The paths of one system directory."""

    path: Path

    @property
    def description(self) -> Path:
        return self.path / "system.toml"

    @property
    def weights(self) -> Path:
        """The weights; of an imported .onnx file, the file."""
        return self.network if self.network.is_file() else self.path / "model.safetensors"

    @property
    def network(self) -> Path:
        """The .onnx file of another toolkit that the system runs; only in a system that was imported from one."""
        return self.path / "network.onnx"

    @property
    def exported(self) -> Path:
        """The system exported for onnxruntime, which runs without torch; present only after an export."""
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
    def distillation(self) -> Path:
        """The teacher's embeddings and the copies of recordings that a distilled network learned from."""
        return self.path / "distillation"

    @property
    def lock(self) -> Path:
        """Locked by the process that trains or calibrates the system."""
        return self.path / ".lock"

    @property
    def left_out(self) -> Path:
        return self.path / "left_out.csv"

    @property
    def report(self) -> Path:
        return self.path / "report"

    @property
    def tensorboard(self) -> Path:
        """Event files that `xvectors train --log tensorboard` writes."""
        return self.path / "tensorboard"


def starter_folder() -> SystemFolder:
    """The directory of the bundled system; it is missing where the package was installed without it."""
    return SystemFolder(Path(str(resources.files("xvectors.system") / STARTER)))


def find_system(name: str | Path) -> SystemFolder:
    """Find the directory of a system by its name.

    Parameters
    ----------
    name
        A path; `starter` for the bundled system, unless the current folder holds a system of that name; or
        `hf://owner/name`, which is downloaded from the Hugging Face Hub the first time (extra `hub`). A published model
        of another toolkit, on the hub or a file such as `model.pt`, is imported into the user's cache the first time.

    Raises
    ------
    CheckpointError
        Where the installation has no starter system, the hub does not deliver the system, or a published model cannot
        be imported.
    MissingExtraError
        For an address on the hub without the extra `hub`.
    """
    if is_on_hub(name):
        folder = SystemFolder(fetch_files(name, FILES))
        return folder if folder.description.is_file() else _imported(name)
    if Path(name).suffix.lower() in WEIGHTS_SUFFIXES and Path(name).is_file():
        return _imported(name)
    if str(name) != STARTER or SystemFolder(Path(name)).description.is_file():
        return SystemFolder(Path(name))
    folder = starter_folder()
    if not folder.description.is_file():
        raise CheckpointError("this installation holds no starter system; name a system directory instead")
    return folder


def _imported(name: str | Path) -> SystemFolder:
    from xvectors.system.importers import import_to_cache

    return import_to_cache(name)
