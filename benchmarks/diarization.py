"""DER of a system on labeled recordings and on simulated conversations, with known speech and with its own VAD.

    python benchmarks/diarization.py starter exp/campplus --excerpts DATA/diarization/ami-excerpts
    python benchmarks/diarization.py starter --corpus DATA/gcompris-voices --seeds 0 1 2 --peer speechbrain
    python benchmarks/diarization.py starter exp/campplus --excerpts DATA/diarization/ami-excerpts \
        --overlap none bundled segmentation-3.0/pytorch_model.bin
    python benchmarks/diarization.py starter --hours 1 --corpus DATA/gcompris-voices

`--excerpts` is a folder with audio/, rttm/ and uem/. `--corpus` is what `xvectors train` takes; conversations of 2 to 8
speakers are simulated from it, two minutes each, with rooms, noise and overlap. `--overlap` names what finds overlapped
speech, and `--speech network` takes the same for the VAD; its precision and recall are of seconds. The peer clusters
the very same embeddings of the same windows: SpeechBrain's spectral clustering (`Spec_Clust_unorm`, 2 to 10 speakers),
and its labels are made into turns in the same way. Its share of neighbors is 0.15, the best on the simulated
conversations on which our thresholds were chosen; its recipes' 0.02 is for windows that overlap less, and is far worse
here. `--hours` measures time and memory on simulated conversations one after the other. Intervals are over recordings.
"""

from __future__ import annotations

import importlib.util
import itertools
import sys
import tempfile
import time
import types
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from _conversations import RATE_HZ, Labeled, excerpts, options_of_sets, simulated
from _timing import Row, write_json
from xvectors import Diarizer, SpeakerEncoder, audio, open_corpus
from xvectors.audio.vad import as_detector_name, find_detector
from xvectors.diarization import ClusteringSettings, SpeakerRange, Turn, conversations
from xvectors.diarization.clustering.speakers import find_speakers
from xvectors.diarization.diarizer import turns_of
from xvectors.diarization.overlap import SpeakerCounts, find_counter, with_second_speakers
from xvectors.diarization.scoring import score_turns
from xvectors.diarization.windows import Regions, SpeechWindows, embed_windows, find_speech, joined_regions

PEER_NEIGHBORS = 0.15
Cluster = Callable[[SpeechWindows, SpeakerRange], NDArray[np.int64]]


def ours(encoder: SpeakerEncoder, method: str) -> Cluster:
    def cluster(windows: SpeechWindows, speakers: SpeakerRange) -> NDArray[np.int64]:
        return find_speakers(
            windows.embeddings,
            windows.end_s - windows.start_s,
            windows.seconds,
            encoder.verifier,
            speakers,
            ClusteringSettings(method=method),  # type: ignore[arg-type]
        )

    return cluster


def speechbrain() -> Cluster:
    """SpeechBrain's clustering alone: its package imports torchaudio, which the clustering does not need."""
    spec = importlib.util.find_spec("speechbrain")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("--peer speechbrain: pip install --no-deps speechbrain")
    for name in ("", ".processing", ".utils"):
        package = types.ModuleType(f"speechbrain{name}")
        package.__path__ = [str(Path(next(iter(spec.submodule_search_locations)), *name.split(".")[1:]))]
        sys.modules[package.__name__] = package
    peer = importlib.import_module("speechbrain.processing.diarization")

    def cluster(windows: SpeechWindows, speakers: SpeakerRange) -> NDArray[np.int64]:
        if len(windows) < 12:
            return np.zeros(len(windows), dtype=np.int64)
        spectral = peer.Spec_Clust_unorm(min_num_spkrs=2, max_num_spkrs=10)
        number = speakers.least if speakers.least == speakers.most else None
        spectral.do_spec_clust(windows.embeddings, number, PEER_NEIGHBORS)
        return np.asarray(spectral.labels_, dtype=np.int64)

    return cluster


def measure(
    name: str,
    recordings: list[Labeled],
    embedded: Mapping[str, Mapping[str, SpeechWindows]],
    clusters: Mapping[str, Cluster],
    counts: Mapping[str, Mapping[str, SpeakerCounts | None]],
    numbers: list[str],
) -> list[Row]:
    return [
        errors_of(
            {"system": name, "vad": vad, "method": method, "overlap": overlap, "speakers": known},
            recordings,
            embedded[vad],
            clusters[method],
            counts[overlap],
        )
        for vad, method, overlap, known in itertools.product(embedded, clusters, counts, numbers)
    ]


