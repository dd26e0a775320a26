"""Turn the errors of a PostgreSQL server into one line with the remedy. None of them holds a password."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from xvectors.errors import GalleryError, StorageError, UnavailableError, XVectorsError

UNCHANGED = "nothing was changed"
_CONNECTING = (
    # libpq has no codes for these, but its messages are not translated in psycopg's wheels
    (
        "password authentication failed",
        "correct the user and the password (PGPASSWORD or ~/.pgpass keep it out of the command line)",
    ),
    ("no password supplied", "the server asks for a password: give it in PGPASSWORD, in ~/.pgpass or in the URL"),
    ("does not exist", "name another, or have an administrator make it"),
    ("no pg_hba.conf entry", "the server admits no such connection: have an administrator add it to pg_hba.conf"),
    ("too many clients", "try again later, or have an administrator raise max_connections"),
    ("starting up", "try again in a moment"),
    ("shutting down", "try again when it is up"),
)
_DOWN = "start the server, or correct host and port"


@contextmanager
def explain_errors(location: str, schema: str) -> Iterator[None]:
    """Turn psycopg's errors in the block into XVectorsErrors.

    UnavailableError where the server does not answer, StorageError where it cannot write, otherwise GalleryError.
    """
    try:
        yield
    except psycopg.Error as error:
        raise _explained(error, location, schema) from error


def _explained(error: psycopg.Error, location: str, schema: str) -> XVectorsError:
    first = " ".join(str(error).split("\n")[0].split())
    code = error.sqlstate or ""
    if isinstance(error, psycopg.OperationalError) and not code:
        reason = first.rpartition("FATAL:")[2].strip()
        if "connection failed" in first or "failed to resolve" in first or "timeout" in first:
            remedy = next((remedy for text, remedy in _CONNECTING if text in reason), _DOWN)
            return UnavailableError(f"{location}: the server cannot be used: {reason}; {remedy}")
        return _lost(location, first)
    if code in ("0A000", "58P01") and '"vector"' in first:
        return GalleryError(
            f"{location}: the server has no pgvector; install it there (the package postgresql-VERSION-pgvector of "
            "Debian, or an image pgvector/pgvector), then try again"
        )
    if code == "42501":
        return StorageError(
            f"{location}: the role may not do this ({first}); {UNCHANGED}. Have an administrator run CREATE EXTENSION "
            f"vector and CREATE SCHEMA {schema} AUTHORIZATION of this role, or use the role that owns the gallery"
        )
    if code.startswith(("57P", "08")):
        return _lost(location, first)
    if code == "55P03":
        return UnavailableError(
            f"{location}: another process has locked the gallery for too long, by a large copy or while it makes the "
            f"index; {UNCHANGED}. Try again later"
        )
    if code == "25006":
        return StorageError(
            f"{location}: the server takes no changes (it is a standby or set to read only); {UNCHANGED}. Name "
            "the primary"
        )
    if code.startswith("53"):
        return StorageError(
            f"{location}: the server cannot go on ({first}); {UNCHANGED}. Make room for it and try again"
        )
    return GalleryError(f"{location}: {first}")


def _lost(location: str, reason: str) -> UnavailableError:
    return UnavailableError(
        f"{location}: the connection to the server was lost ({reason}); what was not confirmed may be missing: look "
        "with `xvectors speakers`, then try again"
    )
