"""Speaker networks in .onnx files of other toolkits, run by onnxruntime on our features."""

from __future__ import annotations

from collections.abc import Sequence
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
from xvectors.system.onnx_session import Sessions

TRIED_FRAMES = (2, 3, 5, 9, 15, 25, 50, 100, 200)
"""Lengths that are tried for the shortest that the network takes."""
BATCHED = 1e-4
"""Largest difference between an embedding in a batch and alone, relative to the largest value."""
TRIED_SAMPLES = (400, 800, 1600, 3200, 8000, 16_000)


class OnnxNetwork(Backbone):
    """A network of another toolkit, which maps filterbanks [1, frames, mels] or a waveform [1, samples] to a vector.

    It has no weights in torch, so it can neither be trained nor exported. Recordings are embedded without padding, on
    the CPU unless this onnxruntime has a GPU. Those with as many frames share a batch if the network takes batches, and
    the others the cores.

    Parameters
    ----------
    sessions
        The open file.
    output
        Name of the output with the embedding.
    embedding_dim
        Values of the output.
    input_dim
        Filterbanks per frame; 1 for a network that takes waveforms, whose frames are samples.
    context_frames
        Fewest frames that it takes.
    takes_batches
        Whether it embeds several recordings of one length at once, each as alone.
    """

    def __init__(
        self,
        sessions: Sessions,
        output: str,
        embedding_dim: int,
        input_dim: int,
        context_frames: int,
        *,
        takes_batches: bool = False,
    ) -> None:
        super().__init__(1, embedding_dim, input_dim, context_frames)
        self.classifier = nn.Identity()  # it has no classes
        self._sessions, self._output, self.takes_batches = sessions, output, takes_batches
        self._takes_waveforms = len(sessions.whole.get_inputs()[0].shape) == 2

    @classmethod
    def open(
        cls, folder: SystemFolder, recipe: Recipe, *, device: str = "cpu", threads: int | None = None
    ) -> OnnxNetwork:
        """Open the file of a system. Raises CheckpointError where it is damaged or does not fit system.toml."""
        sessions = Sessions(folder.network, device="cpu" if device == "cpu" else "auto", threads=threads)
        session, settings = sessions.whole, recipe.model.settings
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
        input_dim = 1 if takes_waveforms else recipe.features.dimension
        takes_batches = settings.get("takes_batches") is True
        return cls(sessions, output, sizes[0], input_dim, sizes[1], takes_batches=takes_batches)

    def __deepcopy__(self, memo: object) -> OnnxNetwork:
        return self  # it has no state, and a session cannot be copied

    def embed_frames(self, x: Tensor, padding: Padding | None) -> Tensor:
        counts = [x.shape[1]] * len(x) if padding is None else padding.counts.tolist()
        frames = x.float().cpu().numpy()
        groups = [[index] for index in range(len(counts))]
        if self.takes_batches:
            groups = [[index for index, each in enumerate(counts) if each == count] for count in sorted(set(counts))]
        batches = [frames[group, : counts[group[0]]] for group in groups]
        if self._takes_waveforms:
            batches = [batch[:, :, 0] for batch in batches]
        embeddings = np.empty((len(counts), self.embedding_dim), dtype=np.float32)
        for group, found in zip(groups, _run(self._sessions, self._output, batches), strict=True):
            embeddings[group] = found.reshape(len(group), self.embedding_dim)
        return torch.from_numpy(embeddings).to(x.device)


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


def _run(sessions: Sessions, output: str, batches: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
    """Run a network on batches [recordings, ...]; returns one array for each, with finite embeddings."""
    try:
        found = sessions.run(output, [np.ascontiguousarray(batch) for batch in batches])
    except CheckpointError:
        raise
    except Exception as error:  # onnxruntime's errors share no other base class
        shapes = ", ".join(str(list(batch.shape[1:])) for batch in batches[:4])
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"the network cannot embed an input of {shapes}: {reason}") from error
    embeddings = [np.asarray(each, dtype=np.float32) for each in found]
    for batch, each in zip(batches, embeddings, strict=True):
        if not np.isfinite(each).all():
            raise CheckpointError(f"the network's embedding of an input of {list(batch.shape[1:])} is not finite")
    return embeddings


def describe(sessions: Sessions, num_features: int) -> dict[str, Value]:
    """Find out what a network takes and returns: the settings of `model` in the system's recipe.

    Raises CheckpointError for a network that does not map one recording of any length to one vector.
    """
    session, path = sessions.whole, sessions.path
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
        noise = _noise(tried, None if takes_waveforms else num_features)
        try:
            values[tried] = _run(sessions, output, [noise[:1]])[0].reshape(-1)
        except CheckpointError as error:
            reason = str(error)
    if len(values) < 2:
        raise CheckpointError(f"{path}: {reason}")
    sizes = {value.size for value in values.values()}
    if len(sizes) != 1 or not sizes < {*range(2, 65_537)}:
        raise CheckpointError(f"{path}: its output {output} has {sorted(sizes)} values; one vector is expected")
    settings: dict[str, Value] = {"input": "waveform" if takes_waveforms else "filterbanks", "output": output}
    settings |= {"embedding_dim": sizes.pop(), "context_frames": min(values)}
    longest = max(values)
    if not isinstance(batch, int) and _takes_batches(
        sessions, output, _noise(longest, None if takes_waveforms else num_features), values[longest]
    ):
        settings["takes_batches"] = True
    return settings


def _noise(frames: int, num_features: int | None) -> NDArray[np.float32]:
    """Two recordings of white noise, the second louder: [2, frames, num_features], or [2, frames] for a waveform."""
    shape = (2, frames) if num_features is None else (2, frames, num_features)
    noise = np.random.default_rng(frames).standard_normal(shape).astype(np.float32)
    noise[1] *= 3.0
    return noise


def _takes_batches(sessions: Sessions, output: str, pair: NDArray[np.float32], first: NDArray[np.float32]) -> bool:
    """Whether the network gives two recordings the embeddings that they have alone, `first` and another."""
    try:
        together, (second,) = _run(sessions, output, [pair]), _run(sessions, output, [pair[1:]])
    except CheckpointError:
        return False  # a free batch is only stated, as in graphs that were traced with one recording
    alone = np.stack([first, second.reshape(-1)])
    largest = np.abs(alone).max()
    return together[0].size == alone.size and bool(
        np.allclose(together[0].reshape(alone.shape), alone, rtol=0, atol=BATCHED * largest)
    )


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
