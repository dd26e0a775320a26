"""A page to look at, listen to and correct a diarization: one HTML file that needs no network."""

from xvectors.diarization.page.writing import EMBED_S, write_page

__all__ = ["EMBED_S", "write_page"]
