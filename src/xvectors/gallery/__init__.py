"""Enrolled speakers: who a recording is of, if any of them.

gallery.py enrolls, verifies and identifies; store.py is the protocol of the stores, sqlite/ keeps everything in one
file, and postgres/ on a server; shortlist.py and search.py find the nearest of many speakers. Only the search in memory
among more than 200 speakers uses torch, where it is installed.
"""

from xvectors.gallery.copying import copy_gallery, export_gallery, import_gallery
from xvectors.gallery.gallery import Gallery
from xvectors.gallery.opening import is_there, open_gallery, open_store
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
from xvectors.gallery.shortlist import MemoryShortlist, Shortlist
from xvectors.gallery.sqlite import SqliteStore, default_gallery
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
    "MemoryShortlist",
    "ReEnrollmentResult",
    "Search",
    "Shortlist",
    "Speaker",
    "SqliteStore",
    "Store",
    "Voiceprint",
    "consent_note",
    "copy_gallery",
    "default_gallery",
    "expiry",
    "export_gallery",
    "import_gallery",
    "is_there",
    "open_gallery",
    "open_store",
    "speaker_name",
]
