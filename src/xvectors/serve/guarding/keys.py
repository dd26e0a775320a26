"""Keys of the service: a file with their hashes, scopes and tenants.

A key is `xv_ID_SECRET`. The secret has 256 random bits, so a plain SHA-256 cannot be reversed by guessing, and the file
is of no use to who reads it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import threading
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from xvectors.errors import ConfigError
from xvectors.files import exclusive, write_text

SCOPES = ("read", "enroll", "forget", "operate")
"""What a key allows: answers and listings; enrollments; deletions; metrics and reloads."""
DEFAULT_TENANT = "default"
TENANT = re.compile(r"[a-z0-9][a-z0-9_]{0,39}")
_KEY = re.compile(r"xv_([0-9a-f]{12})_([\w-]{43})", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Key:
    """One key without its secret.

    Attributes
    ----------
    id : identifies the key in listings, logs and the audit trail
    sha256 : hash of the secret
    tenant : whose gallery it opens
    scopes : a selection of `SCOPES`
    created_at, expires_at : ISO 8601 times; `expires_at` may be None
    note : the operator's own words
    """

    id: str
    sha256: str
    tenant: str
    scopes: tuple[str, ...]
    created_at: str
    expires_at: str | None = None
    note: str = ""

    def is_expired(self, now: datetime) -> bool:
        return self.expires_at is not None and datetime.fromisoformat(self.expires_at) <= now


def tenant_name(text: str) -> str:
    """Return the name of a tenant. Raises ConfigError unless it is short, lower-case and safe in the name of a file."""
    if not TENANT.fullmatch(text):
        raise ConfigError(
            f"the tenant {text!r} is not possible; give up to 40 lower-case letters, digits and _, a letter or digit "
            "first"
        )
    return text


def read_keys(path: Path) -> list[Key]:
    """Read a key file. Raises ConfigError where it is missing or damaged."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["keys"]
        keys = [_key(row) for row in rows]
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: there is no key file; make one with `xvectors keys add {path}`") from error
    except OSError as error:
        raise ConfigError(f"{path}: the key file cannot be read: {error.strerror}; correct its permissions") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: the key file is damaged ({error}); restore a copy, or make a new one") from error
    return keys


def add_key(
    path: Path,
    *,
    tenant: str = DEFAULT_TENANT,
    scopes: Iterable[str] = ("read",),
    expires_at: datetime | None = None,
    note: str = "",
) -> tuple[str, Key]:
    """Add a key to the file, and return the key itself, which is kept nowhere, and its entry.

    Raises
    ------
    ConfigError
        An unknown scope, an impossible tenant, or a damaged file.
    StorageError
        The file cannot be written.
    """
    chosen = tuple(scope for scope in SCOPES if scope in set(scopes))
    if unknown := set(scopes) - set(SCOPES):
        raise ConfigError(f"unknown scope {', '.join(sorted(unknown))}; give a selection of {', '.join(SCOPES)}")
    if not chosen:
        raise ConfigError(f"a key needs a scope; give a selection of {', '.join(SCOPES)}")
    secret = secrets.token_urlsafe(32)
    key = Key(
        id=secrets.token_hex(6),
        sha256=hashlib.sha256(secret.encode()).hexdigest(),
        tenant=tenant_name(tenant),
        scopes=chosen,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        expires_at=None if expires_at is None else expires_at.isoformat(timespec="seconds"),
        note=note,
    )
    with exclusive(path.with_name(f".{path.name}.lock"), of=str(path), wait_s=10.0):
        keys = read_keys(path) if path.exists() else []
        _write(path, [*keys, key])
    return f"xv_{key.id}_{secret}", key


def remove_key(path: Path, key_id: str) -> Key:
    """Remove the key of that id from the file, and return it. Raises ConfigError for an unknown id."""
    with exclusive(path.with_name(f".{path.name}.lock"), of=str(path), wait_s=10.0):
        keys = read_keys(path)
        found = [key for key in keys if key.id == key_id]
        if not found:
            raise ConfigError(f"{path}: there is no key {key_id}; `xvectors keys list {path}` lists them")
        _write(path, [key for key in keys if key.id != key_id])
    return found[0]


class KeyRing:
    """The keys of a file, read again whenever the file changes, so that a removed key is refused at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._stamp: tuple[int, int, int] | None = None
        self._keys: dict[str, Key] = {}
        self._refresh()

    def find(self, text: str, now: datetime) -> Key | None:
        """Return the entry of a key; None where it is unknown, wrong or expired."""
        self._refresh()
        parts = _KEY.fullmatch(text)
        if parts is None:
            return None
        key = self._keys.get(parts[1])
        found = hashlib.sha256(parts[2].encode()).hexdigest()
        if not hmac.compare_digest(found, "" if key is None else key.sha256):
            return None
        return None if key is None or key.is_expired(now) else key

    def _refresh(self) -> None:
        try:
            status = self.path.stat()
        except OSError as error:
            raise ConfigError(f"{self.path}: the key file cannot be read: {error.strerror}; restore it") from error
        stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
        with self._lock:
            if stamp != self._stamp:
                self._keys = {key.id: key for key in read_keys(self.path)}
                self._stamp = stamp


def _key(row: dict[str, Any]) -> Key:
    key = Key(**row | {"scopes": tuple(row["scopes"])})
    if not set(key.scopes) <= set(SCOPES) or not TENANT.fullmatch(key.tenant):
        raise ValueError(f"key {key.id} has an unknown scope or an impossible tenant")
    if key.expires_at is not None and datetime.fromisoformat(key.expires_at).tzinfo is None:
        raise ValueError(f"key {key.id} expires at a time without a time zone")
    return key


def _write(path: Path, keys: list[Key]) -> None:
    text = json.dumps({"keys": [asdict(key) for key in keys]}, indent=1) + "\n"
    write_text(path, text, private=True)
