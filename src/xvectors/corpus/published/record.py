"""What is known of the archives of a prepared folder: which are hashed and unpacked, so that nothing is done twice."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xvectors.corpus.published.archives import LocalArchive
from xvectors.errors import ConfigError, ManifestError
from xvectors.files import write_text
from xvectors.text import first_few

PREPARED = "prepared.json"
AS_PUBLISHED, NOT_CHECKED = "as published", "not checked"


class Record:
    """The file `prepared.json` of a folder. Every change is written at once.

    Raises ConfigError if the folder holds another corpus, or files that are not of a prepared corpus.
    """

    def __init__(self, out: Path, corpus: str) -> None:
        self._path = out / PREPARED
        self._archives: dict[str, dict[str, Any]] = {}
        if self._path.is_file():
            try:
                kept = json.loads(self._path.read_text(encoding="utf-8"))
                prepared, self._archives = kept["corpus"], dict(kept["archives"])
            except (ValueError, KeyError, TypeError) as error:
                raise ConfigError(
                    f"{self._path}: is damaged ({error}); remove it, and the archives are checked again"
                ) from error
            if prepared != corpus:
                raise ConfigError(f"{out}: holds {prepared}; name another folder for {corpus}")
        elif any(each.name != ".lock" for each in out.iterdir()):
            raise ConfigError(f"{out}: is not empty, and not a prepared corpus; name a new folder")
        self._corpus = corpus

    def save(self) -> None:
        text = json.dumps({"corpus": self._corpus, "archives": self._archives}, indent=1)
        write_text(self._path, text + "\n")

    def is_unpacked(self, archive: LocalArchive) -> bool:
        return bool(self._of(archive).get("files"))

    def is_hashed(self, archive: LocalArchive) -> bool:
        return self._of(archive).get("md5") == AS_PUBLISHED

    def keep_hash(self, archive: LocalArchive, is_published: bool) -> None:
        self._keep(archive, md5=AS_PUBLISHED if is_published else NOT_CHECKED)

    def begin(self, archive: LocalArchive) -> None:
        self._keep(archive, files=None)

    def finish(self, archive: LocalArchive, num_files: int) -> None:
        self._keep(archive, files=num_files)

    def unpacked(self) -> list[str]:
        return [name for name, known in self._archives.items() if known.get("files")]

    def hashed(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the names of the unpacked archives with the published MD5, and of the others."""
        good = [name for name in self.unpacked() if self._archives[name].get("md5") == AS_PUBLISHED]
        return tuple(sorted(good)), tuple(sorted(set(self.unpacked()) - set(good)))

    def check_unfinished(self, todo: Sequence[LocalArchive]) -> None:
        """Raise ManifestError if unpacking an archive was begun and it is no longer in the sources."""
        begun = {name for name, known in self._archives.items() if "files" in known and not known["files"]}
        gone = sorted(begun - {archive.name for archive in todo})
        if gone:
            raise ManifestError(
                f"{self._path.parent}: {first_few(gone)} was not unpacked to its end; name its folder as a source again"
            )

    def _of(self, archive: LocalArchive) -> dict[str, Any]:
        """Return what is known of an archive, if it still is the same."""
        known = self._archives.get(archive.name, {})
        return known if known.get("facts") == _facts(archive) else {}

    def _keep(self, archive: LocalArchive, **news: object) -> None:
        self._archives[archive.name] = {**self._of(archive), "facts": _facts(archive), **news}
        self.save()


def _facts(archive: LocalArchive) -> list[list[object]]:
    return [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in archive.files]
