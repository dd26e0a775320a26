"""Where a published model lies: a file, a folder, a repository on the Hugging Face Hub, or an https address."""

from __future__ import annotations

import hashlib
import re
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from xvectors.errors import CheckpointError, StorageError
from xvectors.files import user_folder
from xvectors.system.hub import fetch_files, is_on_hub
from xvectors.text import first_few

NAMES = ("avg_model.pt", "embedding_model.ckpt", "pytorch_model.bin", "model.safetensors", "final.raw", "model.onnx")
"""Files that toolkits call their model, in the order in which a folder is searched."""
PATTERNS = ("*.safetensors", "*.pt", "*.pth", "*.ckpt", "*.bin", "*.onnx", "*.raw")
BESIDE = ("*.yaml", "README.md", "LICENSE*", "mean.vec", "transform.mat", "plda")
"""Files beside the weights that are downloaded too; none of them is executed."""
BLOCK_BYTES = 1 << 20
TIMEOUT_S = 30.0


@dataclass(frozen=True, kw_only=True)
class Found:
    """The file of a published model on this machine."""

    path: Path
    address: str
    """What the user gave; of a local file only the name, since folders of a machine mean nothing elsewhere."""
    revision: str = ""
    """The commit of a repository on the hub."""
    license: str = ""
    """What the source states."""


def find_source(source: str | Path) -> Found:
    """Find the file of a model, downloading it if need be.

    Raises
    ------
    CheckpointError
        There is no such file, several files could be meant, or the download fails.
    MissingExtraError
        For an address on the hub without the extra `hub`.
    """
    text = str(source)
    if is_on_hub(text):
        folder = fetch_files(text, [*PATTERNS, *BESIDE])
        revision = folder.name if re.fullmatch(r"[0-9a-f]{40}", folder.name) else ""
        address = re.sub(r"^hf:/+", "hf://", text)
        return Found(path=_model_in(folder), address=address, revision=revision, license=_license(folder))
    if re.match(r"https?:/", text):
        address = re.sub(r"^(https?):/+", r"\1://", text)
        return Found(path=download(address), address=address)
    path = Path(source)
    if path.is_dir():
        return Found(path=_model_in(path), address=path.name, license=_license(path))
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file or folder; give a model's file, its folder, or hf://owner/name")
    return Found(path=path, address=path.name, license=_license(path.parent))


def _model_in(folder: Path) -> Path:
    for name in NAMES:
        if (folder / name).is_file():
            return folder / name
    files = sorted({path for pattern in PATTERNS for path in folder.glob(pattern) if path.is_file()})
    if len(files) == 1:
        return files[0]
    if files:
        names = first_few([path.name for path in files], 6)
        raise CheckpointError(f"{folder}: holds {len(files)} files that may be the model ({names}); give the one")
    raise CheckpointError(f"{folder}: holds no model; looked for {', '.join([*NAMES, *PATTERNS])}")


def _license(folder: Path) -> str:
    """Return the licence that the header of a model card states; empty without one."""
    try:
        text = (folder / "README.md").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
    header = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    found = header and re.search(r"^license:\s*([\w.+-]+)\s*$", header[1], re.MULTILINE)
    return found[1] if found else ""


def download(address: str) -> Path:
    """Download a file into the user's cache, going on where an earlier download stopped; returns its path.

    Raises CheckpointError where the server does not deliver it, StorageError for a full disk.
    """
    name = address.rstrip("/").rpartition("/")[2].partition("?")[0] or "model"
    folder = user_folder("cache") / "imports" / hashlib.sha256(address.encode()).hexdigest()[:16]
    path, part = folder / name, folder / f"{name}.part"
    if path.is_file():
        return path
    start = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(address, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            resumed = answer.status == 206
            expected = int(answer.headers.get("Content-Length") or 0) + (start if resumed else 0)
            with part.open("ab" if resumed else "wb") as file:
                while block := answer.read(BLOCK_BYTES):
                    file.write(block)
    except (urllib.error.URLError, TimeoutError, ConnectionError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise CheckpointError(
            f"{address}: cannot be downloaded ({reason}); check the address and the network, or download the file by "
            "hand and give its path"
        ) from error
    except OSError as error:
        raise StorageError(f"{part}: cannot be written: {error.strerror or error}; what was loaded is kept") from error
    if expected and part.stat().st_size != expected:
        raise CheckpointError(
            f"{address}: the download stopped after {part.stat().st_size:,} of {expected:,} bytes; run the command "
            "again, and it goes on from there"
        )
    part.replace(path)
    return path
