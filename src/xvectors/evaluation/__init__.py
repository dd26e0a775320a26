"""Measure a system whole: error rates with intervals, groups of trials, leakage, mistakes and the verdict.

Names are imported when first used, because measuring a system needs torch and measuring score files does not.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xvectors.evaluation.result import Evaluation as Evaluation
    from xvectors.evaluation.system import measure_system as measure_system

_HOME = {"Evaluation": "result", "measure_system": "system"}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'xvectors.evaluation' has no attribute {name!r}")
    return getattr(import_module(f"xvectors.evaluation.{_HOME[name]}"), name)
