"""Training by several processes, as torchrun starts them: what they exchange, who writes, and how they end together.

The processes share every batch of the recipe: each trains on its part, and gradients, BatchNorm statistics and the
measures of an epoch are those of the whole batch. The process of rank 0 alone writes. A process that trains alone is
a group of one, in which nothing is exchanged.
"""

from __future__ import annotations

import atexit
import inspect
import json
import logging
import os
import signal
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from xvectors.devices import find_device
from xvectors.errors import ConfigError, TrainingError, XVectorsError
from xvectors.files import exclusive
from xvectors.processes import usable_cores
from xvectors.training.signals import Signals

T = TypeVar("T")

MIN_SHARE = 2
"""Fewest chunks of a batch that a process trains on: BatchNorm over segments needs two."""

LONGEST_WAIT = timedelta(hours=24)
"""How long processes wait for each other: the first one scans the corpus alone. A lost process is noticed at once."""

LOST_PEER = ("connection closed", "connection reset", "broken pipe", "connection refused", "timed out", "gloo", "nccl")
"""What is in torch's messages, in lower case, if another process of the group is gone."""

VARIABLES = {"RANK": "rank", "WORLD_SIZE": "num_ranks", "LOCAL_RANK": "local_rank", "LOCAL_WORLD_SIZE": "num_local"}
"""Variables of the environment by which torchrun tells a process its place."""


