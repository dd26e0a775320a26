"""The SQL tables of a gallery file, version by version.

A published version is never edited. A change is a new version. Embeddings are float32, little-endian; times are UTC,
ISO 8601 to the second with a Z, so that they sort as text.
"""

from __future__ import annotations

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE migrations (version INTEGER PRIMARY KEY, applied_at TEXT NOT NULL, xvectors TEXT NOT NULL)",
        # number: of the last change; removals: number of changes that removed something
        "CREATE TABLE revision (number INTEGER NOT NULL, removals INTEGER NOT NULL)",
        "INSERT INTO revision VALUES (0, 0)",
        # AUTOINCREMENT: an id is never given to another speaker
        """CREATE TABLE speakers (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            name TEXT NOT NULL UNIQUE,
            changed INTEGER NOT NULL
        )""",
        "CREATE INDEX speakers_by_change ON speakers (changed)",
        """CREATE TABLE voiceprints (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            speaker INTEGER NOT NULL REFERENCES speakers (id) ON DELETE CASCADE,
            system TEXT NOT NULL,
            embedding BLOB NOT NULL,
            duration_s REAL NOT NULL CHECK (duration_s > 0),
            enrolled_at TEXT NOT NULL,
            expires_at TEXT,
            consent TEXT
        )""",
        "CREATE INDEX voiceprints_by_speaker ON voiceprints (speaker, system, expires_at)",
        "CREATE INDEX voiceprints_by_expiry ON voiceprints (expires_at) WHERE expires_at IS NOT NULL",
        # in a table of their own, so that reading voiceprints does not read the audio
        """CREATE TABLE recordings (
            voiceprint INTEGER PRIMARY KEY REFERENCES voiceprints (id) ON DELETE CASCADE,
            audio BLOB NOT NULL
        )""",
    ),
    (
        # The revision that added a voiceprint: `forget --last` uses it, because clocks can go back.
        # Earlier voiceprints have numbers below 1, in the order in which they were added.
        "ALTER TABLE voiceprints ADD COLUMN added INTEGER NOT NULL DEFAULT 0",
        """UPDATE voiceprints SET added = (
            SELECT min(id) FROM voiceprints AS same
            WHERE same.speaker = voiceprints.speaker AND same.enrolled_at = voiceprints.enrolled_at
        ) - (SELECT max(id) FROM voiceprints)""",
        # 1 after something is deleted, until its traces are gone from the file
        "ALTER TABLE revision ADD COLUMN traces INTEGER NOT NULL DEFAULT 0",
        # copies of the gallery that are being written
        "CREATE TABLE exports (path TEXT PRIMARY KEY)",
    ),
    (
        # six float32, little-endian, as in xvectors.audio.condition; NULL where unknown
        "ALTER TABLE voiceprints ADD COLUMN condition BLOB",
    ),
)
