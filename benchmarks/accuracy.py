"""Accuracy for the time spent: systems trained for the same minutes on the same speakers, tested on the same others.

    python benchmarks/accuracy.py CORPUS --minutes 15 --systems xvectors:xvector xvectors:lab speechbrain-xvector
    python benchmarks/accuracy.py CORPUS --minutes 15 --systems xvectors:xvector --seeds 0 1 2 3 4
    python benchmarks/accuracy.py CORPUS --minutes 15 --systems speechbrain-xvector,batch=32,precision=bfloat16

CORPUS is what `xvectors train` takes. A system is `xvectors:RECIPE` (a name or a TOML file) or `speechbrain-xvector`
(see _speechbrain.py), either with settings of its own: `xvectors:xvector,model.name=ecapa`; for the peer `batch=32`,
`precision=bfloat16` and `augment=false` are its best chances where minutes are few.

`min` is the time of training, validation included; `wall` adds the scan of the corpus and the test. EER and
minDCF(0.01) are by cosine over all pairs; `centered` is the EER after the mean of training embeddings is taken away.
Ours end as `xvectors train` does: `system` is the EER by the back-end chosen on held-out speakers, `lost` what its
calibration loses on the test speakers, Cllr less minCllr in bits. With --resume, systems that stand in OUT are gone
on with, or measured again where they are finished.
"""

from __future__ import annotations

import argparse
import re
import statistics
import time
from pathlib import Path

import torch

from _timing import Row, write_json
from _unseen import fix_test_speakers, measure
from xvectors import Recipe, SpeakerEncoder, load_recipe, train
from xvectors.corpus import Manifest
from xvectors.evaluation import measure_system
from xvectors.system import SystemFolder
from xvectors.training import prepare_corpus

OURS, PEER = "xvectors", "speechbrain-xvector"
PEER_SETTINGS = {"batch": r"[1-9]\d*", "precision": "float32|bfloat16", "augment": "true|false"}
"""What the peer's settings may be, as regular expressions."""
RESULTS = Path(__file__).parent / "results"


def parse_system(text: str) -> tuple[str, list[str]]:
    """`NAME,KEY=VALUE,...` to the name and its settings; ArgumentTypeError for what is no system."""
    name, *settings = text.split(",")
    if not (name.startswith(f"{OURS}:") or name == PEER):
        raise argparse.ArgumentTypeError(f"{name!r} is no system: name {OURS}:RECIPE or {PEER}")
    if any("=" not in setting for setting in settings):
        raise argparse.ArgumentTypeError(f"{text!r}: settings have the form KEY=VALUE, separated by commas")
    for setting in settings if name == PEER else []:
        key, _, value = setting.partition("=")
        if not re.fullmatch(PEER_SETTINGS.get(key, ""), value):
            known = ", ".join(f"{key}={values}" for key, values in PEER_SETTINGS.items())
            raise argparse.ArgumentTypeError(f"{PEER} has no setting {setting!r}: known are {known}")
    return name, settings


def our_recipe(name: str, settings: list[str], seed: int, minutes: float) -> Recipe:
    """A recipe of ours, to be trained by the clock on a manifest that fixes the test speakers."""
    ends = [f"training.minutes={minutes}", f"training.seed={seed}", "data.train_test_prop=1.0"]
    return load_recipe(name.removeprefix(f"{OURS}:"), [*settings, *ends])


def run_ours(recipe: Recipe, manifest: Path, folder: Path, resume: bool) -> Row:
    """Train a recipe of ours and measure it."""
    resume = resume and SystemFolder(folder).checkpoint.is_file()
    result = train(manifest, folder, recipe, overwrite=not resume, resume=resume)
    if result.interrupted:
        raise SystemExit(f"interrupted by {result.interrupted.name}")
    encoder = SpeakerEncoder.from_pretrained(folder)
    corpus = Manifest.read_csv(result.folder.corpus)
    trained = {"minutes": result.epochs[-1].elapsed_s / 60, "epochs": len(result.epochs)}
    evaluation = measure_system(folder)
    values = {key: measure.value for key, measure in evaluation.measures.items()}
    as_a_system: Row = {
        "backend": evaluation.backend,
        "system_eer": values["eer"],
        "system_min_dcf": values["min_dcf"],
        "calibration_loss": values["cllr"] - values["min_cllr"],
    }
    return trained | measure(encoder.encode_manifest, corpus, encoder.speakers) | as_a_system


