"""Systems on the Hugging Face Hub, addressed as hf://owner/name or hf://owner/name@revision.

Only this module imports huggingface_hub (extra `hub`), which caches its downloads and checks them for updates.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from xvectors.errors import CheckpointError, MissingExtraError, StorageError, XVectorsError
from xvectors.files import digest

# pathlib collapses the two slashes of hf:// into one
ADDRESS = re.compile(r"hf:/{1,2}(?P<repo>[^/@]+/[^/@]+)(?:@(?P<revision>.+))?")
SCHEME = re.compile(r"hf:/")
FILES = ["system.toml", "model.safetensors", "network.onnx", "speakers.csv", "backend.npz", "calibration.toml"]
FILES += ["README.md"]
"""The only files of a repository that are downloaded; none of them contains code."""
OF_NO_MODEL = (".gitattributes", ".gitignore", "README.md", "LICENSE")
"""Files of a repository that holds no model yet."""
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)
LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"


@dataclass(frozen=True, kw_only=True)
class Address:
    """A repository on the hub, and the branch, tag or commit if one is given."""

    repository: str
    revision: str | None

    @classmethod
    def parse(cls, address: str | os.PathLike[str]) -> Address:
        """Raises CheckpointError for another form than hf://owner/name or hf://owner/name@revision."""
        text = re.sub(r"^hf:/+", "hf://", os.fspath(address))
        parts = ADDRESS.fullmatch(text)
        if parts is None:
            raise CheckpointError(
                f"{text}: an address on the hub has the form hf://owner/name or hf://owner/name@revision"
            )
        return cls(repository=parts["repo"], revision=parts["revision"])

    def __str__(self) -> str:
        return f"hf://{self.repository}" + (f"@{self.revision}" if self.revision else "")


def is_on_hub(name: str | os.PathLike[str]) -> bool:
    """Return whether `name` is an address on the hub, that is, begins with hf://."""
    return SCHEME.match(os.fspath(name)) is not None


def fetch_files(address: str | os.PathLike[str], patterns: Sequence[str]) -> Path:
    """Download the files of a repository that match `patterns`, as far as they are not cached, and return their folder.

    Files whose content has another digest than the hub announced are removed from the cache and refused.

    Raises
    ------
    CheckpointError
        For a malformed address, a repository that does not exist or is private, a network that does not answer, and
        a file with another digest.
    StorageError
        If the cache cannot be written, as with a full disk.
    MissingExtraError
        Without the extra `hub`.
    """
    wanted = Address.parse(address)
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HTTPError
    except ImportError as error:
        raise MissingExtraError(
            f"{wanted}: downloading it needs huggingface_hub; pip install 'xvectors[hub]', or download the "
            "repository by hand and give its folder"
        ) from error
    try:
        folder = Path(
            snapshot_download(repo_id=wanted.repository, revision=wanted.revision, allow_patterns=list(patterns))
        )
    except (OSError, ValueError, HTTPError) as error:  # every error of huggingface_hub is one of these
        raise _explained(wanted, error) from error
    _check_digests(wanted, folder, patterns)
    return folder


def upload_files(
    address: Address,
    files: Mapping[str, Path | bytes],
    *,
    replaces: Collection[str],
    message: str,
    branch: str | None = None,
    private: bool = False,
) -> str:
    """Upload files to a repository in one commit, and return the digest of the commit.

    Parameters
    ----------
    address
        The repository, which is created if it does not exist.
    files
        Name in the repository, and the file or its content.
    replaces
        Names of files that are removed from the repository, unless `files` has them.
    message
        The commit's.
    branch
        The branch to commit to, which is created if it does not exist; by default the main one.
    private
        Create the repository as a private one.

    Raises
    ------
    StorageError
        There is no token, the hub refuses it or does not answer, the repository holds something else than a system,
        or is public where `private` is asked for.
    MissingExtraError
        Without the extra `hub`.
    """
    try:
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token
        from huggingface_hub.errors import HTTPError
    except ImportError as error:
        raise MissingExtraError(f"{address}: pushing needs huggingface_hub; pip install 'xvectors[hub]'") from error
    if get_token() is None:
        raise StorageError(f"{address}: pushing needs a token of the hub with write access; {LOG_IN}")
    api, repository = HfApi(), address.repository
    try:
        api.create_repo(repository, private=private or None, exist_ok=True)
        known = api.model_info(repository)
        if private and not known.private:
            raise StorageError(
                f"{address}: the repository exists and is public; make it private in its settings on the hub, or leave "
                "out --private"
            )
        _check_purpose(address, {file.rfilename for file in known.siblings or ()})
        if branch is not None:
            api.create_branch(repository, branch=branch, exist_ok=True)
        there = set(api.list_repo_files(repository, revision=branch))
        gone = sorted((there & set(replaces)) - files.keys())
        operations = [
            *(CommitOperationAdd(path_in_repo=name, path_or_fileobj=file) for name, file in files.items()),
            *(CommitOperationDelete(path_in_repo=name) for name in gone),
        ]
        commit = api.create_commit(repository, operations, commit_message=message, revision=branch)
    except StorageError:
        raise
    except (OSError, ValueError, RuntimeError, HTTPError) as error:
        raise _refused(address, error) from error
    return str(commit.oid)


