"""Training: a recipe and a corpus in, a system directory out. `train` is the way in; the loop is in loop.py."""

from xvectors.training.corpus import PreparedCorpus, prepare_corpus
from xvectors.training.loop import train
from xvectors.training.result import EpochResult, TrainingResult

__all__ = ["EpochResult", "PreparedCorpus", "TrainingResult", "prepare_corpus", "train"]
