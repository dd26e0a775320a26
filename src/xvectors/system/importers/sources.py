"""Where a published model lies: a file, a folder, a repository on the Hugging Face Hub, or an https address."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import shutil
import tarfile
import urllib.request
import zlib
from dataclasses import dataclass
from email.message import Message
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from urllib.error import URLError

from xvectors.errors import CheckpointError, StorageError
from xvectors.files import atomic_write, digest, exclusive, user_folder, write_text
from xvectors.system.hub import fetch_files, is_on_hub
from xvectors.text import first_few

NAMES = ("avg_model.pt", "embedding_model.ckpt", "pytorch_model.bin", "model.safetensors", "final.raw", "model.onnx")
"""Files that toolkits call their model, in the order in which a folder is searched."""
PATTERNS = ("*.safetensors", "*.pt", "*.pth", "*.ckpt", "*.bin", "*.onnx", "*.raw")
NESTED = ("exp/xvector_nnet*/final.raw", "*/exp/xvector_nnet*/final.raw")
"""Where Kaldi's recipes and published archives keep it."""
KALDI_FILES = ("extract.config", "mfcc.conf", "mean.vec", "transform.mat", "plda", "plda_adapt")
FILES_READ = (*KALDI_FILES, "config.yaml", "configuration.json", "hyperparams.yaml", "mean_var_norm_emb.ckpt")
"""Files beside the weights that change what an import makes of them."""
BESIDE = ("*.yaml", "configuration.json", "README.md", "LICENSE*", *KALDI_FILES)
"""Files beside the weights that are downloaded too; none of them is executed."""
ARCHIVES = (".tar.gz", ".tgz", ".tar")
MAX_UNPACKED_BYTES = 1 << 30
"""Ten times the files of a published archive of Kaldi."""
BLOCK_BYTES = 1 << 20
TIMEOUT_S = 30.0
WAIT_S = 600.0
"""How long to wait for another process that writes the same file or system into the cache."""


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
    archive: Path | None = None
    """The archive that the file was unpacked from."""


