"""Opening .onnx files with onnxruntime, and running many inputs at once. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from os import fspath
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xvectors.errors import CheckpointError, ConfigError, MissingExtraError
from xvectors.files import digest
from xvectors.processes import usable_cores

PROVIDERS = {"cuda": "CUDAExecutionProvider", "cpu": "CPUExecutionProvider"}
"""onnxruntime's names of the devices, in order of preference."""


def open_session(path: Path, *, device: str = "cpu", threads: int | None = None) -> Any:
    """Open a file with onnxruntime. Raises the errors of `xvectors.encoder.engines.onnx.OnnxEngine`."""
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError(
            f"{path}: needs onnxruntime; pip install 'xvectors[onnx]', or pip install onnxruntime"
        ) from error
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; `xvectors export DIR -o {path}` writes it")
    there = onnxruntime.get_available_providers()
    kinds = {name: provider for name, provider in PROVIDERS.items() if provider in there}
    if device != "auto" and device not in kinds:
        raise ConfigError(
            f"device {device!r}: this onnxruntime has {', '.join(kinds)}; another build of it may have more"
        )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only: onnxruntime warns about every dynamic shape
    if threads is not None:
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
    providers = list(kinds.values()) if device == "auto" else [kinds[device]]
    try:
        return onnxruntime.InferenceSession(fspath(path), options, providers=providers)
    except Exception as error:  # onnxruntime's errors share no other base class
        raise CheckpointError(f"{path} is damaged or not an ONNX file: {str(error).splitlines()[0]}") from error


class Sessions:
    """An open file: one input runs on all cores, and several run at once, each on a core of its own.

    Networks take recordings of one length in a batch. Recordings of different lengths therefore cannot share one, but
    they can share the cores, without any influence on each other. onnxruntime leaves the GIL while it computes.

    Parameters
    ----------
    path, device, threads
        As in `open_session`; `threads` limits the cores in either case.

    Raises
    ------
    CheckpointError, ConfigError, MissingExtraError
        As `open_session` does.
    """

    def __init__(self, path: Path, *, device: str = "cpu", threads: int | None = None) -> None:
        self.path = path
        self.whole = open_session(path, device=device, threads=threads)
        self._digest = digest(path)
        is_on_cpu = self.whole.get_providers()[0] == PROVIDERS["cpu"]
        self.at_once = (threads or usable_cores()) if is_on_cpu else 1
        """Number of inputs that run at once."""

    @cached_property
    def _on_one_core(self) -> Any:
        if digest(self.path) != self._digest:
            raise CheckpointError(f"{self.path}: was changed since it was loaded; load it again")
        return open_session(self.path, threads=1)

    def run(self, output: str | None, inputs: Sequence[NDArray[np.float32]]) -> list[NDArray[Any]]:
        """Run the network on each input, and return its output of this name, or its only one, for each.

        Errors are those of onnxruntime, whose classes share no base but Exception.
        """
        names = None if output is None else [output]
        name = self.whole.get_inputs()[0].name

        def computed(session: Any, value: NDArray[np.float32]) -> NDArray[Any]:
            (found,) = session.run(names, {name: value})
            return np.asarray(found)

        if len(inputs) < 2 or self.at_once == 1:
            return [computed(self.whole, value) for value in inputs]
        session = self._on_one_core
        with ThreadPoolExecutor(min(self.at_once, len(inputs))) as pool:
            return list(pool.map(lambda value: computed(session, value), inputs))
