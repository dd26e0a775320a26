"""Add all voiceprints of another gallery to one on a server, in the transaction of the change."""

from __future__ import annotations

import itertools
from collections import Counter
from datetime import datetime

from xvectors.errors import GalleryError
from xvectors.gallery.postgres.connection import Change
from xvectors.gallery.postgres.rows import insert_voiceprint, system_number, to_bytes, to_second
from xvectors.gallery.store import NamedVoiceprint, VoiceprintSource
from xvectors.text import first_few

MAX_NAMED = 5
"""Number of names in a message."""
BATCH_SPEAKERS = 2000

Known = set[tuple[int, bytes, datetime]]


def add_all(change: Change, source: VoiceprintSource, *, merge: bool) -> tuple[dict[str, int], int]:
    """Do what `Store.add_all` says."""
    return _Copy(change).run(source, merge=merge)


class _Copy:
    """What is known of the gallery while voiceprints are added to it."""

    def __init__(self, change: Change) -> None:
        self._change = change
        rows = change.connection.execute("SELECT name, id FROM speakers").fetchall()
        self._enrolled: dict[str, int] = dict(rows)
        self._systems: dict[str, int] = {}
        self._sizes: dict[str, int] = {}

    def run(self, source: VoiceprintSource, *, merge: bool) -> tuple[dict[str, int], int]:
        added: Counter[str] = Counter()
        num_known = 0
        groups = itertools.groupby(source.voiceprints(), key=lambda entry: entry.speaker)
        while batch := [(name, list(group)) for name, group in itertools.islice(groups, BATCH_SPEAKERS)]:
            new: dict[str, list[NamedVoiceprint]] = {}
            for name, entries in batch:
                known = self._known(name)
                for entry in entries:
                    row = entry.voiceprint
                    self._check_size(entry)
                    key = (self._systems[row.system], to_bytes(row.embedding), to_second(row.enrolled_at))
                    if key in known:
                        num_known += 1
                        continue
                    known.add(key)
                    new.setdefault(name, []).append(entry)
            self._write(new, source)
            added.update({name: len(entries) for name, entries in new.items()})
        merged = added.keys() & self._enrolled.keys()
        if merged and not merge:
            raise GalleryError(
                f"{len(merged)} of these speakers are enrolled here already and would get more voiceprints "
                f"({first_few(sorted(merged), MAX_NAMED)}); nothing was imported. If they are the same people, add "
                "--merge (merge=True)"
            )
        return added, num_known

    def _known(self, name: str) -> Known:
        if name not in self._enrolled:
            return set()
        rows = self._change.connection.execute(
            "SELECT system, embedding, enrolled_at FROM voiceprints WHERE speaker = %s",
            (self._enrolled[name],),
            binary=True,
        ).fetchall()
        return {(system, bytes(embedding), to_second(enrolled)) for system, embedding, enrolled in rows}

    def _check_size(self, entry: NamedVoiceprint) -> None:
        row = entry.voiceprint
        if row.system not in self._systems:
            self._systems[row.system] = system_number(self._change, row.system)
            found = self._change.connection.execute(
                "SELECT length(embedding) / 4 FROM voiceprints WHERE system = %s LIMIT 1", (self._systems[row.system],)
            ).fetchone()
            self._sizes[row.system] = len(row.embedding) if found is None else found[0]
        if len(row.embedding) != self._sizes[row.system]:
            raise GalleryError(
                f"a voiceprint of {entry.speaker} has {len(row.embedding)} dimensions, but others of the same system "
                f"have {self._sizes[row.system]}; nothing was imported. Ask for a file that `xvectors gallery export` "
                "wrote"
            )

    def _write(self, new: dict[str, list[NamedVoiceprint]], source: VoiceprintSource) -> None:
        if not new:
            return
        change = self._change
        # in the order of the source, so that speakers and voiceprints keep theirs
        rows = change.connection.execute(
            """INSERT INTO speakers (name, changed)
            SELECT name, %s FROM unnest(%s::text[]) WITH ORDINALITY AS new (name, at) ORDER BY at
            ON CONFLICT (name) DO UPDATE SET changed = excluded.changed RETURNING name, id""",
            (change.revision, list(new)),
        ).fetchall()
        ids: dict[str, int] = dict(rows)
        change.connection.cursor().executemany(
            "INSERT INTO audit (action, speaker, voiceprints) VALUES ('copy', %s, %s)",
            [(ids[name], len(entries)) for name, entries in new.items()],
        )
        bare: list[tuple[object, ...]] = []
        for name, entries in new.items():
            for entry in entries:
                row = entry.voiceprint
                audio = source.audio(entry.number)
                if audio is not None:
                    self._flush(bare)
                    insert_voiceprint(change, ids[name], row, audio)
                    continue
                bare.append(
                    (
                        ids[name],
                        self._systems[row.system],
                        to_bytes(row.embedding),
                        row.duration_s,
                        to_second(row.enrolled_at),
                        None if row.expires_at is None else to_second(row.expires_at),
                        row.consent,
                        None if row.condition is None else to_bytes(row.condition),
                        change.revision,
                    )
                )
        self._flush(bare)

    def _flush(self, rows: list[tuple[object, ...]]) -> None:
        """Write the rows of voiceprints without recordings, and empty the list."""
        if not rows:
            return
        with self._change.connection.cursor().copy(
            """COPY voiceprints (speaker, system, embedding, duration_s, enrolled_at, expires_at, consent, condition,
            added) FROM STDIN (FORMAT BINARY)"""
        ) as copy:
            copy.set_types(["int8", "int4", "bytea", "float8", "timestamptz", "timestamptz", "text", "bytea", "int8"])
            for row in rows:
                copy.write_row(row)
        rows.clear()