def errors_of(
    row: Row,
    recordings: list[Labeled],
    windows: Mapping[str, SpeechWindows],
    cluster: Cluster,
    counts: Mapping[str, SpeakerCounts | None],
) -> Row:
    """Cluster, give overlap its second speakers, score, print and return a row."""
    found, wrong = {}, list[int]()
    for each in recordings:
        number, count = len({turn.speaker for turn in each.turns}), counts[each.name]
        limits = SpeakerRange(number, number) if row["speakers"] == "known" else SpeakerRange(least_of(count))
        labels = cluster(windows[each.name], limits) if len(windows[each.name]) else np.zeros(0, dtype=np.int64)
        found[each.name] = with_second_speakers(turns_of(windows[each.name].spans, labels), overlap_of(count))
        wrong.append(abs(len(set(labels.tolist())) - number))
    scores = score_turns(
        {each.name: each.turns for each in recordings},
        found,
        {each.name: each.regions_s for each in recordings},
    )
    full, interval = scores.total("full"), scores.interval("full")
    row = row | {kind: scores.total(kind).der for kind in ("full", "fair", "forgiving")}
    row |= {"low": interval.low if interval else None, "high": interval.high if interval else None}
    row |= {"missed": full.missed, "false_alarm": full.false_alarm, "confusion": full.confusion}
    row |= {"jer": full.jer, "mean_wrong_speakers": float(np.mean(wrong)), "recordings": len(recordings)}
    ends = f"{row['low']:.1%} to {row['high']:.1%}" if interval else ""
    print(
        f"{row['system']:<10} {row['vad']:<7} {row['method']:<12} {row['overlap']:<10} {row['speakers']:<6} "
        f"{full.der:7.1%} {ends:>16} {scores.total('fair').der:7.1%} {scores.total('forgiving').der:7.1%} "
        f"{full.missed:7.1%} {full.false_alarm:7.1%} {full.confusion:7.1%} {full.jer:7.1%} {np.mean(wrong):6.2f}",
        flush=True,
    )
    return row


def overlap_of(counts: SpeakerCounts | None) -> Regions:
    return np.empty((0, 2)) if counts is None else counts.overlap()


def least_of(counts: SpeakerCounts | None) -> int:
    return 1 if counts is None else counts.least_speakers


def seconds_of(regions_s: Regions) -> float:
    return float(np.sum(regions_s[:, 1] - regions_s[:, 0]))


def true_overlap(turns: list[Turn]) -> Regions:
    """The stretches in which turns of different speakers overlap."""
    bounds = sorted({time for turn in turns for time in (turn.start_s, turn.end_s)})
    return joined_regions(
        [
            (start, end)
            for start, end in itertools.pairwise(bounds)
            if len({turn.speaker for turn in turns if turn.start_s <= start and turn.end_s >= end}) > 1
        ]
    )


def common_s(one: Regions, other: Regions) -> float:
    """How many seconds two lists of regions, each without overlap, have in common."""
    both = np.minimum(one[:, None, 1], other[None, :, 1]) - np.maximum(one[:, None, 0], other[None, :, 0])
    return float(np.maximum(both, 0.0).sum())


def print_overlap(name: str, recordings: list[Labeled], counts: Mapping[str, SpeakerCounts | None]) -> Row:
    """How much of the overlap is found, and how much of what is found is overlap."""
    true = {each.name: true_overlap(each.turns) for each in recordings}
    found = {each.name: overlap_of(counts[each.name]) for each in recordings}
    hits_s = sum(common_s(true[each.name], found[each.name]) for each in recordings)
    true_s, found_s = sum(map(seconds_of, true.values())), sum(map(seconds_of, found.values()))
    precision, recall = hits_s / max(found_s, 1e-9), hits_s / max(true_s, 1e-9)
    print(f"overlap by {name}: precision {precision:.1%}, recall {recall:.1%} of {true_s:.0f} s", flush=True)
    return {"overlap": name, "precision": precision, "recall": recall, "overlap_s": true_s}


