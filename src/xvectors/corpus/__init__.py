"""Corpora: manifests of recordings and speakers, readers of corpus layouts, the scan and the split. No torch."""

from typing import TYPE_CHECKING

from xvectors.lazy import lazy_names

if TYPE_CHECKING:
    from xvectors.corpus.manifest import NO_SPLIT as NO_SPLIT
    from xvectors.corpus.manifest import TEST as TEST
    from xvectors.corpus.manifest import TRAIN as TRAIN
    from xvectors.corpus.manifest import VAL as VAL
    from xvectors.corpus.manifest import Manifest as Manifest
    from xvectors.corpus.manifest import Utterance as Utterance
    from xvectors.corpus.packed import PackedStrings as PackedStrings
    from xvectors.corpus.packing import Packed as Packed
    from xvectors.corpus.packing import pack as pack
    from xvectors.corpus.readers import open_corpus as open_corpus
    from xvectors.corpus.readers import read_lab_metadata as read_lab_metadata
    from xvectors.corpus.scanning import Reason as Reason
    from xvectors.corpus.scanning import ScanReport as ScanReport
    from xvectors.corpus.scanning import ScanResult as ScanResult
    from xvectors.corpus.scanning import scan as scan
    from xvectors.corpus.split import Split as Split
    from xvectors.corpus.split import split_corpus as split_corpus

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    manifest="Manifest NO_SPLIT TEST TRAIN Utterance VAL",
    packed="PackedStrings",
    packing="Packed pack",
    readers="open_corpus read_lab_metadata",
    scanning="Reason ScanReport ScanResult scan",
    split="Split split_corpus",
)
