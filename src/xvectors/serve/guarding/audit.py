"""The audit trail: one JSON line for each enrollment, deletion and decision, appended and synced before the answer.

Speakers stand in it as HMAC-SHA256 of their names, whose key lies beside the trail. Who knows a name and has that key
finds the name's entries; the trail alone names nobody.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from xvectors.errors import StorageError

KEY_BYTES = 32


class AuditTrail:
    """Appends events to a file that only this user can read.

    Raises StorageError where the file or its key cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._key = _key_of(path.with_name(f"{path.name}.key"))
            self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        except OSError as error:
            raise StorageError(
                f"{path}: the audit trail cannot be written: {error.strerror}; name another, or give --no-audit"
            ) from error

    def speaker(self, name: str) -> str:
        """Return what stands for a speaker's name: 32 hexadecimal digits."""
        return hmac.new(self._key, name.encode(), hashlib.sha256).hexdigest()[:32]

    def add(self, event: str, **fields: Any) -> None:
        """Append an event, and return when the disk has it. Raises StorageError where it cannot be written."""
        row = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **fields}
        line = (json.dumps(row, allow_nan=False) + "\n").encode()
        try:
            with self._lock:
                os.write(self._descriptor, line)
            os.fsync(self._descriptor)
        except OSError as error:
            raise StorageError(f"the audit trail cannot be written: {error.strerror}; make room on its disk") from error

    def close(self) -> None:
        os.close(self._descriptor)


def _key_of(path: Path) -> bytes:
    """Read the key that names are hashed with, or make one."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        key = path.read_bytes()
        if len(key) != KEY_BYTES:
            raise StorageError(f"{path}: the key of the audit trail is damaged; restore a copy, or remove it") from None
        return key
    key = secrets.token_bytes(KEY_BYTES)
    with os.fdopen(descriptor, "wb") as file:
        file.write(key)
        file.flush()
        os.fsync(file.fileno())
    return key
