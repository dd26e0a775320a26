"""Train the network that counts speakers: `python tools/make_overlap_network.py --data shared/data`.

In: the real corpora below DATA and synthetic voices made here, both as conversations simulated by
xvectors.diarization.simulation. Out: src/xvectors/diarization/overlap/network.safetensors (float16) and network.toml:
the data learned from, their licenses, the settings, and what was measured. Every example is 12 s of a conversation,
often with a stretch of another one on top, in rooms, with noise, music, microphones, telephone lines and levels of any
kind; a second process makes them. Every tenth speaker of each corpus, and two corpora whole, are held out and measured.
The same seed and steps give the same examples, and on the same kind of processor the same weights.
"""

from __future__ import annotations

import argparse
import multiprocessing
import queue
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.support.nonspeech import KINDS, sound

from xvectors import audio, open_corpus
from xvectors.augment.channel import clipped, equalized, telephone
from xvectors.augment.noise import made_noise, power
from xvectors.augment.rooms import reverberate, simulate_room
from xvectors.augment.voice import change_voice
from xvectors.config.tables import to_toml
from xvectors.corpus.synth import synthesize
from xvectors.devices import choose_precision
from xvectors.diarization import ConversationStyle, Turn, simulate_conversation
from xvectors.diarization.overlap.network import FRAME_S, MIDDLE_S, SAMPLES_PER_FRAME, SpeakerCounter
from xvectors.errors import ConfigError
from xvectors.files import atomic_write, write_text

RATE_HZ = 16_000
WEIGHTS = Path(__file__).resolve().parents[1] / "src/xvectors/diarization/overlap/network.safetensors"
EXAMPLE_S = 12.0
BODY_SOUNDS = ("puffs", "breaths", "handling", "rustle")
HELD_OUT = 10
"""Every how manieth speaker of a corpus is held out."""
SYNTHETIC = {"speakers": 40, "utterances": 6, "seed": 2028}
LEARNED = {
    "speechocean762": "free for commercial and non-commercial use (OpenSLR 101)",
    "librispeech-251": "CC BY 4.0 (LibriSpeech train-clean-100, OpenSLR 12)",
    "alphanumeric-accents": "MIT",
    "arabic-speech-commands": "CC BY 4.0",
    "synthetic": "made by `xvectors synth`",
}
SHARES = {
    "speechocean762": 0.34,
    "librispeech-251": 0.34,
    "alphanumeric-accents": 0.12,
    "arabic-speech-commands": 0.05,
    "synthetic": 0.15,
}
UNHEARD = ("librispeech-dev-clean", "dspspeech20")
"""Corpora that are not learned from, and measured."""
Voices = dict[str, list[np.ndarray]]


@dataclass
class Example:
    """int16 [samples] and how many people speak, uint8 [frames of 40 ms]."""

    samples: np.ndarray
    counts: np.ndarray


def voices(folder: Path, most: int = 3) -> Voices:
    """The recordings of each speaker of a corpus, int16; of a folder of single recordings, each is a speaker."""
    found: Voices = {}
    if any(folder.glob("*.csv")):
        corpus = open_corpus(folder)
        rows = [(corpus.speakers[corpus.speaker_index[at]], corpus.full_path(at)) for at in range(len(corpus))]
    else:
        rows = [(path.stem.split("-")[0], path) for path in sorted(folder.glob("*.flac"))]
    for name, path in rows:
        speaker = f"{folder.name}/{name}"
        if len(found.get(speaker, [])) < most:
            samples, _ = audio.read(path, sample_rate_hz=RATE_HZ)
            found.setdefault(speaker, []).append(np.rint(np.clip(samples, -1, 1) * 32767).astype(np.int16))
    return found


