"""DER of streaming beside that of whole recordings, the delay of its labels, and its time.

    python benchmarks/streaming.py starter exp/campplus --excerpts DATA/diarization/ami-excerpts
    python benchmarks/streaming.py starter --corpus DATA/gcompris-voices --seeds 0 1 2

The sets are those of benchmarks/diarization.py. `whole` is `Diarizer.diarize` without overlap detection, which a stream
has not; `online` labels the windows of the whole recording's VAD one after the other, as a stream does; `stream` is
`StreamingDiarizer`, fed with chunks of 0.1 s, whose VAD knows only what it has heard. Intervals are over recordings.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from _conversations import RATE_HZ, Labeled, excerpts, options_of_sets, simulated
from _timing import Row, write_json
from xvectors import Diarizer, SpeakerEncoder
from xvectors.audio.segments import find_spoken
from xvectors.diarization import Turn
from xvectors.diarization.diarizer import turns_of
from xvectors.diarization.scoring import score_turns
from xvectors.diarization.streaming import StreamingDiarizer, join_pieces
from xvectors.diarization.streaming.speakers import OnlineSpeakers
from xvectors.diarization.windows import SpeechWindows, embed_windows, find_speech
from xvectors.verification import Verifier

CHUNK = RATE_HZ // 10


def online(windows: SpeechWindows, verifier: Verifier) -> NDArray[np.int64]:
    """Label windows one after the other, as a stream does."""
    speakers, decided = OnlineSpeakers(verifier), []
    lengths_s, seconds = windows.end_s - windows.start_s, windows.seconds
    for at in range(len(windows)):
        last = at + 1 == len(windows) or windows.region[at + 1] != windows.region[at]
        decided += speakers.decide(windows.embeddings[at], lengths_s[at], seconds[at], last=last)
        decided += speakers.give_up_waiting() if last else []
    return np.array([each.speaker for each in decided], dtype=np.int64)


def streamed(each: Labeled, encoder: SpeakerEncoder) -> tuple[list[Turn], list[float], float]:
    """Return the turns of a stream, the delay of each piece from its beginning, and the processor time in seconds."""
    samples, pieces, delays_s = each.sound.read(RATE_HZ), list[Turn](), list[float]()
    start, stream = time.process_time(), StreamingDiarizer(encoder)
    for first in range(0, len(samples), CHUNK):
        new = stream.feed(samples[first : first + CHUNK])
        delays_s += [stream.heard_s - piece.start_s for piece in new]
        pieces += new
    pieces += stream.finish()
    return list(join_pieces(each.name, pieces)), delays_s, time.process_time() - start


def scored(name: str, method: str, recordings: list[Labeled], found: Mapping[str, list[Turn]]) -> Row:
    scores = score_turns(
        {each.name: each.turns for each in recordings}, found, {each.name: each.regions_s for each in recordings}
    )
    full, interval = scores.total("full"), scores.interval("full")
    off = [
        abs(len({turn.speaker for turn in found[each.name]}) - len({turn.speaker for turn in each.turns}))
        for each in recordings
    ]
    row: Row = {"system": name, "method": method, "recordings": len(recordings)}
    row |= {kind: scores.total(kind).der for kind in ("full", "fair", "forgiving")}
    row |= {"low": interval.low if interval else None, "high": interval.high if interval else None}
    row |= {"missed": full.missed, "false_alarm": full.false_alarm, "confusion": full.confusion, "jer": full.jer}
    row |= {"mean_wrong_speakers": float(np.mean(off))}
    ends = f"{row['low']:.1%} to {row['high']:.1%}" if interval else ""
    print(
        f"{name:<10} {method:<7} {full.der:7.1%} {ends:>16} {scores.total('fair').der:7.1%} "
        f"{scores.total('forgiving').der:7.1%} {full.missed:7.1%} {full.false_alarm:7.1%} {full.confusion:7.1%} "
        f"{full.jer:7.1%} {np.mean(off):6.2f}",
        flush=True,
    )
    return row


def measure(name: str, recordings: list[Labeled], encoder: SpeakerEncoder) -> list[Row]:
    diarizer, windows = Diarizer(encoder), dict[str, SpeechWindows]()
    whole = {each.name: list(diarizer.diarize(each.sound.read(RATE_HZ))) for each in recordings}
    for each in recordings:
        windows[each.name] = embed_windows(each.sound, find_speech(each.sound, find_spoken), encoder.engine)
    labeled = {
        each.name: turns_of(windows[each.name].spans, online(windows[each.name], encoder.verifier))
        for each in recordings
    }
    stream, delays_s, seconds = dict[str, list[Turn]](), list[float](), 0.0
    for each in recordings:
        stream[each.name], delays, taken = streamed(each, encoder)
        delays_s, seconds = delays_s + delays, seconds + taken
    rows = [
        scored(name, method, recordings, found)
        for method, found in {"whole": whole, "online": labeled, "stream": stream}.items()
    ]
    total_s = sum(len(each.sound.read(RATE_HZ)) / RATE_HZ for each in recordings)
    rows[-1] |= {"delay_s": float(np.median(delays_s)), "most_delay_s": max(delays_s), "rtf": seconds / total_s}
    print(
        f"{name}: labels come {np.median(delays_s):.2f} s after the beginning of what they label in the median, "
        f"{max(delays_s):.2f} s at most; real-time factor {seconds / total_s:.3f} (processor time)"
    )
    return rows


def main() -> None:
    options = options_of_sets(__doc__)
    options.add_argument("--threads", type=int, default=1, help="processor cores for the network")
    options.add_argument("--json", type=Path, help="write the rows to this file")
    arguments = options.parse_args()
    sets: dict[str, list[Labeled]] = {}
    if arguments.excerpts:
        sets["excerpts"] = excerpts(arguments.excerpts)
    if arguments.corpus:
        sets["simulated"] = simulated(arguments.corpus, arguments.seeds, arguments.number)
    rows: list[Row] = []
    for system in arguments.systems:
        encoder = SpeakerEncoder.from_pretrained(system, device="cpu", threads=arguments.threads)
        for title, recordings in sets.items():
            print(f"{title}, {len(recordings)} recordings")
            print(
                f"{'':<10} {'':<7} {'full':>7} {'95 % interval':>16} {'fair':>7} {'forgiv.':>7} {'missed':>7} "
                f"{'alarm':>7} {'confus.':>7} {'JER':>7} {'off by':>6}"
            )
            rows += [{"set": title, **row} for row in measure(Path(system).name, recordings, encoder)]
    write_json(arguments.json, rows)


if __name__ == "__main__":
    main()
