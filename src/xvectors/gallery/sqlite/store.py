"""Keep enrolled speakers in one SQLite file, which any number of processes may use.

Every change is one transaction that begins with the write lock, so changes of other processes are never overwritten. It
is on disk when the method returns. Deleted data is gone from the file and from the log beside it.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xvectors.audio.condition import unknown_conditions
from xvectors.errors import GalleryError, UnknownSpeakerError
from xvectors.files import exclusive
from xvectors.gallery.shortlist import MemoryShortlist
from xvectors.gallery.sqlite.database import to_text, to_time
from xvectors.gallery.sqlite.file import SqliteFile
from xvectors.gallery.store import (
    KeptRecording,
    NamedVoiceprint,
    Speaker,
    State,
    Voiceprint,
    Voiceprints,
    VoiceprintSource,
)
from xvectors.gallery.stored_rows import SOME_NAMES, condition_of, consent_by_name, unknown_speaker, voiceprints_of
from xvectors.gallery.validation import is_storable, refuse_large_audio
from xvectors.text import first_few, short_repr
from xvectors.verification.verifier import Verifier

BLOCK_SPEAKERS = 8192
MAX_PARAMETERS = 500
"""Number of ids in one statement; SQLite allows at least 999."""
MAX_NAMED = 5
"""Number of names in a message."""

NEXT = "(SELECT number + 1 FROM revision)"
"""SQL: the number of the revision that the transaction makes."""
MATCHES = "(expires_at IS NULL OR expires_at > ?)"
"""SQL: whether a voiceprint has not expired."""


@short_repr("path")
class SqliteStore(SqliteFile):
    """A `Store` in a gallery file. Threads may share it; a forked process must open its own.

    Parameters
    ----------
    path
        The file.
    create
        Whether to create the file if it does not exist.

    Raises
    ------
    GalleryError
        The file does not exist, is damaged, is not a gallery, or was written by a newer version.
    StorageError
        The file cannot be made.
    """

    def shortlist(self, system: str, verifier: Verifier) -> MemoryShortlist:
        return MemoryShortlist(self, system, verifier)

    def exclusive(self) -> AbstractContextManager[None]:
        return exclusive(self.path.with_name(f".{self.path.name}.re-enroll.lock"), of=str(self.path))

    def add(self, name: str, voiceprints: Sequence[Voiceprint]) -> int:
        refuse_large_audio(voiceprint.audio for voiceprint in voiceprints)
        with self._transaction() as connection:
            speaker = _changed_speaker(connection, name)
            before = connection.execute("SELECT count(*) FROM voiceprints WHERE speaker = ?", (speaker,)).fetchone()[0]
            for voiceprint in voiceprints:
                _insert(connection, speaker, voiceprint)
        return int(before)

    def forget(self, name: str, *, last: bool = False) -> int:
        with self._transaction() as connection:
            speaker = self.id_of(name)
            which = "AND added = (SELECT max(added) FROM voiceprints WHERE speaker = ?)" if last else ""
            count = connection.execute(
                f"DELETE FROM voiceprints WHERE speaker = ? {which}", (speaker,) * (1 + last)
            ).rowcount
            _remove_empty_speakers(connection)
        self._remove_traces(f"{name} is forgotten" if not last else f"the last voiceprints of {name} are removed")
        return int(count)

    def purge(self, now: datetime) -> int:
        with self._transaction() as connection:
            count = connection.execute("DELETE FROM voiceprints WHERE expires_at <= ?", (to_text(now),)).rowcount
            _remove_empty_speakers(connection)
        self._remove_traces(f"{count} expired voiceprints are removed")
        return int(count)

    def speakers(self, now: datetime, *, after: str = "", limit: int | None = None) -> list[Speaker]:
        return self._listed("name > ? ORDER BY name LIMIT ?", (after, -1 if limit is None else limit), now)

    def speaker(self, name: str, now: datetime) -> Speaker:
        found = self._listed("name = ?", (name,), now) if is_storable(name) else []
        if not found:
            raise self._unknown(name)
        return found[0]

    def _listed(self, which: str, parameters: Sequence[Any], now: datetime) -> list[Speaker]:
        at, chosen = to_text(now), f"(SELECT id, name FROM speakers WHERE {which}) AS speakers"
        rows = self._select(
            f"""SELECT name, sum({MATCHES}), count(*), count(recordings.voiceprint), total(duration_s),
                min(enrolled_at), min(CASE WHEN {MATCHES} THEN expires_at END),
                group_concat(DISTINCT CASE WHEN {MATCHES} THEN system END)
            FROM {chosen} JOIN voiceprints ON speaker = speakers.id
            LEFT JOIN recordings ON recordings.voiceprint = voiceprints.id
            GROUP BY speakers.id""",
            (at, at, at, *parameters),
        )
        consent = consent_by_name(
            self._select(
                f"""SELECT name, consent FROM {chosen} JOIN voiceprints ON speaker = speakers.id
                WHERE consent IS NOT NULL ORDER BY voiceprints.id""",
                parameters,
            )
        )
        return [
            Speaker(
                name=name,
                num_voiceprints=matching,
                num_expired=count - matching,
                num_kept=kept,
                duration_s=duration_s,
                systems=tuple(sorted(systems.split(","))) if systems else (),
                consent=consent.get(name, ()),
                enrolled_at=self._time(enrolled),
                expires_at=None if expires is None else self._time(expires),
            )
            for name, matching, count, kept, duration_s, enrolled, expires, systems in sorted(rows)
        ]

    def state(self, now: datetime) -> State:
        (revision, removals), *_ = self._select("SELECT number, removals FROM revision")
        (expiry,), *_ = self._select("SELECT min(expires_at) FROM voiceprints WHERE expires_at > ?", (to_text(now),))
        return State(revision=revision, removals=removals, next_expiry=None if expiry is None else self._time(expiry))

    def speaker_ids(self, system: str, now: datetime) -> NDArray[np.int64]:
        rows = self._select(
            f"SELECT DISTINCT speaker FROM voiceprints WHERE system = ? AND {MATCHES} ORDER BY speaker",
            (system, to_text(now)),
        )
        return np.array([speaker for (speaker,) in rows], dtype=np.int64)

    def id_of(self, name: str) -> int:
        rows = self._select("SELECT id FROM speakers WHERE name = ?", (name,)) if is_storable(name) else []
        if not rows:
            raise self._unknown(name)
        return int(rows[0][0])

    def names_of(self, ids: Sequence[int]) -> dict[int, str]:
        names: dict[int, str] = {}
        for some in _batches(ids):
            names.update(self._select(f"SELECT id, name FROM speakers WHERE id IN ({_marks(some)})", some))
        return names

    def changed_since(self, revision: int) -> list[int]:
        return [
            number for (number,) in self._select("SELECT id FROM speakers WHERE changed > ? ORDER BY id", (revision,))
        ]

    def names_of_others(self, system: str, now: datetime, among: Sequence[int] | None = None) -> list[str]:
        at = to_text(now)
        of_speaker = f"SELECT 1 FROM voiceprints WHERE speaker = speakers.id AND {MATCHES}"
        names: list[str] = []
        for some in [[]] if among is None else _batches(among):
            which = f"id IN ({_marks(some)}) AND" if some else ""
            rows = self._select(
                f"""SELECT name FROM speakers WHERE {which} EXISTS ({of_speaker} AND system != ?)
                AND NOT EXISTS ({of_speaker} AND system = ?)""",
                (*some, at, system, at, system),
            )
            names += [name for (name,) in rows]
        return sorted(names)

    def blocks(self, system: str, now: datetime) -> Iterator[Voiceprints]:
        # a short statement for each block: one long statement would keep data deleted in the meantime in the log
        last = 0
        while ids := self._select("SELECT id FROM speakers WHERE id > ? ORDER BY id LIMIT ?", (last, BLOCK_SPEAKERS)):
            first, last = ids[0][0], ids[-1][0]
            yield self._block("speaker BETWEEN ? AND ?", (first, last), system, now)

    def voiceprints_of(self, ids: Sequence[int], system: str, now: datetime) -> Voiceprints:
        parts = [self._block(f"speaker IN ({_marks(some)})", some, system, now) for some in _batches(sorted(ids))]
        parts = [part for part in parts if len(part.speaker)]
        if len(parts) == 1:
            return parts[0]
        return Voiceprints(
            speaker=np.concatenate([np.empty(0, dtype=np.int64), *(part.speaker for part in parts)]),
            embeddings=np.concatenate([part.embeddings for part in parts]) if parts else np.empty((0, 0), np.float32),
            duration_s=np.concatenate([np.empty(0), *(part.duration_s for part in parts)]),
            condition=np.concatenate([unknown_conditions(0), *(part.condition for part in parts)]),
        )

    def kept_recordings(self, other_than: str, now: datetime) -> Iterator[KeptRecording]:
        rows = self._select(
            f"""SELECT voiceprints.id, name FROM voiceprints JOIN speakers ON speakers.id = speaker
            JOIN recordings ON recordings.voiceprint = voiceprints.id
            WHERE system != ? AND {MATCHES} ORDER BY voiceprints.id""",
            (other_than, to_text(now)),
        )
        for voiceprint, name in rows:
            if (audio := self.audio(voiceprint)) is not None:
                yield KeptRecording(voiceprint=voiceprint, speaker=name, audio=audio)

    def replace(
        self,
        voiceprint: int,
        embedding: NDArray[np.float32],
        system: str,
        condition: NDArray[np.float32] | None = None,
    ) -> bool:
        with self._transaction() as connection:
            _count_removal(connection)
            changed = connection.execute(
                "UPDATE voiceprints SET embedding = ?, system = ?, condition = ? WHERE id = ?",
                (_to_blob(embedding), system, None if condition is None else _to_blob(condition), voiceprint),
            ).rowcount
        return changed > 0

    def rebind(self, old: str, new: str) -> int:
        with self._transaction() as connection:
            _count_removal(connection)
            count = connection.execute("UPDATE voiceprints SET system = ? WHERE system = ?", (new, old)).rowcount
        return int(count)

    def add_all(self, source: VoiceprintSource, *, merge: bool) -> tuple[dict[str, int], int]:
        added: Counter[str] = Counter()
        known = 0
        with self._transaction() as connection:
            enrolled = {name for (name,) in connection.execute("SELECT name FROM speakers")}
            sizes: dict[str, int] = {}
            for entry in source.voiceprints():
                row = entry.voiceprint
                if row.system not in sizes:
                    sizes[row.system] = _dimensions(connection, row.system) or len(row.embedding)
                if len(row.embedding) != sizes[row.system]:
                    raise GalleryError(
                        f"a voiceprint of {entry.speaker} has {len(row.embedding)} dimensions, but others of the same "
                        f"system have {sizes[row.system]}; nothing was imported. Ask for a file that `xvectors gallery "
                        "export` wrote"
                    )
                if connection.execute(
                    """SELECT 1 FROM voiceprints JOIN speakers ON speakers.id = speaker
                    WHERE name = ? AND system = ? AND embedding = ? AND enrolled_at = ?""",
                    (entry.speaker, row.system, _to_blob(row.embedding), to_text(row.enrolled_at)),
                ).fetchone():
                    known += 1
                    continue
                number = _insert(connection, _changed_speaker(connection, entry.speaker), row)
                if (audio := source.audio(entry.number)) is not None:
                    connection.execute("INSERT INTO recordings VALUES (?, ?)", (number, audio))
                added[entry.speaker] += 1
            merged = added.keys() & enrolled
            if merged and not merge:
                raise GalleryError(
                    f"{len(merged)} of these speakers are enrolled here already and would get more voiceprints "
                    f"({first_few(sorted(merged), MAX_NAMED)}); nothing was imported. If they are the same people, add "
                    "--merge (merge=True)"
                )
        return added, known

    def voiceprints(self) -> Iterator[NamedVoiceprint]:
        for (number,) in self._select("SELECT id FROM speakers ORDER BY id"):
            for voiceprint, name, system, embedding, duration_s, enrolled, expires, consent, condition in self._select(
                """SELECT voiceprints.id, name, system, embedding, duration_s, enrolled_at, expires_at, consent,
                condition FROM voiceprints JOIN speakers ON speakers.id = speaker
                WHERE speaker = ? ORDER BY voiceprints.id""",
                (number,),
            ):
                row = Voiceprint(
                    embedding=np.frombuffer(embedding, dtype="<f4"),
                    duration_s=duration_s,
                    system=system,
                    enrolled_at=self._time(enrolled),
                    expires_at=None if expires is None else self._time(expires),
                    consent=consent,
                    condition=condition_of(condition, self.path),
                )
                yield NamedVoiceprint(speaker=name, number=voiceprint, voiceprint=row)

    def audio(self, number: int) -> bytes | None:
        return next(
            (audio for (audio,) in self._select("SELECT audio FROM recordings WHERE voiceprint = ?", (number,))), None
        )

    def _block(self, which: str, parameters: Sequence[Any], system: str, now: datetime) -> Voiceprints:
        rows = self._select(
            f"""SELECT speaker, embedding, duration_s, condition FROM voiceprints
            WHERE {which} AND system = ? AND {MATCHES} ORDER BY speaker, id""",
            (*parameters, system, to_text(now)),
        )
        return voiceprints_of(rows, self.path)

    def _unknown(self, name: str) -> UnknownSpeakerError:
        return unknown_speaker(name, self._select(SOME_NAMES), self.path)

    def _time(self, text: object) -> datetime:
        try:
            return to_time(str(text))
        except ValueError as error:
            raise GalleryError(
                f"{self.path}: the gallery is damaged: {text!a:.40} is not a time; restore a copy, or a file that "
                "`xvectors gallery export` wrote"
            ) from error


def _dimensions(connection: sqlite3.Connection, system: str) -> int | None:
    """Return the dimensions of a system's embeddings; None where there are none."""
    row = connection.execute(
        "SELECT length(embedding) / 4 FROM voiceprints WHERE system = ? LIMIT 1", (system,)
    ).fetchone()
    return None if row is None else int(row[0])


