"""Enrolled speakers: who a recording is of, if any of them.

gallery.py enrolls, verifies and identifies; store.py is the protocol of the stores, and sqlite_store.py keeps
everything in one file; shortlist.py and search.py find the nearest of many speakers. Only the search among more than
200 speakers uses torch, where it is installed.
"""

from xvectors.gallery.database import default_gallery
from xvectors.gallery.files import export_gallery, import_gallery, open_gallery
from xvectors.gallery.gallery import Gallery
from xvectors.gallery.results import (
    NOBODY,
    Doubt,
    EnrollmentResult,
    Identification,
    ImportResult,
    Match,
    ReEnrollmentResult,
)
from xvectors.gallery.search import ExactSearch, Search
from xvectors.gallery.sqlite_store import SqliteStore
from xvectors.gallery.store import Speaker, Store, Voiceprint
from xvectors.gallery.validation import consent_note, expiry, speaker_name

__all__ = [
    "NOBODY",
    "Doubt",
    "EnrollmentResult",
    "ExactSearch",
    "Gallery",
    "Identification",
    "ImportResult",
    "Match",
    "ReEnrollmentResult",
    "Search",
    "Speaker",
    "SqliteStore",
    "Store",
    "Voiceprint",
    "consent_note",
    "default_gallery",
    "expiry",
    "export_gallery",
    "import_gallery",
    "open_gallery",
    "speaker_name",
]
