"""Systems on the Hugging Face Hub, addressed as hf://owner/name or hf://owner/name@revision.

Only this module imports huggingface_hub (extra `hub`), which caches its downloads and checks them for updates.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from xvectors.errors import CheckpointError, MissingExtraError

# pathlib collapses the two slashes of hf:// into one
ADDRESS = re.compile(r"hf:/{1,2}(?P<repo>[^/@]+/[^/@]+)(?:@(?P<revision>.+))?")
SCHEME = re.compile(r"hf:/")
FILES = ["system.toml", "model.safetensors", "network.onnx", "speakers.csv", "backend.npz", "calibration.toml"]
FILES += ["README.md"]
"""The only files of a repository that are downloaded; none of them contains code."""


def is_on_hub(name: str | os.PathLike[str]) -> bool:
    """Return whether `name` is an address on the hub, that is, begins with hf://."""
    return SCHEME.match(os.fspath(name)) is not None


def fetch_files(address: str | os.PathLike[str], patterns: Sequence[str]) -> Path:
    """Download the files of a repository that match `patterns`, as far as they are not cached, and return their folder.

    Raises
    ------
    CheckpointError
        For a malformed address, a repository that does not exist or is private, and a network that does not answer.
    MissingExtraError
        Without the extra `hub`.
    """
    text = re.sub(r"^hf:/+", "hf://", os.fspath(address))
    parts = ADDRESS.fullmatch(text)
    if parts is None:
        raise CheckpointError(f"{text}: an address on the hub has the form hf://owner/name or hf://owner/name@revision")
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise MissingExtraError(
            f"{text}: downloading it needs huggingface_hub; pip install 'xvectors[hub]', or download the "
            "repository by hand and give its folder"
        ) from error
    try:
        folder = Path(
            snapshot_download(repo_id=parts["repo"], revision=parts["revision"], allow_patterns=list(patterns))
        )
    except (OSError, ValueError) as error:  # every error of huggingface_hub is a subclass of one of these
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise CheckpointError(
            f"{text}: cannot be downloaded ({reason}); check the name and the network, and log in with "
            "`hf auth login` if the repository is private"
        ) from error
    return folder
