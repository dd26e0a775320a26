"""Measure a system whole: error rates with intervals, groups of trials, leakage, mistakes and the verdict.

Names are imported when first used, because measuring a system needs torch and measuring score files does not.
"""

from typing import TYPE_CHECKING

from xvectors.lazy import lazy_names

if TYPE_CHECKING:
    from xvectors.evaluation.result import Evaluation as Evaluation
    from xvectors.evaluation.system import measure_system as measure_system

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    result="Evaluation",
    system="measure_system",
)
