"""Seconds of audio embedded a second, file in, embedding out, and the error rate of the same embeddings.

    python benchmarks/embedding_speed.py CORPUS --threads 1 2
    python benchmarks/embedding_speed.py CORPUS --contenders torch onnx onnx-int8 --rounds 1      # what int8 costs

CORPUS is what `xvectors train` takes; of speakers that the system was not trained on, if the EER is to mean anything.
Contenders, in turns on the same files:

torch           the system (--system, the starter) by SpeakerEncoder, batches of 32; torch-bfloat16: so, in bfloat16
onnx            the same, exported, by onnxruntime; onnx-int8: with --int8
resemblyzer     Resemblyzer 0.1.4's encoder with the weights in its wheel, as its README does it: preprocess_wav (which
                cuts pauses out), embed_utterance
speechbrain     SpeechBrain's Xvector with its filterbanks, at the size of its VoxCeleb recipe, untrained: no EER

With one thread the process is held on one core, so that nobody decodes on another. The first column goes by the clock;
where other programs share the machine, seconds of audio a second of processor time say more. EER: cosine, all pairs.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from _timing import Row, write_json
from xvectors import SpeakerEncoder, audio, export_onnx, open_corpus
from xvectors.backends import all_pairs_scores
from xvectors.metrics import eer

Embed = Callable[[list[Any]], NDArray[np.float32]]
"""Of paths, or of waveforms at 16 kHz."""
CONTENDERS = ("torch", "torch-bfloat16", "onnx", "onnx-int8", "resemblyzer", "speechbrain")


@contextmanager
def held_to(threads: int) -> Iterator[None]:
    """As many torch threads, and as many cores for this thread and those it starts."""
    before = os.sched_getaffinity(0)
    if threads > len(before):
        raise SystemExit(f"--threads {threads}: this process may use {len(before)} cores")
    torch.set_num_threads(threads)
    os.sched_setaffinity(0, sorted(before)[:threads])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def make(name: str, system: str, threads: int, folder: Path) -> Embed:
    """The contender called `name`, loaded; SystemExit with what to install where a peer cannot be imported."""
    if name in ("torch", "torch-bfloat16"):
        precision = "bfloat16" if name == "torch-bfloat16" else "float32"
        return SpeakerEncoder.from_pretrained(system, device="cpu", precision=precision).encode
    if name in ("onnx", "onnx-int8"):
        path = folder / f"{name}.onnx"
        if not path.is_file():
            export_onnx(system, path, int8=name == "onnx-int8")
        return SpeakerEncoder.from_pretrained(path, device="cpu", threads=threads).encode
    return resemblyzer() if name == "resemblyzer" else speechbrain()


def resemblyzer() -> Embed:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from resemblyzer import VoiceEncoder, preprocess_wav
    except ImportError as error:
        raise SystemExit(
            f"resemblyzer cannot be imported ({error}); pip install --no-deps resemblyzer, and pip install librosa "
            "webrtcvad-wheels"
        ) from error
    encoder = VoiceEncoder("cpu", verbose=False)

    def embed(recordings: list[Any]) -> NDArray[np.float32]:
        spoken = [preprocess_wav(recording) for recording in recordings]
        # of half a second it may cut everything out: then all of it is better than nothing
        pairs = zip(spoken, recordings, strict=True)
        return np.stack([encoder.embed_utterance(cut if len(cut) else recording) for cut, recording in pairs])

    return embed


def speechbrain() -> Embed:
    from _speechbrain import RATE_HZ, Peer

    torch.manual_seed(0)
    peer = Peer(num_speakers=2).eval()

    @torch.inference_mode()
    def embed(paths: list[Path]) -> NDArray[np.float32]:
        waveforms = (audio.read(path, sample_rate_hz=RATE_HZ)[0] for path in paths)
        return np.stack([peer.embed(torch.from_numpy(waveform)[None])[0, 0].numpy() for waveform in waveforms])

    return embed


Seconds = list[tuple[float, float]]
"""Of each round: by the clock, and of processor time."""


def measure(contenders: dict[str, Embed], paths: list[Path], threads: int, rounds: int) -> dict[str, Seconds]:
    """All contenders in turns, after one round on a few files that is not measured."""
    runs: dict[str, Seconds] = {name: [] for name in contenders}
    with held_to(threads):
        for number in range(-1, rounds):
            for name in contenders if number % 2 else reversed(contenders):
                started = time.perf_counter(), time.process_time()
                contenders[name](paths[:8] if number < 0 else paths)
                if number >= 0:
                    runs[name].append((time.perf_counter() - started[0], time.process_time() - started[1]))
    return runs


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("corpus")
    options.add_argument("--system", default="starter", help="a system directory (default: %(default)s)")
    options.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    options.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    options.add_argument("--rounds", type=int, default=3, help="measured rounds (default: %(default)s)")
    options.add_argument("--most", type=int, default=240, help="recordings, taken evenly (default: %(default)s)")
    options.add_argument("--json", type=Path, help="write the rows to this file")
    arguments = options.parse_args()
    manifest = open_corpus(arguments.corpus)
    chosen = np.linspace(0, len(manifest) - 1, min(arguments.most, len(manifest))).round().astype(int)
    manifest = manifest.take(chosen)
    paths = [manifest.full_path(row) for row in range(len(manifest))]
    audio_s = sum(audio.probe(path).duration_s for path in paths)
    print(f"{len(paths)} recordings, {audio_s:.0f} s; medians of {arguments.rounds} rounds")
    print(f"{'':<14} {'threads':>7} {'audio s a second':>17} {'of resemblyzer':>15} {'a CPU second':>13} {'EER':>8}")
    rows: list[Row] = []
    rates: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for threads in arguments.threads:
            loaded = {name: make(name, arguments.system, threads, Path(folder)) for name in arguments.contenders}
            runs = measure(loaded, paths, threads, arguments.rounds)
            speeds = {name: audio_s / median(wall for wall, _ in seconds) for name, seconds in runs.items()}
            cheapness = {name: audio_s / median(cpu for _, cpu in seconds) for name, seconds in runs.items()}
            for name, embed in loaded.items():
                if name not in rates and name != "speechbrain":
                    rates[name] = eer(*all_pairs_scores(embed(paths), manifest.speaker_index)).eer
                ratio = speeds[name] / speeds["resemblyzer"] if "resemblyzer" in speeds else None
                rows.append(
                    {
                        "name": name,
                        "threads": threads,
                        "audio_s_per_s": speeds[name],
                        "ratio": ratio,
                        "audio_s_per_cpu_s": cheapness[name],
                        "eer": rates.get(name),
                        "wall_and_cpu_s": runs[name],
                    }
                )
                rate = f"{rates[name]:>8.2%}" if name in rates else f"{'-':>8}"
                times = "-" if ratio is None else f"{ratio:.2f}x"
                print(
                    f"{name:<14} {threads:>7} {speeds[name]:>17.1f} {times:>15} {cheapness[name]:>13.1f} {rate}",
                    flush=True,
                )
            write_json(arguments.json, rows)


if __name__ == "__main__":
    main()
