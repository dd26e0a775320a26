"""Training of systems, from a recipe and a corpus to a calibrated system directory; names are imported on first use."""

from typing import TYPE_CHECKING

from xvectors.lazy import lazy_names

if TYPE_CHECKING:
    from xvectors.training.data.corpus import PreparedCorpus as PreparedCorpus
    from xvectors.training.data.corpus import prepare_corpus as prepare_corpus
    from xvectors.training.loop import train as train
    from xvectors.training.results import EpochResult as EpochResult
    from xvectors.training.results import StepResult as StepResult
    from xvectors.training.results import TrainingResult as TrainingResult
    from xvectors.training.run import choose_recipe as choose_recipe
    from xvectors.training.tensorboard import TensorBoardLog as TensorBoardLog

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    **{"data.corpus": "PreparedCorpus prepare_corpus"},
    loop="train",
    run="choose_recipe",
    results="EpochResult StepResult TrainingResult",
    tensorboard="TensorBoardLog",
)
