"""SpeechBrain's x-vector recipe for VoxCeleb, on its own modules. In: a divided corpus, minutes. Out: embeddings.

Hyperparameters: recipes/VoxCeleb/SpeakerRec/hparams/train_x_vectors.yaml of github.com/speechbrain/speechbrain,
release 1.0. `train_peer` says what differs, and why.
"""

from __future__ import annotations

import sys
import time
import types
from dataclasses import dataclass
from importlib import import_module
from importlib.machinery import ModuleSpec
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from xvectors import audio
from xvectors.audio.condition import unknown_conditions
from xvectors.augment import Augmenter
from xvectors.config import AugmentConfig
from xvectors.corpus import Manifest
from xvectors.devices import choose_workers
from xvectors.encoder import Embedded
from xvectors.training import PreparedCorpus
from xvectors.training.data.dataset import ChunkBatches, ChunkDataset, ChunkRequest, set_up_worker

RATE_HZ = 16_000
CHUNK_S = 3.0
NUM_MELS = 24
BATCH_SIZE = 256
FIRST_RATE, LAST_RATE = 1e-3, 1e-4
WEIGHT_DECAY = 2e-6
XVECTOR = {
    "tdnn_blocks": 5,
    "tdnn_channels": [512, 512, 512, 512, 1500],
    "tdnn_kernel_sizes": [5, 3, 3, 1, 1],
    "tdnn_dilations": [1, 2, 3, 1, 1],
    "lin_neurons": 512,
}
DROP_FREQ = {
    "drop_freq_low": 0,
    "drop_freq_high": 1,
    "drop_freq_count_low": 1,
    "drop_freq_count_high": 3,
    "drop_freq_width": 0.05,
}
DROP_CHUNK = {"drop_length_low": 1000, "drop_length_high": 2000, "drop_count_low": 1, "drop_count_high": 5}
NOISE = AugmentConfig(noise_prob=1.0, noise_snr_min_db=0.0, noise_snr_max_db=15.0)
REVERBERATION = AugmentConfig(reverb_prob=1.0)

PART = 128
"""Chunks that pass through the network at once."""


def speechbrain(module: str) -> Any:
    """A module of SpeechBrain; SystemExit with what to install where it cannot be imported.

    It imports torchaudio, which has no release for this torch; nothing here calls it, so an empty module stands in.
    """
    if "torchaudio" not in sys.modules:
        stub = types.ModuleType("torchaudio")
        stub.__spec__ = ModuleSpec("torchaudio", None)
        # from 2.9 on SpeechBrain asks torchaudio for no list of backends
        stub.__version__ = "2.9.0"  # type: ignore[attr-defined]
        sys.modules["torchaudio"] = stub
    try:
        return import_module(f"speechbrain.{module}")
    except ImportError as error:
        raise SystemExit(
            f"speechbrain.{module} cannot be imported ({error}); pip install --no-deps speechbrain hyperpyyaml "
            "ruamel.yaml sentencepiece huggingface_hub, and pip install tqdm requests pyyaml packaging joblib scipy"
        ) from error


class Peer(nn.Module):
    """The recipe's features, network and classifier."""

    def __init__(self, num_speakers: int) -> None:
        super().__init__()
        lobe = speechbrain("lobes.models.Xvector")
        self.fbank = speechbrain("lobes.features").Fbank(n_mels=NUM_MELS, left_frames=0, right_frames=0, deltas=False)
        self.normalize = speechbrain("processing.features").InputNormalization(norm_type="sentence", std_norm=False)
        self.network = lobe.Xvector(in_channels=NUM_MELS, activation=nn.LeakyReLU, **XVECTOR)
        dim = XVECTOR["lin_neurons"]
        self.classifier = lobe.Classifier(
            input_shape=[None, None, dim],
            activation=nn.LeakyReLU,
            lin_blocks=1,
            lin_neurons=dim,
            out_neurons=num_speakers,
        )

    def embed(self, waveforms: Tensor) -> Tensor:
        """Waveforms [batch, samples] to x-vectors [batch, 1, 512]."""
        with torch.no_grad():
            features = self.normalize(self.fbank(waveforms), torch.ones(len(waveforms)))
        return self.network(features)

    def loss(self, waveforms: Tensor, labels: Tensor) -> Tensor:
        log_probabilities = self.classifier(self.embed(waveforms)).float()
        return speechbrain("nnet.losses").nll_loss(log_probabilities, labels[:, None])

    @torch.inference_mode()
    def encode_manifest(self, manifest: Manifest) -> Embedded:
        """Embed whole recordings, one by one."""
        self.eval()
        rows, embeddings, duration_s = np.arange(len(manifest)), [], []
        for row in rows.tolist():
            waveform, _ = audio.read(manifest.full_path(row), sample_rate_hz=RATE_HZ)
            embeddings.append(self.embed(torch.from_numpy(waveform)[None])[0, 0].numpy())
            duration_s.append(len(waveform) / RATE_HZ)
        seconds = np.array(duration_s)
        return Embedded(np.stack(embeddings), rows, [], seconds, seconds, unknown_conditions(len(rows)))


