"""Enrolled speakers in one SQLite file. In: voiceprints by name. Out: the same, to any number of processes.

Every change is one transaction that begins with the write lock, so nothing of another process's is overwritten, and is
on the disk when the method returns. What is deleted is gone from the file and from the log beside it.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from xvectors.errors import GalleryError, StorageError, UnknownSpeakerError
from xvectors.files import is_leftover
from xvectors.gallery.checks import MOST_AUDIO_BYTES
from xvectors.gallery.database import (
    connect,
    explained,
    is_busy,
    may_write,
    remove_database,
    to_text,
    to_time,
    wait_for,
)
from xvectors.gallery.records import Block, Carried, Carrier, Kept, Speaker, State, Voiceprint
from xvectors.text import brief, first_few, nearest

BLOCK_SPEAKERS = 8192
MOST_PARAMETERS = 500
"""Ids in one statement; SQLite allows at least 999."""
MOST_NAMED = 5
"""Names in a message."""

NEXT = "(SELECT number + 1 FROM revision)"
"""The revision that a transaction makes."""
MATCHES = "(expires_at IS NULL OR expires_at > ?)"


@brief("path")
class SqliteStore:
    """A gallery file, made if `create` says so; its methods are those of `Store`.

    Threads may share it; a process that was forked opens its own.

    Raises
    ------
    GalleryError
        There is none, it is damaged, foreign or of a newer version.
    StorageError
        It cannot be made.
    """

    def __init__(self, path: Path | str, *, create: bool = False) -> None:
        self.path = Path(path)
        self._connection = connect(self.path, create=create)
        self._lock = threading.RLock()
        self._finish_forgetting()

    @property
    def location(self) -> str:
        return str(self.path)

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def add(self, name: str, voiceprints: Sequence[Voiceprint]) -> int:
        for voiceprint in voiceprints:
            if voiceprint.audio is not None and len(voiceprint.audio) > MOST_AUDIO_BYTES:
                raise GalleryError(
                    f"a recording of {len(voiceprint.audio) / 1e6:.0f} MB is too long to keep; enroll a part of it, or "
                    "do not keep it"
                )
        with self._writing() as connection:
            speaker = _changed_speaker(connection, name)
            before = connection.execute("SELECT count(*) FROM voiceprints WHERE speaker = ?", (speaker,)).fetchone()[0]
            for voiceprint in voiceprints:
                _insert(connection, speaker, voiceprint)
        return int(before)

    def forget(self, name: str, *, last: bool = False) -> int:
        with self._writing() as connection:
            speaker = self.id_of(name)
            which = "AND added = (SELECT max(added) FROM voiceprints WHERE speaker = ?)" if last else ""
            count = connection.execute(
                f"DELETE FROM voiceprints WHERE speaker = ? {which}", (speaker,) * (1 + last)
            ).rowcount
            _drop_empty(connection)
        self._remove_traces(f"{name} is forgotten" if not last else f"the last voiceprints of {name} are removed")
        return int(count)

    def purge(self, now: datetime) -> int:
        with self._writing() as connection:
            count = connection.execute("DELETE FROM voiceprints WHERE expires_at <= ?", (to_text(now),)).rowcount
            _drop_empty(connection)
        self._remove_traces(f"{count} expired voiceprints are removed")
        return int(count)

    def speakers(self, now: datetime) -> list[Speaker]:
        at = to_text(now)
        rows = self._all(
            f"""SELECT name, sum({MATCHES}), count(*), count(recordings.voiceprint), total(duration_s),
                min(enrolled_at), min(CASE WHEN {MATCHES} THEN expires_at END),
                group_concat(DISTINCT CASE WHEN {MATCHES} THEN system END)
            FROM speakers JOIN voiceprints ON speaker = speakers.id
            LEFT JOIN recordings ON recordings.voiceprint = voiceprints.id
            GROUP BY speakers.id""",
            (at, at, at),
        )
        consent: dict[str, dict[str, None]] = {}
        for name, note in self._all(
            """SELECT name, consent FROM speakers JOIN voiceprints ON speaker = speakers.id
            WHERE consent IS NOT NULL ORDER BY voiceprints.id"""
        ):
            consent.setdefault(name, {})[note] = None
        return [
            Speaker(
                name=name,
                num_voiceprints=matching,
                num_expired=count - matching,
                num_kept=kept,
                duration_s=duration_s,
                systems=tuple(sorted(systems.split(","))) if systems else (),
                consent=tuple(consent.get(name, ())),
                enrolled_at=self._time(enrolled),
                expires_at=None if expires is None else self._time(expires),
            )
            for name, matching, count, kept, duration_s, enrolled, expires, systems in sorted(rows)
        ]

    def state(self, now: datetime) -> State:
        (revision, removals), *_ = self._all("SELECT number, removals FROM revision")
        (expiry,), *_ = self._all("SELECT min(expires_at) FROM voiceprints WHERE expires_at > ?", (to_text(now),))
        return State(revision=revision, removals=removals, next_expiry=None if expiry is None else self._time(expiry))

    def speaker_ids(self, system: str, now: datetime) -> NDArray[np.int64]:
        rows = self._all(
            f"SELECT DISTINCT speaker FROM voiceprints WHERE system = ? AND {MATCHES} ORDER BY speaker",
            (system, to_text(now)),
        )
        return np.array([speaker for (speaker,) in rows], dtype=np.int64)

    def id_of(self, name: str) -> int:
        rows = self._all("SELECT id FROM speakers WHERE name = ?", (name,))
        if not rows:
            names = [known for (known,) in self._all("SELECT name FROM speakers")]
            hint = nearest(name, names, otherwise="`xvectors speakers` lists who is")
            raise UnknownSpeakerError(f"nobody called {name} is enrolled in {self.path}{hint}")
        return int(rows[0][0])

    def names_of(self, ids: Sequence[int]) -> dict[int, str]:
        names: dict[int, str] = {}
        for some in _parts(ids):
            names.update(self._all(f"SELECT id, name FROM speakers WHERE id IN ({_marks(some)})", some))
        return names

    def changed_since(self, revision: int) -> list[int]:
        return [number for (number,) in self._all("SELECT id FROM speakers WHERE changed > ? ORDER BY id", (revision,))]

    def names_of_others(self, system: str, now: datetime, among: Sequence[int] | None = None) -> list[str]:
        at = to_text(now)
        of_speaker = f"SELECT 1 FROM voiceprints WHERE speaker = speakers.id AND {MATCHES}"
        names: list[str] = []
        for some in [[]] if among is None else _parts(among):
            which = f"id IN ({_marks(some)}) AND" if some else ""
            rows = self._all(
                f"""SELECT name FROM speakers WHERE {which} EXISTS ({of_speaker} AND system != ?)
                AND NOT EXISTS ({of_speaker} AND system = ?)""",
                (*some, at, system, at, system),
            )
            names += [name for (name,) in rows]
        return sorted(names)

    def blocks(self, system: str, now: datetime) -> Iterator[Block]:
        # a short statement a block: one long one would keep what is deleted meanwhile in the log
        last = 0
        while ids := self._all("SELECT id FROM speakers WHERE id > ? ORDER BY id LIMIT ?", (last, BLOCK_SPEAKERS)):
            first, last = ids[0][0], ids[-1][0]
            yield self._block("speaker BETWEEN ? AND ?", (first, last), system, now)

    def block_of(self, ids: Sequence[int], system: str, now: datetime) -> Block:
        parts = [self._block(f"speaker IN ({_marks(some)})", some, system, now) for some in _parts(sorted(ids))]
        parts = [part for part in parts if len(part.speaker)]
        if len(parts) == 1:
            return parts[0]
        return Block(
            speaker=np.concatenate([np.empty(0, dtype=np.int64), *(part.speaker for part in parts)]),
            embeddings=np.concatenate([part.embeddings for part in parts]) if parts else np.empty((0, 0), np.float32),
            duration_s=np.concatenate([np.empty(0), *(part.duration_s for part in parts)]),
        )

    def kept(self, other_than: str, now: datetime) -> Iterator[Kept]:
        rows = self._all(
            f"""SELECT voiceprints.id, name FROM voiceprints JOIN speakers ON speakers.id = speaker
            JOIN recordings ON recordings.voiceprint = voiceprints.id
            WHERE system != ? AND {MATCHES} ORDER BY voiceprints.id""",
            (other_than, to_text(now)),
        )
        for voiceprint, name in rows:
            if (audio := self.audio(voiceprint)) is not None:
                yield Kept(voiceprint=voiceprint, speaker=name, audio=audio)

    def replace(self, voiceprint: int, embedding: NDArray[np.float32], system: str) -> bool:
        with self._writing() as connection:
            _count_removal(connection)
            changed = connection.execute(
                "UPDATE voiceprints SET embedding = ?, system = ? WHERE id = ?",
                (_to_blob(embedding), system, voiceprint),
            ).rowcount
        return changed > 0

    def rebind(self, old: str, new: str) -> int:
        with self._writing() as connection:
            _count_removal(connection)
            count = connection.execute("UPDATE voiceprints SET system = ? WHERE system = ?", (new, old)).rowcount
        return int(count)

    def absorb(self, source: Carrier, *, merge: bool) -> tuple[dict[str, int], int]:
        added: Counter[str] = Counter()
        known = 0
        with self._writing() as connection:
            enrolled = {name for (name,) in connection.execute("SELECT name FROM speakers")}
            sizes: dict[str, int] = {}
            for carried in source.carried():
                row = carried.voiceprint
                if row.system not in sizes:
                    sizes[row.system] = _dimensions(connection, row.system) or len(row.embedding)
                if len(row.embedding) != sizes[row.system]:
                    raise GalleryError(
                        f"a voiceprint of {carried.name} has {len(row.embedding)} dimensions where those of the same "
                        f"system have {sizes[row.system]}; nothing was imported. Ask for a file that `xvectors gallery "
                        "export` wrote"
                    )
                if connection.execute(
                    """SELECT 1 FROM voiceprints JOIN speakers ON speakers.id = speaker
                    WHERE name = ? AND system = ? AND embedding = ? AND enrolled_at = ?""",
                    (carried.name, row.system, _to_blob(row.embedding), to_text(row.enrolled_at)),
                ).fetchone():
                    known += 1
                    continue
                number = _insert(connection, _changed_speaker(connection, carried.name), row)
                if (audio := source.audio(carried.number)) is not None:
                    connection.execute("INSERT INTO recordings VALUES (?, ?)", (number, audio))
                added[carried.name] += 1
            merged = added.keys() & enrolled
            if merged and not merge:
                raise GalleryError(
                    f"{len(merged)} of these speakers are enrolled here already and would get further voiceprints "
                    f"({first_few(sorted(merged), MOST_NAMED)}); "
                    "nothing was imported. If they are the same people, add --merge (merge=True)"
                )
        return added, known

    def carried(self) -> Iterator[Carried]:
        for (number,) in self._all("SELECT id FROM speakers ORDER BY id"):
            for voiceprint, name, system, embedding, duration_s, enrolled, expires, consent in self._all(
                """SELECT voiceprints.id, name, system, embedding, duration_s, enrolled_at, expires_at, consent
                FROM voiceprints JOIN speakers ON speakers.id = speaker WHERE speaker = ? ORDER BY voiceprints.id""",
                (number,),
            ):
                row = Voiceprint(
                    embedding=np.frombuffer(embedding, dtype="<f4"),
                    duration_s=duration_s,
                    system=system,
                    enrolled_at=self._time(enrolled),
                    expires_at=None if expires is None else self._time(expires),
                    consent=consent,
                )
                yield Carried(name=name, number=voiceprint, voiceprint=row)

    def audio(self, number: int) -> bytes | None:
        return next(
            (audio for (audio,) in self._all("SELECT audio FROM recordings WHERE voiceprint = ?", (number,))), None
        )

    def note_export(self, path: Path, *, ended: bool = False) -> None:
        """Remember a copy of this gallery that is being written, or that it is no longer."""
        with self._writing() as connection:
            statement = "DELETE FROM exports WHERE path = ?" if ended else "INSERT OR REPLACE INTO exports VALUES (?)"
            connection.execute(statement, (str(path.absolute()),))

    def _block(self, which: str, parameters: Sequence[Any], system: str, now: datetime) -> Block:
        rows = self._all(
            f"""SELECT speaker, embedding, duration_s FROM voiceprints
            WHERE {which} AND system = ? AND {MATCHES} ORDER BY speaker, id""",
            (*parameters, system, to_text(now)),
        )
        sizes = {len(embedding) for _, embedding, _ in rows}
        if len(sizes) > 1 or any(size % 4 for size in sizes):
            raise GalleryError(f"{self.path}: is damaged: embeddings of one system have unequal sizes; put back a copy")
        joined = b"".join([embedding for _, embedding, _ in rows])
        return Block(
            speaker=np.array([speaker for speaker, _, _ in rows], dtype=np.int64),
            embeddings=np.frombuffer(joined, dtype="<f4").reshape(len(rows), -1) if rows else np.empty((0, 0), "f4"),
            duration_s=np.array([duration for _, _, duration in rows], dtype=np.float64),
        )

    def _time(self, text: object) -> datetime:
        try:
            return to_time(str(text))
        except ValueError as error:
            raise GalleryError(
                f"{self.path}: is damaged: a time reads {text!a:.40}; put back a copy, or a file that "
                "`xvectors gallery export` wrote"
            ) from error

    def _all(self, statement: str, parameters: Sequence[Any] = ()) -> list[Any]:
        with self._lock, explained(self.path):
            return self._connection.execute(statement, parameters).fetchall()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that holds the write lock from its start; rolled back when the block raises."""
        with self._lock, explained(self.path):
            wait_for(self._connection, "BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("UPDATE revision SET number = number + 1")
                self._connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # after some errors SQLite has rolled back already
                    self._connection.execute("ROLLBACK")
                raise

    def _remove_traces(self, done: str) -> None:
        """Write the file anew without its free pages, and empty the log, which holds older versions of pages."""
        try:
            with self._lock, explained(self.path):
                self._overwrite()
        except StorageError as error:
            raise StorageError(
                f"{self.path}: {done}, but traces may remain, because the file could not be written anew "
                f"({error.__cause__}); make room, then run `xvectors gallery purge`"
            ) from error
        except GalleryError as error:
            if not is_busy(error.__cause__):
                raise  # damaged, say: nobody else is to blame
            raise GalleryError(
                f"{self.path}: {done}, but traces may remain, because another process was using the file; "
                "run `xvectors gallery purge` when it no longer does"
            ) from error
        if left := self._remove_exports():
            raise GalleryError(
                f"{self.path}: {done}, but a copy of the gallery from before is being written: {', '.join(left)}. "
                "Remove it there too"
            )

    def _finish_forgetting(self) -> None:
        """Remove the traces that a process left which was killed while it forgot somebody, if no other is at it."""
        with self._lock, explained(self.path):
            unfinished = self._connection.execute(
                "SELECT traces FROM revision UNION ALL SELECT count(*) FROM exports"
            ).fetchall()
            if not any(number for (number,) in unfinished) or not may_write(self.path):
                return
            try:
                if unfinished[0][0]:
                    self._overwrite(wait_s=0.0)
            except sqlite3.Error as error:
                if not is_busy(error):
                    raise
        self._remove_exports()

    def _overwrite(self, wait_s: float | None = None) -> None:
        ((removals,),) = self._connection.execute("SELECT removals FROM revision").fetchall()
        wait_for(self._connection, "VACUUM", wait_s)
        # what another process has removed meanwhile has its own traces
        wait_for(self._connection, f"UPDATE revision SET traces = 0 WHERE removals = {int(removals)}", wait_s)
        wait_for(self._connection, "PRAGMA wal_checkpoint(TRUNCATE)", wait_s)

    def _remove_exports(self) -> list[str]:
        """Remove what killed exports left, and return the copies that running ones write."""
        paths = [Path(path) for (path,) in self._all("SELECT path FROM exports")]
        writing = [path for path in paths if path.exists() and not is_leftover(path)]
        for path in set(paths) - set(writing):
            remove_database(path)
            self.note_export(path, ended=True)
        return [str(path) for path in writing]


def _dimensions(connection: sqlite3.Connection, system: str) -> int | None:
    """Of the embeddings of a system; None where there are none."""
    row = connection.execute(
        "SELECT length(embedding) / 4 FROM voiceprints WHERE system = ? LIMIT 1", (system,)
    ).fetchone()
    return None if row is None else int(row[0])


def _changed_speaker(connection: sqlite3.Connection, name: str) -> int:
    """The id of a name, new or known."""
    connection.execute(
        f"""INSERT INTO speakers (name, changed) VALUES (?, {NEXT})
        ON CONFLICT (name) DO UPDATE SET changed = excluded.changed""",
        (name,),
    )
    return int(connection.execute("SELECT id FROM speakers WHERE name = ?", (name,)).fetchone()[0])


def _count_removal(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE revision SET removals = removals + 1, traces = 1")


def _drop_empty(connection: sqlite3.Connection) -> None:
    _count_removal(connection)
    connection.execute("DELETE FROM speakers WHERE NOT EXISTS (SELECT 1 FROM voiceprints WHERE speaker = speakers.id)")


def _insert(connection: sqlite3.Connection, speaker: int, voiceprint: Voiceprint) -> int:
    """Add a voiceprint, with its recording where it has one; returns its number."""
    cursor = connection.execute(
        f"""INSERT INTO voiceprints (speaker, system, embedding, duration_s, enrolled_at, expires_at, consent, added)
        VALUES (?, ?, ?, ?, ?, ?, ?, {NEXT})""",
        (
            speaker,
            voiceprint.system,
            _to_blob(voiceprint.embedding),
            voiceprint.duration_s,
            to_text(voiceprint.enrolled_at),
            None if voiceprint.expires_at is None else to_text(voiceprint.expires_at),
            voiceprint.consent,
        ),
    )
    assert cursor.lastrowid is not None
    if voiceprint.audio is not None:
        connection.execute("INSERT INTO recordings VALUES (?, ?)", (cursor.lastrowid, voiceprint.audio))
    return cursor.lastrowid


def _to_blob(embedding: NDArray[np.float32]) -> bytes:
    return np.ascontiguousarray(embedding, dtype="<f4").tobytes()


def _parts(ids: Sequence[int]) -> Iterator[list[int]]:
    for start in range(0, len(ids), MOST_PARAMETERS):
        yield [int(number) for number in ids[start : start + MOST_PARAMETERS]]


def _marks(values: Sequence[Any]) -> str:
    return ",".join("?" * len(values))
