"""Render what an evaluation found: the page, the files that programs read, and pictures.

Drawing needs no torch; the names that do are imported when first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from xvectors.report.plots import score_histogram, speaker_map, training_curves

if TYPE_CHECKING:
    from xvectors.report.evaluation import evaluate as evaluate
    from xvectors.report.evaluation import plot as plot

__all__ = ["evaluate", "plot", "score_histogram", "speaker_map", "training_curves"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'xvectors.report' has no attribute {name!r}")
    return getattr(import_module("xvectors.report.evaluation"), name)