class Copies(Dataset[tuple[NDArray[np.float32], int]]):
    """Chunks float32 [copies, samples]: as recorded and, if augmented, with noise and in a room."""

    def __init__(self, chunks: ChunkDataset, augment: bool) -> None:
        self.chunks = chunks
        self.augmenters = [Augmenter(settings, RATE_HZ) for settings in (NOISE, REVERBERATION)] if augment else []

    def __getitem__(self, request: ChunkRequest) -> tuple[NDArray[np.float32], int]:
        waveform = self.chunks[request].waveform
        assert waveform is not None, "the scan has decoded every recording"
        copies = [waveform, *(augmenter(waveform, request.seed) for augmenter in self.augmenters)]
        return np.stack(copies), int(self.chunks.labels[request.row])


@dataclass(frozen=True)
class TrainedPeer:
    """A trained network, how often it saw each utterance, and for how long."""

    network: Peer
    epochs: float
    elapsed_s: float


def train_peer(
    corpus: PreparedCorpus,
    minutes: float,
    seed: int,
    *,
    batch_size: int = BATCH_SIZE,
    precision: str = "float32",
    augment: bool = True,
) -> TrainedPeer:
    """Train for so many minutes; `bfloat16` is SpeechBrain's own run option `precision`, float32 its default.

    The learning rate falls over these minutes, not over 20 epochs, and the last weights are kept: no time goes to
    validation. The recipe downloads noises and impulse responses; here xvectors makes them. Recordings below 3 s are
    repeated to 3 s. The batch and its four augmented copies, 1280 chunks, pass through the network in random parts,
    their gradients added up: all at once they take more memory than a small machine has.
    """
    torch.manual_seed(seed)
    peer = Peer(len(corpus.speakers)).train()
    drop_freq = speechbrain("augment.time_domain").DropFreq(**DROP_FREQ)
    drop_chunk = speechbrain("augment.time_domain").DropChunk(**DROP_CHUNK)
    optimizer = torch.optim.Adam(peer.parameters(), lr=FIRST_RATE, weight_decay=WEIGHT_DECAY)
    rows, samples = corpus.train_rows, round(CHUNK_S * RATE_HZ)
    chunks = ChunkDataset(corpus.manifest, corpus.labels, {}, rows=rows, sample_rate_hz=RATE_HZ)
    batches = ChunkBatches(rows, batch_size=batch_size, min_samples=samples, max_samples=samples, seed=seed)
    workers = choose_workers(-1, torch.device("cpu"))
    loader = DataLoader(
        Copies(chunks, augment),
        batch_sampler=batches,
        num_workers=workers,
        persistent_workers=workers > 0,
        worker_init_fn=set_up_worker,  # as our own loaders give way to the network
        generator=torch.Generator(),
    )
    started, seen, progress = time.monotonic(), 0, 0.0
    while progress < 1.0:
        for copies, labels in loader:
            waveforms = list(copies.unbind(dim=1))
            if augment:
                waveforms += [drop_freq(waveforms[0]), drop_chunk(waveforms[0], torch.ones(len(labels)))]
            together, targets = torch.cat(waveforms), labels.repeat(len(waveforms))
            optimizer.zero_grad(set_to_none=True)
            for part in torch.randperm(len(targets)).tensor_split(-(-len(targets) // PART)):
                with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
                    loss = peer.loss(together[part], targets[part])
                (loss * len(part) / len(targets)).backward()
            optimizer.step()
            seen += len(labels)
            progress = (time.monotonic() - started) / (60 * minutes)
            if progress >= 1.0:
                break
            optimizer.param_groups[0]["lr"] = FIRST_RATE + progress * (LAST_RATE - FIRST_RATE)
    return TrainedPeer(peer, seen / len(rows), time.monotonic() - started)
