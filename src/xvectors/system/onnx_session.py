"""Opening .onnx files with onnxruntime. Needs no torch."""

from __future__ import annotations

from os import fspath
from pathlib import Path
from typing import Any

from xvectors.errors import CheckpointError, ConfigError, MissingExtraError

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