def _check_purpose(address: Address, files: Collection[str]) -> None:
    others = sorted(set(files) - {*OF_NO_MODEL, *FILES})
    if "system.toml" not in files and others:
        raise StorageError(
            f"{address}: the repository holds something else than a system of xvectors ({others[0]}); push to another"
        )


def _check_digests(address: Address, folder: Path, patterns: Sequence[str]) -> None:
    """Check files against the digests that the hub announced, which are their names in the cache of huggingface_hub.

    Large files have their SHA-256, others Git's SHA-1. Where the cache has no symbolic links, as on Windows without
    developer mode, the names are not digests and nothing is checked.
    """
    for path in sorted(folder.rglob("*")):
        blob = path.resolve()
        name = path.relative_to(folder).as_posix()
        if not blob.is_file() or not any(fnmatch(name, pattern) for pattern in patterns):
            continue
        announced = blob.name
        found = announced
        if re.fullmatch(r"[0-9a-f]{64}", announced):
            found = digest(blob)
        elif re.fullmatch(r"[0-9a-f]{40}", announced):
            content = blob.read_bytes()
            found = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
        if found != announced:
            blob.unlink()
            path.unlink(missing_ok=True)
            raise CheckpointError(
                f"{address}: {name} has the digest {found}, where the hub announced {announced}; it was removed from "
                "the cache: run the command again, and if that does not help, ask the publisher"
            )


def _explained(address: Address, error: Exception) -> XVectorsError:
    """Say in one sentence why a download failed, with the remedy."""
    from huggingface_hub import constants, errors

    if isinstance(error, OSError) and error.errno in UNWRITABLE:
        return StorageError(
            f"{address}: cannot be written to the cache {constants.HF_HUB_CACHE}: {os.strerror(error.errno)}; make "
            "room, or set HF_HOME to another folder"
        )
    if isinstance(error, errors.GatedRepoError):
        return CheckpointError(
            f"{address}: its publisher asks for consent: accept the terms on "
            f"{constants.ENDPOINT}/{address.repository}, and {LOG_IN}"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return CheckpointError(
            f"{address}: there is no such repository on the hub, or it is private; check the name, or {LOG_IN}"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return CheckpointError(
            f"{address}: the repository has no branch, tag or commit {address.revision}; check what follows the @"
        )
    if isinstance(error, errors.LocalEntryNotFoundError):
        if isinstance(error.__cause__, errors.OfflineModeIsEnabled):
            return CheckpointError(
                f"{address}: is not in the cache, and HF_HUB_OFFLINE forbids to download it; unset it, or copy the "
                "cache of a machine that has it"
            )
        return CheckpointError(
            f"{address}: the hub at {constants.ENDPOINT} does not answer ({_reason(error.__cause__ or error)}), and "
            "the cache does not have it; check the network"
        )
    return CheckpointError(
        f"{address}: cannot be downloaded ({_reason(error)}); check the name and the network, and {LOG_IN} if the "
        "repository is private"
    )


def _refused(address: Address, error: Exception) -> StorageError:
    """Say in one sentence why an upload failed, with the remedy."""
    if isinstance(error, RuntimeError) and isinstance(error.__cause__, Exception):  # of one file, with the reason
        error = error.__cause__
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403, 404):
        return StorageError(
            f"{address}: the hub refuses the token ({_reason(error)}): it must be one with write access to "
            f"{address.repository.partition('/')[0]}; {LOG_IN}"
        )
    return StorageError(f"{address}: cannot be pushed ({_reason(error)}); check the network, and push again")


def _reason(error: Any) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return " ".join(lines if isinstance(error, ValueError) else lines[:1])
