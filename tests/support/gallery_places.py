"""Where galleries can be, a file or a schema on a server, and voiceprints to put there."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from support.postgres import Server
from xvectors.gallery import Store, Voiceprint, open_store

NOW = datetime(2030, 5, 1, 12, tzinfo=UTC)
SYSTEM, OTHER = "a" * 64, "b" * 64


def voiceprint(seed: int, system: str = SYSTEM, *, size: int = 64, **fields: object) -> Voiceprint:
    embedding = np.random.default_rng(seed).standard_normal(size).astype(np.float32)
    return Voiceprint(**{"embedding": embedding, "duration_s": 2.5, "system": system, "enrolled_at": NOW, **fields})


@dataclass(frozen=True)
class Place:
    location: str

    def open(self, *, create: bool = False) -> Store:
        return open_store(self.location, create=create)


def new_place(server: Server) -> Place:
    """A schema on the server that nobody has used."""
    return Place(f"{server.url}?schema=gallery_{uuid.uuid4().hex[:12]}")
