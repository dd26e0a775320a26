"""Write voiceprints into the tables of a gallery on a server."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from xvectors.gallery.postgres.connection import Change
from xvectors.gallery.store import Voiceprint


def insert_voiceprint(change: Change, speaker: int, voiceprint: Voiceprint, audio: bytes | None = None) -> None:
    """Add a voiceprint, and its recording or `audio` where there is one."""
    ((number,),) = change.connection.execute(
        """INSERT INTO voiceprints (speaker, system, embedding, duration_s, enrolled_at, expires_at, consent,
        condition, added) VALUES (%s, %s, %b, %s, %s, %s, %s, %b, %s) RETURNING id""",
        (
            speaker,
            system_number(change, voiceprint.system),
            to_bytes(voiceprint.embedding),
            voiceprint.duration_s,
            to_second(voiceprint.enrolled_at),
            None if voiceprint.expires_at is None else to_second(voiceprint.expires_at),
            voiceprint.consent,
            None if voiceprint.condition is None else to_bytes(voiceprint.condition),
            change.revision,
        ),
    ).fetchall()
    audio = voiceprint.audio if audio is None else audio
    if audio is not None:
        change.connection.execute("INSERT INTO recordings (voiceprint, audio) VALUES (%s, %b)", (number, audio))


def system_number(change: Change, fingerprint: str) -> int:
    """Return the number of a system, new or known."""
    known = "SELECT id FROM systems WHERE fingerprint = %s"
    row = change.connection.execute(known, (fingerprint,)).fetchone()
    if row is None:
        row = change.connection.execute(
            "INSERT INTO systems (fingerprint) VALUES (%s) RETURNING id", (fingerprint,)
        ).fetchone()
    assert row is not None
    return int(row[0])


def to_bytes(values: NDArray[np.float32]) -> bytes:
    return np.ascontiguousarray(values, dtype="<f4").tobytes()


def to_second(time: datetime) -> datetime:
    """Return the time in UTC without the fraction of its second."""
    return time.astimezone(UTC).replace(microsecond=0)
