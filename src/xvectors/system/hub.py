"""Systems on the Hugging Face Hub. In: hf://owner/name, or hf://owner/name@revision. Out: a folder in the hub's cache.

The one importer of huggingface_hub (extra `hub`), which keeps what it downloaded and asks whether there is newer.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from xvectors.errors import CheckpointError, MissingExtraError

# A Path has one slash left of the two.
ADDRESS = re.compile(r"hf:/{1,2}(?P<repo>[^/@]+/[^/@]+)(?:@(?P<revision>.+))?")
SCHEME = re.compile(r"hf:/")
FILES = ["system.toml", "model.safetensors", "speakers.csv", "backend.npz", "calibration.toml", "README.md"]
"""What is asked for: nothing else of a repository is downloaded, so nothing in it can run."""


def is_on_hub(name: str | os.PathLike[str]) -> bool:
    """Whether `name` begins with hf://, as an address on the hub does."""
    return SCHEME.match(os.fspath(name)) is not None


def fetch_system(address: str | os.PathLike[str]) -> Path:
    """The folder that holds the files of the system at `address`; only what is new is downloaded.

    Raises CheckpointError for an address of another form, a repository that is not there, is closed or holds no system,
    and a network that does not answer; MissingExtraError without the extra `hub`.
    """
    text = re.sub(r"^hf:/+", "hf://", os.fspath(address))
    parts = ADDRESS.fullmatch(text)
    if parts is None:
        raise CheckpointError(f"{text}: an address on the hub has the form hf://owner/name or hf://owner/name@revision")
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise MissingExtraError(
            f"{text}: needs huggingface_hub to be downloaded; pip install 'xvectors[hub]', or download the "
            "repository by hand and give its folder"
        ) from error
    try:
        folder = Path(snapshot_download(repo_id=parts["repo"], revision=parts["revision"], allow_patterns=FILES))
    except (OSError, ValueError) as error:  # every error of huggingface_hub is one of these
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise CheckpointError(
            f"{text}: cannot be downloaded ({reason}); check the name and the network, and log in with "
            "`hf auth login` where the repository is private"
        ) from error
    if not (folder / "system.toml").is_file():
        raise CheckpointError(f"{text}: the repository holds no system.toml, so it is not a system")
    return folder
