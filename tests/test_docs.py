"""The documentation's pages: each has a kind and a place in the index, each link leads somewhere, each snippet runs."""

from __future__ import annotations

import csv
import functools
import re
import shutil
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from scipy.signal import resample_poly

import xvectors
from support.commands import run
from support.documents import BLOCK, ROOT, PageRun, blocks_of
from support.kaldi_models import draw_backend, draw_network, model_folder, network_bytes, write_backend
from support.onnx_networks import write_network
from support.published import golden, golden_checkpoint
from xvectors import load_recipe
from xvectors.backends import PLDA, load_backend
from xvectors.config import extensions
from xvectors.corpus.synth import synthesize
from xvectors.metrics import ROC
from xvectors.trials import all_pairs

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
KINDS = {"tutorials", "how-to", "reference", "explanation"}
DIM = 8
SHORT = [
    "training.epochs=1",
    "training.workers=0",
    "training.batch_size=16",
    "training.precision=float32",
    "data.chunk_min_s=0.5",
    "data.chunk_max_s=0.8",
    "data.validation_chunk_s=0.8",
]
"""Settings with which the training of a page takes seconds."""
SMALL = {
    "resnet": ["model.channels=4", "model.embedding_dim=16"],
    "xvector": ["model.size=0.1"],
    "lab": ["model.size=0.1"],
    "distill": [
        *("model.channels=4", "model.embedding_dim=16"),
        *("distillation.voices=1", "distillation.moods=1", "distillation.recordings_per_copy=1"),
    ],
}
"""The same for the network, by recipe."""


def links(page: Path) -> list[str]:
    """Relative targets of a page's links, without those in code blocks."""
    prose = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return [found for found in re.findall(r"\]\(([^)\s]+)\)", prose) if "://" not in found]


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub and MkDocs make them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def test_every_page_has_a_kind_and_is_in_the_index_and_in_the_site() -> None:
    indexed = {(DOCS / link).resolve() for link in links(DOCS / "index.md")}
    pages = {page for page in PAGES if page.name != "index.md"}
    assert pages == {path for path in indexed if DOCS in path.parents}
    assert {page.parent.name for page in pages} == KINDS
    in_site = re.findall(r"^ +- ([\w-]+/[\w-]+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    assert pages == {DOCS / name for name in in_site if not name.startswith("project/")}


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "SECURITY.md", *PAGES], ids=named)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page}: {link}"
        assert not anchor or anchor in anchors(target), f"{page}: {link}"


def test_every_page_that_code_names_exists() -> None:
    places = [path for folder in ("src", "tests", "tools", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
    found = {
        (named(path), name)
        for path in places
        for name in re.findall(r"\bdocs/[\w/-]+\.md", path.read_text(encoding="utf-8"))
    }
    assert ("src/xvectors/config/schema.py", "docs/how-to/extend.md") in found
    missing = {name for _, name in found if not (ROOT / name).is_file()}
    assert missing <= {"docs/voices.md"}  # a page of espeak-ng


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "SECURITY.md", *PAGES], ids=named)
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    found = re.findall(r"(?<![\w/])(?:src|tests|benchmarks|tools|examples)/[\w/-]+(?:\.\w+)?", text)
    assert [name for name in found if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=named)
def test_no_line_of_prose_or_code_is_longer_than_120_characters(page: Path) -> None:
    """Tables and what commands print may be."""
    text = page.read_text(encoding="utf-8")
    text = BLOCK.sub(lambda block: "" if block["language"] in ("", "text") else block[0], text)
    long = [line for line in text.splitlines() if len(line) > 120 and line[:1] != "|"]
    assert not long


def shorten(arguments: Sequence[str]) -> list[str]:
    """A command's arguments, changed so that it takes seconds."""
    arguments = list(arguments)
    if arguments[0] == "synth":
        num = arguments.index("--num-speakers") + 1
        arguments[num] = str(min(int(arguments[num]), 30))
        return [*arguments, "--num-utterances", "4", "--workers", "1"]
    if arguments[0] != "train" or "--resume" in arguments:
        return arguments
    if "--minutes" in arguments:
        at = arguments.index("--minutes")
        del arguments[at : at + 2]
    recipe = arguments[arguments.index("--recipe") + 1] if "--recipe" in arguments else "resnet"
    recipe = "distill" if "--teacher" in arguments else recipe
    small = [] if "--from" in arguments else SMALL.get(recipe, [])
    return [*arguments, "--device", "cpu", "-q", *(word for each in [*SHORT, *small] for word in ("--set", each))]


