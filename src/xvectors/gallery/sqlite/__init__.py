"""A gallery in one SQLite file, by default in the user's data directory."""

from xvectors.gallery.sqlite.database import default_gallery
from xvectors.gallery.sqlite.store import SqliteStore

__all__ = ["SqliteStore", "default_gallery"]
