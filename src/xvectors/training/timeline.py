"""The extent of a run, in batches or, with `training.minutes`, in seconds, and the share of it that is done."""

from __future__ import annotations

import time

from xvectors.config import TrainingConfig
from xvectors.training.checkpoint import Checkpoint
from xvectors.training.distributed import ALONE, Group


class Timeline:
    """Tells from a run's state how much of the run is done.

    With `training.minutes` only `read_clock` moves it, so that all decisions between two readings agree, those of the
    other processes in `group` included.
    """

    def __init__(
        self,
        training: TrainingConfig,
        batches_per_epoch: int,
        state: Checkpoint,
        group: Group = ALONE,
    ) -> None:
        self.batches_per_epoch = batches_per_epoch
        self._epochs, self._duration_s, self._state = training.epochs, 60 * training.minutes, state
        self._began_at, self._group = 0.0, group

    def start_clock(self) -> None:
        """Continue counting seconds from those that the state has."""
        self._began_at = time.monotonic() - self._state.elapsed_s

    def read_clock(self) -> None:
        """Update the state's seconds."""
        elapsed_s = time.monotonic() - self._began_at
        self._state.elapsed_s = self._group.latest(elapsed_s) if self._duration_s else elapsed_s

    @property
    def epochs(self) -> int:
        """The number of epochs; 0 where `training.minutes` sets the length."""
        return 0 if self._duration_s else self._epochs

    @property
    def total(self) -> int:
        """The length of the run in seconds or batches."""
        return round(self._duration_s) if self._duration_s else self._epochs * self.batches_per_epoch

    @property
    def done(self) -> int:
        """The part of `total` that is done."""
        return min(int(self._state.elapsed_s), self.total) if self._duration_s else self.steps

    @property
    def steps(self) -> int:
        """Batches since the start of the run."""
        return self._state.epoch * self.batches_per_epoch + self._state.batch

    @property
    def fraction(self) -> float:
        """The share of the run that is done, in [0, 1]."""
        return min(1.0, self._state.elapsed_s / self._duration_s) if self._duration_s else self.done / self.total

    @property
    def finished(self) -> bool:
        """Whether the last epoch has ended, including its validation."""
        if self._duration_s:
            return self._time_is_up and not self._state.batch
        return self._state.epoch >= self._epochs

    @property
    def epoch_is_over(self) -> bool:
        """Whether the epoch has no batches left; with `training.minutes`, the last epoch ends with the time."""
        return self._time_is_up or self._state.batch >= self.batches_per_epoch

    @property
    def _time_is_up(self) -> bool:
        return self._duration_s > 0 and self._state.elapsed_s >= self._duration_s
