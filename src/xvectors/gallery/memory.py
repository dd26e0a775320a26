"""What a process holds in memory of a store, to find the nearest of many. In: a store, the embedding of a recording.
Out: ids of the speakers to compare it with, up to date at every question, whichever process has changed the store."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from xvectors.backends.products import Rows
from xvectors.gallery.models import models_of
from xvectors.gallery.records import Block, State, Store
from xvectors.gallery.search import Search
from xvectors.verification import Verifier

SHORTLIST = 200
"""Speakers that a recording is compared with. Where more are enrolled, they are those with the highest scores."""
MOST_UPDATES = 1000
"""Speakers added since the store was read, beyond which it is read again."""

MakeSearch = Callable[[Iterable[tuple[NDArray[np.int64], Rows]], int], Search]


@dataclass(frozen=True, kw_only=True, eq=False)
class Near:
    """`ids`: whom to compare with, of `num_enrolled`; `left_out`: names of who is enrolled with other systems only."""

    ids: NDArray[np.int64]
    num_enrolled: int
    left_out: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Copy:
    """The comparable speakers of a store in one state; their rows, where there are more than SHORTLIST."""

    state: State
    ids: NDArray[np.int64]
    search: Search | None
    left_out: tuple[str, ...]


class Memory:
    """The speakers of one system. Threads may share it; they take turns, for a search uses all cores."""

    def __init__(self, store: Store, system: str, verifier: Verifier, make_search: MakeSearch) -> None:
        self._store = store
        self._system = system
        self._verifier = verifier
        self._make_search = make_search
        self._copy: _Copy | None = None
        self._turn = threading.Lock()

    def near(self, embedding: Rows, count: int, now: datetime) -> Near:
        """Those with the `count` highest scores against a recording [1, D], or more; SHORTLIST of them at least."""
        _, right = self._verifier.backend.project(
            self._verifier.backend.enroll(embedding, [0], average=True), embedding
        )
        with self._turn:
            copy = self._current(now)
            ids = copy.ids if copy.search is None else copy.search.candidates(right[0], max(SHORTLIST, count))
        return Near(ids=ids, num_enrolled=len(copy.ids), left_out=copy.left_out)

    def _current(self, now: datetime) -> _Copy:
        """The copy, brought up to date where somebody has changed the store or a voiceprint has expired."""
        # read before the rest: what is changed meanwhile is then read again the next time
        state, copy = self._store.state(now), self._copy
        if copy is not None and copy.state != state:
            copy = self._renewed(copy, state, now)
        if copy is None:
            self._copy = None  # so that there are never two in memory
            ids = self._store.speaker_ids(self._system, now)
            search = self._make_search(self._rows(now), len(ids)) if len(ids) > SHORTLIST else None
            others = self._store.names_of_others(self._system, now)
            copy = _Copy(state=state, ids=ids, search=search, left_out=tuple(others))
        self._copy = copy
        return copy

    def _renewed(self, copy: _Copy, state: State, now: datetime) -> _Copy | None:
        """The copy with what was added since; None where it is to be read as a whole."""
        if (copy.state.removals, copy.state.next_expiry) != (state.removals, state.next_expiry):
            return None
        changed = self._store.changed_since(copy.state.revision)
        if len(changed) > MOST_UPDATES:
            return None
        block = self._store.block_of(changed, self._system, now)
        ids = np.union1d(copy.ids, block.speaker)
        if copy.search is None and len(ids) > SHORTLIST:
            return None
        if copy.search is not None and len(block.speaker):
            copy.search.update(*self._projected(block))
        left_out = {*copy.left_out} - {*self._store.names_of(changed).values()}
        left_out.update(self._store.names_of_others(self._system, now, changed))
        return _Copy(state=state, ids=ids, search=copy.search, left_out=tuple(sorted(left_out)))

    def _rows(self, now: datetime) -> Iterator[tuple[NDArray[np.int64], Rows]]:
        for block in self._store.blocks(self._system, now):
            if len(block.speaker):
                yield self._projected(block)

    def _projected(self, block: Block) -> tuple[NDArray[np.int64], Rows]:
        """Ids [k] and the models' rows [k, d], whose products with a recording's row are scores."""
        models = models_of(self._verifier, block)
        left, _ = self._verifier.backend.project(models.enrolled, block.embeddings[:1])
        return models.ids, left
