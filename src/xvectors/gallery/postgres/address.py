"""Read the URL that names a gallery on a server; its password never appears in messages."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from os import PathLike
from urllib.parse import parse_qsl, quote, urlencode

from xvectors.errors import ConfigError, MissingExtraError

SCHEMES = ("postgresql://", "postgres://")
DEFAULT_SCHEMA = "xvectors"
DEFAULTS = {
    "application_name": "xvectors",
    "connect_timeout": "10",  # s
    # a server that went away without a word is given up after about 30 s
    "tcp_user_timeout": "30000",  # ms
    "keepalives_idle": "15",
    "keepalives_interval": "5",
    "keepalives_count": "3",
}
"""What libpq is told unless the URL says otherwise."""
_SCHEMA = re.compile(r"(?!pg_)[a-z_][a-z0-9_]{0,62}")
EXAMPLE = "postgresql://USER@HOST:5432/DATABASE?schema=NAME"


@dataclass(frozen=True, kw_only=True)
class Address:
    """A gallery on a server.

    Attributes
    ----------
    conninfo : what libpq connects with; may hold a password
    schema : the schema of the gallery's tables; each gallery has its own
    location : the URL for messages, without the password
    """

    conninfo: str = field(repr=False)
    schema: str
    location: str


def is_server(location: str | PathLike[str] | None) -> bool:
    """Return whether this names a gallery on a PostgreSQL server."""
    return isinstance(location, str) and location.startswith(SCHEMES)


def parse_address(url: str) -> Address:
    """Read a URL as libpq does, with `schema` as a further parameter.

    Raises
    ------
    ConfigError
        It is not such a URL, or the schema's name is not made of a-z, 0-9 and _.
    MissingExtraError
        psycopg is not installed.
    """
    try:
        from psycopg import ProgrammingError
        from psycopg.conninfo import conninfo_to_dict, make_conninfo
    except ImportError as error:
        raise missing_extra() from error
    base, _, query = url.partition("?")
    parameters = dict(parse_qsl(query, keep_blank_values=True))
    schema = parameters.pop("schema", DEFAULT_SCHEMA)
    if not _SCHEMA.fullmatch(schema):
        raise ConfigError(f"the schema {schema!r:.80} of the gallery cannot be used: write it with a-z, 0-9 and _")
    conninfo = base + (f"?{urlencode(parameters, quote_via=quote)}" if parameters else "")
    try:
        found = conninfo_to_dict(conninfo)
    except ProgrammingError:
        # libpq's own message may quote a part of the password
        raise ConfigError(
            f"the gallery's URL cannot be read; write it as {EXAMPLE}, with %-escapes for characters such as @ and / "
            "in names and passwords"
        ) from None
    user = f"{found['user']}@" if found.get("user") else ""
    host = found.get("host") or found.get("hostaddr") or ""
    port = f":{found['port']}" if found.get("port") else ""
    location = f"postgresql://{user}{host}{port}/{found.get('dbname') or ''}"
    if schema != DEFAULT_SCHEMA:
        location += f"?schema={schema}"
    conninfo = make_conninfo("", **{**DEFAULTS, **found})
    return Address(conninfo=conninfo, schema=schema, location=location)


def missing_extra() -> MissingExtraError:
    """Return the error for a Python without the packages that a gallery on a server needs."""
    return MissingExtraError(
        "a gallery on a PostgreSQL server needs psycopg and pgvector: pip install 'xvectors[postgres]'"
    )
