"""Read text files with one record per line. Errors name file and line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from xvectors.errors import ManifestError
from xvectors.files import why_no_file


def text_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a UTF-8 file. Raises ManifestError if it cannot be read or is not text."""
    if why := why_no_file(path):
        raise ManifestError(f"{path}: {why}")
    number = 0
    try:
        with open(path, encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):  # noqa: B007
                yield line
    except UnicodeDecodeError as error:
        raise ManifestError(
            f"{path}: is not UTF-8 text after line {number}; save it as UTF-8, or name the right file"
        ) from error
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read ({error.strerror}); check the path") from error
