"""How long a manifest of a million rows takes to open, and how much memory it keeps.

    python benchmarks/manifest.py [--rows 1000000] [--json FILE]

Prints a table and writes it as JSON. The bar: under 3 s and under 300 MB for a million rows.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

from xvectors.corpus.manifest import Manifest

UTTERANCES_PER_SESSION = 8
SESSIONS_PER_SPEAKER = 25


def write_rows(path: Path, rows: int) -> None:
    rng = random.Random(0)
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    with path.open("w", encoding="utf-8") as file:
        file.write("path,speaker,gender,age,session,duration_s\n")
        for row in range(rows):
            session_number, utterance = divmod(row, UTTERANCES_PER_SESSION)
            speaker_number, first_row = divmod(session_number, SESSIONS_PER_SPEAKER)
            if utterance == 0:
                session = "".join(rng.choices(letters, k=11))
                if first_row == 0:
                    speaker, gender, age = f"id{speaker_number:05d}", rng.choice("mf"), rng.randrange(18, 80)
            path_text = f"{speaker}/{session}/{utterance + 1:05d}.wav"
            file.write(f"{path_text},{speaker},{gender},{age},{session},{rng.uniform(4, 20):.3f}\n")


def peak_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "metadata.csv"
        write_rows(table, arguments.rows)
        before = peak_bytes()
        for _ in range(arguments.repeats):
            start = time.perf_counter()
            manifest = Manifest.read_csv(table)
            seconds.append(time.perf_counter() - start)
            del manifest
        grown_mb = (peak_bytes() - before) / 1e6
        table_mb = table.stat().st_size / 1e6
    result = {
        "rows": arguments.rows,
        "table_mb": round(table_mb, 1),
        "open_s": round(statistics.median(seconds), 3),
        "peak_memory_growth_mb": round(grown_mb, 1),
        "bar_open_s": 3.0,
        "bar_memory_mb": 300.0,
    }
    for name, value in result.items():
        print(f"{name:24} {value}")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
