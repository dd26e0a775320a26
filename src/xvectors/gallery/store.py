"""The records that a gallery keeps, and the protocol of the stores that keep them.

`SqliteStore` keeps them in a file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from xvectors.text import short_repr

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from xvectors.gallery.shortlist import Shortlist
    from xvectors.verification.verifier import Verifier


@short_repr()
@dataclass(frozen=True, kw_only=True, eq=False)
class Voiceprint:
    """One enrolled recording.

    Attributes
    ----------
    embedding : float32 [D], as the network gave it
    duration_s : seconds that were embedded
    system : fingerprint of the system that embedded it; embeddings of two systems are never compared
    enrolled_at : time with its time zone
    expires_at : time with its time zone, from which the voiceprint no longer matches; None where it does not expire
    consent : a note on what the speaker agreed to
    condition : float32 [6], the measures of `audio.condition`; None where unknown
    audio : the bytes of the sound file, where the recording is kept
    """

    embedding: NDArray[np.float32]
    duration_s: float
    system: str
    enrolled_at: datetime
    expires_at: datetime | None = None
    consent: str | None = None
    condition: NDArray[np.float32] | None = None
    audio: bytes | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class NamedVoiceprint:
    """A voiceprint to be copied to another gallery, with its speaker's name and its number in its own gallery."""

    speaker: str
    number: int
    voiceprint: Voiceprint


class VoiceprintSource(Protocol):
    """A gallery whose voiceprints can be copied."""

    def voiceprints(self) -> Iterator[NamedVoiceprint]:
        """Yield all voiceprints, speaker by speaker, without their audio."""
        ...

    def audio(self, number: int) -> bytes | None:
        """Return the kept recording of a voiceprint."""
        ...


@dataclass(frozen=True, kw_only=True)
class Speaker:
    """An enrolled speaker, for listings.

    Attributes
    ----------
    num_voiceprints : number of voiceprints that match, of any system
    num_expired : number of expired voiceprints
    num_kept : number of voiceprints whose recording is kept
    duration_s : total duration of all voiceprints
    systems : fingerprints of the systems of those that match, sorted
    consent : the different notes of consent, oldest first
    enrolled_at : when the first voiceprint was enrolled
    expires_at : when the next voiceprint expires
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
class Voiceprints:
    """Voiceprints of one system that match, as arrays. All rows of a speaker are in one such block.

    Attributes
    ----------
    speaker : [n] each row's speaker by id, ascending
    embeddings : float32 [n, D]
    duration_s : [n]
    condition : float32 [n, 6]; NaN where unknown
    """

    speaker: NDArray[np.int64]
    embeddings: NDArray[np.float32]
    duration_s: NDArray[np.float64]
    condition: NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class State:
    """The state of a store. A copy in memory is out of date when any of it differs.

    Where only `revision` differs, it is enough to read the speakers that changed since.

    Attributes
    ----------
    revision : number of the last change
    removals : number of changes that removed something
    next_expiry : when the next voiceprint expires
    """

    revision: int
    removals: int
    next_expiry: datetime | None


@dataclass(frozen=True, kw_only=True, eq=False)
class KeptRecording:
    """The recording of a voiceprint, by its number."""

    voiceprint: int
    speaker: str
    audio: bytes


class Store(VoiceprintSource, Protocol):
    """Enrolled speakers, safe from other processes that read and write them at the same time.

    A method writes everything or nothing, and what it wrote lasts once it has returned. Every method may raise
    GalleryError where the store cannot be used, and those that write StorageError where it cannot be written. A name
    that is not enrolled raises UnknownSpeakerError. Voiceprints that have expired at the time `now` do not match.
    """

    @property
    def location(self) -> str:
        """The store's name in messages."""
        ...

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None: ...

    def shortlist(self, system: str, verifier: Verifier) -> Shortlist:
        """Return what finds the speakers of a system that a recording may be of, in the way that suits this store."""
        ...

    def exclusive(self) -> AbstractContextManager[None]:
        """Let no other process re-enroll the speakers of this gallery for the duration of the block.

        Raises BusyError if another process does so now.
        """
        ...

    def add(self, name: str, voiceprints: Sequence[Voiceprint]) -> int:
        """Enroll; return the number of voiceprints that the name had before."""
        ...

    def forget(self, name: str, *, last: bool = False) -> int:
        """Remove a speaker, or only the last enrollment, and every trace of it; return the number of voiceprints."""
        ...

    def purge(self, now: datetime) -> int:
        """Remove expired voiceprints, and every trace of earlier removals; return the number of voiceprints."""
        ...

    def speakers(self, now: datetime, *, after: str = "", limit: int | None = None) -> list[Speaker]:
        """Return the speakers, sorted by name: all, or the first `limit` whose names follow `after`."""
        ...

    def speaker(self, name: str, now: datetime) -> Speaker: ...

    def state(self, now: datetime) -> State: ...

    def speaker_ids(self, system: str, now: datetime) -> NDArray[np.int64]:
        """Return the ids [n], ascending, of the speakers with a voiceprint of this system that matches."""
        ...

    def id_of(self, name: str) -> int: ...

    def names_of(self, ids: Sequence[int]) -> dict[int, str]:
        """Return names by id, without speakers forgotten in the meantime."""
        ...

    def changed_since(self, revision: int) -> list[int]:
        """Return the ids of speakers who got voiceprints after this revision."""
        ...

    def names_of_others(self, system: str, now: datetime, among: Sequence[int] | None = None) -> list[str]:
        """Return the names, sorted, of speakers (`among` these ids) who have matching voiceprints of other systems
        only."""
        ...

    def blocks(self, system: str, now: datetime) -> Iterator[Voiceprints]:
        """Yield all voiceprints of this system that match."""
        ...

    def voiceprints_of(self, ids: Sequence[int], system: str, now: datetime) -> Voiceprints:
        """Return the matching voiceprints of some speakers, without speakers forgotten in the meantime."""
        ...

    def kept_recordings(self, other_than: str, now: datetime) -> Iterator[KeptRecording]:
        """Yield the recordings of voiceprints that match and are of other systems than this one."""
        ...

    def rebind(self, old: str, new: str) -> int:
        """Change the fingerprint `old` of voiceprints to `new`; return the number of voiceprints."""
        ...

    def add_all(self, source: VoiceprintSource, *, merge: bool) -> tuple[dict[str, int], int]:
        """Add all voiceprints of a source; return the number added by name, and the number known already.

        A voiceprint is known if its name has one with the same embedding, system and time of enrollment. GalleryError
        where an enrolled name would get voiceprints and `merge` is False.
        """
        ...

    def replace(
        self,
        voiceprint: int,
        embedding: NDArray[np.float32],
        system: str,
        condition: NDArray[np.float32] | None = None,
    ) -> bool:
        """Replace a voiceprint's embedding and condition by those of another system.

        False where it was forgotten in the meantime.
        """
        ...