def _changed_speaker(connection: sqlite3.Connection, name: str) -> int:
    """Return the id of a name, new or known, after marking the speaker as changed."""
    connection.execute(
        f"""INSERT INTO speakers (name, changed) VALUES (?, {NEXT})
        ON CONFLICT (name) DO UPDATE SET changed = excluded.changed""",
        (name,),
    )
    return int(connection.execute("SELECT id FROM speakers WHERE name = ?", (name,)).fetchone()[0])


def _count_removal(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE revision SET removals = removals + 1, traces = 1")


def _remove_empty_speakers(connection: sqlite3.Connection) -> None:
    _count_removal(connection)
    connection.execute("DELETE FROM speakers WHERE NOT EXISTS (SELECT 1 FROM voiceprints WHERE speaker = speakers.id)")


def _insert(connection: sqlite3.Connection, speaker: int, voiceprint: Voiceprint) -> int:
    """Add a voiceprint, and its recording where there is one; return its number."""
    cursor = connection.execute(
        f"""INSERT INTO voiceprints (speaker, system, embedding, duration_s, enrolled_at, expires_at, consent,
        condition, added) VALUES (?, ?, ?, ?, ?, ?, ?, ?, {NEXT})""",
        (
            speaker,
            voiceprint.system,
            _to_blob(voiceprint.embedding),
            voiceprint.duration_s,
            to_text(voiceprint.enrolled_at),
            None if voiceprint.expires_at is None else to_text(voiceprint.expires_at),
            voiceprint.consent,
            None if voiceprint.condition is None else _to_blob(voiceprint.condition),
        ),
    )
    assert cursor.lastrowid is not None
    if voiceprint.audio is not None:
        connection.execute("INSERT INTO recordings VALUES (?, ?)", (cursor.lastrowid, voiceprint.audio))
    return cursor.lastrowid


def _to_blob(values: NDArray[np.float32]) -> bytes:
    return np.ascontiguousarray(values, dtype="<f4").tobytes()


def _batches(ids: Sequence[int]) -> Iterator[list[int]]:
    for start in range(0, len(ids), MAX_PARAMETERS):
        yield [int(number) for number in ids[start : start + MAX_PARAMETERS]]


def _marks(values: Sequence[Any]) -> str:
    return ",".join("?" * len(values))
