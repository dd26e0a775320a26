"""Find the enrolled speakers that a recording may be of."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from xvectors.backends.dot_products import Rows
from xvectors.gallery.search import ExactSearch, Search
from xvectors.gallery.store import State, Store, Voiceprints
from xvectors.text import short_repr
from xvectors.verification.speaker_models import model_speakers
from xvectors.verification.verifier import Verifier

SHORTLIST_SIZE = 200
"""Number of speakers that a recording is compared with. Where more are enrolled, those with the highest scores."""
MAX_UPDATES = 1000
"""Number of changed speakers above which the whole store is read again."""

MakeSearch = Callable[[Iterable[tuple[NDArray[np.int64], Rows]], int], Search]


@dataclass(frozen=True, kw_only=True, eq=False)
class Nearest:
    """The speakers to compare a recording with.

    Attributes
    ----------
    ids : ids of the speakers
    num_enrolled : number of all speakers enrolled with this system
    left_out : names of speakers who are enrolled with other systems only
    """

    ids: NDArray[np.int64]
    num_enrolled: int
    left_out: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Copy:
    """The comparable speakers of a store in one state. There is a search where they exceed SHORTLIST_SIZE."""

    state: State
    ids: NDArray[np.int64]
    search: Search | None
    left_out: tuple[str, ...]


class Shortlist(Protocol):
    """The speakers of one system in a store, as they are now, whichever process has changed them."""

    def nearest(self, embedding: Rows, count: int, now: datetime) -> Nearest:
        """Return the `count` speakers, or SHORTLIST_SIZE if more, who score highest with a recording [1, D]."""
        ...


@short_repr("_system")
class MemoryShortlist:
    """A shortlist from a copy of the store in memory, which is brought up to date at every call.

    Threads may share it; they take turns, as a search uses all cores.
    """

    def __init__(self, store: Store, system: str, verifier: Verifier, make_search: MakeSearch = ExactSearch) -> None:
        self._store = store
        self._system = system
        self._verifier = verifier
        self._make_search = make_search
        self._copy: _Copy | None = None
        self._turn = threading.Lock()

    def nearest(self, embedding: Rows, count: int, now: datetime) -> Nearest:
        query = query_row(self._verifier, embedding)
        with self._turn:
            copy = self._current(now)
            ids = copy.ids if copy.search is None else copy.search.candidates(query, max(SHORTLIST_SIZE, count))
        return Nearest(ids=ids, num_enrolled=len(copy.ids), left_out=copy.left_out)

    def _current(self, now: datetime) -> _Copy:
        """Return the copy, up to date with changes of the store and with expired voiceprints."""
        # read before the rest, so that a change in the meantime is read the next time
        state, copy = self._store.state(now), self._copy
        if copy is not None and copy.state != state:
            copy = self._updated(copy, state, now)
        if copy is None:
            self._copy = None  # free the old copy before the new one is made
            ids = self._store.speaker_ids(self._system, now)
            search = self._make_search(self._rows(now), len(ids)) if len(ids) > SHORTLIST_SIZE else None
            others = self._store.names_of_others(self._system, now)
            copy = _Copy(state=state, ids=ids, search=search, left_out=tuple(others))
        self._copy = copy
        return copy

    def _updated(self, copy: _Copy, state: State, now: datetime) -> _Copy | None:
        """Return the copy with later additions; None where the whole store must be read again."""
        if (copy.state.removals, copy.state.next_expiry) != (state.removals, state.next_expiry):
            return None
        changed = self._store.changed_since(copy.state.revision)
        if len(changed) > MAX_UPDATES:
            return None
        added = self._store.voiceprints_of(changed, self._system, now)
        ids = np.union1d(copy.ids, added.speaker)
        if copy.search is None and len(ids) > SHORTLIST_SIZE:
            return None
        if copy.search is not None and len(added.speaker):
            copy.search.update(*speaker_rows(self._verifier, added))
        left_out = {*copy.left_out} - {*self._store.names_of(changed).values()}
        left_out.update(self._store.names_of_others(self._system, now, changed))
        return _Copy(state=state, ids=ids, search=copy.search, left_out=tuple(sorted(left_out)))

    def _rows(self, now: datetime) -> Iterator[tuple[NDArray[np.int64], Rows]]:
        for block in self._store.blocks(self._system, now):
            if len(block.speaker):
                yield speaker_rows(self._verifier, block)


def speaker_rows(verifier: Verifier, block: Voiceprints) -> tuple[NDArray[np.int64], Rows]:
    """Return the ids [k], and the models' rows [k, d] whose dot products with a recording's row are scores."""
    models = model_speakers(verifier, block.speaker, block.embeddings, block.duration_s)
    left, _ = verifier.backend.project(models.models, block.embeddings[:1])
    return models.speaker, left


def query_row(verifier: Verifier, embedding: Rows) -> Rows:
    """Return the row [d] of a recording, its embedding [1, D], whose dot products with `speaker_rows` are scores."""
    _, right = verifier.backend.project(verifier.backend.enroll(embedding, [0], average=True), embedding)
    row: Rows = right[0]
    return row