def body_sound(kind: str, rng: np.random.Generator, duration_s: float = 15.0) -> np.ndarray:
    """What a microphone near people picks up besides speech: float32 [samples], of any level.

    `puffs` is breath on the membrane, below 60 to 300 Hz; `breaths` is breathing, `handling` knocks and scratches of a
    microphone that is moved, `rustle` paper and clothes.
    """
    count = round(duration_s * RATE_HZ)
    hz, white = np.fft.rfftfreq(count, 1 / RATE_HZ), rng.standard_normal(count)
    envelope = np.full(count, 0.01)
    if kind == "handling":
        rate_hz = float(np.exp(rng.uniform(np.log(1), np.log(80))))
        at = rng.integers(0, count, max(1, round(rate_hz * duration_s)))
        impulses = np.zeros(count)
        np.add.at(impulses, at, np.exp(rng.normal(0, 1.0, len(at))) * rng.choice([-1, 1], len(at)))
        decay = np.exp(-np.arange(2000) / (RATE_HZ * rng.uniform(0.001, 0.02)))
        white = np.convolve(impulses, decay * rng.standard_normal(2000))[:count] + 0.002 * white
        envelope[:] = 1.0
    at_s = float(rng.uniform(0, 2))
    while at_s < duration_s and kind != "handling":
        length = max(64, round(rng.uniform(0.2, 1.5) * RATE_HZ))
        part = slice(round(at_s * RATE_HZ), round(at_s * RATE_HZ) + length)
        envelope[part] += (np.hanning(length) ** rng.uniform(0.3, 1.0) * np.exp(rng.normal(0, 0.5)))[
            : len(envelope[part])
        ]
        at_s += length / RATE_HZ + float(rng.exponential(rng.choice([0.3, 2.0])))
    if kind == "rustle":
        envelope *= np.exp(
            1.5 * np.interp(np.arange(count), np.arange(0, count, 200), rng.standard_normal(-(-count // 200)))
        )
    low_hz, high_hz = {
        "puffs": (20.0, float(rng.uniform(60, 300))),
        "breaths": (float(rng.uniform(200, 1000)), float(rng.uniform(2500, 7000))),
        "handling": (20.0, float(rng.uniform(300, 7000))),
        "rustle": (float(rng.uniform(500, 3000)), 7500.0),
    }[kind]
    gain = 1 / np.sqrt((1 + (low_hz / np.maximum(hz, 1.0)) ** 4) * (1 + (hz / high_hz) ** 6))
    if kind == "breaths":
        for middle_hz in rng.uniform(300, 5000, 3):
            gain *= 1 + rng.uniform(0, 4) * np.exp(-0.5 * ((hz - middle_hz) / 300) ** 2)
    return np.asarray(np.fft.irfft(np.fft.rfft(white * envelope) * gain, count), dtype=np.float32)


def conversation(groups: dict[str, Voices], rng: np.random.Generator, duration_s: float = 40.0) -> Example:
    """Simulate a conversation in a random style, of speakers of one corpus or of several."""
    names = list(groups)
    shares = np.array([SHARES.get(name, 1.0) for name in names])
    size, mixed, speakers = int(rng.integers(1, 6)), rng.random() < 0.4, dict[str, list[np.ndarray]]()
    group = names[rng.choice(len(names), p=shares / shares.sum())]
    while len(speakers) < (size if mixed else min(size, len(groups[group]))):
        if mixed:
            group = names[rng.choice(len(names), p=shares / shares.sum())]
        pool = groups[group]
        name = list(pool)[int(rng.integers(len(pool)))]
        chosen = [part.astype(np.float32) / 32768 for part in pool[name]]
        if rng.random() < 0.15:
            pitch = float(rng.uniform(0.85, 1.2))
            chosen = [change_voice(part, RATE_HZ, pitch=pitch, formants=pitch**0.3) for part in chosen[:2]]
        speakers[name] = chosen
    style = ConversationStyle(
        duration_s=duration_s,
        turn_s=float(np.exp(rng.uniform(np.log(0.8), np.log(8)))),
        pause_s=float(rng.choice([0.1, 0.4, 0.8, 2.0])),
        overlap=float(rng.uniform(0, 0.8)),
        overlap_s=float(rng.uniform(0.4, 2.0)),
        answers_per_min=float(rng.choice([0, 4, 10, 20])),
        answer_s=float(rng.uniform(0.4, 1.2)),
        rt60_s=None if rng.random() < 0.3 else (0.15, 0.9),
        snr_db=None if rng.random() < 0.3 else float(rng.uniform(10, 40)),
    )
    try:
        samples, turns = simulate_conversation(speakers, RATE_HZ, style, seed=int(rng.integers(2**31)))
    except ConfigError:  # a recording without speech
        return conversation(groups, rng, duration_s)
    return Example(np.rint(samples * 32767).astype(np.int16), counts_of(turns, len(samples)))


def counts_of(turns: list[Turn], num_samples: int) -> np.ndarray:
    """How many different people speak in the middle of each frame of 40 ms, at most 3."""
    who: dict[str, np.ndarray] = {}
    middles = np.arange(num_samples // SAMPLES_PER_FRAME) * FRAME_S + MIDDLE_S
    for turn in turns:
        there = who.setdefault(turn.speaker, np.zeros(len(middles), dtype=bool))
        there[slice(*np.searchsorted(middles, [turn.start_s, turn.end_s]))] = True
    return np.minimum(np.sum(list(who.values()), axis=0), 3).astype(np.uint8)


def cut(pool: list[Example], rng: np.random.Generator, duration_s: float) -> tuple[np.ndarray, np.ndarray]:
    """Cut a stretch at random: float32 [samples] and uint8 [frames]."""
    example, frames = pool[int(rng.integers(len(pool)))], round(duration_s / FRAME_S)
    first = int(rng.integers(max(1, len(example.counts) - frames)))
    part = slice(first * SAMPLES_PER_FRAME, (first + frames) * SAMPLES_PER_FRAME)
    return example.samples[part].astype(np.float32) / 32768, example.counts[first : first + frames]


def drawn(
    pool: list[Example], sounds: list[np.ndarray], near: list[np.ndarray], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """One example as it is learned from: waveform and counts."""
    samples, counts = cut(pool, rng, EXAMPLE_S)
    samples, counts = samples.copy(), counts.copy()
    level = np.sqrt(max(power(samples), 1e-8))
    if rng.random() < 0.35:  # other people on top
        other, other_counts = cut(pool, rng, float(rng.uniform(0.5, EXAMPLE_S)))
        gain = level / np.sqrt(max(power(other), 1e-8)) * 10 ** (rng.uniform(-8, 8) / 20)
        fade = np.minimum(1, np.minimum(np.arange(len(other)), np.arange(len(other))[::-1]) / 160)
        at = int(rng.integers(len(counts) - len(other_counts) + 1))
        samples[at * SAMPLES_PER_FRAME :][: len(other)] += (gain * fade * other).astype(np.float32)
        counts[at : at + len(other_counts)] += other_counts
    if rng.random() < 0.3:
        samples = reverberate(samples, simulate_room(RATE_HZ, float(rng.uniform(0.2, 1.0)), rng))
    if rng.random() < 0.1:  # nobody
        samples, counts = samples * np.float32(1e-5), counts * 0
    if rng.random() < 0.45:
        noise = made_noise(len(samples), RATE_HZ, rng)
        samples = samples + noise * _gain(level, noise, rng.uniform(0, 30))
    if rng.random() < 0.2:
        samples = samples + placed(sounds, len(samples), level, rng.uniform(-5, 25), rng)
    while rng.random() < 0.35:
        samples = samples + placed(near, len(samples), level, rng.uniform(-10, 25), rng)
    if rng.random() < 0.4:
        samples = equalized(samples, RATE_HZ, 8.0, rng)
    kind = rng.random()
    if kind < 0.1:
        samples = telephone(samples, RATE_HZ, band_pass=bool(rng.random() < 0.7))
    elif kind < 0.16:
        samples = clipped(samples, float(rng.uniform(3, 15)))
    samples = samples * np.float32(10 ** (rng.uniform(-50, -12) / 20) / np.sqrt(max(power(samples), 1e-12)))
    return np.clip(samples, -1, 1).astype(np.float32), np.minimum(counts, 2)


def placed(
    sounds: list[np.ndarray], num_samples: int, level: float, snr_db: float, rng: np.random.Generator
) -> np.ndarray:
    """One of the sounds, or a piece of it, somewhere in so many samples; in a room every second time."""
    noise = sounds[int(rng.integers(len(sounds)))].astype(np.float32)
    noise = noise[int(rng.integers(len(noise) // 2)) :][: int(rng.uniform(0.3, EXAMPLE_S) * RATE_HZ)]
    gain = _gain(level, noise, snr_db)
    noise = np.roll(np.pad(noise, (0, max(0, num_samples - len(noise))))[:num_samples], int(rng.integers(num_samples)))
    if rng.random() < 0.5:
        noise = reverberate(noise, simulate_room(RATE_HZ, float(rng.uniform(0.2, 0.8)), rng))
    return noise * gain


def _gain(level: float, noise: np.ndarray, snr_db: float) -> np.float32:
    return np.float32(level / np.sqrt(max(power(noise), 1e-12)) * 10 ** (-snr_db / 20))


def make_batches(
    groups: dict[str, Voices], arguments: argparse.Namespace, out: multiprocessing.Queue[tuple[np.ndarray, np.ndarray]]
) -> None:
    """Put batches into a queue without end. Every third makes a conversation of the pool anew."""
    rng = np.random.default_rng(arguments.seed)
    sounds = [sound(kind, at, 15.0) for kind in KINDS for at in range(4)]
    near = [body_sound(kind, rng) for kind in BODY_SOUNDS for _ in range(25)]
    pool = [conversation(groups, rng) for _ in range(arguments.pool)]
    at = 0
    while True:
        made = [drawn(pool, sounds, near, rng) for _ in range(arguments.batch)]
        out.put((np.stack([part[0] for part in made]), np.stack([part[1] for part in made])))
        at += 1
        if at % 3 == 0:
            pool[at // 3 % len(pool)] = conversation(groups, rng)


def batches(groups: dict[str, Voices], arguments: argparse.Namespace) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield batches without end, made in a process of their own."""
    context = multiprocessing.get_context("fork")
    made: multiprocessing.Queue[tuple[np.ndarray, np.ndarray]] = context.Queue(8)
    maker = context.Process(target=make_batches, args=(groups, arguments, made), daemon=True)
    maker.start()
    while True:
        try:
            samples, counts = made.get(timeout=5.0)
        except queue.Empty:
            if not maker.is_alive():
                raise RuntimeError("the process that makes examples has ended; its error is above") from None
            continue
        yield torch.from_numpy(samples), torch.from_numpy(counts.astype(np.int64))


def losses(network: SpeakerCounter, waveforms: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    precision = choose_precision("auto", torch.device("cpu"))
    with torch.autocast("cpu", precision, enabled=precision == torch.bfloat16):
        found = network(waveforms)
    return functional.nll_loss(found.float().flatten(0, 1), counts[:, : found.shape[1]].flatten())


def learn(groups: dict[str, Voices], arguments: argparse.Namespace) -> SpeakerCounter:
    """Learn for so many steps, with a rate that rises and falls."""
    torch.manual_seed(arguments.seed)
    network = SpeakerCounter()
    print(f"{sum(value.numel() for value in network.parameters())} parameters")
    optimizer = torch.optim.AdamW(network.parameters(), lr=arguments.rate, weight_decay=1e-2)
    made = batches(groups, arguments)
    first, began, running = next(made), time.perf_counter(), 0.0
    for step in range(1, arguments.steps + 1):
        done = (step - 1) / arguments.steps
        for group in optimizer.param_groups:
            group["lr"] = arguments.rate * min(done / 0.05 + 0.02, 1.0, 0.002 + 0.5 * (1 + np.cos(np.pi * done)))
        loss = losses(network, *(first if step == 1 else next(made)))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 2.0)
        optimizer.step()
        running += loss.item()
        if step % 50 == 0:
            taken_s = time.perf_counter() - began
            left_min = taken_s / step * (arguments.steps - step) / 60
            print(f"step {step}, {taken_s:.0f} s, loss {running / 50:.3f}, {left_min:.0f} min left", flush=True)
            running = 0.0
            save_network(network, arguments.output)
    save_network(network, arguments.output)
    return network.eval()


def save_network(network: SpeakerCounter, path: Path) -> None:
    weights = {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in network.state_dict().items()
    }
    with atomic_write(path) as temporary:
        temporary.write_bytes(save(weights))


def describe(arguments: argparse.Namespace, results: dict[str, dict[str, float]]) -> None:
    """Write network.toml beside the weights."""
    table = {
        "description": "counts speakers (nobody, one, several) every 40 ms; see xvectors.diarization.overlap.network",
        "license": "as that of xvectors",
        "features": {"sample_rate_hz": RATE_HZ, "num_mels": 64, "frame_shift_ms": 10.0, "mean_over_s": 10.0},
        "learning": {
            "seed": arguments.seed,
            "steps": arguments.steps,
            "batch": arguments.batch,
            "example_s": EXAMPLE_S,
            "pool": arguments.pool,
            "rate": arguments.rate,
        },
        "learned_from": {name: {"license": terms, "share": SHARES[name]} for name, terms in LEARNED.items()},
        "measured": results,
    }
    write_text(arguments.output.with_suffix(".toml"), to_toml(table))


def measured(network: SpeakerCounter, examples: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    """Precision and recall of overlap at a probability of 0.5, and the errors of speech, as shares of the frames."""
    kinds, true = list[np.ndarray](), list[np.ndarray]()
    with torch.inference_mode():
        for samples, counts in examples:
            found = network(torch.from_numpy(samples)[None])[0].exp().numpy()
            both = min(len(found), len(counts))
            kinds.append(found[:both])
            true.append(counts[:both])
    found, counts = np.concatenate(kinds), np.minimum(np.concatenate(true), 2)
    several, speech = found[:, 2] > 0.5, found[:, 0] < 0.5
    hits = np.count_nonzero(several & (counts == 2))
    order = np.argsort(-found[:, 2], kind="stable")
    ranked = counts[order] == 2
    precision = np.cumsum(ranked) / np.arange(1, len(ranked) + 1)
    found_rates = {
        "frames": float(len(counts)),
        "overlap_share": float(np.mean(counts == 2)),
        "overlap_precision": float(hits / max(1, np.count_nonzero(several))),
        "overlap_recall": float(hits / max(1, np.count_nonzero(counts == 2))),
        "overlap_average_precision": float(precision[ranked].mean()) if ranked.any() else float("nan"),
        "speech_missed": float(np.mean(~speech & (counts > 0))),
        "speech_false_alarm": float(np.mean(speech & (counts == 0))),
    }
    return {name: round(value, 4) for name, value in found_rates.items()}


def excerpts(folder: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    from xvectors.diarization import read_rttm

    found = []
    for path in sorted((folder / "audio").iterdir()):
        (turns,) = read_rttm(folder / "rttm" / f"{path.stem}.rttm").turns.values()
        samples, _ = audio.read(path, sample_rate_hz=RATE_HZ)
        found.append((samples, counts_of(turns, len(samples))))
    return found


def parts(groups: dict[str, Voices]) -> tuple[dict[str, Voices], dict[str, Voices]]:
    """Those to learn from, and every tenth speaker."""
    learned = {
        group: {name: those for at, (name, those) in enumerate(sorted(found.items())) if at % HELD_OUT}
        for group, found in groups.items()
    }
    held_out = {
        group: {name: those for at, (name, those) in enumerate(sorted(found.items())) if not at % HELD_OUT}
        for group, found in groups.items()
    }
    return learned, held_out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with speechocean762/, librispeech-251/ ...")
    parser.add_argument("--work", type=Path, default=Path("exp/overlap"), help="where to make synthetic voices")
    parser.add_argument("--steps", type=int, default=1800)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--pool", type=int, default=150, help="conversations of 40 s at a time")
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=WEIGHTS, help="where to write")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    synthesize(arguments.work / "synthetic", **SYNTHETIC, workers=1)
    folders = {name: arguments.work / name if name == "synthetic" else arguments.data / name for name in LEARNED}
    groups, held_out = parts({name: voices(folder) for name, folder in folders.items()})
    print({name: len(found) for name, found in groups.items()}, flush=True)
    network = learn(groups, arguments)
    rng = np.random.default_rng(7)
    unheard = {name: voices(arguments.data / name) for name in UNHEARD}
    made = {
        "held_out_speakers": [conversation(held_out, rng) for _ in range(20)],
        "held_out_corpora": [conversation(unheard, rng) for _ in range(20)],
    }
    sets = {name: [(e.samples.astype(np.float32) / 32768, e.counts) for e in found] for name, found in made.items()}
    sets["ami_excerpts"] = excerpts(arguments.data / "diarization" / "ami-excerpts")
    results = {name: measured(network, examples) for name, examples in sets.items()}
    for name, values in results.items():
        print(name, values, flush=True)
    describe(arguments, results)


if __name__ == "__main__":
    main()
