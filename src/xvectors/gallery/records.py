"""What a gallery keeps, and what keeps it. In: embeddings of named speakers. Out: records, whatever stores them.

`Store` is what `Gallery` needs of a store: `SqliteStore` is one, a database server can be another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from xvectors.text import brief


@brief()
@dataclass(frozen=True, kw_only=True, eq=False)
class Voiceprint:
    """One enrolled recording.

    Attributes
    ----------
    embedding : float32 [D], as the network gave it
    duration_s : seconds that were embedded
    system : the fingerprint of the system it was embedded with; embeddings of two systems are never compared
    enrolled_at : aware
    expires_at : aware; from then on the voiceprint matches nobody. None: it does not expire
    consent : a note on what the speaker agreed to
    audio : the bytes of the sound file, where the recording is kept
    """

    embedding: NDArray[np.float32]
    duration_s: float
    system: str
    enrolled_at: datetime
    expires_at: datetime | None = None
    consent: str | None = None
    audio: bytes | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Carried:
    """A voiceprint on its way from one gallery to another, without its sound: `number` is its number in the first."""

    name: str
    number: int
    voiceprint: Voiceprint


class Carrier(Protocol):
    """What voiceprints can be taken from."""

    def carried(self) -> Iterator[Carried]:
        """Every voiceprint, speaker by speaker."""
        ...

    def audio(self, number: int) -> bytes | None:
        """The kept recording of a voiceprint."""
        ...


@dataclass(frozen=True, kw_only=True)
class Speaker:
    """One enrolled speaker, counted at one time.

    `num_voiceprints` counts those that match, of any system, `num_expired` the others, `num_kept` those whose recording
    is kept. `systems`: the fingerprints of those that match, sorted. `consent`: the notes, each once, oldest first.
    `expires_at`: when the first of those that match expires.
    """

    name: str
    num_voiceprints: int
    num_expired: int
    num_kept: int
    duration_s: float
    systems: tuple[str, ...]
    consent: tuple[str, ...]
    enrolled_at: datetime
    expires_at: datetime | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Block:
    """Voiceprints of one system that match, n rows: `speaker` [n] the id of each row's speaker, ascending; no speaker's
    rows are divided between two blocks. `embeddings` float32 [n, D], `duration_s` [n]."""

    speaker: NDArray[np.int64]
    embeddings: NDArray[np.float32]
    duration_s: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class State:
    """What a copy in memory depends on: it is out of date when any of it differs. Where `revision` alone does, only the
    speakers changed since are to be read again."""

    revision: int
    removals: int
    next_expiry: datetime | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Kept:
    """A voiceprint's recording."""

    voiceprint: int
    speaker: str
    audio: bytes


class Store(Protocol):
    """Enrolled speakers, safe from other processes that read and write them meanwhile.

    Writing is all or nothing, and lasts once it has returned. Everything may raise GalleryError where the store cannot
    be used, and what writes StorageError where it cannot be written; a name that is not enrolled raises
    UnknownSpeakerError. `now` says which voiceprints have expired.
    """

    @property
    def location(self) -> str:
        """What messages call the store."""
        ...

    def close(self) -> None: ...

    def add(self, name: str, voiceprints: Sequence[Voiceprint]) -> int:
        """Enroll; returns how many voiceprints the name had before."""
        ...

    def forget(self, name: str, *, last: bool = False) -> int:
        """Remove a speaker, or only what was enrolled last, and every trace of these voiceprints, which are counted."""
        ...

    def purge(self, now: datetime) -> int:
        """Remove what has expired, and every trace of what was removed before; returns how many voiceprints."""
        ...

    def speakers(self, now: datetime) -> list[Speaker]:
        """Everybody, by name."""
        ...

    def state(self, now: datetime) -> State: ...

    def speaker_ids(self, system: str, now: datetime) -> NDArray[np.int64]:
        """Ids [n], ascending, of those with a voiceprint of this system that matches."""
        ...

    def id_of(self, name: str) -> int: ...

    def names_of(self, ids: Sequence[int]) -> dict[int, str]:
        """Names by id; those forgotten meanwhile are left out."""
        ...

    def changed_since(self, revision: int) -> list[int]:
        """Ids of speakers who were given voiceprints after this revision."""
        ...

    def names_of_others(self, system: str, now: datetime, among: Sequence[int] | None = None) -> list[str]:
        """Names, sorted, of those (`among` these ids) whose voiceprints match but are all of other systems."""
        ...

    def blocks(self, system: str, now: datetime) -> Iterator[Block]:
        """All voiceprints of this system that match."""
        ...

    def block_of(self, ids: Sequence[int], system: str, now: datetime) -> Block:
        """Those of some speakers; empty where they have none, or were forgotten meanwhile."""
        ...

    def kept(self, other_than: str, now: datetime) -> Iterator[Kept]:
        """Recordings whose voiceprints match and are of other systems than this one."""
        ...

    def rebind(self, old: str, new: str) -> int:
        """Give the voiceprints of the fingerprint `old` the fingerprint `new`, and count them."""
        ...

    def absorb(self, source: Carrier, *, merge: bool) -> tuple[dict[str, int], int]:
        """Add everything that `source` carries, or nothing; returns voiceprints added by name, and the number of those
        known already.

        A voiceprint is known if its name has one with the same embedding, system and time of enrollment. GalleryError
        where a name that is enrolled would get voiceprints and `merge` is False.
        """
        ...

    def replace(self, voiceprint: int, embedding: NDArray[np.float32], system: str) -> bool:
        """Give a voiceprint the embedding of another system; False where it was forgotten meanwhile."""
        ...
