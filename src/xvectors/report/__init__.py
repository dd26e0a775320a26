"""Render what an evaluation found: the page, the files that programs read, and pictures.

The names are imported when first used, so that importing this package loads neither torch nor matplotlib nor Jinja2.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xvectors.report.error_plots import det_plot as det_plot
    from xvectors.report.error_plots import score_histogram as score_histogram
    from xvectors.report.evaluation import evaluate as evaluate
    from xvectors.report.evaluation import plot as plot
    from xvectors.report.speaker_maps import speaker_map as speaker_map
    from xvectors.report.training_plots import training_curves as training_curves

_MODULES = {
    "det_plot": "error_plots",
    "evaluate": "evaluation",
    "plot": "evaluation",
    "score_histogram": "error_plots",
    "speaker_map": "speaker_maps",
    "training_curves": "training_plots",
}

__all__ = sorted(_MODULES)


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module 'xvectors.report' has no attribute {name!r}")
    return getattr(import_module(f"xvectors.report.{_MODULES[name]}"), name)
