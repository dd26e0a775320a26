"""Corpora: manifests of recordings and speakers, readers of corpus layouts, the scan and the split. No torch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xvectors.corpus.manifest import NO_SPLIT as NO_SPLIT
    from xvectors.corpus.manifest import TEST as TEST
    from xvectors.corpus.manifest import TRAIN as TRAIN
    from xvectors.corpus.manifest import VAL as VAL
    from xvectors.corpus.manifest import Manifest as Manifest
    from xvectors.corpus.manifest import Utterance as Utterance
    from xvectors.corpus.packed import PackedStrings as PackedStrings
    from xvectors.corpus.readers import open_corpus as open_corpus
    from xvectors.corpus.readers import read_lab_metadata as read_lab_metadata
    from xvectors.corpus.scanning import Reason as Reason
    from xvectors.corpus.scanning import ScanReport as ScanReport
    from xvectors.corpus.scanning import ScanResult as ScanResult
    from xvectors.corpus.scanning import scan as scan
    from xvectors.corpus.split import Split as Split
    from xvectors.corpus.split import split_corpus as split_corpus

_HOME = {
    "NO_SPLIT": "manifest",
    "TRAIN": "manifest",
    "VAL": "manifest",
    "TEST": "manifest",
    "Manifest": "manifest",
    "Utterance": "manifest",
    "PackedStrings": "packed",
    "open_corpus": "readers",
    "read_lab_metadata": "readers",
    "Reason": "scanning",
    "scan": "scanning",
    "ScanReport": "scanning",
    "ScanResult": "scanning",
    "Split": "split",
    "split_corpus": "split",
}
__all__ = list(_HOME)


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