def run_peer(settings: list[str], manifest: Path, seed: int, minutes: float) -> Row:
    """Train SpeechBrain's recipe for so many minutes and measure it."""
    from _speechbrain import BATCH_SIZE, train_peer

    given = dict(setting.split("=", 1) for setting in settings)
    recipe = our_recipe("xvector", ["data.held_out_prop=0"], seed, minutes)
    corpus, _ = prepare_corpus(manifest, recipe, min_samples=0)
    trained = train_peer(
        corpus,
        minutes,
        seed,
        batch_size=int(given.get("batch", BATCH_SIZE)),
        precision=given.get("precision", "float32"),
        augment=given.get("augment", "true") == "true",
    )
    figures: Row = {"minutes": trained.elapsed_s / 60, "epochs": round(trained.epochs, 1)}
    return figures | measure(trained.network.encode_manifest, corpus.manifest, corpus.speakers)


def print_summary(rows: list[Row]) -> None:
    """Mean and standard deviation over the seeds of each system that has several."""
    for system in dict.fromkeys(row["system"] for row in rows):
        for key, name in (("eer", "EER by cosine"), ("system_eer", "EER of the system")):
            rates = [100 * row[key] for row in rows if row["system"] == system and key in row]
            if len(rates) > 1:
                mean, spread = statistics.mean(rates), statistics.stdev(rates)
                print(f"{system:<48} {len(rates)} seeds: {name} {mean:.2f} % +- {spread:.2f}")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("corpus")
    options.add_argument("--minutes", type=float, default=15.0, help="for each system (default: %(default)s)")
    options.add_argument("--systems", nargs="+", type=parse_system, default=[(f"{OURS}:xvector", []), (PEER, [])])
    options.add_argument("--set", action="append", default=[], dest="settings", help="for all of ours")
    options.add_argument("--seeds", nargs="+", type=int, default=[0])
    options.add_argument("--threads", type=int, help="torch threads (default: torch's own choice)")
    options.add_argument("--resume", action="store_true", help="go on with systems of ours that stand in OUT")
    options.add_argument("--out", type=Path, default=Path("exp/accuracy"), help="the systems' folder")
    options.add_argument("--json", type=Path, default=RESULTS / "accuracy.json", help="written after every run")
    arguments = options.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    for name, own in arguments.systems:
        if name != PEER:  # a misspelled setting is an error now, not after the systems before it
            our_recipe(name, [*arguments.settings, *own], 0, arguments.minutes)
    manifest = fix_test_speakers(arguments.corpus, arguments.out)
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    print(
        f"{'system':<48} {'seed':>4} {'min':>6} {'wall':>6} {'epochs':>6} {'EER':>8} {'centered':>8} {'minDCF':>7} "
        f"{'system':>8} {'lost':>6}"
    )
    rows: list[Row] = []
    for seed in arguments.seeds:
        for number, (name, own) in enumerate(arguments.systems):
            started = time.monotonic()
            settings = own if name == PEER else [*arguments.settings, *own]
            if name == PEER:
                figures = run_peer(settings, manifest, seed, arguments.minutes)
            else:
                recipe = our_recipe(name, settings, seed, arguments.minutes)
                figures = run_ours(recipe, manifest, arguments.out / f"system{number}-seed{seed}", arguments.resume)
            row: Row = {
                "system": ",".join([name, *settings]),
                "seed": seed,
                "budget_minutes": arguments.minutes,
                "wall_minutes": (time.monotonic() - started) / 60,
                **figures,
            }
            rows.append(row)
            print(
                f"{row['system']:<48} {seed:>4} {row['minutes']:>6.2f} {row['wall_minutes']:>6.2f} {row['epochs']:>6} "
                f"{row['eer']:>8.2%} {row['centered_eer']:>8.2%} {row['min_dcf']:>7.3f}"
                + (f" {row['system_eer']:>8.2%} {row['calibration_loss']:>6.3f}" if "system_eer" in row else ""),
                flush=True,
            )
            write_json(arguments.json, rows)
    assert len({row["num_trials"] for row in rows}) == 1, "the systems were not tested on the same trials"
    print_summary(rows)


if __name__ == "__main__":
    main()