def find_source(source: str | Path, sha256: str | None = None) -> Found:
    """Find the file of a model, downloading it if need be; a download with another digest than `sha256` is refused.

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
        return _in_file(download(address, sha256), address)
    path = Path(source)
    if path.is_dir():
        return Found(path=_model_in(path), address=path.name, license=_license(path))
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file or folder; give a model's file, its folder, or hf://owner/name")
    return _in_file(path, path.name, _license(path.parent))


def _in_file(path: Path, address: str, license: str = "") -> Found:
    if not path.name.lower().endswith(ARCHIVES):
        return Found(path=path, address=address, license=license)
    return Found(path=_model_in(unpack(path)), address=address, license=license, archive=path)


def unpack(archive: Path) -> Path:
    """Unpack the files of a model of Kaldi from a tar archive into the user's cache; returns the folder.

    Raises CheckpointError for a damaged archive, or one with far larger files, StorageError for a full disk.
    """
    folder = user_folder("cache") / "imports" / digest(archive)[:16]
    left = MAX_UNPACKED_BYTES
    try:
        with tarfile.open(archive) as opened:
            for member in opened:
                parts = PurePosixPath(member.name).parts
                if not member.isfile() or not {"final.raw", *KALDI_FILES} & set(parts[-1:]) or {"/", ".."} & set(parts):
                    continue
                left -= member.size
                content = opened.extractfile(member)
                if left < 0 or content is None:
                    raise CheckpointError(f"{archive}: {member.name} is larger than any file of an x-vector of Kaldi")
                target = folder.joinpath(*parts)
                target.parent.mkdir(parents=True, exist_ok=True)
                with atomic_write(target) as temporary, temporary.open("wb") as file:
                    shutil.copyfileobj(content, file)
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise CheckpointError(f"{archive} is damaged or cut off ({error}); download it again") from error
    except OSError as error:
        raise StorageError(f"{archive} cannot be unpacked to {folder}: {error.strerror or error}") from error
    if not folder.is_dir():
        raise CheckpointError(f"{archive}: holds no final.raw; only archives of Kaldi's x-vectors can be imported")
    return folder


def _model_in(folder: Path) -> Path:
    for name in NAMES:
        if (folder / name).is_file():
            return folder / name
    files = sorted({path for pattern in PATTERNS for path in folder.glob(pattern) if path.is_file()})
    files = files or sorted(path for pattern in NESTED for path in folder.glob(pattern) if path.is_file())
    if len(files) == 1:
        return files[0]
    if files:
        names = first_few([str(path.relative_to(folder)) for path in files], 6)
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


def download(address: str, sha256: str | None = None) -> Path:
    """Download a file into the user's cache, resuming an earlier download of the same file, and return its path.

    A cached file with another digest than `sha256` is downloaded again. What is downloaded with another digest is
    removed.

    Raises
    ------
    CheckpointError
        The server does not deliver the file, or delivers another.
    StorageError
        The cache cannot be written, as with a full disk.
    """
    name = address.rstrip("/").rpartition("/")[2].partition("?")[0] or "model"
    folder = user_folder("cache") / "imports" / hashlib.sha256(address.encode()).hexdigest()[:16]
    path = folder / name
    with exclusive(folder / ".lock", of=address, wait_s=WAIT_S):
        if path.is_file() and (sha256 is None or digest(path) == sha256.lower()):
            return path
        part, validator = folder / f"{name}.part", folder / f"{name}.validator"
        _fetch(address, part, validator)
        if sha256 is not None and (found := digest(part)) != sha256.lower():
            part.unlink()
            raise CheckpointError(f"{address}: the file's sha256 is {found}, not {sha256}; it was not kept")
        part.replace(path)
        validator.unlink(missing_ok=True)
    return path


def _fetch(address: str, part: Path, validator: Path) -> None:
    """Download into `part`, after what it holds if that belongs to the same file on the server.

    `validator` keeps the server's ETag or date of the file, by which the server recognizes it.
    """
    start = part.stat().st_size if part.is_file() else 0
    headers = {"Range": f"bytes={start}-"} if start else {}
    try:
        if start and validator.is_file() and (known := validator.read_text(encoding="utf-8")):
            headers["If-Range"] = known
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=TIMEOUT_S) as answer:
            resumed = answer.status == HTTPStatus.PARTIAL_CONTENT
            if resumed and not answer.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
                part.unlink(missing_ok=True)
                raise URLError("the server sent another range than asked for")
            expected = int(answer.headers.get("Content-Length") or 0) + (start if resumed else 0)
            if not resumed:
                write_text(validator, _validator(answer.headers))
            with part.open("ab" if resumed else "wb") as file:
                while block := answer.read(BLOCK_BYTES):
                    file.write(block)
                file.flush()
                os.fsync(file.fileno())
    except (URLError, HTTPException, TimeoutError, ConnectionError, ValueError) as error:
        if getattr(error, "code", None) == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and start:
            part.unlink()  # it holds the whole file, or more
            return _fetch(address, part, validator)
        raise CheckpointError(
            f"{address}: cannot be downloaded ({getattr(error, 'reason', error)}); check the address and the network, "
            "or download the file by hand and give its path"
        ) from error
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(f"{part}: cannot be written: {error.strerror or error}; what was loaded is kept") from error
    loaded = part.stat().st_size
    if loaded < expected:
        raise CheckpointError(
            f"{address}: the download stopped after {loaded:,} of {expected:,} bytes; run the command "
            "again, and it goes on from there"
        )
    if expected and loaded > expected:
        part.unlink()
        raise CheckpointError(f"{address}: the server sent more bytes than it announced; run the command again")
    return None


def _validator(headers: Message) -> str:
    """Return what identifies the state of a file on the server: a strong ETag or a date; empty without."""
    tag: str = headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else str(headers.get("Last-Modified", ""))
