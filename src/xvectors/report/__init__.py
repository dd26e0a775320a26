"""Render what an evaluation found: the page, the files that programs read, and pictures.

The names are imported when first used, so that importing this package loads neither torch nor matplotlib nor Jinja2.
"""

from typing import TYPE_CHECKING

from xvectors.lazy import lazy_names

if TYPE_CHECKING:
    from xvectors.report.error_plots import det_plot as det_plot
    from xvectors.report.error_plots import score_histogram as score_histogram
    from xvectors.report.evaluation import evaluate as evaluate
    from xvectors.report.evaluation import plot as plot
    from xvectors.report.speaker_maps import speaker_map as speaker_map
    from xvectors.report.training_plots import training_curves as training_curves

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    error_plots="det_plot score_histogram",
    evaluation="evaluate plot",
    speaker_maps="speaker_map",
    training_plots="training_curves",
)
