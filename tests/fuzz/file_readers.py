"""Whole files of every kind that users hand in, and the reader of each. In: a folder. Out: readers, ready to be fuzzed.

Recordings are fuzzed beside the readers of sound.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from campaign import Reader
from pyarrow import parquet

from support.kaldi_models import draw_backend, draw_network, model_folder, network_bytes, write_backend
from xvectors.backends import AffineCalibration, load_fusion, make_backend, save_fusion
from xvectors.backends.fusion import Fusion
from xvectors.config import load_recipe
from xvectors.corpus import open_corpus
from xvectors.corpus.metadata import read_metadata
from xvectors.corpus.scanning import read_left_out
from xvectors.embeddings import load_embeddings
from xvectors.encoder import SpeakerEncoder
from xvectors.encoder.sharded import DESCRIPTION, DIFFERENCES, read_parts
from xvectors.evaluation.system import read_history
from xvectors.gallery import Gallery, SqliteStore, export_gallery, import_gallery
from xvectors.models import EmbeddingMap
from xvectors.system import SystemFolder
from xvectors.system.importers import convert
from xvectors.system.serialization import kept_epoch, make_model, write_description, write_weights
from xvectors.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from xvectors.trials import all_pairs
from xvectors.trials.enrollment import read_enrollment
from xvectors.trials.list_files import read_trials
from xvectors.trials.score_files import read_scores
from xvectors.verification import Verifier, cosine_verifier, fingerprint_of, save_verifier, verifier_of
from xvectors.verification.verifier import QUALITY_NAMES, duration_quality

DIM = 8
KALDI_FAMILY = "kaldi-xvector"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)

MANIFEST = (
    "path,speaker,gender,age,session,start_s,duration_s,note\n"
    'a/one.wav,ann,f,31,day1,0,2.5,"said ""hello"", twice"\n'
    "a/two.wav,ann,f,31,day2,1.25,3.0,\n"
    "b/one.flac,Bj\u00f6rn,m,47,day1,0.5,4.125,x\n"
    "b/two.flac,Bj\u00f6rn,m,,day2,0,1,\n"
)
VOXCELEB = "VoxCeleb1 ID\tVGGFace1 ID\tGender\tNationality\tSet\nid10001\tA.B.\tm\tIreland\tdev\n"
LEFT_OUT = "path,speaker,outcome,reason,detail\na.wav,ann,left out,unreadable,it is no sound\n"
NEMO = (
    '{"audio_filepath": "a/one.wav", "duration": 2.5, "label": "ann", "offset": 0.5}\n'
    '{"audio_filepath": "b/one.wav", "duration": 3, "label": "bob", "offset": 0, "text": null}\n'
)
KALDI = {
    "wav.scp": "rec1 a/one.wav\nrec2 b/one.wav\n",
    "utt2spk": "utt1 ann\nutt2 ann\nutt3 bob\n",
    "segments": "utt1 rec1 0.0 2.5\nutt2 rec1 2.5 4\nutt3 rec2 1.25 -1\n",
    "spk2gender": "ann f\nbob m\n",
    "spk2age": "ann 31\nbob 47\n",
}
TEXTS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "manifest.csv": (MANIFEST, lambda path: open_corpus(path)),
    "manifest.tsv": (MANIFEST.replace(",", "\t"), lambda path: open_corpus(path)),
    "manifest.jsonl": (NEMO, lambda path: open_corpus(path)),
    "speakers-meta.csv": ("speaker,gender,age\nann,f,31\nbob,m,47\n", read_metadata),
    "vox1_meta.csv": (VOXCELEB, read_metadata),
    "trials.txt": ("1 a.wav b.wav\n0 a.wav c.wav\n0 b.wav c.wav\n", read_trials),
    "trials.csv": ("enroll,test,target\na.wav,b.wav,1\na.wav,c.wav,0\n", read_trials),
    "scores.txt": ("a.wav b.wav 2.25 target\na.wav c.wav -3.5e-1 nontarget\n", read_scores),
    "scores.csv": ("enroll,test,llr,target\na.wav,b.wav,2.25,1\na.wav,c.wav,-3.5,0\n", read_scores),
    "bulk-scores.txt": ("a.wav b.wav 2.25 target\na.wav c.wav -3.5e-1 nontarget\n" * 4, lambda path: bulk(path)),
    "enrollment.txt": ("m1 a.wav b.wav\nm2 c.wav\n", read_enrollment),
    "enrollment.csv": ("modelid,segmentid,side\nm1,a.wav,a\nm2,c.wav,b\n", read_enrollment),
    "left_out.csv": (LEFT_OUT, read_left_out),
    "history.csv": ("epoch,training_loss,validation_accuracy\n1,3.5,0.25\n2,2.5,0.5\n", read_history),
}  # fmt: skip


def make_readers(folder: Path) -> list[Reader]:
    """Every reader with a small whole file of its own below `folder`."""
    return [
        *_texts(folder),
        *_kaldi(folder / "kaldi"),
        *_kaldi_models(folder / "kaldi_models"),
        *_recipes(folder / "recipes"),
        *_system(folder / "system"),
        *_embeddings(folder),
        *_parts(folder / "parts"),
        *_galleries(folder / "galleries"),
    ]


def bulk(path: Path) -> object:
    from xvectors.trials.score_bulk import Irregular, read_bulk
    from xvectors.trials.score_lines import form_of

    try:
        return read_bulk(path, form_of(path))
    except Irregular:
        return read_scores(path)


def write_system(folder: Path) -> SystemFolder:
    """A small untrained network, with a back-end and a calibration that were learned on drawn embeddings."""
    paths = SystemFolder(folder)
    recipe = load_recipe(
        "xvector", ["model.size=0.05", f"model.embedding_dim={DIM}", "features.num_mels=20", "model.batch_norm=true"]
    )
    torch.manual_seed(1)
    model = make_model(recipe, 3)
    write_description(paths, recipe, ["ann", "bob", "Björn"])
    write_weights(paths, model.state_dict(), 1, EmbeddingMap(torch.randn(DIM), torch.randn(DIM, DIM)))
    rng = np.random.default_rng(0)
    speakers = np.repeat(np.arange(12), 6)
    rows = rng.standard_normal((12, DIM))[speakers] + 0.7 * rng.standard_normal((len(speakers), DIM))
    backend = make_backend("wccn").fit(rows, speakers)
    trials, seconds = all_pairs(speakers), rng.uniform(1, 8, len(speakers))
    quality = duration_quality(seconds[trials.enroll], seconds[trials.test])
    calibration = AffineCalibration().fit(backend.score(rows, trials), trials.target, quality, QUALITY_NAMES)
    verifier = Verifier(backend=backend, name="wccn", calibration=calibration, basis={"speakers": ["ann", "bob"]})
    own = fingerprint_of(paths)
    save_verifier(verifier, backend=paths.backend, calibration=paths.calibration, fingerprint=own)
    return paths


def _texts(folder: Path) -> list[Reader]:
    readers = []
    for name, (text, read) in TEXTS.items():
        path = folder / "texts" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        readers.append(Reader(name, path, lambda read=read, path=path: read(path)))
    return readers


def _kaldi(folder: Path) -> list[Reader]:
    folder.mkdir(parents=True)
    for name, text in KALDI.items():
        (folder / name).write_text(text)
    return [Reader(f"kaldi {name}", folder / name, lambda: open_corpus(folder)) for name in KALDI]


def _kaldi_models(folder: Path) -> list[Reader]:
    readers = []
    for kind in ("binary", "text"):
        own = model_folder(folder / kind, [("final.raw", network_bytes(draw_network(23), binary=kind == "binary"))])
        write_backend(own, draw_backend(4), binary=kind == "binary")
        readers += [
            Reader(f"{kind} {name}", own / name, lambda own=own: convert(own / "final.raw", KALDI_FAMILY))
            for name in ("final.raw", "plda", "transform.mat")
        ]
    return readers


def _recipes(folder: Path) -> list[Reader]:
    folder.mkdir(parents=True)
    own, based = folder / "own.toml", folder / "based.toml"
    own.write_text(
        'name = "own"\n[model]\nname = "xvector"\nsize = 0.5\nembedding_dim = 64\n[features]\nnum_mels = 40\n'
        "[training]\nepochs = 5\nlearning_rate = 1e-3\n[data]\nchunk_min_s = 2.0\n[augment]\nnoise_prob = 0.0\n"
    )
    based.write_text('base = "resnet"\n[model]\nchannels = 16\n[loss]\nmargin = 0.2\n')
    return [Reader(f"recipe {path.name}", path, lambda path=path: load_recipe(path)) for path in (own, based)]


def _system(folder: Path) -> list[Reader]:
    paths = write_system(folder)
    sound = np.random.default_rng(1).standard_normal(16_000).astype(np.float32) / 10

    def use() -> None:
        encoder = SpeakerEncoder.from_pretrained(folder, device="cpu")
        encoder.encode([sound])

    def decide() -> None:
        verifier = verifier_of(paths)
        if verifier.is_calibrated:
            trials = all_pairs(np.array([0, 0, 1]))
            scores = verifier.score(np.eye(3, DIM, dtype=np.float32), trials)
            verifier.trial_llrs(scores, trials, np.eye(3, DIM, dtype=np.float32), np.ones(3))

    def weigh() -> None:
        kept_epoch(paths)
        paths.calibration.unlink(missing_ok=True)  # it is bound to other weights
        use()

    state = {"weight": torch.randn(4, 3)}
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(2))], momentum=0.9).state_dict()
    checkpoint = Checkpoint(model=state, optimizer=optimizer, epoch=2, history=[{"loss": 1.5}], unreadable={3: "gone"})
    save_checkpoint(checkpoint, paths.checkpoint)
    fusion = Fusion().fit(*np.random.default_rng(2).standard_normal((2, 20, 2)))
    save_fusion(folder.parent / "fusion.npz", fusion)
    return [
        Reader("system.toml", paths.description, use),
        Reader("speakers.csv", paths.speakers, use),
        Reader("calibration.toml", paths.calibration, decide),
        Reader("backend.npz", paths.backend, decide),
        Reader("checkpoint.pt", paths.checkpoint, lambda: load_checkpoint(paths.checkpoint, torch.device("cpu"))),
        Reader("fusion.npz", folder.parent / "fusion.npz", lambda: load_fusion(folder.parent / "fusion.npz")),
        Reader("model.safetensors", paths.weights, weigh),
    ]


def _embeddings(folder: Path) -> list[Reader]:
    path, packed = folder / "embeddings.npz", folder / "packed.npz"
    columns = {
        "embeddings": np.eye(4, DIM, dtype=np.float32),
        "speaker": np.array(["ann", "ann", "bob", "Björn"]),
        "duration_s": np.array([1.0, 2.0, 3.0, np.nan]),
    }
    np.savez(path, **columns)
    np.savez_compressed(packed, **columns)
    table = folder / "embeddings.csv"
    header = ["id", "speaker", "duration_s", *(f"e{at}" for at in range(DIM))]
    rows = [[f"u{at}", "ann", "1.5", *map(str, np.eye(4, DIM)[at])] for at in range(4)]
    table.write_text("\n".join(",".join(row) for row in [header, *rows]) + "\n")
    return [
        Reader(f"embeddings {each.name}", each, lambda each=each: load_embeddings(each, "speaker", "duration_s"))
        for each in (path, packed, table)
    ]


def _parts(folder: Path) -> list[Reader]:
    readers = []
    for part_format in ("parquet", "npz"):
        parts = folder / part_format
        parts.mkdir(parents=True)
        description = dict.fromkeys(DIFFERENCES, 1) | {"num_rows": 2, "rows_per_part": 2, "part_format": part_format}
        (parts / DESCRIPTION).write_text(json.dumps(description | {"embedding_dim": DIM}))
        columns = {name: np.array(["x", "y"]) for name in ("id", "path", "speaker")}
        columns |= {"gender": np.array([1, 0], np.int8), "age": np.array([1, 2], np.int16)}
        columns |= {"duration_s": np.ones(2), "speech_s": np.ones(2)}
        rows = np.eye(2, DIM, dtype=np.float32)
        conditions = np.ones((2, 6), dtype=np.float32)
        part = parts / f"part-00000.{part_format}"
        if part_format == "npz":
            np.savez(part, embeddings=rows, condition=conditions, **columns)
        else:
            vectors = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), DIM)
            measures = pa.FixedSizeListArray.from_arrays(pa.array(conditions.reshape(-1)), 6)
            table = pa.table(
                {name: pa.array(column.tolist()) for name, column in columns.items()}
                | {"embedding": vectors, "condition": measures}
            )
            parquet.write_table(table, part)
        readers += [
            Reader(f"{part_format} {path.name}", path, lambda parts=parts: read_parts(parts))
            for path in (part, parts / DESCRIPTION)
        ]
    return readers


def _galleries(folder: Path) -> list[Reader]:
    verifier = cosine_verifier()
    rows = np.random.default_rng(3).standard_normal((4, DIM)).astype(np.float32)
    opened, source, mine = folder / "opened.sqlite", folder / "source.sqlite", folder / "mine.sqlite"
    with Gallery(SqliteStore(folder / "made.sqlite", create=True), system="a" * 64, verifier=verifier) as gallery:
        gallery.enroll("ann", rows[:2], [3.0, 4.0], consent="on paper")
        gallery.enroll("Björn", rows[2:], [3.0, 4.0])
        export_gallery(gallery.store, opened)
        export_gallery(gallery.store, source)

    def use() -> None:
        with Gallery(SqliteStore(opened), system="a" * 64, verifier=verifier) as gallery:
            gallery.store.speakers(NOON)
            gallery.identify(rows[0], 3.0)
            gallery.enroll("carol", rows[1:2], [2.0])
            gallery.store.forget("carol")

    def take() -> None:
        mine.unlink(missing_ok=True)
        with Gallery(SqliteStore(mine, create=True), system="a" * 64, verifier=verifier) as gallery:
            import_gallery(gallery, source)

    def beside(path: Path) -> list[Path]:
        return [path.with_name(path.name + suffix) for suffix in ("-wal", "-shm", "-journal")]

    return [
        Reader("gallery opened", opened, use, beside(opened)),
        Reader("gallery imported", source, take, [*beside(source), *beside(mine)]),
    ]
