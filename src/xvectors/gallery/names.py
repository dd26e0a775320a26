"""Speakers' names, notes of consent and dates of enrollment, as people type them. In: text. Out: the same, checked."""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime

from xvectors.errors import ConfigError
from xvectors.text import is_printable, printable

MOST_CHARACTERS = 200
MOST_NOTE_CHARACTERS = 10_000


def speaker_name(text: str, *, known: bool = False) -> str:
    """The name without spaces around it, composed (NFC).

    Raises ConfigError where it is empty, too long, or holds characters that no terminal shows (`files.is_printable`):
    control characters, and those that turn the direction of text around. A `known` name may be anything but empty: what
    is enrolled can be looked up and forgotten, whichever version or program enrolled it.
    """
    name = unicodedata.normalize("NFC", text).strip()
    if not name:
        raise ConfigError("a speaker's name must not be empty")
    if known:
        return name
    if len(name) > MOST_CHARACTERS:
        raise ConfigError(f"a speaker's name of {len(name)} characters; give at most {MOST_CHARACTERS}")
    if not all(map(is_printable, name)):
        raise ConfigError(
            f"the speaker's name {printable(name)} holds control characters, or others that cannot be seen; leave them "
            "out"
        )
    return name


def consent_note(text: str) -> str:
    """The note as it is. Raises ConfigError where it is too long, or holds characters that no terminal shows."""
    if len(text) > MOST_NOTE_CHARACTERS:
        raise ConfigError(f"a note of consent of {len(text)} characters; give at most {MOST_NOTE_CHARACTERS}")
    if not all(map(is_printable, text)):
        raise ConfigError(
            f"the note of consent {printable(text)[:60]} holds control characters, or others that cannot be seen; "
            "write it on one line, without them"
        )
    return text


def expiry(text: str, now: datetime) -> datetime:
    """The time from which a voiceprint matches no more: a date (its first moment, UTC) or a time in ISO 8601.

    Raises ConfigError for anything else, and for times that have passed.
    """
    try:
        time = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise ConfigError(f"the expiry date {text!r} is no date; write it as 2030-01-31") from error
    time = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    if time <= now:
        raise ConfigError(f"the expiry date {text} has passed; the voiceprint would never match")
    return time
