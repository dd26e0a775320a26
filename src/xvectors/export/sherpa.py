"""Write a system to an ONNX file for sherpa-onnx, which computes the filterbanks itself and runs on phones and boards.

Its front-end is fixed but for the sample rate: Kaldi's povey window, 80 mels from 20 Hz to 400 Hz below the Nyquist
frequency, frames beyond the edges, no dither (sherpa-onnx/csrc/features.h). A system that was trained on these
features computes there what it computes here; of any other, the export says what differs and what that costs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from xvectors.config.schema import FeaturesConfig
from xvectors.encoder import SpeakerEncoder
from xvectors.encoder.engines.torch import TorchEngine
from xvectors.errors import ExportError
from xvectors.export.checking import TOLERANCE, Difference, compare_embeddings, difference_of, signals, worst
from xvectors.export.graph import EmbeddingGraph
from xvectors.export.onnx_file import check_installed, export_graph
from xvectors.features import Fbank
from xvectors.files import atomic_write
from xvectors.system import find_system
from xvectors.system.serialization import load_weights, make_features, make_model, read_description

NUM_MELS = 80
OPSET = 17
"""Version of the ONNX operator set, which the onnxruntime of older builds of sherpa-onnx knows too."""
INT16 = 32768.0


@dataclass(frozen=True, kw_only=True)
class ExportedForSherpa:
    """A written file.

    Attributes
    ----------
    embedding_dim : dimensions of the embeddings
    sample_rate_hz : rate to which sherpa-onnx resamples
    size_bytes : size of the file
    different : features of the system that sherpa-onnx computes otherwise; empty if the embeddings are equal
    graph : differences of the network in the file from torch's, given the same features
    costs : differences of the embeddings in sherpa-onnx from the system's own, which its features cause
    """

    path: Path
    embedding_dim: int
    sample_rate_hz: int
    size_bytes: int
    different: tuple[str, ...]
    graph: tuple[Difference, ...]
    costs: tuple[Difference, ...]


def sherpa_features(features: FeaturesConfig) -> FeaturesConfig:
    """Return the features that sherpa-onnx computes in place of a system's.

    Its range of samples is a setting of the file, and so is the subtraction of the mean over the recording.
    """
    return FeaturesConfig(
        sample_rate_hz=features.sample_rate_hz,
        num_mels=NUM_MELS,
        snip_edges=False,
        high_frequency_hz=-400.0,
        mean_normalization=features.mean_normalization and not features.mean_window_frames,
        normalize_level=False,
        sample_scale=INT16 if features.sample_scale == INT16 else 1.0,
    )


def what_differs(features: FeaturesConfig) -> tuple[str, ...]:
    """Return the settings of a system's features that sherpa-onnx does not share, such as "snip_edges true, not false".

    Settings that have no effect, because those that they belong to are off, do not count.
    """
    own, theirs = _plain(features), _plain(sherpa_features(features))
    return tuple(
        f"{field.name} {_spelled(getattr(own, field.name))}, not {_spelled(getattr(theirs, field.name))}"
        for field in fields(FeaturesConfig)
        if getattr(own, field.name) != getattr(theirs, field.name)
    )


def export_for_sherpa(
    system: str | Path, path: str | Path, recordings: Mapping[str, Path | NDArray[np.floating]] | None = None
) -> ExportedForSherpa:
    """Write a system for sherpa-onnx's speaker embedding extractor, atomically, and measure what its features cost.

    The input `features` is float32 [batch, frames, 80], the output `embedding` float32 [batch, embedding_dim].

    Parameters
    ----------
    system
        A system directory, or `starter`.
    path
        The file to write.
    recordings
        Named recordings to measure the cost on, besides three test signals.

    Raises
    ------
    ExportError
        The system's network takes other features than 80 filterbanks; the file does not compute what torch does.
    MissingExtraError
        onnx, onnxscript or onnxruntime is not installed.
    CheckpointError
        The system cannot be read.
    StorageError
        The file cannot be written.
    AudioError
        A recording cannot be read.
    """
    path = Path(path)
    check_installed(path)
    import onnx

    folder = find_system(system)
    source = read_description(folder)
    features = source.recipe.features
    if features.num_mels != NUM_MELS or features.num_ceps:
        has = f"{features.num_ceps} cepstra" if features.num_ceps else f"{features.num_mels} filterbanks"
        raise ExportError(
            f"{folder.path}: sherpa-onnx computes {NUM_MELS} filterbanks, and the system takes {has}; train one with "
            f"features.num_mels={NUM_MELS}, or export it without --for"
        )
    theirs = replace(source.recipe, features=sherpa_features(features))
    network = make_model(source.recipe, len(source.speakers))
    embedding_map = load_weights(folder, network)
    graph = EmbeddingGraph(network.eval(), embedding_map).eval()
    frames = network.context_frames
    example = torch.randn(2, frames + 200, NUM_MELS, generator=torch.Generator().manual_seed(0))
    shape = {0: torch.export.Dim("batch"), 1: torch.export.Dim("frames", min=frames)}
    model = export_graph(graph, "features", example, shape, opset=OPSET)
    onnx.helper.set_model_props(model, _metadata(theirs.features, network.embedding_dim))
    content = model.SerializeToString()

    tests = signals(features.sample_rate_hz, make_features(source.recipe).samples_for(frames))
    engine = TorchEngine(
        network, make_features(theirs), theirs, source.speakers, torch.device("cpu"), embedding_map=embedding_map
    )
    costs = compare_embeddings(
        SpeakerEncoder.from_pretrained(folder.path, device="cpu"),
        SpeakerEncoder(engine),
        {**tests, **(recordings or {})},
    )
    same = _compare_graph(content, graph, make_features(theirs), tests)
    largest = worst(same)
    if not largest.largest <= TOLERANCE:
        raise ExportError(
            f"{path}: the embedding of {largest.name} differs by {largest.largest:.1e} from torch's, more than "
            f"{TOLERANCE:.0e}; nothing was written. Report this system's network"
        )
    with atomic_write(path, private=True) as temporary:
        temporary.write_bytes(content)
    return ExportedForSherpa(
        path=path,
        embedding_dim=network.embedding_dim,
        sample_rate_hz=features.sample_rate_hz,
        size_bytes=len(content),
        different=what_differs(features),
        graph=tuple(same),
        costs=tuple(costs),
    )


def _metadata(features: FeaturesConfig, embedding_dim: int) -> dict[str, str]:
    """Return what sherpa-onnx reads from the file; it takes no other frameworks than these two."""
    return {
        "framework": "3d-speaker",
        "output_dim": str(embedding_dim),
        "sample_rate": str(features.sample_rate_hz),
        "normalize_samples": "0" if features.sample_scale == INT16 else "1",
        "feature_normalize_type": "global-mean" if features.mean_normalization else "",
        "language": "any",
        "exported_with": f"xvectors {metadata.version('xvectors')}",
    }


def _compare_graph(
    content: bytes, graph: EmbeddingGraph, fbank: Fbank, recordings: Mapping[str, NDArray[np.float32]]
) -> list[Difference]:
    """Compare the network in the file with torch's, given the same features of recordings."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    found = []
    with torch.inference_mode():
        for name, samples in recordings.items():
            features = fbank(torch.from_numpy(samples)[None])
            (theirs,) = session.run(["embedding"], {"features": features.numpy()})[0]
            found.append(difference_of(name, graph(features)[0].numpy(), theirs))
    return found


def _plain(features: FeaturesConfig) -> FeaturesConfig:
    """Return the features with the default for every setting that has no effect."""
    default = FeaturesConfig()
    unused = [] if features.normalize_level else ["level_increase_only"]
    unused += [] if features.num_ceps else ["cepstral_lifter", "energy_as_c0"]
    unused += [] if features.remove_dc else ["remove_dc_over"]
    unused += [] if features.preemphasis else ["preemphasis_over"]
    unused += ["snip_edges"] if features.center_padding != "none" else ["extra_frames"]
    nyquist_hz = features.sample_rate_hz / 2
    high_hz = features.high_frequency_hz + (nyquist_hz if features.high_frequency_hz <= 0 else 0.0)
    return replace(features, high_frequency_hz=high_hz, **{name: getattr(default, name) for name in unused})


def _spelled(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)
