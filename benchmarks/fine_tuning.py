"""Fine-tuning with few speakers: 15 speakers x 20 recordings, against cosine with the start as it is.

    python benchmarks/fine_tuning.py CORPUS --start starter
    python benchmarks/fine_tuning.py MANIFEST --start DIR --seeds 0 1 2 --set training.backbone_rate=0.05

CORPUS has speakers that the start has not heard; of a manifest with test speakers, such as OUT/manifest.csv of
benchmarks/accuracy.py, they alone count. For every seed 15 of them are drawn; three quarters of what they said
fine-tunes, the rest is tested: against the mean embedding of each one's training recordings (`identified`: the nearest
is the right one; `enrolled EER`: over all pairs of test recording and speaker). `unseen EER` is over all pairs of the
recordings of all other speakers. `--scratch` also trains the default recipe from random weights on the same recordings,
for as many epochs.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

import numpy as np

from _timing import Row, write_json
from _unseen import unheard
from xvectors import Manifest, SpeakerEncoder, load_recipe, open_corpus, train
from xvectors.backends import all_pairs_scores
from xvectors.corpus import TEST, TRAIN, VAL
from xvectors.metrics import eer

TRAIN_SHARE = 0.75
SCRATCH = ("data.train_test_prop=1.0", "data.held_out_prop=0.0", "training.minutes=0")
FIGURES = ("identified", "enrolled_eer", "unseen_eer")


def divide(corpus: Manifest, speakers: int, utterances: int, seed: int) -> Manifest:
    """`speakers` drawn ones with up to `utterances` recordings each to train and val, all others to test."""
    generator = np.random.default_rng(seed)
    counts = np.bincount(corpus.speaker_index)
    drawn = generator.permutation(np.flatnonzero(counts >= 4))[:speakers]
    split = np.full(len(corpus), TEST, dtype=np.int8)
    kept = np.ones(len(corpus), dtype=bool)
    for speaker in drawn:
        rows = generator.permutation(np.flatnonzero(corpus.speaker_index == speaker))
        used = rows[:utterances]
        kept[rows[utterances:]] = False
        split[used] = VAL
        split[used[: round(TRAIN_SHARE * len(used))]] = TRAIN
    return corpus.with_columns(split=split).take(np.flatnonzero(kept))


def measure(encoder: SpeakerEncoder, corpus: Manifest) -> dict[str, float]:
    embedded = encoder.encode_manifest(corpus)
    assert not embedded.failures, embedded.failures[:3]
    units = embedded.embeddings / np.linalg.norm(embedded.embeddings, axis=1, keepdims=True)
    enrolled, tested, unseen = (corpus.split == part for part in (TRAIN, VAL, TEST))
    speakers = np.unique(corpus.speaker_index[enrolled])
    models = np.stack([units[enrolled & (corpus.speaker_index == speaker)].mean(axis=0) for speaker in speakers])
    models /= np.linalg.norm(models, axis=1, keepdims=True)
    scores = units[tested] @ models.T
    own = corpus.speaker_index[tested][:, None] == speakers[None]
    return {
        "identified": float(own[np.arange(len(scores)), scores.argmax(axis=1)].mean()),
        "enrolled_eer": eer(scores[own], scores[~own]).eer,
        "unseen_eer": eer(*all_pairs_scores(units[unseen], corpus.speaker_index[unseen])).eer,
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("corpus", help="what `xvectors train` takes")
    options.add_argument("--start", default="starter", help="a system directory, or starter")
    options.add_argument("--speakers", type=int, default=15)
    options.add_argument("--utterances", type=int, default=20)
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    options.add_argument("--scratch", action="store_true", help="train from random weights as well")
    options.add_argument("--json", type=Path, help="write the rows to this file")
    arguments = options.parse_args()
    corpus = unheard(open_corpus(arguments.corpus), SpeakerEncoder.from_pretrained(arguments.start).speakers)
    recipe = load_recipe("finetune", arguments.settings)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as scratch:
        for seed in arguments.seeds:
            divided = divide(corpus, arguments.speakers, arguments.utterances, seed)
            manifest = Path(scratch, "manifest.csv")
            divided.write_csv(manifest)
            start = SpeakerEncoder.from_pretrained(arguments.start)
            result = train(manifest, Path(scratch, "tuned"), recipe, start=arguments.start, overwrite=True)
            systems = {"start": start, "fine-tuned": SpeakerEncoder.from_pretrained(result.folder.path)}
            seconds = dict.fromkeys(systems, result.epochs[-1].elapsed_s)
            if arguments.scratch:
                new = load_recipe("resnet", [*SCRATCH, f"training.epochs={recipe.training.epochs}"])
                result = train(manifest, Path(scratch, "new"), new, overwrite=True)
                systems["from scratch"] = SpeakerEncoder.from_pretrained(result.folder.path)
                seconds["from scratch"] = result.epochs[-1].elapsed_s
            for name, encoder in systems.items():
                rows.append({"system": name, "seed": seed, "train_s": seconds[name]})
                rows[-1] |= measure(encoder, divided)
                print(f"seed {seed} {name:<12}", *(f"{f} {rows[-1][f]:.2%} " for f in FIGURES), flush=True)
    for name in dict.fromkeys(row["system"] for row in rows):
        means = {f: statistics.mean(row[f] for row in rows if row["system"] == name) for f in FIGURES}
        print(f"mean   {name:<12}", *(f"{f} {means[f]:.2%} " for f in FIGURES))
    write_json(arguments.json, rows)


if __name__ == "__main__":
    main()
