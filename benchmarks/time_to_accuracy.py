"""Time to accuracy: minutes of training until 10, 5 and 3 % EER on speakers a network has not heard, by backbone.

    python benchmarks/time_to_accuracy.py CORPUS --recipe xvector --budgets 2 5 15
    python benchmarks/time_to_accuracy.py CORPUS --recipe xvector --budgets 15 --backbones xvector ecapa

Each backbone is trained once for every budget, since a schedule that ends early gets there early. A tenth of the
training speakers is held out. The time to an EER is the first `elapsed_s` in a run's history.csv, which includes
validation, at which their `val_eer` is as low; the least of all runs counts. `test` is the longest run's EER on the
test speakers, who decide nothing.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from _timing import Row, write_json
from _unseen import fix_test_speakers, measure
from xvectors import Recipe, SpeakerEncoder, load_recipe, train
from xvectors.corpus import Manifest
from xvectors.evaluation.system import read_history
from xvectors.models import MODELS
from xvectors.system.serialization import make_model

RATES = (0.10, 0.05, 0.03)
HELD_OUT = 0.1
RESULTS = Path(__file__).parent / "results"


def seconds_to(rate: float, history: Sequence[Mapping[str, float]]) -> float:
    """The first `elapsed_s` at which `val_eer` is at most `rate`; infinite where it never is."""
    return min((row["elapsed_s"] for row in history if row["val_eer"] <= rate), default=math.inf)


def minutes_to(rate: float, histories: Sequence[Sequence[Mapping[str, float]]]) -> float | None:
    """Minutes until `rate` in the quickest of several runs; None where none gets there."""
    seconds = min(seconds_to(rate, history) for history in histories)
    return seconds / 60 if math.isfinite(seconds) else None


def our_recipe(backbone: str, arguments: argparse.Namespace, minutes: float) -> Recipe:
    """The recipe with another network, by the clock, with held-out speakers, on a manifest that fixes the test ones."""
    ours = [f"model.name={backbone}", f"data.held_out_prop={HELD_OUT}", *arguments.settings]
    return load_recipe(arguments.recipe, [*ours, f"training.minutes={minutes}", "data.train_test_prop=1.0"])


def run_backbone(name: str, arguments: argparse.Namespace, manifest: Path) -> Row:
    """Train one backbone for every budget, from the shortest on."""
    histories = []
    for minutes in sorted(arguments.budgets):
        recipe = our_recipe(name, arguments, minutes)
        folder = arguments.out / f"{name}-{minutes:g}min"
        result = train(manifest, folder, recipe, overwrite=True, calibrate=False)
        if result.interrupted:
            raise SystemExit(f"interrupted by {result.interrupted.name}")
        histories.append(read_history(result.folder.history))
    rates = [row["val_eer"] for row in histories[-1] if not math.isnan(row["val_eer"])]
    if not rates:
        raise SystemExit(f"{result.folder.history}: no val_eer; more speakers, or more of them held out, are needed")
    encoder = SpeakerEncoder.from_pretrained(folder)
    figures = measure(encoder.encode_manifest, Manifest.read_csv(result.folder.corpus), encoder.speakers)
    return {
        "backbone": name,
        "recipe": arguments.recipe,
        "settings": arguments.settings,
        "budgets_minutes": sorted(arguments.budgets),
        "epochs": [len(history) for history in histories],
        "parameters": sum(parameter.numel() for parameter in encoder.model.parameters()),
        "minutes_to": {f"{rate:.0%}": minutes_to(rate, histories) for rate in RATES},
        "best_val_eer": min(rates),
        "test_eer": figures["eer"],
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("corpus")
    options.add_argument("--recipe", default="xvector")
    options.add_argument("--backbones", nargs="+", choices=list(MODELS), default=list(MODELS))
    options.add_argument("--budgets", nargs="+", type=float, default=[15.0], help="minutes (default: %(default)s)")
    options.add_argument("--set", action="append", default=[], dest="settings", metavar="KEY=VALUE")
    options.add_argument("--threads", type=int, help="torch threads (default: torch's own choice)")
    options.add_argument("--out", type=Path, default=Path("exp/time-to-accuracy"), help="the systems' folder")
    options.add_argument("--json", type=Path, default=RESULTS / "time_to_accuracy.json", help="written after every run")
    arguments = options.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    for name in arguments.backbones:  # a setting that one lacks is an error now, not after the ones before it
        make_model(our_recipe(name, arguments, max(arguments.budgets)), 2)
    manifest = fix_test_speakers(arguments.corpus, arguments.out)
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    reached = "".join(f"{f'to {rate:.0%}':>9}" for rate in RATES)
    print(
        f"minutes on {torch.get_num_threads()} threads\n{'backbone':<12} {'params':>8}{reached} {'val':>8} {'test':>8}"
    )
    rows: list[Row] = []
    for name in arguments.backbones:
        row = run_backbone(name, arguments, manifest)
        rows.append(row)
        cells = "".join(f"{'never' if m is None else f'{m:.1f}':>9}" for m in row["minutes_to"].values())
        size = f"{row['parameters'] / 1e6:.2f}M"
        print(f"{name:<12} {size:>8}{cells} {row['best_val_eer']:>8.2%} {row['test_eer']:>8.2%}", flush=True)
        write_json(arguments.json, rows)


if __name__ == "__main__":
    main()
