"""Training curves for TensorBoard, written by torch.utils.tensorboard (extra `tensorboard`)."""

from __future__ import annotations

import math
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from xvectors.errors import MissingExtraError
from xvectors.system import SystemFolder
from xvectors.text import short_repr
from xvectors.training.results import EpochResult, StepResult

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

EPOCH_TAGS = {
    "train_loss": "epoch/train_loss",
    "train_accuracy": "epoch/train_accuracy",
    "val_loss": "epoch/val_loss",
    "val_accuracy": "epoch/val_accuracy",
    "val_eer": "epoch/val_eer",
}


@short_repr("_path", "_step")
class TensorBoardLog:
    """Writes steps and epochs of a run to event files in <system>/tensorboard/.

    Pass both `on_step` and `on_epoch` to `train`: epochs are placed at the step with which they end. The event file is
    opened at the first step. It tells TensorBoard to ignore what an interrupted run logged after its last checkpoint,
    so that a resumed run continues the same curves.

    Parameters
    ----------
    folder
        The system directory that `train` writes.

    Raises
    ------
    MissingExtraError
        Without the extra `tensorboard`.

    Examples
    --------
    >>> with TensorBoardLog("exp/xv") as log:                                        # doctest: +SKIP
    ...     train("my-recordings", "exp/xv", on_step=log.on_step, on_epoch=log.on_epoch)
    """

    def __init__(self, folder: str | Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingExtraError(
                "--log tensorboard needs the package tensorboard; pip install 'xvectors[tensorboard]', or leave it out"
            ) from error
        self._writer_class = SummaryWriter
        self._path = SystemFolder(Path(folder)).tensorboard
        self._writer: SummaryWriter | None = None
        self._step = 0

    def on_step(self, result: StepResult) -> None:
        """Write loss, accuracy and learning rate of a step."""
        self._step = result.step
        if self._writer is None:
            self._writer = self._writer_class(str(self._path), purge_step=result.step)
        for name in ("loss", "accuracy", "learning_rate"):
            self._writer.add_scalar(f"step/{name}", getattr(result, name), result.step)

    def on_epoch(self, result: EpochResult) -> None:
        """Write losses, accuracies and EER of an epoch, those that were measured."""
        if self._writer is None:
            return
        for name, tag in EPOCH_TAGS.items():
            if math.isfinite(value := getattr(result, name)):
                self._writer.add_scalar(tag, value, self._step)
        self._writer.flush()

    def close(self) -> None:
        """Finish the event file."""
        if self._writer is not None:
            self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
