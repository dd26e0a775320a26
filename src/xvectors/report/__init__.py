"""What a trained system is worth, in numbers and pictures. In: a system directory or arrays. Out: its report.
The plots need no torch; the names that do are imported when first used."""

from importlib import import_module
from typing import TYPE_CHECKING

from xvectors.report.plots import score_histogram, speaker_map, training_curves, tsne

if TYPE_CHECKING:
    from xvectors.report.evaluation import evaluate as evaluate
    from xvectors.report.evaluation import measure_system as measure_system
    from xvectors.report.evaluation import plot as plot
    from xvectors.report.outputs import Evaluation as Evaluation

__all__ = [
    "Evaluation",
    "evaluate",
    "measure_system",
    "plot",
    "score_histogram",
    "speaker_map",
    "training_curves",
    "tsne",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'xvectors.report' has no attribute {name!r}")
    return getattr(import_module("xvectors.report.evaluation"), name)
