"""Files on disk: atomic writes, locks, tables of text (tables) and untrusted npz files (npz)."""

from xvectors.files.locks import exclusive
from xvectors.files.writing import (
    IS_FOLDER,
    NO_SUCH_FILE,
    as_on_disk,
    atomic_write,
    digest,
    is_leftover,
    remove_leftovers,
    temporary_path,
    user_folder,
    why_no_file,
    why_unwritable,
    write_text,
)

__all__ = [
    "IS_FOLDER",
    "NO_SUCH_FILE",
    "as_on_disk",
    "atomic_write",
    "digest",
    "exclusive",
    "is_leftover",
    "remove_leftovers",
    "temporary_path",
    "user_folder",
    "why_no_file",
    "why_unwritable",
    "write_text",
]
