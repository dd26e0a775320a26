"""The settings in a YAML file, as text that is read and never as objects that are made.

Toolkits write the settings of a training beside its weights, with `yaml.dump` or by hand. What is read here are
mappings by indentation and plain values; lists, blocks of text and anything with a tag or an anchor stay text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xvectors.errors import CheckpointError

MAX_BYTES = 1 << 20
"""Far more than the settings of a training take."""
MAX_LINE = 2000
"""Characters of a setting: the time for `ENTRY` grows with their square, and Python reads no longer integers."""
ENTRY = re.compile(r"""(?P<key>"[^"]*"|'[^']*'|[^\s"'#\-\[{][^:#]*|-[^\s:#][^:#]*?)\s*:(?:\s+(?P<value>.*))?$""")
COMMENT = re.compile(r"(?:^|\s)#.*$")
WORDS: Mapping[str, bool | None] = {
    **dict.fromkeys(("true", "yes", "on"), True),
    **dict.fromkeys(("false", "no", "off"), False),
    **dict.fromkeys(("null", "~", ""), None),
}
"""What YAML 1.1 takes for these words in lower case, upper case or with one capital."""
INTEGER = re.compile(r"[-+]?(0|[1-9][0-9_]*)$")
FLOAT = re.compile(r"[-+]?(\d[\d_]*\.?[\d_]*|\.\d+)(e[-+]?\d+)?$", re.IGNORECASE)


def read_settings(path: Path) -> dict[str, Any]:
    """Read the mappings of a YAML file: numbers, words, texts, and mappings of them.

    Raises CheckpointError where the file is not text, is too large, or a line is no setting.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise CheckpointError(f"{path}: has more than {MAX_BYTES >> 20} MiB, which no file of settings has")
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: is not a readable file of settings: {error}") from error
    root: dict[str, Any] = {}
    nests: list[tuple[int, dict[str, Any]]] = [(-1, root)]
    open_at: tuple[int, bool] | None = None  # where a list or text began whose further lines are passed over
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if not text or text.startswith(("#", "---", "...", "%")):
            continue
        indent = len(line) - len(line.lstrip(" "))
        is_item = text == "-" or text.startswith("- ")
        if open_at is not None and (indent > open_at[0] or (indent == open_at[0] and is_item and open_at[1])):
            continue
        open_at = None
        if is_item:
            open_at = (indent, True)
            continue
        entry = ENTRY.match(text) if len(text) <= MAX_LINE else None
        if entry is None or line[indent] == "\t":
            raise CheckpointError(
                f"{path}, line {number}: {text[:60]!r} is no setting; a setting is `key: value`, of at most "
                f"{MAX_LINE:,} characters"
            )
        while nests[-1][0] >= indent:
            nests.pop()
        key, raw = entry["key"].strip().strip("\"'"), _without_comment(entry["value"] or "")
        if raw:
            nests[-1][1][key] = _value(raw)
            open_at = (indent, raw.startswith("!"))
        else:
            # a mapping follows, or a list, or nothing
            nest: dict[str, Any] = {}
            nests[-1][1][key] = nest
            nests.append((indent, nest))
    return root


def _without_comment(raw: str) -> str:
    raw = raw.strip()
    if raw[:1] in ("'", '"'):
        end = raw.find(raw[0], 1)
        return raw if end < 0 else raw[: end + 1]
    return COMMENT.sub("", raw).strip()


def _value(raw: str) -> Any:
    if raw[0] in "'\"":
        return raw.strip(raw[0])
    if raw in (raw.lower(), raw.upper(), raw.capitalize()) and raw.lower() in WORDS:
        return WORDS[raw.lower()]
    if INTEGER.match(raw):
        return int(raw)
    return float(raw) if FLOAT.match(raw) else raw