def write_rows(path: Path, rows: Sequence[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the pages take for granted: corpora, recordings, a trained system and files of scores."""
    here = tmp_path_factory.mktemp("pages")
    for name, speakers, utterances, seed in (("my-recordings", 20, 5, 1), ("others", 8, 4, 2), ("impostors", 12, 2, 3)):
        synthesize(here / name, speakers=speakers, utterances=utterances, seed=seed, workers=1, progress=False)
        if name != "my-recordings":  # other people have other names
            for path in sorted((here / name).rglob("synth-*"), reverse=True):
                path.rename(path.with_name(path.name.replace("synth", name)))
            table = here / name / "metadata.csv"
            table.write_text(table.read_text().replace("synth-", f"{name}-"))
    shutil.copytree(here / "others", here / "new-domain")
    shutil.copytree(here / "my-recordings", here / "my-corpus" / "all")
    voices = sorted((here / "others").glob("*/*.flac"))
    ann, bob = voices[:4], voices[4:8]
    for name, source in zip(("a", "b", "a1", "a2", "c1", "d1", "x"), (*ann, *ann), strict=False):
        soundfile.write(here / f"{name}.wav", *soundfile.read(source))
    for name, source in zip(("b1", "b2", "y"), bob, strict=False):
        soundfile.write(here / f"{name}.wav", *soundfile.read(source))
    narrow = resample_poly(resample_poly(soundfile.read(ann[1])[0], 1, 2), 2, 1)
    soundfile.write(here / "b.wav", narrow, 16_000)  # as on a telephone
    shutil.copy(ann[1], here / "b.flac")
    (here / "calls" / "line1").mkdir(parents=True)
    left, right = (soundfile.read(path)[0][:32_000] for path in (ann[0], bob[0]))
    soundfile.write(here / "calls" / "line1" / "call.wav", np.stack([left, right], axis=1), 16_000)
    shutil.copy(here / "calls" / "line1" / "call.wav", here / "call.wav")
    meeting = np.concatenate([soundfile.read(path)[0] for pair in zip(ann, bob, strict=True) for path in pair])
    soundfile.write(here / "meeting.wav", meeting, 16_000)
    rng = np.random.default_rng(0)
    for name in ("a", "b", "dev-a", "dev-b"):
        trials = [
            (f"s{i}/1", f"s{i + j}/2", 1 - min(j, 1), rng.normal(2 - 4 * min(j, 1)))
            for i in range(20)
            for j in range(4)
        ]
        write_rows(here / f"{name}.csv", [("enroll", "test", "target", "score"), *trials])
    run("trials", here / "others", "-o", here / "trials.csv")
    voices = [sorted(folder.glob("*.flac")) for folder in sorted((here / "my-recordings").glob("synth-*"))]
    names = [[str(path.relative_to(here / "my-recordings").with_suffix("")) for path in paths] for paths in voices]
    enrolled = [f"model{i} {first} {second}\n" for i, (first, second, *_) in enumerate(names)]
    (here / "enroll.txt").write_text("".join(enrolled))
    tested = [
        f"model{i} {each[2]} {'non' * (i != j)}target\n" for i in range(len(names)) for j, each in enumerate(names)
    ]
    (here / "models.txt").write_text("".join(tested))
    for out, seed in (("exp/xv", 0), ("exp/new", 1)):
        run(*shorten(["train", str(here / "my-recordings"), "-o", str(here / out), "--set", f"training.seed={seed}"]))
    return here


def drawn(num_speakers: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    speakers = np.repeat(np.arange(num_speakers), 6)
    rows = rng.standard_normal((num_speakers, DIM))[speakers] + 0.5 * rng.standard_normal((len(speakers), DIM))
    return rows.astype(np.float32), speakers


def embeddings_of_a_backend() -> dict[str, Any]:
    (train, speakers), (new, names), (held_out, others) = drawn(30, seed=0), drawn(20, seed=1), drawn(10, seed=2)
    rng = np.random.default_rng(0)
    labels = np.arange(4000) % 2 == 0
    dev, scores = (np.where(labels[:, None], 1, -1) * [0.6, 1.2] + rng.normal(size=(4000, 2)) for _ in range(2))
    return {
        "train_embeddings": train,
        "train_speakers": speakers,
        "held_out_embeddings": held_out,
        "held_out_speakers": others,
        "new_embeddings": 2 * new + 1,
        "enroll_embeddings": 2 * new[:5] + 1,
        "test_embeddings": 2 * new[5:] + 1,
        "test_speakers": names[5:],
        "model_index": np.array([0, 1]),
        "test_index": np.array([1, 2]),
        "dev_scores": dev,
        "dev_labels": labels,
        "system_scores": scores,
    }


def measured_with_noise(folder: str, *, data: str = "test") -> SimpleNamespace:
    """An evaluation in which noise takes from the score, and the shorter an embedding the more its score scatters."""
    assert folder == "exp/xv"
    rng = np.random.default_rng(["dev", "test"].index(data))
    num = 200
    trials = all_pairs(np.repeat(np.arange(20), 10))
    snr_db = rng.uniform(0, 30, num)
    log_lengths = rng.uniform(-2, 1, num)
    rows = rng.standard_normal((num, DIM))
    rows *= np.exp(log_lengths)[:, None] / np.linalg.norm(rows, axis=1, keepdims=True)
    worse_db = np.minimum(snr_db[trials.enroll], snr_db[trials.test])
    chance = 0.03 * np.exp(-np.minimum(log_lengths[trials.enroll], log_lengths[trials.test]))
    scores = 0.3 * trials.target + 0.02 * worse_db + chance * rng.standard_normal(len(trials))
    return SimpleNamespace(
        trials=trials,
        scores=scores,
        embeddings=rows.astype(np.float32),
        duration_s=rng.uniform(1, 9, num),
        snr_db=np.where(np.arange(num) == 7, np.nan, snr_db),
    )


def given(page: str) -> dict[str, Any]:
    """Names that a page's Python takes for granted."""
    if page == "reference/backends.md":
        return embeddings_of_a_backend()
    if page == "reference/scores.md":
        return {"embedded_names": [f"s{i}/{j}" for i in range(30) for j in (1, 2)]}
    if page == "reference/metrics.md":
        labels = np.arange(400) % 2 == 0
        rng = np.random.default_rng(0)
        return {
            "enroll_s": rng.uniform(1, 9, 400),
            "test_s": rng.uniform(1, 9, 400),
            "scores": labels + rng.normal(size=400),
            "labels": labels,
        }
    if page == "how-to/embed.md":
        return {"microphone": np.random.default_rng(0).normal(0, 0.1, (8, 24_000)).astype(np.float32)}
    if page == "how-to/integrate.md":
        noise = np.random.default_rng(0).normal(0, 0.1, (2, 1, 32_000)).astype(np.float32)
        return {
            "paths": ["a.wav", "a1.wav", "b1.wav", "b2.wav"],
            "speakers": ["ann", "ann", "bob", "bob"],
            "waveforms": torch.from_numpy(noise),
            "masks": torch.ones(2, 100),
        }
    return {}


def needs_workplace(page: str) -> bool:
    """Whether a page's snippets use recordings or systems."""
    text = "".join(block.text for block in blocks_of(DOCS / page))
    return page not in LIGHT and re.search(r"^xvectors |SpeakerEncoder|exp/xv|\.wav", text, re.MULTILINE) is not None


def run_page(page: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> PageRun:
    """Run all of a page's snippets in `folder`/here."""
    here = folder / "here"
    monkeypatch.chdir(here)
    monkeypatch.syspath_prepend(here)
    for name, value in {
        "HOME": folder,
        "XDG_DATA_HOME": folder / "data",
        "XVECTORS_GALLERY": folder / "g.sqlite",
    }.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.delenv(extensions.TRUST_VARIABLE, raising=False)
    monkeypatch.setattr(extensions, "_trusted", set())
    for kind in (extensions.BACKBONES, extensions.LOSSES, extensions.AUGMENTATIONS):
        monkeypatch.setattr(kind, "registered", {})

    def short_recipe(name: str, overrides: Sequence[str] = ()) -> Any:
        return load_recipe(name, [*overrides, *SHORT, *SMALL.get(name, [])])

    short_train = functools.partial(xvectors.train, device="cpu")
    monkeypatch.setattr(xvectors, "load_recipe", short_recipe, raising=False)
    monkeypatch.setattr(xvectors, "train", short_train, raising=False)
    modules = set(sys.modules)
    page_run = PageRun(monkeypatch, shorten, given(page))
    try:
        page_run.run(blocks_of(DOCS / page))
    finally:
        for name in set(sys.modules) - modules:
            if name.partition(".")[0] in ("mypackage", "dataset", "models"):
                del sys.modules[name]
    return page_run


NAMES = [str(page.relative_to(DOCS)) for page in PAGES]
LIGHT = ["reference/metrics.md", "reference/scores.md"]
"""Pages whose snippets run here without a trained system."""
HEAVY = [name for name in NAMES if needs_workplace(name)]


def check_every_block_ran(page: str, page_run: PageRun) -> None:
    blocks = [block for block in blocks_of(DOCS / page) if block.language in ("sh", "python")]
    assert page_run.count == sum(block.why_not is None for block in blocks)


@pytest.mark.parametrize("page", [name for name in NAMES if name not in HEAVY])
def test_every_snippet_of_a_light_page_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xvectors.evaluation.measure_system", measured_with_noise)
    (tmp_path / "here").mkdir()
    pairs = [("enroll", "test", "target"), ("s1/1", "s1/2", 1), ("s1/1", "s2/2", 0)]
    write_rows(tmp_path / "here" / "trials.csv", pairs)
    page_run = run_page(page, tmp_path, monkeypatch)
    check_every_block_ran(page, page_run)
    found = page_run.namespace
    if page == "reference/backends.md":
        saved = load_backend("adapted.npz")
        new = found["new_embeddings"]
        assert isinstance(saved.scorer, PLDA)
        np.testing.assert_allclose(saved.scorer.mean_, saved.transform(new).mean(axis=0), atol=1e-5)
        np.testing.assert_allclose(found["fusion"].weights_, [1.2, 2.4], rtol=0.15)
        assert np.mean((found["llrs"] > 0) == found["dev_labels"]) > 0.89
    if page == "reference/metrics.md":
        target = found["test"].trials.target
        plain = type(found["calibration"])().fit(found["dev"].scores, found["dev"].trials.target)
        costs = [
            ROC.from_scores(llrs[target], llrs[~target]).cllr()
            for llrs in (found["llrs"], plain.transform(found["test"].scores))
        ]
        assert costs[0] < 0.65 * costs[1]


def write_published_models(here: Path) -> None:
    """Models of other toolkits, with weights by a formula, under the names that the pages use."""
    torch.save(golden_checkpoint(golden("3dspeaker-campplus")), here / "campplus_cn_en_common.pt")
    torch.save(golden_checkpoint(golden("wespeaker-ecapa")), here / "model.pt")
    write_network(here / "other.onnx", metadata={"framework": "wespeaker"})
    network = network_bytes(draw_network(30), binary=True)
    kaldi = model_folder(here / "0007_voxceleb_v2_1a", [("exp/xvector_nnet_1a/final.raw", network)])
    write_backend(kaldi / "exp" / "xvector_nnet_1a" / "xvectors_train", draw_backend(4), binary=True)
    with tarfile.open(here / "0007_voxceleb_v2_1a.tar.gz", "w:gz") as archive:
        archive.add(kaldi, kaldi.name)
    shutil.copytree(here / "others", here / "recordings")


def write_dated_calls(here: Path) -> None:
    """A gallery and a manifest with dates, and a system whose calibration knows conditions."""
    run("calibrate", here / "exp" / "xv", "--data", here / "my-recordings", "--device", "cpu", "-q")
    run("enroll", "ann", here / "a1.wav", "--system", here / "exp" / "xv", "--gallery", here / "team.sqlite")
    voices = sorted((here / "others").glob("*/*.flac"))
    rows = [(path.relative_to(here), path.parent.name, f"2026-0{1 + at % 4}-15") for at, path in enumerate(voices)]
    write_rows(here / "calls.csv", [("path", "speaker", "date"), *rows])


@pytest.mark.slow
@pytest.mark.parametrize("page", HEAVY)
def test_every_snippet_of_a_page_runs(
    page: str, workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = shutil.copytree(workplace, tmp_path / "here")
    if page == "how-to/train.md":
        shutil.rmtree(here / "exp")
    if page == "explanation/results.md":
        shutil.move(here / "exp" / "xv", here / "exp" / "accuracy" / "system0-seed3")
        shutil.copytree(here / "my-recordings", here / "shared" / "data" / "speechocean762")
        shutil.copytree(here / "others", here / "shared" / "data" / "alphanumeric-accents")
    if page in ("how-to/import-a-model.md", "reference/published-models.md", "explanation/results.md"):
        write_published_models(here)
    if page == "how-to/calibrate.md":
        run("embed", here / "my-recordings", "--system", here / "exp" / "xv", "-o", here / "vectors.npz")
        run("trials", here / "my-recordings", "-o", here / "trials.txt")
        shutil.copy(here / "my-recordings" / "metadata.csv", here / "speakers.csv")
        shutil.copytree(here / "impostors", here / "our-calls")
    if page == "how-to/drift.md":
        write_dated_calls(here)
    check_every_block_ran(page, run_page(page, tmp_path, monkeypatch))
