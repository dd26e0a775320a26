"""Read JSON that users hand in. Errors name the file, and the line where its text is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from xvectors.errors import ManifestError
from xvectors.files.writing import why_no_file


def read_json(path: Path, holds: str) -> dict[str, Any]:
    """Return the object of a JSON file; `holds` says in errors what it should be, such as "a whisper transcript".

    Raises
    ------
    ManifestError
        The file cannot be read, is not UTF-8 or not JSON, or its value is no object.
    """
    if why := why_no_file(path):
        raise ManifestError(f"{path}: {why}")
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}: is not UTF-8 text; save it as UTF-8, or name the right file") from error
    except json.JSONDecodeError as error:
        raise ManifestError(f"{path}:{error.lineno}: is not JSON ({error.msg}); give {holds}") from error
    except RecursionError as error:
        raise ManifestError(f"{path}: is nested too deeply; give {holds}") from error
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    if not isinstance(found, dict):
        raise ManifestError(f"{path}: holds a JSON {type(found).__name__}, not an object; give {holds}")
    return found
