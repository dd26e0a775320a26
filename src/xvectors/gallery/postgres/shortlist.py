"""Find the enrolled speakers that a recording may be of, from rows that all processes share in the database.

Whoever searches first brings the rows of changed speakers up to date; enrolling only marks the speaker. The rows cover
all changes up to a revision, so a speaker whose enrollment has been confirmed is always found.
"""

from __future__ import annotations

import threading
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

from xvectors.backends.dot_products import Rows
from xvectors.backends.storage import digest_of
from xvectors.gallery.postgres.pool import Connection
from xvectors.gallery.postgres.rows import system_number, to_second
from xvectors.gallery.postgres.search import IndexSearch
from xvectors.gallery.shortlist import SHORTLIST_SIZE, Nearest, query_row, speaker_rows
from xvectors.gallery.store import State
from xvectors.text import short_repr
from xvectors.verification.verifier import Verifier

if TYPE_CHECKING:
    from xvectors.gallery.postgres.store import PostgresStore

BATCH_SPEAKERS = 4096
MAX_SPACES = 3
"""Number of back-ends of one system whose rows are kept: a system that is calibrated again gets new ones."""
END = 2**63 - 1
"""Larger than any speaker's id."""


@short_repr("_system")
class IndexShortlist:
    """A `Shortlist` from the rows of one system and back-end in the database. Threads may share it."""

    def __init__(self, store: PostgresStore, system: str, verifier: Verifier) -> None:
        self._store = store
        self._system = system
        self._verifier = verifier
        self._backend = digest_of(verifier.backend)
        self._turn = threading.Lock()
        self._search: IndexSearch | None = None
        self._left_out: tuple[State, tuple[str, ...]] | None = None

    def nearest(self, embedding: Rows, count: int, now: datetime) -> Nearest:
        query = query_row(self._verifier, embedding)
        state = self._store.state(now)  # fails for all threads at once where the server is down
        with self._turn:
            if self._left_out is None or self._left_out[0] != state:
                self._left_out = (state, tuple(self._store.names_of_others(self._system, now)))
            left_out = self._left_out[1]
            search = self._current(now)
            search.make_index(len(query))
        ids = search.candidates(query, max(SHORTLIST_SIZE, count))
        return Nearest(ids=ids, num_enrolled=len(search), left_out=left_out)

    def _current(self, now: datetime) -> IndexSearch:
        """Return the search, up to date with changes of the store and with expired voiceprints."""
        while True:
            if self._search is None:
                self._search = IndexSearch(self._store, self._space(now))
            stale = self._store.select(
                f"SELECT {_IS_BEHIND} OR {_HAS_EXPIRED} FROM search_spaces WHERE id = %(space)s",
                {"space": self._search.space, "now": to_second(now)},
            )
            if not stale:
                self._search = None  # another process removed it, as one of too many
            elif not stale[0][0]:
                return self._search
            else:
                while self._refresh_some(self._search, now):
                    pass

    def _space(self, now: datetime) -> int:
        """Return the number of this system and back-end, new or known."""
        with self._store.change() as change:
            system = system_number(change, self._system)
            found = change.connection.execute(
                "SELECT id FROM search_spaces WHERE system = %s AND backend = %s", (system, self._backend)
            ).fetchone()
            if found is None:
                change.connection.execute(
                    """DELETE FROM search_spaces WHERE system = %s AND id NOT IN (
                        SELECT id FROM search_spaces WHERE system = %s ORDER BY id DESC LIMIT %s)""",
                    (system, system, MAX_SPACES - 1),
                )
                found = change.connection.execute(
                    "INSERT INTO search_spaces (system, backend, as_of) VALUES (%s, %s, %s) RETURNING id",
                    (system, self._backend, to_second(now)),
                ).fetchone()
            assert found is not None
            return int(found[0])

    def _refresh_some(self, search: IndexSearch, now: datetime) -> bool:
        """Bring rows of some speakers up to date; return whether there may be more."""
        with self._store.block() as connection:
            place = connection.execute(
                """SELECT revision, speaker, as_of, (SELECT number FROM revision) FROM search_spaces WHERE id = %s
                FOR UPDATE""",
                (search.space,),
            ).fetchone()
            if place is None:
                return False  # removed by another process
            revision, speaker, as_of, newest = place
            changed = connection.execute(
                """SELECT changed, id FROM speakers WHERE (changed, id) > (%s, %s) AND changed <= %s
                ORDER BY changed, id LIMIT %s""",
                (revision, speaker, newest, BATCH_SPEAKERS),
            ).fetchall()
            more = len(changed) == BATCH_SPEAKERS
            if not self._rewrite(connection, search, [number for _, number in changed], now):
                return True
            revision, speaker = changed[-1] if more else (newest, END)
            if not more:
                times = sorted((as_of, to_second(now)))
                expired = connection.execute(
                    "SELECT DISTINCT speaker FROM voiceprints WHERE expires_at > %s AND expires_at <= %s", times
                ).fetchall()
                if not self._rewrite(connection, search, [number for (number,) in expired], now):
                    return True
                as_of = to_second(now)
            connection.execute(
                "UPDATE search_spaces SET revision = %s, speaker = %s, as_of = %s WHERE id = %s",
                (revision, speaker, as_of, search.space),
            )
            return more

    def _rewrite(self, connection: Connection, search: IndexSearch, speakers: list[int], now: datetime) -> bool:
        """Write the rows of speakers anew. False where some are being removed at the moment: then try again.

        Speakers are locked against removal, without waiting: who removes one waits for this transaction, never the
        other way around.
        """
        if not speakers:
            return True
        locked = connection.execute(
            "SELECT id FROM speakers WHERE id = ANY(%s) FOR KEY SHARE SKIP LOCKED", (speakers,)
        ).fetchall()
        free = sorted(number for (number,) in locked)
        search.discard(np.array(free, dtype=np.int64))
        found = self._store.voiceprints_of(free, self._system, now)
        if len(found.speaker):
            search.update(*speaker_rows(self._verifier, found))
        return len(free) == len(speakers)


_IS_BEHIND = """EXISTS (
    SELECT 1 FROM speakers WHERE (changed, id) > (search_spaces.revision, search_spaces.speaker)
)"""
_HAS_EXPIRED = """EXISTS (
    SELECT 1 FROM voiceprints
    WHERE expires_at > least(as_of, %(now)s) AND expires_at <= greatest(as_of, %(now)s)
)"""
