"""Enrolled speakers. In: embeddings of recordings, with names. Out: who a recording is of, if of anybody enrolled.

gallery.py decides, models.py makes one model a speaker, memory.py and search.py find the nearest of many, store.py
keeps everything in one SQLite file. No torch, but to search more than 200 speakers quickly.
"""

from xvectors.gallery.database import default_gallery
from xvectors.gallery.gallery import Gallery
from xvectors.gallery.names import consent_note, expiry, speaker_name
from xvectors.gallery.opening import export_gallery, identify, import_gallery, open_gallery, verify_as
from xvectors.gallery.records import Speaker, Store, Voiceprint
from xvectors.gallery.results import NOBODY, Doubt, Enrolled, Enrollment, Found, Imported, Match, ReEnrollment
from xvectors.gallery.search import ExactSearch, Search
from xvectors.gallery.store import SqliteStore

__all__ = [
    "NOBODY",
    "Doubt",
    "Enrolled",
    "Enrollment",
    "ExactSearch",
    "Found",
    "Gallery",
    "Imported",
    "Match",
    "ReEnrollment",
    "Search",
    "Speaker",
    "SqliteStore",
    "Store",
    "Voiceprint",
    "consent_note",
    "default_gallery",
    "expiry",
    "export_gallery",
    "identify",
    "import_gallery",
    "open_gallery",
    "speaker_name",
    "verify_as",
]
