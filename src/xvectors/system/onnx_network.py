"""Speaker networks in .onnx files of other toolkits, run by onnxruntime on our features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from xvectors.config import Recipe
from xvectors.config.schema import Value
from xvectors.errors import CheckpointError
from xvectors.models import Backbone, Padding
from xvectors.system.folder import SystemFolder
from xvectors.system.onnx_session import open_session

TRIED_FRAMES = (2, 3, 5, 9, 15, 25, 50, 100, 200)
"""Lengths that are tried for the shortest that the network takes."""
TRIED_SAMPLES = (400, 800, 1600, 3200, 8000, 16_000)


class OnnxNetwork(Backbone):
    """A network of another toolkit, which maps filterbanks [1, frames, mels] or a waveform [1, samples] to a vector.

    It has no weights in torch, so it can neither be trained nor exported. Recordings are embedded one by one, without
    padding, and on the CPU unless this onnxruntime has a GPU.

    Parameters
    ----------
    session
        The open file.
    output
        Name of the output with the embedding.
    embedding_dim
        Values of the output.
    input_dim
        Filterbanks per frame; 1 for a network that takes waveforms, whose frames are samples.
    context_frames
        Fewest frames that it takes.
    """

    def __init__(self, session: Any, output: str, embedding_dim: int, input_dim: int, context_frames: int) -> None:
        super().__init__(1, embedding_dim, input_dim, context_frames)
        self.classifier = nn.Identity()  # it has no classes
        self._session, self._output = session, output
        self._takes_waveforms = len(session.get_inputs()[0].shape) == 2

    @classmethod
    def open(
        cls, folder: SystemFolder, recipe: Recipe, *, device: str = "cpu", threads: int | None = None
    ) -> OnnxNetwork:
        """Open the file of a system. Raises CheckpointError where it is damaged or does not fit system.toml."""
        session = open_session(folder.network, device="cpu" if device == "cpu" else "auto", threads=threads)
        settings = recipe.model.settings
        try:
            output, sizes = (
                str(settings["output"]),
                [_whole(settings[key]) for key in ("embedding_dim", "context_frames")],
            )
            takes_waveforms = settings["input"] == "waveform"
        except (KeyError, TypeError) as error:
            raise CheckpointError(f"{folder.description} is damaged: recipe.model lacks {error}") from error
        if takes_waveforms != (len(session.get_inputs()[0].shape) == 2) or output not in _names(session):
            raise CheckpointError(f"{folder.network} is another file than {folder.description} describes")
        return cls(session, output, sizes[0], 1 if takes_waveforms else recipe.features.dimension, sizes[1])

    def __deepcopy__(self, memo: object) -> OnnxNetwork:
        return self  # it has no state, and a session cannot be copied

    def embed_frames(self, x: Tensor, padding: Padding | None) -> Tensor:
        counts = [x.shape[1]] * len(x) if padding is None else padding.counts.tolist()
        rows = [self._embed(row[:count]) for row, count in zip(x.float().cpu().numpy(), counts, strict=True)]
        return torch.from_numpy(np.stack(rows)).to(x.device)

    def _embed(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        return run(self._session, self._output, frames[:, 0] if self._takes_waveforms else frames)


class Waveforms(nn.Module):
    """In the place of features: the samples themselves, as frames of one value, times `scale`."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        return waveform.unsqueeze(2) * self.scale

    def num_frames(self, lengths: Tensor) -> Tensor:
        return lengths

    def samples_for(self, num_frames: int) -> int:
        return num_frames


def run(session: Any, output: str, recording: NDArray[np.float32]) -> NDArray[np.float32]:
    """Run a network on one recording, without the axis of the batch; returns the embedding as a vector."""
    try:
        (found,) = session.run([output], {session.get_inputs()[0].name: np.ascontiguousarray(recording[None])})
    except Exception as error:  # onnxruntime's errors share no other base class
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"the network cannot embed an input of {list(recording.shape)}: {reason}") from error
    embedding = np.asarray(found, dtype=np.float32).reshape(-1)
    if not np.isfinite(embedding).all():
        raise CheckpointError(f"the network's embedding of an input of {list(recording.shape)} is not finite")
    return embedding


def describe(session: Any, path: Path, num_features: int) -> dict[str, Value]:
    """Find out what a network takes and returns: the settings of `model` in the system's recipe.

    Raises CheckpointError for a network that does not map one recording of any length to one vector.
    """
    inputs = session.get_inputs()
    shapes = ", ".join(f"{each.name} {list(each.shape)}" for each in inputs)
    if len(inputs) != 1 or len(inputs[0].shape) not in (2, 3) or inputs[0].type != "tensor(float)":
        raise CheckpointError(
            f"{path}: takes {shapes}; an importable network takes float32 filterbanks [1, frames, mels] or a waveform "
            "[1, samples], and nothing else"
        )
    batch, length = inputs[0].shape[:2]
    if isinstance(length, int) or (isinstance(batch, int) and batch != 1):
        raise CheckpointError(
            f"{path}: takes {shapes}; export it with a free number of frames, and a batch of 1 or free"
        )
    takes_waveforms = len(inputs[0].shape) == 2
    output = _embedding_output(session, path)
    values: dict[int, NDArray[np.float32]] = {}
    reason = ""
    for tried in TRIED_SAMPLES if takes_waveforms else TRIED_FRAMES:
        noise = np.random.default_rng(tried).standard_normal((tried,) if takes_waveforms else (tried, num_features))
        try:
            values[tried] = run(session, output, noise.astype(np.float32))
        except CheckpointError as error:
            reason = str(error)
    if len(values) < 2:
        raise CheckpointError(f"{path}: {reason}")
    sizes = {value.size for value in values.values()}
    if len(sizes) != 1 or not sizes < {*range(2, 65_537)}:
        raise CheckpointError(f"{path}: its output {output} has {sorted(sizes)} values; one vector is expected")
    settings: dict[str, Value] = {"input": "waveform" if takes_waveforms else "filterbanks", "output": output}
    settings |= {"embedding_dim": sizes.pop(), "context_frames": min(values)}
    return settings


def _embedding_output(session: Any, path: Path) -> str:
    names = _names(session)
    chosen = names if len(names) == 1 else [name for name in names if "emb" in name.lower()]
    if len(chosen) != 1:
        raise CheckpointError(f"{path}: which of its outputs {', '.join(names)} is the embedding cannot be told")
    return chosen[0]


def _names(session: Any) -> list[str]:
    return [str(each.name) for each in session.get_outputs()]


def _whole(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError("whole numbers")
    return value
