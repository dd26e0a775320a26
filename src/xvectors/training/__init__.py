"""Training: from a recipe and a corpus to a calibrated system directory. Names are imported when first used."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xvectors.training.corpus import PreparedCorpus as PreparedCorpus
    from xvectors.training.corpus import prepare_corpus as prepare_corpus
    from xvectors.training.loop import train as train
    from xvectors.training.result import EpochResult as EpochResult
    from xvectors.training.result import TrainingResult as TrainingResult

_HOME = {
    "EpochResult": "result",
    "PreparedCorpus": "corpus",
    "TrainingResult": "result",
    "prepare_corpus": "corpus",
    "train": "loop",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'xvectors.training' has no attribute {name!r}")
    return getattr(import_module(f"xvectors.training.{_HOME[name]}"), name)
