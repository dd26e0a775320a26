"""Keep enrolled speakers on a PostgreSQL server, which any number of machines may use.

The same records as in a gallery file; times are kept to the second, as there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xvectors.errors import UnknownSpeakerError
from xvectors.gallery.postgres.address import parse_address
from xvectors.gallery.postgres.connection import Change, ServerGallery
from xvectors.gallery.postgres.copying import add_all
from xvectors.gallery.postgres.rows import insert_voiceprint, system_number, to_bytes, to_second
from xvectors.gallery.postgres.shortlist import IndexShortlist
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
from xvectors.text import short_repr
from xvectors.verification.verifier import Verifier

BLOCK_SPEAKERS = 8192
MATCHES = "(expires_at IS NULL OR expires_at > %(now)s)"
"""SQL: whether a voiceprint has not expired."""
SYSTEM = "(SELECT id FROM systems WHERE fingerprint = %(system)s)"
"""SQL: the number of a system by its fingerprint."""


@short_repr("location")
class PostgresStore(ServerGallery):
    """A `Store` on a PostgreSQL server. Threads may share it; a forked process must open its own.

    Parameters
    ----------
    url
        As libpq reads it, postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with `?schema=NAME` for the gallery's tables
        (by default `xvectors`). Each gallery has a schema of its own.
    create
        Whether to make the gallery if it does not exist.

    Raises
    ------
    ConfigError
        The URL cannot be read.
    GalleryError
        The server does not answer or refuses the user, has no pgvector, has no such gallery, or one of a newer version.
    StorageError
        The gallery cannot be made.
    MissingExtraError
        psycopg or pgvector is not installed.
    """

    def __init__(self, url: str, *, create: bool = False) -> None:
        super().__init__(parse_address(url), create=create)

    def shortlist(self, system: str, verifier: Verifier) -> IndexShortlist:
        return IndexShortlist(self, system, verifier)

    def add(self, name: str, voiceprints: Sequence[Voiceprint]) -> int:
        refuse_large_audio(voiceprint.audio for voiceprint in voiceprints)
        with self.change() as change:
            speaker = _changed_speaker(change, name)
            ((before,),) = change.connection.execute(
                "SELECT count(*) FROM voiceprints WHERE speaker = %s", (speaker,)
            ).fetchall()
            for voiceprint in voiceprints:
                insert_voiceprint(change, speaker, voiceprint)
            change.note("enroll", speaker, len(voiceprints))
        return int(before)

    def forget(self, name: str, *, last: bool = False) -> int:
        with self.change(removes=True) as change:
            speaker = self.id_of(name)
            which = "AND added = (SELECT max(added) FROM voiceprints WHERE speaker = %(speaker)s)" if last else ""
            count = change.connection.execute(
                f"DELETE FROM voiceprints WHERE speaker = %(speaker)s {which}".encode(), {"speaker": speaker}
            ).rowcount
            _after_removal(change, [speaker])
            change.note("forget the last enrollment" if last else "forget", speaker, count)
        return count

    def purge(self, now: datetime) -> int:
        with self.change(removes=True) as change:
            removed = change.connection.execute(
                "DELETE FROM voiceprints WHERE expires_at <= %s RETURNING speaker", (to_second(now),)
            ).fetchall()
            _after_removal(change, sorted({speaker for (speaker,) in removed}))
            change.note("purge", None, len(removed))
        self.maintain("VACUUM speakers, voiceprints, recordings, search_rows")
        return len(removed)

    def speakers(self, now: datetime, *, after: str = "", limit: int | None = None) -> list[Speaker]:
        which = "name > %(after)s ORDER BY name LIMIT %(limit)s"
        return self._listed(which, {"after": after, "limit": limit}, now)

    def speaker(self, name: str, now: datetime) -> Speaker:
        found = self._listed("name = %(name)s", {"name": name}, now) if is_storable(name) else []
        if not found:
            raise self._unknown(name)
        return found[0]

    def _listed(self, which: str, parameters: dict[str, Any], now: datetime) -> list[Speaker]:
        chosen = f"(SELECT id, name FROM speakers WHERE {which}) AS speakers"
        rows = self.select(
            f"""SELECT name, count(*) FILTER (WHERE {MATCHES}), count(*), count(recordings.voiceprint),
                sum(duration_s), min(enrolled_at), min(expires_at) FILTER (WHERE {MATCHES}),
                array_agg(DISTINCT fingerprint) FILTER (WHERE {MATCHES})
            FROM {chosen} JOIN voiceprints ON speaker = speakers.id JOIN systems ON systems.id = system
            LEFT JOIN recordings ON recordings.voiceprint = voiceprints.id GROUP BY speakers.id, name""",
            {**parameters, "now": to_second(now)},
        )
        consent = consent_by_name(
            self.select(
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
                systems=tuple(sorted(systems or ())),
                consent=consent.get(name, ()),
                enrolled_at=enrolled.astimezone(UTC),
                expires_at=None if expires is None else expires.astimezone(UTC),
            )
            for name, matching, count, kept, duration_s, enrolled, expires, systems in sorted(
                rows, key=lambda row: str(row[0])
            )
        ]

    def state(self, now: datetime) -> State:
        ((revision, removals, expiry),) = self.select(
            "SELECT number, removals, (SELECT min(expires_at) FROM voiceprints WHERE expires_at > %s) FROM revision",
            (to_second(now),),
        )
        return State(
            revision=revision, removals=removals, next_expiry=None if expiry is None else expiry.astimezone(UTC)
        )

    def speaker_ids(self, system: str, now: datetime) -> NDArray[np.int64]:
        rows = self.select(
            f"SELECT DISTINCT speaker FROM voiceprints WHERE system = {SYSTEM} AND {MATCHES} ORDER BY speaker",
            {"system": system, "now": to_second(now)},
        )
        return np.array([speaker for (speaker,) in rows], dtype=np.int64)

    def id_of(self, name: str) -> int:
        rows = self.select("SELECT id FROM speakers WHERE name = %s", (name,)) if is_storable(name) else []
        if not rows:
            raise self._unknown(name)
        return int(rows[0][0])

    def names_of(self, ids: Sequence[int]) -> dict[int, str]:
        return dict(self.select("SELECT id, name FROM speakers WHERE id = ANY(%s)", (as_list(ids),)))

    def changed_since(self, revision: int) -> list[int]:
        return [
            number for (number,) in self.select("SELECT id FROM speakers WHERE changed > %s ORDER BY id", (revision,))
        ]

    def names_of_others(self, system: str, now: datetime, among: Sequence[int] | None = None) -> list[str]:
        which = "" if among is None else "id = ANY(%(among)s) AND"
        rows = self.select(
            f"""SELECT name FROM speakers WHERE {which} id IN (
                SELECT speaker FROM voiceprints
                WHERE system = ANY(ARRAY(SELECT id FROM systems WHERE fingerprint != %(system)s)) AND {MATCHES}
            ) AND NOT EXISTS (
                SELECT 1 FROM voiceprints WHERE speaker = speakers.id AND system = {SYSTEM} AND {MATCHES}
            )""",
            {"system": system, "now": to_second(now), "among": as_list(among or ())},
        )
        return sorted(name for (name,) in rows)

    def blocks(self, system: str, now: datetime) -> Iterator[Voiceprints]:
        for first, last in self._ranges(BLOCK_SPEAKERS):
            yield self._block("speaker BETWEEN %(first)s AND %(last)s", {"first": first, "last": last}, system, now)

    def voiceprints_of(self, ids: Sequence[int], system: str, now: datetime) -> Voiceprints:
        return self._block("speaker = ANY(%(ids)s)", {"ids": as_list(ids)}, system, now)

    def kept_recordings(self, other_than: str, now: datetime) -> Iterator[KeptRecording]:
        rows = self.select(
            f"""SELECT voiceprints.id, name FROM voiceprints JOIN speakers ON speakers.id = speaker
            JOIN recordings ON recordings.voiceprint = voiceprints.id JOIN systems ON systems.id = system
            WHERE fingerprint != %(system)s AND {MATCHES} ORDER BY voiceprints.id""",
            {"system": other_than, "now": to_second(now)},
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
        with self.change(removes=True) as change:
            changed = change.connection.execute(
                "UPDATE voiceprints SET embedding = %b, system = %s, condition = %b WHERE id = %s RETURNING speaker",
                (
                    to_bytes(embedding),
                    system_number(change, system),
                    None if condition is None else to_bytes(condition),
                    voiceprint,
                ),
            ).fetchall()
            for (speaker,) in changed:
                _mark(change, [speaker])
                change.note("re-enroll", speaker, 1)
        return bool(changed)

    def rebind(self, old: str, new: str) -> int:
        with self.change(removes=True) as change:
            changed = change.connection.execute(
                "UPDATE voiceprints SET system = %s WHERE system = (SELECT id FROM systems WHERE fingerprint = %s) "
                "RETURNING speaker",
                (system_number(change, new), old),
            ).fetchall()
            _mark(change, sorted({speaker for (speaker,) in changed}))
            change.note("bind to another fingerprint", None, len(changed))
        return len(changed)

    def add_all(self, source: VoiceprintSource, *, merge: bool) -> tuple[dict[str, int], int]:
        with self.change() as change:
            return add_all(change, source, merge=merge)

    def voiceprints(self) -> Iterator[NamedVoiceprint]:
        for first, last in self._ranges(BLOCK_SPEAKERS // 8):
            for number, name, system, embedding, duration_s, enrolled, expires, consent, condition in self.select(
                """SELECT voiceprints.id, name, fingerprint, embedding, duration_s, enrolled_at, expires_at, consent,
                condition FROM voiceprints JOIN speakers ON speakers.id = speaker JOIN systems ON systems.id = system
                WHERE speaker BETWEEN %s AND %s ORDER BY speaker, voiceprints.id""",
                (first, last),
            ):
                row = Voiceprint(
                    embedding=np.frombuffer(embedding, dtype="<f4"),
                    duration_s=duration_s,
                    system=system,
                    enrolled_at=enrolled.astimezone(UTC),
                    expires_at=None if expires is None else expires.astimezone(UTC),
                    consent=consent,
                    condition=condition_of(condition, self.location),
                )
                yield NamedVoiceprint(speaker=name, number=number, voiceprint=row)

    def audio(self, number: int) -> bytes | None:
        rows = self.select("SELECT audio FROM recordings WHERE voiceprint = %s", (number,))
        return next((audio for (audio,) in rows), None)

    def _unknown(self, name: str) -> UnknownSpeakerError:
        return unknown_speaker(name, self.select(SOME_NAMES), self.location)

    def _ranges(self, size: int) -> Iterator[tuple[int, int]]:
        """Yield the first and the last id of groups of speakers, in a short query for each."""
        last = 0
        while True:
            ((first, last_found),) = self.select(
                "SELECT min(id), max(id) FROM (SELECT id FROM speakers WHERE id > %s ORDER BY id LIMIT %s) AS found",
                (last, size),
            )
            if first is None:
                return
            last = last_found
            yield first, last

    def _block(self, which: str, parameters: dict[str, Any], system: str, now: datetime) -> Voiceprints:
        rows = self.select(
            f"""SELECT speaker, embedding, duration_s, condition FROM voiceprints
            WHERE {which} AND system = {SYSTEM} AND {MATCHES} ORDER BY speaker, id""",
            {**parameters, "system": system, "now": to_second(now)},
        )
        return voiceprints_of(rows, self.location)


def as_list(ids: Sequence[int] | NDArray[np.int64]) -> list[int]:
    return [int(number) for number in ids]


def _changed_speaker(change: Change, name: str) -> int:
    """Return the id of a name, new or known, after marking the speaker as changed."""
    ((number,),) = change.connection.execute(
        """INSERT INTO speakers (name, changed) VALUES (%s, %s)
        ON CONFLICT (name) DO UPDATE SET changed = excluded.changed RETURNING id""",
        (name, change.revision),
    ).fetchall()
    return int(number)


def _mark(change: Change, speakers: Sequence[int]) -> None:
    """Mark speakers as changed."""
    change.connection.execute(
        "UPDATE speakers SET changed = %s WHERE id = ANY(%s)", (change.revision, as_list(speakers))
    )


def _after_removal(change: Change, speakers: Sequence[int]) -> None:
    """Remove those of the speakers who have no voiceprints left, and mark the others as changed."""
    change.connection.execute(
        """DELETE FROM speakers WHERE id = ANY(%s)
        AND NOT EXISTS (SELECT 1 FROM voiceprints WHERE speaker = speakers.id)""",
        (as_list(speakers),),
    )
    _mark(change, speakers)
