"""Seconds of audio embedded a second by imported models, beside the classes that they were imported from.

    python benchmarks/imported_speed.py CORPUS --model campplus campplus_cn_en_common.pt --threads 1 2
    python benchmarks/imported_speed.py CORPUS --model resnet34 avg_model.pt

File in, embedding out. The reference is the published class (of the wheels speakerlab-slim and wespeaker-unofficial, on
the path) as its toolkit runs it: one recording at a time in torch, without gradients, on filterbanks of
kaldi-native-fbank. Without a file of weights, those of an untrained network are taken, which cost as much.
`torch` embeds by SpeakerEncoder in batches, `onnx` by the exported file; all read the same files in turns.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
import types
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from _kaldi import RATE_HZ, filterbanks
from _timing import Row, write_json
from embedding_speed import Embed, measure
from xvectors import SpeakerEncoder, audio, export_onnx, open_corpus
from xvectors.system.importers import import_model


def campplus() -> Any:
    from speakerlab.models.campplus.DTDNN import CAMPPlus

    return CAMPPlus(feat_dim=80, embedding_size=192)


def resnet34() -> Any:
    package = types.ModuleType("wespeaker")  # without what its `__init__` imports
    found = importlib.util.find_spec("wespeaker")
    package.__path__ = list((found and found.submodule_search_locations) or ())
    sys.modules["wespeaker"] = package
    from wespeaker.models.resnet import ResNet34

    return ResNet34(feat_dim=80, embed_dim=256)


MODELS: dict[str, tuple[Callable[[], Any], str, float]] = {
    "campplus": (campplus, "povey", 1.0),
    "resnet34": (resnet34, "hamming", 32_768.0),
}
"""Network, window and scale of the samples."""


def reference(network: torch.nn.Module, window: str, scale: float) -> Embed:
    network.eval()

    @torch.no_grad()
    def embed(paths: list[Any]) -> NDArray[np.float32]:
        vectors = []
        for path in paths:
            samples, _ = audio.read(path, sample_rate_hz=RATE_HZ)
            found = network(filterbanks(samples, window=window, scale=scale))
            vectors.append((found[-1] if isinstance(found, tuple) else found)[0].numpy())
        return np.stack(vectors)

    return embed


def ours(system: Path, precision: str) -> Embed:
    encoder = SpeakerEncoder.from_pretrained(system, device="cpu", precision=precision)
    return lambda paths: encoder.encode(paths, trim_silence=None)


def exported(system: Path, folder: Path, threads: int) -> Embed:
    path = folder / "model.onnx"
    if not path.is_file():
        export_onnx(system, path)
    encoder = SpeakerEncoder.from_pretrained(path, device="cpu", threads=threads)
    return lambda paths: encoder.encode(paths, trim_silence=None)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("corpus")
    options.add_argument("--model", nargs="+", required=True, help="campplus or resnet34, and a file of weights")
    options.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    options.add_argument("--rounds", type=int, default=3, help="measured rounds (default: %(default)s)")
    options.add_argument("--most", type=int, default=120, help="recordings, taken evenly (default: %(default)s)")
    options.add_argument(
        "--contenders",
        nargs="+",
        default=["reference", "float32", "onnx"],
        help="bfloat16 too, on a processor with units for it (default: %(default)s)",
    )
    options.add_argument("--json", type=Path, help="write the rows to this file")
    arguments = options.parse_args()
    make, window, scale = MODELS[arguments.model[0]]
    torch.manual_seed(0)
    network = make()
    manifest = open_corpus(arguments.corpus)
    manifest = manifest.take(np.linspace(0, len(manifest) - 1, min(arguments.most, len(manifest))).round().astype(int))
    paths = [manifest.full_path(row) for row in range(len(manifest))]
    audio_s = sum(audio.probe(path).duration_s for path in paths)
    print(f"{arguments.model[0]}: {len(paths)} recordings, {audio_s:.0f} s; medians of {arguments.rounds} rounds")
    print(f"{'':<10} {'threads':>7} {'audio s a second':>17} {'of reference':>13} {'a CPU second':>13} {'cosine':>9}")
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        published = Path(arguments.model[1]) if len(arguments.model) > 1 else folder / "avg_model.pt"
        if len(arguments.model) > 1:
            network.load_state_dict(torch.load(published, weights_only=True), strict=False)
        else:
            torch.save(network.state_dict(), published)
        system = import_model(published, folder / "system").path
        for threads in arguments.threads:
            made = {
                "reference": lambda: reference(network, window, scale),
                "float32": lambda: ours(system, "float32"),
                "bfloat16": lambda: ours(system, "bfloat16"),
                "onnx": lambda threads=threads: exported(system, folder, threads),
            }
            contenders = {key: made[key]() for key in arguments.contenders}
            runs = measure(contenders, paths, threads, arguments.rounds)
            theirs = contenders["reference"](paths[:8])
            for key, seconds in runs.items():
                wall, processor = (median(each) for each in zip(*seconds, strict=True))
                ratio = median(seconds[0] for seconds in runs["reference"]) / wall
                found = contenders[key](paths[:8])
                cosine = min(
                    float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)) for a, b in zip(found, theirs, strict=True)
                )
                rows.append(
                    {
                        "model": arguments.model[0],
                        "name": key,
                        "threads": threads,
                        "audio_s_per_s": audio_s / wall,
                        "ratio": ratio,
                        "audio_s_per_cpu_s": audio_s / processor,
                        "least_cosine": cosine,
                    }
                )
                speeds = f"{audio_s / wall:>17.1f} {ratio:>12.2f}x {audio_s / processor:>13.1f} {cosine:>9.6f}"
                print(f"{key:<10} {threads:>7} {speeds}", flush=True)
    write_json(arguments.json, rows)


if __name__ == "__main__":
    main()
