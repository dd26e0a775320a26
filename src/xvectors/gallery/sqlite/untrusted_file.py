"""Read a gallery file that may come from anyone: it is opened read-only, and every value in it is checked."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from xvectors.errors import ConfigError, GalleryError, ShapeError
from xvectors.gallery.sqlite.database import check_kind, check_version, explain_errors, to_time
from xvectors.gallery.sqlite.migrations import MIGRATIONS
from xvectors.gallery.store import NamedVoiceprint, Voiceprint
from xvectors.gallery.validation import (
    MAX_AUDIO_BYTES,
    check_duration,
    check_embedding_values,
    condition_of_blob,
    consent_note,
    speaker_name,
)

MAX_EMBEDDING_BYTES = 4 * 65_536
MAX_VOICEPRINTS = 100_000
"""Largest number of voiceprints of one speaker."""
CLOCK_TOLERANCE = timedelta(days=1)
"""Largest lead of the other machine's clock."""
CONDITION_VERSION = 3
"""The first version of the tables with conditions."""
_FINGERPRINT = re.compile("[0-9a-f]{64}")


class UntrustedFile:
    """A gallery file from elsewhere. It is never changed.

    Its tables must be exactly those of a gallery: a file with a view, a trigger or a virtual table is refused before
    anything is read. An older version is read as it is. All reads see the file as it was when it was opened.

    Raises
    ------
    GalleryError
        The file does not exist, is damaged, is not a gallery, was written by a newer version, or has other tables.
    """

    def __init__(self, path: Path | str, *, now: datetime) -> None:
        self.path = Path(path)
        self._latest = now + CLOCK_TOLERANCE
        check_kind(self.path)
        log = self.path.with_name(f"{self.path.name}-wal")
        live = log.is_file() and log.stat().st_size > 0
        with explain_errors(self.path):
            self._connection = sqlite3.connect(
                f"{self.path.absolute().as_uri()}?mode=ro{'' if live else '&immutable=1'}",
                uri=True,
                isolation_level=None,
            )
            try:
                for pragma in ("trusted_schema = OFF", "query_only = ON", "cell_size_check = ON", "mmap_size = 0"):
                    self._connection.execute(f"PRAGMA {pragma}")
                self._connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 2 * MAX_AUDIO_BYTES)
                version = check_version(self._connection, self.path)
                self._connection.execute("BEGIN")
                self._check_tables(version)
                self._condition = "condition" if version >= CONDITION_VERSION else "NULL"
            except BaseException:
                self._connection.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._connection.close()

    def voiceprints(self) -> Iterator[NamedVoiceprint]:
        """Yield all voiceprints, speaker by speaker, without their audio.

        Raises
        ------
        GalleryError
            A value is not one that `enroll` writes; the message names the speaker and the column.
        """
        for number, name in self._select("SELECT id, name FROM speakers ORDER BY id"):
            self._check_name(name)
            rows = self._select(
                f"""SELECT id, system, embedding, duration_s, enrolled_at, expires_at, consent, {self._condition}
                FROM voiceprints WHERE speaker = ? ORDER BY id LIMIT ?""",
                (number, MAX_VOICEPRINTS + 1),
            )
            if len(rows) > MAX_VOICEPRINTS:
                raise GalleryError(f"{self.path}: {name} has more than {MAX_VOICEPRINTS} voiceprints; {REFUSED}")
            for voiceprint, *columns in rows:
                try:
                    row = self._voiceprint(*columns)
                except (ShapeError, ConfigError) as error:
                    raise GalleryError(
                        f"{self.path}: a voiceprint of {name} cannot be used: {error}; {REFUSED}"
                    ) from error
                yield NamedVoiceprint(speaker=name, number=voiceprint, voiceprint=row)

    def audio(self, number: int) -> bytes | None:
        """Return the kept recording of a voiceprint."""
        for (audio,) in self._select("SELECT audio FROM recordings WHERE voiceprint = ?", (number,)):
            if not isinstance(audio, bytes) or len(audio) > MAX_AUDIO_BYTES:
                raise GalleryError(f"{self.path}: a kept recording is not a sound file of at most 500 MB; {REFUSED}")
            return audio
        return None

    def _voiceprint(
        self,
        system: object,
        embedding: object,
        duration_s: object,
        enrolled_at: object,
        expires_at: object,
        consent: object,
        condition: object,
    ) -> Voiceprint:
        """Return the columns as a record. Raises ConfigError or ShapeError for values that `enroll` does not write."""
        if not isinstance(system, str) or not _FINGERPRINT.fullmatch(system):
            raise ConfigError("its system is not a fingerprint of 64 hexadecimal digits")
        if not isinstance(embedding, bytes) or not 0 < len(embedding) <= MAX_EMBEDDING_BYTES or len(embedding) % 4:
            raise ShapeError("its embedding is not a row of float32 numbers")
        if not isinstance(consent, str | None):
            raise ConfigError("its consent is not text")
        vector = np.frombuffer(embedding, dtype="<f4").astype(np.float32)
        check_embedding_values(vector[None])
        enrolled = _time("enrolled_at", enrolled_at)
        if enrolled > self._latest:
            raise ConfigError(f"enrolled_at is {enrolled:%Y-%m-%d}, which is in the future")
        return Voiceprint(
            embedding=vector,
            duration_s=check_duration(duration_s),
            system=system,
            enrolled_at=enrolled,
            expires_at=None if expires_at is None else _time("expires_at", expires_at),
            consent=None if consent is None else consent_note(consent),
            condition=condition_of_blob(condition),
        )

    def _check_name(self, name: object) -> None:
        try:
            if isinstance(name, str) and speaker_name(name) == name:
                return
            reason = "`enroll` does not write such a name"
        except ConfigError as error:
            reason = str(error)
        raise GalleryError(f"{self.path}: the speaker {name!a:.60} cannot be imported: {reason}; {REFUSED}")

    def _check_tables(self, version: int) -> None:
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as clean:
            for statement in (sql for migration in MIGRATIONS[:version] for sql in migration):
                clean.execute(statement)
            wanted = _tables(clean)
        found = _tables(self._connection)
        if found != wanted:
            names = sorted({str(name) for _, name, _ in found ^ wanted})
            raise GalleryError(
                f"{self.path}: its tables are not those of a gallery ({', '.join(names)[:100]}), so it was changed by "
                "hand or is malicious; nothing was read. Import a file that `xvectors gallery export` wrote"
            )

    def _select(self, statement: str, parameters: tuple[Any, ...] = ()) -> list[Any]:
        with explain_errors(self.path):
            return self._connection.execute(statement, parameters).fetchall()


REFUSED = "nothing was imported. Ask for a file that `xvectors gallery export` wrote"


def _tables(connection: sqlite3.Connection) -> set[tuple[Any, Any, Any]]:
    rows = connection.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
    return {(kind, name, " ".join(str(sql).split())) for kind, name, sql in rows}


def _time(column: str, text: object) -> datetime:
    try:
        if isinstance(text, str):
            return to_time(text)
    except ValueError:
        pass
    raise ConfigError(f"its {column} is not a time such as 2030-01-31T12:00:00Z")