def speed(system: str, threads: int | None, hours: float, corpus: Path, overlap: str) -> Row:
    """Diarize a file of simulated conversations of four speakers, one after the other, in a process of its own."""
    parts, total, wanted = list[NDArray[np.float32]](), 0, round(hours * 3600 * RATE_HZ)
    manifest = open_corpus(corpus)
    while total < wanted and len(parts) < 15:
        (made,) = conversations(manifest, 1, SpeakerRange(4, 4), sample_rate_hz=RATE_HZ, seed=len(parts))
        parts.append(made.samples)
        total += len(made.samples)
    samples = np.tile(np.concatenate(parts), -(-wanted // total))[:wanted]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "hours.wav"
        audio.write(path, samples, RATE_HZ)
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            seconds, turns, before_mb, most_mb = pool.submit(timed, system, threads, path, overlap).result()
    name = Path(system).name
    print(
        f"{name}: {hours:g} h in {seconds:.1f} s ({hours * 3600 / seconds:.0f} times real time), {turns} turns; peak "
        f"{most_mb:.0f} MB, {before_mb:.0f} MB when the system was loaded"
    )
    return {"system": name, "hours": hours, "seconds": seconds, "peak_mb": most_mb, "before_mb": before_mb}


def timed(system: str, threads: int | None, path: Path, overlap: str) -> tuple[float, int, float, float]:
    """Return the seconds, the number of turns, and the peak memory in MB before and after."""
    diarizer = Diarizer.from_pretrained(system, device="cpu", threads=threads, overlap=overlap)
    before_mb = peak_mb()
    start = time.perf_counter()
    turns = diarizer.diarize(path)
    seconds = time.perf_counter() - start
    return seconds, len(turns), before_mb, peak_mb()


def peak_mb() -> float:
    """The most memory that this process has used, of Linux alone; getrusage counts that of the parent as well."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) / 1024


def main() -> None:
    options = options_of_sets(__doc__)
    options.add_argument("--hours", type=float, help="measure time and memory on so many hours, made from --corpus")
    options.add_argument("--peer", choices=["speechbrain"], help="a peer's clustering of the same embeddings")
    options.add_argument(
        "--speech",
        nargs="+",
        choices=["known", "energy", "silero", "network"],
        default=["known", "energy"],
        help="known, or a VAD; network is the last of --overlap",
    )
    options.add_argument("--overlap", nargs="+", default=["none"], help="none, bundled, or segmentation networks")
    options.add_argument("--clustering", nargs="+", default=["ahc", "spectral"], help="of ours")
    options.add_argument("--numbers", nargs="+", choices=["found", "known"], default=["found", "known"])
    options.add_argument("--threads", type=int, help="processor cores for the network")
    options.add_argument("--json", type=Path, help="write the rows to this file")
    arguments = options.parse_args()
    rows: list[Row] = []
    sets: dict[str, list[Labeled]] = {}
    if arguments.excerpts:
        sets["excerpts"] = excerpts(arguments.excerpts)
    if arguments.corpus and not arguments.hours:
        sets["simulated"] = simulated(arguments.corpus, arguments.seeds, arguments.number)
    peers = {arguments.peer: speechbrain()} if arguments.peer else {}
    counters = {Path(name).stem: find_counter(name) for name in arguments.overlap}
    counts = {
        title: {
            name: {each.name: count and count(each.sound) for each in recordings} for name, count in counters.items()
        }
        for title, recordings in sets.items()
    }
    rows += [
        {"set": title, **print_overlap(name, recordings, counts[title][name])}
        for title, recordings in sets.items()
        for name, count in counters.items()
        if count is not None
    ]
    for system in arguments.systems:
        name = Path(system).name
        encoder = SpeakerEncoder.from_pretrained(system, device="cpu", threads=arguments.threads)
        if arguments.hours:
            rows.append(speed(system, arguments.threads, arguments.hours, arguments.corpus, arguments.overlap[-1]))
        clusters: dict[str, Cluster] = {method: ours(encoder, method) for method in arguments.clustering} | peers
        for title, recordings in sets.items():
            last = list(counts[title].values())[-1]
            embedded = {
                vad: {
                    each.name: embed_windows(each.sound, regions(each, vad, last[each.name]), encoder.engine)
                    for each in recordings
                }
                for vad in arguments.speech
            }
            print(f"{title}, {len(recordings)} recordings")
            print(
                f"{'':<10} {'speech':<7} {'clustering':<12} {'overlap':<10} {'number':<6} {'full':>7} "
                f"{'95 % interval':>16} {'fair':>7} {'forgiv.':>7} {'missed':>7} {'alarm':>7} {'confus.':>7} "
                f"{'JER':>7} {'off by':>6}"
            )
            made = measure(name, recordings, embedded, clusters, counts[title], arguments.numbers)
            rows += [{"set": title, **row} for row in made]
    write_json(arguments.json, rows)


def regions(each: Labeled, vad: str, counts: SpeakerCounts | None) -> Regions:
    """What the reference says is speech, or what the VAD finds."""
    if vad == "known":
        return joined_regions([(turn.start_s, turn.end_s) for turn in each.turns])
    if vad == "network":
        assert counts is not None, "--speech network needs a network as the last of --overlap"
        return counts.speech()
    return find_speech(each.sound, find_detector(as_detector_name(vad)))


if __name__ == "__main__":
    main()
