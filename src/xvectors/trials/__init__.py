"""Verification trials: pairs of recordings, lists of them on disk, enrollment files and score files. No torch."""

from xvectors.trials.enrollment import Enrollment, read_enrollment
from xvectors.trials.list_files import read_trials, write_trials
from xvectors.trials.lists import ResolvedTrials, TrialFindings, TrialList
from xvectors.trials.names import RecordingRows
from xvectors.trials.pairs import Trials, all_pairs, count_pairs
from xvectors.trials.sampling import sample_recordings, sample_trials

__all__ = [
    "Enrollment",
    "RecordingRows",
    "ResolvedTrials",
    "TrialFindings",
    "TrialList",
    "Trials",
    "all_pairs",
    "count_pairs",
    "read_enrollment",
    "read_trials",
    "sample_recordings",
    "sample_trials",
    "write_trials",
]
