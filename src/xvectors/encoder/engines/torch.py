"""The engine of a system directory: torch computes the embeddings."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from xvectors.audio import Channel, Samples
from xvectors.config import Recipe
from xvectors.devices import check_bfloat16, find_device, survive_forks, threads_here
from xvectors.errors import ConfigError
from xvectors.features import Fbank
from xvectors.models import Backbone, EmbeddingMap
from xvectors.models.folding import fold_norms
from xvectors.system.folder import STARTER, SystemFolder, starter_folder
from xvectors.system.onnx_network import OnnxNetwork, Waveforms
from xvectors.system.serialization import ONNX, check_size, load_weights, make_features, make_model, read_description
from xvectors.text import short_repr
from xvectors.verification import Verifier, cosine_verifier, fingerprint_of, verifier_of

FLOAT32, BFLOAT16 = "float32", "bfloat16"
PRECISIONS = (FLOAT32, BFLOAT16)
MAX_BATCH_SAMPLES_ON_CPU = 500_000
"""Half a minute at 16 kHz: the activations of larger batches do not fit the processor's caches."""
LENGTHS_PER_OCTAVE = 20
"""Number of padded lengths between one and two seconds, two and four, and so on; see `padded_length`."""


@short_repr("name", "device", "precision")
class TorchEngine:
    """A trained network with its features, on a device.

    The engine embeds with a copy of the network whose BatchNorm layers are folded into the weights, which takes a
    quarter less time and gives the same embeddings.

    Parameters
    ----------
    model, fbank, recipe, speakers
        The network, its features, and the recipe and speakers it was trained with.
    device
        The device to compute on.
    embedding_map
        Maps the network's output to the embedding; None to return the output itself.
    threads
        Number of CPU cores to use while embedding; None keeps torch's setting. A forked process uses one, because
        threads stay in the parent.
    fingerprint
        Identifies the features and weights; calibrations and galleries are bound to it.
    folder
        The system directory, if there is one.
    precision
        Arithmetic of the network, "float32" or "bfloat16"; features are always float32.

    Raises
    ------
    ConfigError
        `threads` or `precision` is not possible.
    """

    def __init__(
        self,
        model: Backbone,
        fbank: Fbank | Waveforms,
        recipe: Recipe,
        speakers: Sequence[str],
        device: torch.device,
        embedding_map: EmbeddingMap | None = None,
        threads: int | None = None,
        fingerprint: str = "",
        folder: SystemFolder | None = None,
        precision: str = FLOAT32,
    ) -> None:
        if threads is not None and threads < 1:
            raise ConfigError(f"threads must be at least 1, not {threads}")
        if precision not in PRECISIONS:
            raise ConfigError(f"precision {precision!r} is unknown; give {' or '.join(PRECISIONS)}")
        if precision == BFLOAT16:
            check_bfloat16(device, "precision 'bfloat16'")
        survive_forks()
        self.model = model.eval()
        self._folded = fold_norms(copy.deepcopy(model).cpu())
        self.embedding_map = embedding_map
        self.fbank = fbank
        self.recipe = recipe
        self.speakers = tuple(speakers)
        self.threads = threads
        self.fingerprint = fingerprint
        self.folder = folder
        self.precision = precision
        self.to(device)

    @classmethod
    def load(
        cls, paths: SystemFolder, *, device: str = "auto", threads: int | None = None, precision: str = FLOAT32
    ) -> TorchEngine:
        """Read a system directory. Raises CheckpointError if missing or damaged, ConfigError for bad settings."""
        description = read_description(paths)
        features: Fbank | Waveforms = make_features(description.recipe)
        if description.recipe.model.name == ONNX:
            if precision != FLOAT32:
                raise ConfigError(f"precision {precision!r}: {paths.network} has its own; leave the setting out")
            model: Backbone = OnnxNetwork.open(paths, description.recipe, device=device, threads=threads)
            embedding_map = None
            if model.input_dim == 1:
                features = Waveforms(description.recipe.features.sample_scale)
        else:
            check_size(paths, description)
            model = make_model(description.recipe, len(description.speakers))
            embedding_map = load_weights(paths, model)
        return cls(
            model,
            features,
            description.recipe,
            description.speakers,
            find_device(device),
            embedding_map,
            threads,
            fingerprint_of(paths),
            paths,
            precision,
        )

    def to(self, device: torch.device) -> None:
        """Move the network and features to a device."""
        self.model.to(device)
        self._folded.to(device)
        self.fbank.to(device)
        if self.embedding_map is not None:
            self.embedding_map.to(device)
        self.device = device

    @property
    def name(self) -> str:
        """The system's folder, `starter` for the bundled system, or the recipe's name if there is no folder."""
        if self.folder is None:
            return self.recipe.name
        return STARTER if self.folder == starter_folder() else str(self.folder.path)

    @property
    def sample_rate_hz(self) -> int:
        return self.recipe.features.sample_rate_hz

    @property
    def embedding_dim(self) -> int:
        return self.model.embedding_dim

    @property
    def samples_needed(self) -> int:
        return self.fbank.samples_for(self.model.context_frames)

    @property
    def channel(self) -> Channel:
        channel = self.recipe.data.channel
        return "mix" if channel < 0 else channel

    @cached_property
    def verifier(self) -> Verifier:
        return cosine_verifier() if self.folder is None else verifier_of(self.folder)

    def embed(self, waveforms: Sequence[Samples]) -> NDArray[np.float32]:
        """Embed waveforms of at least `samples_needed` samples: float32 [n, embedding_dim]."""
        longest = self._padded_length(waveforms)
        at_once = len(waveforms)
        if self.device.type == "cpu":
            at_once = max(1, MAX_BATCH_SAMPLES_ON_CPU // longest)
        parts = [waveforms[first : first + at_once] for first in range(0, len(waveforms), at_once)]
        return np.concatenate([self._embed(part) for part in parts])

    @torch.inference_mode()
    def _embed(self, waveforms: Sequence[Samples]) -> NDArray[np.float32]:
        lengths = torch.tensor([len(waveform) for waveform in waveforms])
        padded = torch.zeros(len(waveforms), self._padded_length(waveforms))
        for row, waveform in zip(padded, waveforms, strict=True):
            row[: len(waveform)] = torch.from_numpy(np.ascontiguousarray(waveform))
        with _threads(self.threads):
            features = self.fbank(padded.to(self.device), lengths.to(self.device))
            frames = self.fbank.num_frames(lengths).to(self.device)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == BFLOAT16):
                embedding = self._folded.embed(features, frames)
            if self.embedding_map is not None:
                embedding = self.embedding_map(embedding)
            result: NDArray[np.float32] = embedding.cpu().numpy()
        return result

    def _padded_length(self, waveforms: Sequence[Samples]) -> int:
        return padded_length(max(len(waveform) for waveform in waveforms), self.sample_rate_hz)


def padded_length(num_samples: int, sample_rate_hz: int) -> int:
    """Return the length to pad a batch to whose longest recording has `num_samples`.

    Lengths are multiples of 50 ms from 1 s to 2 s, of 100 ms to 4 s, of 200 ms to 8 s, and so on. Padding adds at most
    5 %, and nothing to recordings of whole seconds up to 8 s. oneDNN compiles and keeps code for every shape, which
    fragments the memory of the activations: without this limited number of lengths, the memory of a process that
    embeds recordings of ever new lengths would grow for thousands of calls.
    """
    octave = math.floor(math.log2(num_samples / sample_rate_hz))
    step = max(1, round(2.0**octave * sample_rate_hz / LENGTHS_PER_OCTAVE))
    return -(-num_samples // step) * step


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Let torch use `count` threads, and restore the process-wide setting afterwards."""
    before = torch.get_num_threads()
    count = before if count is None else threads_here(count)
    if count == before:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