@dataclass(frozen=True)
class Group:
    """The processes that train together, and this one's place among them.

    Attributes
    ----------
    rank, num_ranks
        The number of this process, from 0, and how many there are on all machines.
    local_rank, num_local
        The same on this machine.
    """

    rank: int = 0
    num_ranks: int = 1
    local_rank: int = 0
    num_local: int = 1

    @classmethod
    def from_environment(cls) -> Group:
        """Return the group that torchrun began; a group of one if it did not start this process.

        Raises ConfigError where variables of torchrun are missing or are no numbers.
        """
        if not dist.is_torchelastic_launched():
            return cls()
        try:
            return cls(**{field: int(os.environ[name]) for name, field in VARIABLES.items()})
        except (KeyError, ValueError) as error:
            raise ConfigError(
                f"the environment is not torchrun's ({error}); start training with "
                "`torchrun --nproc-per-node N -m xvectors train ...`"
            ) from error

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes, prints and calibrates."""
        return self.rank == 0

    @property
    def is_alone(self) -> bool:
        return self.num_ranks == 1

    def find_device(self, name: str) -> torch.device:
        """Return the device of this process: each gets a GPU of its own, or a share of the processor.

        Raises ConfigError for fewer GPUs than processes on this machine, and for devices that cannot be shared.
        """
        device = find_device(name)
        if self.is_alone:
            return device
        if device.type == "mps" or ":" in str(device):
            raise ConfigError(f"--device {name} is one device, and {self.num_local} processes train; use cuda or cpu")
        if device.type == "cpu":
            return device
        if self.num_local > torch.cuda.device_count():
            raise ConfigError(
                f"{self.num_local} processes for {torch.cuda.device_count()} GPUs; start one for each GPU: "
                f"torchrun --nproc-per-node {torch.cuda.device_count()}"
            )
        return torch.device("cuda", self.local_rank)

    def check_batch_size(self, batch_size: int) -> None:
        """Raise ConfigError if not every process gets `MIN_SHARE` chunks of a batch."""
        if not self.is_alone and batch_size < MIN_SHARE * self.num_ranks:
            raise ConfigError(
                f"training.batch_size = {batch_size} gives {self.num_ranks} processes less than {MIN_SHARE} chunks "
                f"each; use a batch of at least {MIN_SHARE * self.num_ranks}, or fewer processes"
            )

    def share(self, total: int) -> slice:
        """Return which of the `total` chunks of a batch are this process's; none if there are too few for all."""
        training = min(self.num_ranks, max(1, total // MIN_SHARE))
        return slice(self.rank, None, training) if self.rank < training else slice(0, 0)

    @contextmanager
    def exclusive(self, path: Path, *, of: str) -> Iterator[None]:
        """Hold the lock of what the first process writes (see `xvectors.files.exclusive`)."""
        with exclusive(path, of=of) if self.is_first else nullcontext():
            yield

    @contextmanager
    def joined(self, device: torch.device) -> Iterator[None]:
        """Connect the processes, and share the processor's cores among them for the duration of the block.

        Raises TrainingError if another process ends early. Errors of this process's own are left to torchrun too,
        whose summary shows them.
        """
        if self.is_alone:
            yield
            return
        threads = torch.get_num_threads()
        torch.set_num_threads(self.num_threads())
        logger = logging.getLogger("xvectors")
        level = logger.level
        if not self.is_first:
            logger.setLevel(logging.ERROR)  # they warn of the same things
        if device.type == "cuda":
            torch.cuda.set_device(device)
        try:
            # a second run of the same processes keeps the connections, which torch cannot open anew
            if not dist.is_initialized():
                dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=LONGEST_WAIT)
            with warnings.catch_warnings():
                # of kernels with one channel, whose strides have no meaning
                warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
                yield
            self.wait()
            atexit.register(_disconnect)
        except RuntimeError as error:
            if isinstance(error, XVectorsError):
                _leave_to_torchrun(error)
                raise
            if not any(sign in str(error).lower() for sign in LOST_PEER):
                raise
            # Nothing is left to torchrun, which is ending this process: it must not read half of a file, nor take the
            # loss for the cause.
            raise TrainingError(
                f"process {self.rank} of {self.num_ranks} lost another one, whose message above says why; the last "
                "checkpoint is intact, go on with --resume"
            ) from error
        except XVectorsError as error:
            _leave_to_torchrun(error)
            raise
        finally:
            logger.setLevel(level)
            torch.set_num_threads(threads)

    def num_threads(self) -> int:
        """Return how many threads this process computes with: its share of the cores, or OMP_NUM_THREADS above 1.

        torchrun itself sets OMP_NUM_THREADS to 1 where it is not set.
        """
        wanted = os.environ.get("OMP_NUM_THREADS", "")
        return int(wanted) if wanted.isdecimal() and int(wanted) > 1 else max(1, usable_cores() // self.num_local)

    def wait(self) -> None:
        """Wait until all processes are here."""
        self.sum(0)

    @contextmanager
    def first_ahead(self) -> Iterator[None]:
        """Run the block in the first process, and then in the others, which can read what it wrote."""
        if not self.is_first:
            self.wait()
        yield
        if self.is_first:
            self.wait()

    def sum(self, *values: float) -> list[float]:
        """Return the sums of these values over the processes."""
        return self._reduced(values, dist.ReduceOp.SUM)

    def latest(self, time_s: float) -> float:
        """Return the latest of the processes' times."""
        return self._reduced((time_s,), dist.ReduceOp.MAX)[0]

    def signaled(self, signals: Signals) -> bool:
        """Whether any process was asked to end; all of them then note its signal."""
        number = int(self.latest(signals.received or 0))
        if number:
            signals.received = signal.Signals(number)
        return number > 0

    def _reduced(self, values: Sequence[float], how: Any) -> list[float]:
        if self.is_alone:
            return list(values)
        # on the CPU and in float64: what is exchanged decides, and must be the same everywhere
        tensor = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(tensor, how)
        return tensor.tolist()

    def gathered(self, items: list[T]) -> list[T]:
        """Return the items of all processes, in the order of their ranks. They must be plain values."""
        if self.is_alone:
            return items
        own = torch.frombuffer(bytearray(json.dumps(items).encode()), dtype=torch.uint8)
        texts = [block.numpy().tobytes() for block in self._blocks(own)]
        return [item for text in texts for item in json.loads(text)]

    def concatenated(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Return the rows of all processes, of equal dtype and width, in the order of their ranks."""
        if self.is_alone:
            return rows
        return np.concatenate([block.numpy() for block in self._blocks(torch.from_numpy(rows))])

    def _blocks(self, own: Tensor) -> list[Tensor]:
        """Exchange tensors that differ in their number of rows."""
        counts = [0] * self.num_ranks
        counts[self.rank] = len(own)
        lengths = [int(count) for count in self.sum(*counts)]
        padded = own.new_zeros((max(lengths), *own.shape[1:]))
        padded[: len(own)] = own
        blocks = [torch.empty_like(padded) for _ in lengths]
        dist.all_gather(blocks, padded)
        return [block[:length] for block, length in zip(blocks, lengths, strict=True)]

    def synchronized(self, network: nn.Module, device: torch.device, *, some_unused: bool) -> nn.Module:
        """Return the network with gradients averaged over the processes, all of which get the first one's weights.

        `some_unused` says that steps leave some parameters without a gradient.
        """
        if self.is_alone:
            return network
        options: dict[str, Any] = {"find_unused_parameters": some_unused}
        # BatchNorm's buffers follow from synchronized statistics; torch 2.13 renamed the option
        known = inspect.signature(DistributedDataParallel).parameters
        options["forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"] = False
        return DistributedDataParallel(network, [device] if device.type == "cuda" else None, **options)


ALONE = Group()
"""The group of a process that trains alone."""


def _disconnect() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def _leave_to_torchrun(error: BaseException) -> None:
    """Write the error where torchrun reads it for its summary."""
    if "TORCHELASTIC_ERROR_FILE" in os.environ:
        from torch.distributed.elastic.multiprocessing.errors import get_error_handler

        get_error_handler().record_exception(error)
