"""Training of systems, from a recipe and a corpus to a calibrated system directory; names are imported on first use."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xvectors.training.corpus import PreparedCorpus as PreparedCorpus
    from xvectors.training.corpus import prepare_corpus as prepare_corpus
    from xvectors.training.loop import train as train
    from xvectors.training.results import EpochResult as EpochResult
    from xvectors.training.results import StepResult as StepResult
    from xvectors.training.results import TrainingResult as TrainingResult
    from xvectors.training.tensorboard import TensorBoardLog as TensorBoardLog

_HOME = {
    "EpochResult": "results",
    "PreparedCorpus": "corpus",
    "StepResult": "results",
    "TensorBoardLog": "tensorboard",
    "TrainingResult": "results",
    "prepare_corpus": "corpus",
    "train": "loop",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'xvectors.training' has no attribute {name!r}")
    return getattr(import_module(f"xvectors.training.{_HOME[name]}"), name)
