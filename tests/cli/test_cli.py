"""The commands as a user types them."""

from __future__ import annotations

import csv
import itertools
import json
import os
import re
import shlex
import subprocess
import sys
from collections import Counter
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import typer

from support.commands import run
from xvectors.cli import app
from xvectors.cli.shared import EMBED, MEASURE, RECOGNIZE, TRAIN, TRY
from xvectors.config import load_recipe, recipe_names
from xvectors.encoder.sharded import read_parts
from xvectors.models import MODELS, PUBLISHED
from xvectors.system import SystemFolder
from xvectors.system.model_card import read_results
from xvectors.verification import fingerprint_of, load_verifier

SETTINGS = [
    "--recipe",
    "xvector",
    "--set",
    "model.size=0.125",
    "--set",
    "training.epochs=2",
    "--set",
    "training.workers=0",
    "--set",
    "data.chunk_min_s=0.5",
    "--set",
    "data.chunk_max_s=0.8",
    "--set",
    "data.validation_chunk_s=0.8",
    "--set",
    "data.train_test_prop=0.7",
    "--device",
    "cpu",
    "--quiet",
]


@pytest.fixture(scope="module")
def system(toy_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("cli") / "system"
    printed = run("train", toy_corpus, "-o", out, *SETTINGS)
    (note,) = (line for line in printed.stderr.splitlines() if line.startswith("note: "))
    assert "from 7 speakers" in note
    assert "--from starter" in note
    return out, printed.stdout


def test_train_prints_the_scan_and_the_epochs(system: tuple[Path, str]) -> None:
    out, printed = system
    lines = printed.splitlines()
    assert any("80" in line and "10 speakers" in line for line in lines)
    assert "speakers: 7 to train, 0 to calibrate on, 3 to test on" in lines
    epochs = [line for line in lines if line.startswith("Epoch [")]
    assert len(epochs) == 4  # two as they end, and both again in the list at the end
    assert epochs[:2] == epochs[2:]
    assert lines[-2].startswith("Best validation accuracy: ")
    assert lines[-1] == f"system: {out}"


def test_evaluate_embed_and_plot(system: tuple[Path, str], toy_corpus: Path, tmp_path: Path) -> None:
    out, _ = system
    printed = run("evaluate", out, "--device", "cpu", "-q").stdout
    assert "3 speakers, 24 utterances, 84 target and 192 non-target trials" in printed
    metrics = json.loads((out / "report" / "metrics.json").read_text())
    assert f"EER          {metrics['eer']:.2%}" in printed
    as_json = json.loads(run("evaluate", out, "--device", "cpu", "-q", "--json").stdout)
    assert as_json == metrics
    folder, digest = SystemFolder(out), fingerprint_of(SystemFolder(out))
    verifier = load_verifier(backend=folder.backend, calibration=folder.calibration, fingerprint=digest)
    results, of_other_states = read_results(folder, digest, verifier)
    assert [result.figures["eer"]["value"] for result in results] == [metrics["eer"]]
    assert of_other_states == []
    assert (metrics["num_target_trials"], metrics["num_nontarget_trials"]) == (84, 192)
    assert 0 <= metrics["eer"] <= 1
    assert 0 <= metrics["min_dcf"] <= 1

    printed = run("embed", toy_corpus, "--system", out, "-o", tmp_path / "emb.npz", "--device", "cpu", "-q").stdout
    assert printed == f"80 embeddings of 512 dimensions: {tmp_path / 'emb.npz'}\n"
    with np.load(tmp_path / "emb.npz", allow_pickle=False) as arrays:
        assert arrays["embeddings"].shape == (80, 512)

    paths = run("plot", out, "--device", "cpu", "-q").stdout.split()
    assert [Path(path).name for path in paths] == ["training.png", "speakers.png", "scores.png"]
    assert all(Path(path).read_bytes().startswith(b"\x89PNG") for path in paths)


def test_embed_in_parts(toy_corpus: Path, tmp_path: Path) -> None:
    """Two shards, the first run again, and a recording that is gone."""
    table = tmp_path / "corpus.csv"
    rows = [f"{toy_corpus / f's0{s}' / f'u{u}.flac'},s0{s}" for s in range(5) for u in range(8)]
    table.write_text("\n".join(["path,speaker", *rows, "gone.flac,s04"]) + "\n")
    out = tmp_path / "emb.parquet"
    command = ["embed", table, "-o", out, "--rows-per-part", "10", "--device", "cpu", "--threads", "1", "-q"]
    assert run(*command, "--shard", "1/2").stdout == (
        f"20 embeddings of 128 dimensions in 3 parts: {out}\n1 recording left out, listed in {out / '_failures.csv'}\n"
    )
    assert run(*command, "--shard", "2/2").stdout == f"20 embeddings of 128 dimensions in 2 parts: {out}\n"
    assert run(*command).stdout == f"0 embeddings of 128 dimensions in 0 parts, 5 were there: {out}\n"
    assert "gone.flac: no such file" in (out / "_failures.csv").read_text()
    parts = read_parts(out)
    run("embed", table, "-o", tmp_path / "emb.npz", "--device", "cpu", "-q")
    with np.load(tmp_path / "emb.npz", allow_pickle=False) as arrays:
        assert arrays["id"].tolist() == parts["id"].tolist()
        np.testing.assert_allclose(arrays["embeddings"], parts["embeddings"], atol=1e-4)
        np.testing.assert_array_equal(arrays["duration_s"], parts["duration_s"])
    run(*command[:2], "-o", tmp_path / "npz", "--parts", "npz", "--trim", "energy", "--device", "cpu", "-q")
    assert (tmp_path / "npz" / "part-00000.npz").is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--shard", "1/2"], "--shard writes parts, and emb.npz is one file: end it in .parquet, or add --parts npz"),
        (["--parts", "npz", "--shard", "3/2"], "shard '3/2' must have the form i/n, from 1/n to n/n, as in 1/4"),
        (["--parts", "csv"], "part format 'csv' is unknown; known are npz, parquet"),
        (["--trim", "webrtc"], "trim_silence 'webrtc' is not a VAD; give energy or silero, or none to keep silence"),
        (["--threads", "0"], "threads must be at least 1, not 0"),
    ],
)
def test_embed_with_impossible_options(toy_corpus: Path, options: list[str], message: str) -> None:
    printed = run("embed", toy_corpus, "-o", "emb.npz", *options, "-q", "--device", "cpu", status=2)
    assert printed.stderr == f"error: {message}\n"


def test_calibrate_score_and_compare(system: tuple[Path, str], toy_corpus: Path, tmp_path: Path) -> None:
    """A calibrated system scores a list; its score file is measured; two systems are compared."""
    out, _ = system
    printed = run("calibrate", out, "--data", toy_corpus / "metadata.csv", "--device", "cpu", "-q").stdout
    assert printed.startswith("back-end     cosine: no recordings of training speakers to fit another on\n")
    # some recordings hold too little speech to calibrate on
    assert re.search(r"learned from  10 speakers \(speakers of .*metadata\.csv\), 7\d recordings", printed)

    assert "p_target = 0.5" in (out / "calibration.toml").read_text().split("[decision]")[1]
    run("embed", toy_corpus / "metadata.csv", "--system", out, "-o", tmp_path / "emb.npz", "--device", "cpu", "-q")
    numbers = itertools.product(range(6), range(6), range(3))
    pairs = [(f"s{s:02d}/u{u}", f"s{t:02d}/u{u + 1}", int(s == t)) for s, t, u in numbers]
    trials = tmp_path / "trials.txt"
    trials.write_text("".join(f"{target} {a} {b}\n" for a, b, target in pairs))
    scored = run("score", tmp_path / "emb.npz", "--trials", trials, "-o", tmp_path / "s.csv", "--system", out).stdout
    assert scored == f"108 trials scored by cosine, with LLRs: {tmp_path / 's.csv'}\n"
    run("score", tmp_path / "emb.npz", "--trials", trials, "-o", tmp_path / "cosine.csv")
    as_json = json.loads(
        run("score", tmp_path / "emb.npz", "--trials", trials, "-o", tmp_path / "c.csv", "--json").stdout
    )
    assert as_json == {"num_trials": 108, "backend": "cosine", "has_llrs": False, "path": str(tmp_path / "c.csv")}
    header, first = (tmp_path / "s.csv").read_text().splitlines()[:2]
    assert (header, first.split(",")[:3]) == ("enroll,test,target,score,llr", ["s00/u0", "s00/u1", "1"])

    printed = run("evaluate", "--scores", tmp_path / "s.csv").stdout.splitlines()
    assert printed[0] == "18 target and 90 non-target trials"
    assert printed[1].startswith("EER ")
    figures = json.loads(run("evaluate", "--scores", tmp_path / "s.csv", "--json").stdout)
    assert figures["num_target_trials"] == 18
    assert f"{figures['figures']['eer']['value']:.2%}" in printed[1]

    printed = run("compare", tmp_path / "s.csv", tmp_path / "cosine.csv").stdout
    assert printed.startswith("18 target and 90 non-target trials, ")
    assert "95 % interval" in printed
    as_json = json.loads(run("compare", tmp_path / "s.csv", tmp_path / "cosine.csv", "--json").stdout)
    assert as_json == json.loads((tmp_path / "comparison.json").read_text())
    made = ["trials", toy_corpus / "metadata.csv", "-o", tmp_path / "all.csv", "--json"]
    assert json.loads(run(*made).stdout) == {
        "num_target_trials": 280, "num_nontarget_trials": 2880, "path": str(tmp_path / "all.csv")
    }  # fmt: skip


def test_a_score_file_with_operating_points_at_any_cost(tmp_path: Path) -> None:
    """Targets 2 and 0 (twice), non-targets 1 and -1: accepting from 2 on misses half and costs 0.5 at P = 0.5."""
    (tmp_path / "s.txt").write_text("a1 a2 2 1\na1 a3 0 1\na1 b1 1 0\na2 b1 -1 0\na2 a2 9 1\n")
    costs = ("--p-target", 0.5, "--c-miss", 1, "--c-fa", 10)
    result = run("evaluate", "--scores", tmp_path / "s.txt", *costs)
    assert result.stderr == "1 of 5 trials of a recording with itself, left out: a2 a2\n"
    lines = result.stdout.splitlines()
    assert lines[1] == "Too few speakers to say how well the system works; score pairs of more speakers."
    assert lines[2:4] == ["EER (plain)             50.00%", "EER (convex hull)       25.00%"]
    assert "minDCF(0.5, 1, 10)      0.500" in lines
    assert any(line.startswith("calibration loss        ") and line.endswith(" bits") for line in lines)
    point = next(line for line in lines if line.startswith("at minDCF(0.5, 1, 10)"))
    assert "threshold 1.500: 0.00% false acceptances, 50.00% false rejections" in point
    assert any(line.startswith("at FAR 1 %              FAR 1 % needs 3,000 non-target trials") for line in lines)
    found = json.loads(run("evaluate", "--scores", tmp_path / "s.txt", *costs, "--json").stdout)
    assert [one["name"] for one in found["operating_points"]] == [
        *("EER", "FAR 1 %", "FAR 0.1 %", "minDCF(0.5, 1, 10)"),
    ]
    assert found["operating_points"][3]["threshold"] == 1.5
    assert found["notes"][0] == "1 of 5 trials of a recording with itself, left out: a2 a2"


def test_scores_are_written_beside_the_embeddings_but_replace_nothing(tmp_path: Path) -> None:
    vectors = np.array([[1, 0], [3, 3], [0, -2]], dtype=np.float32)
    np.savez(tmp_path / "a.npz", embeddings=vectors, id=np.array(["a1", "a2", "b1"]), duration_s=np.ones(3))
    (tmp_path / "t.txt").write_text("1 a1 a2\n0 a1 b1\n")
    out = tmp_path / "a.scores.csv"
    assert (
        run("score", tmp_path / "a.npz", "--trials", tmp_path / "t.txt").stdout == f"2 trials scored by cosine: {out}\n"
    )
    assert out.read_text().splitlines() == ["enroll,test,target,score", "a1,a2,1,0.707106769", "a1,b1,0,0"]
    again = run("score", tmp_path / "a.npz", "--trials", tmp_path / "t.txt", status=2)
    assert again.stderr == f"error: {out} exists already; name the file with -o to replace it, or remove it\n"


def test_evaluate_on_a_trial_list(system: tuple[Path, str], tmp_path: Path) -> None:
    out, _ = system
    with (out / "corpus.csv").open() as file:
        ids = [row["id"] for row in csv.DictReader(file) if row["split"] == "test"]
    speaker = {name: name.split("/")[0] for name in ids}
    lines = [f"{a} {b} {'target' if speaker[a] == speaker[b] else 'nontarget'}" for a in ids[:10] for b in ids if a < b]
    (tmp_path / "trials").write_text("\n".join(lines) + "\n")
    printed = run(
        *("evaluate", out, "--trials", tmp_path / "trials", "-o", tmp_path / "r", "--device", "cpu", "-q"),
        *("--p-target", "0.05", "--c-fa", "2"),
    ).stdout
    metrics = json.loads((tmp_path / "r" / "metrics.json").read_text())
    assert (metrics["min_dcf_p_target"], metrics["min_dcf_c_miss"], metrics["min_dcf_c_fa"]) == (0.05, 1.0, 2.0)
    assert f"minDCF(0.05, 1, 2) {metrics['min_dcf']:.3f}" in printed
    assert metrics["operating_points"][3]["name"] == "minDCF(0.05, 1, 2)"
    assert f"EER (hull)   {metrics['figures']['rocch_eer']['value']:.2%}" in printed
    rank = metrics["figures"]["rank_1"]
    assert rank["note"] == "of 3 speakers, the first recording of each enrolled; 21 others looked for"
    assert f"identified   rank 1 {rank['value']:.2%}  ({rank['note']})" in printed
    page = (tmp_path / "r" / "index.html").read_text()
    assert "minDCF(0.05, 1, 2)" in page
    assert "--p-target 0.05 --c-fa 2" in page
    assert f"trials: {tmp_path / 'trials'}" in printed
    assert len((tmp_path / "r" / "scores.csv").read_text().splitlines()) == 1 + len(lines)


def test_evaluating_on_trained_speakers_is_warned_about(
    system: tuple[Path, str], toy_corpus: Path, tmp_path: Path
) -> None:
    result = run("evaluate", system[0], "--data", toy_corpus, "-o", tmp_path / "r", "--device", "cpu", "-q")
    assert "7 of the 10 test speakers bear names that were trained on" in result.stderr
    assert (tmp_path / "r" / "metrics.json").is_file()


def test_evaluating_another_corpus_scans_it(system: tuple[Path, str], toy_corpus: Path, tmp_path: Path) -> None:
    """Copies are left out, and the report of the system's own test speakers stays as it was."""
    for s in range(3):
        for name, source in (("a", "u1"), ("b", "u2"), ("copy", "u1")):
            target = tmp_path / "other" / f"x{s}" / f"{name}.flac"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((toy_corpus / f"s0{s}" / f"{source}.flac").read_bytes())
    result = run("evaluate", system[0], "--data", tmp_path / "other", "--device", "cpu", "-q")
    assert "3 speakers, 6 utterances, 3 target and 12 non-target trials" in result.stdout
    assert "duplicate" in result.stderr
    assert (system[0] / "report" / "other" / "metrics.json").is_file()


def test_mistakes_are_one_line_and_status_2(system: tuple[Path, str], toy_corpus: Path, tmp_path: Path) -> None:
    out, _ = system
    cases = [
        (("train", tmp_path / "none", "-o", tmp_path / "x"), "none"),
        (("train", toy_corpus, "-o", out), "already holds a system"),
        (
            ("train", toy_corpus, "-o", tmp_path / "x", "--set", "training.epoch=3"),
            "did you mean 'training.epochs'?",
        ),
        (("train", toy_corpus, "-o", tmp_path / "x", "--recipe", "xvectr"), "did you mean 'xvector'?"),
        (("train", toy_corpus, "-o", tmp_path / "x", "--set", "model.chanels=1"), "channels"),
        (("train", toy_corpus, "-o", tmp_path / "x", "--device", "tpu"), "unknown device 'tpu'"),
        (("train", "-o", tmp_path / "x"), "no corpus given"),
        (("train", toy_corpus, "-o", toy_corpus / "metadata.csv"), "metadata.csv is a file; name a folder"),
        (("evaluate", tmp_path / "none"), "no such folder"),
        (("embed", tmp_path / "none", "--system", out, "-o", tmp_path / "e.npz"), "none"),
        (("plot", toy_corpus), "not a system directory"),
        (("calibrate", toy_corpus), "not a system directory"),
        (("evaluate",), "name a system directory to evaluate, or a file with --scores"),
        (("evaluate", "--scores", tmp_path / "none.txt"), "none.txt: no such file"),
        (
            ("evaluate", "--scores", tmp_path / "s", "-o", tmp_path / "r"),
            "--output with --scores: a file of scores has no",
        ),
        (("evaluate", out, "--p-target", "1.5"), "p_target is 1.5: give the share of target trials"),
        (("calibrate", out, "--p-target", "0"), "p_target is 0.0: give the share of target trials"),
        (("compare", out), "name two or more systems to compare"),
        (("score", tmp_path / "none.npz", "--trials", tmp_path / "t", "-o", tmp_path / "s.csv"), "npz: no such file"),
    ]
    for arguments, message in cases:
        result = run(*arguments, status=2)
        assert result.stderr.startswith("error: "), result.stderr
        assert result.stderr.count("\n") == 1
        assert message in result.stderr


def test_a_folder_with_every_broken_kind_trains_on_what_is_good(toy_corpus: Path, tmp_path: Path) -> None:
    """Twelve good files, a clipped one that is kept, and eight that are left out, each for its reason."""
    corpus = tmp_path / "corpus"
    for s in range(4):
        for u in range(3):
            target = corpus / f"s{s}" / f"u{u}.flac"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((toy_corpus / f"s0{s}" / f"u{u + 2}.flac").read_bytes())
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.1, 16_000)
    (corpus / "s0" / "empty.wav").write_bytes(b"")
    (corpus / "s0" / "text.wav").write_text("this is no sound")
    soundfile.write(corpus / "s1" / "truncated.wav", noise, 16_000)
    whole = (corpus / "s1" / "truncated.wav").read_bytes()
    (corpus / "s1" / "truncated.wav").write_bytes(whole[: len(whole) // 2])
    soundfile.write(corpus / "s1" / "short.wav", noise[:1000], 16_000)
    soundfile.write(corpus / "s2" / "silent.wav", np.zeros(16_000), 16_000)
    soundfile.write(
        corpus / "s2" / "nan.wav", np.where(np.arange(16_000) == 99, np.nan, noise), 16_000, subtype="FLOAT"
    )
    soundfile.write(corpus / "s3" / "clipped.wav", np.clip(noise * 20, -1, 1), 16_000)
    (corpus / "s3" / "z-copy.flac").write_bytes((corpus / "s3" / "u0.flac").read_bytes())
    flac = (corpus / "s0" / "u1.flac").read_bytes()
    (corpus / "s0" / "cut.flac").write_bytes(flac[: len(flac) // 2])

    out = tmp_path / "system"
    printed = run("train", corpus, "-o", out, *SETTINGS).stdout
    with (out / "left_out.csv").open() as file:
        rows = list(csv.DictReader(file))
    reasons = {Path(row["path"]).name: row["reason"] for row in rows}
    assert reasons.keys() == {
        "empty.wav", "text.wav", "truncated.wav", "short.wav", "silent.wav", "nan.wav", "clipped.wav", "z-copy.flac",
        "cut.flac",
    }  # fmt: skip
    for name, reason in [("empty.wav", "empty"), ("text.wav", "unreadable"), ("truncated.wav", "truncated"),
                         ("short.wav", "too short"), ("silent.wav", "silent"), ("nan.wav", "not finite"),
                         ("z-copy.flac", "duplicate"), ("clipped.wav", "clipped")]:  # fmt: skip
        assert reasons[name] == reason
        assert reason in printed
    with (out / "corpus.csv").open() as file:
        kept = {Path(row["path"]).name for row in csv.DictReader(file)}
    assert kept == {"u0.flac", "u1.flac", "u2.flac", "clipped.wav"}


def test_recipes_are_listed_and_printed(tmp_path: Path) -> None:
    listed = run("recipes").stdout.splitlines()
    assert [line.split()[0] for line in listed] == recipe_names()
    assert json.loads(run("recipes", "--json").stdout)["lab"] == load_recipe("lab").description
    (tmp_path / "mine.toml").write_text('base = "lab"\n[training]\nepochs = 3\n')
    printed = run("recipes", tmp_path / "mine.toml").stdout
    assert "# Number of epochs. [whole number at least 1; default 10]\nepochs = 3\n" in printed
    settings = {
        each["key"]: each for each in json.loads(run("recipes", tmp_path / "mine.toml", "--json").stdout)["settings"]
    }
    assert settings["training.epochs"]["value"] == 3
    assert settings["training.epochs"]["default"] == 10
    assert "did you mean 'resnet'?" in run("recipes", "resnt", status=2).stderr


@pytest.mark.slow
def test_models_lists_papers_sizes_and_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each beside its published size; the FLOPs are those that tests/models counts layer by layer."""
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in run("models").stdout.splitlines()]
    rows = {" ".join(cells[:2]).strip(): cells[2:] for cells in lines if cells and cells[0]}  # others: long cells go on
    assert {name: cells[2:] for name, cells in rows.items()} == {
        "xvector": ["4.2 M (24)", "4.20 M", "4.35 M", "1.62"],
        "xvector batch_norm=true": ["-", "4.36 M", "4.36 M", "1.62"],
        "etdnn": ["6.1 M (30)", "6.07 M", "6.20 M", "2.65"],
        "ftdnn": ["12.4 M (30)", "12.43 M", "12.56 M", "5.79"],
        "ecapa": ["6.2 M (80)", "6.19 M", "6.19 M", "2.88"],
        "ecapa channels=1024": ["14.7 M (80)", "14.66 M", "14.66 M", "7.71"],
        "resnet34": ["6.63 M (80)", "6.63 M", "6.63 M", "13.62"],
        "thin_resnet": ["-", "0.94 M", "0.94 M", "0.42"],
        "campplus": ["7.18 M (80)", "7.18 M", "7.18 M", "3.22"],
        "bottleneck_resnet": ["-", "19.81 M", "19.81 M", "43.66"],
        "bottleneck_resnet depths=[6, 16, 48, 3]": ["23.79 M (80)", "23.79 M", "23.79 M", "62.88"],
        "bottleneck_resnet depths=[10, 20, 64, 3]": ["28.62 M (80)", "28.63 M", "28.63 M", "82.93"],
        "simam_resnet": ["-", "25.21 M", "25.21 M", "54.53"],
        "simam_resnet depths=[6, 16, 24, 3]": ["50.2 M (80)", "50.23 M", "50.23 M", "171.31"],
        "preact_resnet": ["-", "15.44 M", "15.44 M", "84.59"],
        "eres2netv2": ["17.8 M (80)", "17.86 M", "17.86 M", "24.99"],
        "redimnet size=b0": ["1 M (60)", "1.00 M", "1.41 M", "2.46"],
        "redimnet": ["-", "4.89 M", "5.80 M", "4.91"],
        "redimnet size=b6": ["15 M (72)", "15.00 M", "16.67 M", "105.29"],
        "redimnet2 size=b0": ["1.1 M (72)", "1.11 M", "1.23 M", "0.99"],
        "redimnet2 size=b1": ["2.1 M (72)", "2.16 M", "2.47 M", "1.70"],
        "redimnet2": ["3.6 M (72)", "3.67 M", "4.47 M", "3.14"],
        "redimnet2 size=b3": ["4.1 M (72)", "4.17 M", "4.78 M", "8.80"],
        "redimnet2 size=b4": ["6.6 M (72)", "6.65 M", "7.53 M", "15.19"],
        "redimnet2 size=b5": ["8.9 M (72)", "8.95 M", "10.12 M", "32.04"],
        "redimnet2 size=b6": ["12.3 M (72)", "12.38 M", "14.18 M", "43.66"],
        "lstm": ["-", "1.42 M", "1.46 M", "1.34"],
    }
    assert rows["campplus"][0].startswith("CAM++: Wang et al.,")
    assert {name.split()[0] for name in rows} == MODELS.keys()
    # counting takes seconds; what follows is of the options
    monkeypatch.setattr("xvectors.models.count_flops", lambda model, num_frames: model.input_dim * num_frames)
    cheaper = run("models", "--mels", "24", "--seconds", "2").stdout
    assert "24 mels" in cheaper
    assert "GFLOP for 2 s" in cheaper
    listed = json.loads(run("models", "--mels", "24", "--seconds", "2", "--json").stdout)["models"]
    assert [each["name"] for each in listed] == [row.model for row in PUBLISHED]
    assert {each["flop"] for each in listed} == {24 * 200}
    assert round(listed[0]["parameters_at_published_mels"] / 1e6, 2) == 4.20


def test_every_command_that_prints_figures_prints_them_as_json_too() -> None:
    have = {name for name, each in every_command().items() if any("--json" in option.opts for option in each.params)}
    figures = "calibrate compare drift evaluate enroll export fuse identify models plan recipes score speakers trials"
    figures += " verify"
    assert set(figures.split()) <= have


def test_help_and_version_need_no_torch() -> None:
    import xvectors

    heavy = "('torch', 'numpy', 'matplotlib')"
    code = f"import sys; import xvectors, xvectors.cli; print([m for m in {heavy} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
    assert run("--version").stdout.strip() == xvectors.__version__ == metadata.version("xvectors")


def every_command() -> dict[str, Any]:
    """Each command by its words, `gallery export` among them."""
    found = {}
    for name, command in typer.main.get_command(app).commands.items():
        nested = getattr(command, "commands", {})
        found |= {f"{name} {inner}": each for inner, each in nested.items()} or {name: command}
    return found


@pytest.mark.parametrize("name", every_command())
def test_the_help_of_a_command_prints_all_its_texts_and_examples_that_parse(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Square brackets are markup, which would swallow words; an example with an option that is gone would mislead."""
    monkeypatch.setenv("COLUMNS", "80")
    command = every_command()[name]
    printed = run(*name.split(), "--help").stdout
    assert all(len(line) <= 80 for line in printed.splitlines())
    words = Counter(re.sub(r"[│\s]+", " ", printed).split())
    texts = [command.help, *(parameter.help for parameter in command.params)]
    for text in texts:
        assert re.match(r"[A-Z]", text), f"a sentence begins with a capital: {text}"
        assert text.endswith("."), text
        assert Counter(text.replace("\\[", "[").split()) <= words, text
    heading, *examples = command.epilog.split("\n")
    assert heading.startswith("Example")
    for example in examples:
        program, *arguments = shlex.split(example.partition(" > ")[0])
        assert [program, *arguments[: len(name.split())]] == ["xvectors", *name.split()]
        command.make_context(name, arguments[len(name.split()) :])  # UsageError for an unknown option


def test_the_help_lists_every_command_in_its_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    printed = run("--help").stdout
    places = [printed.index(f"─ {panel} ─") for panel in (RECOGNIZE, TRAIN, MEASURE, EMBED, TRY)]
    assert places == sorted(places)
    assert "─ Commands ─" not in printed, "a command without a group"
    for name in every_command():
        assert re.search(rf"^│ {name.split()[0]} ", printed, re.MULTILINE), name


@pytest.mark.parametrize(
    "option", ["output", "device", "p_target", "quiet", "as_json", "system", "gallery", "metadata"]
)
def test_one_thing_has_one_name_and_one_kind_of_value(option: str) -> None:
    """What an option is called, and what its value is called, in all commands that have it."""
    names = {
        (tuple(parameter.opts), parameter.metavar if option not in ("output", "system") else None)
        for command in every_command().values()
        for parameter in command.params
        if parameter.name == option and parameter.opts[0].startswith("-")
    }
    assert len(names) == 1, names


@pytest.mark.parametrize("program", [["-m", "xvectors"], ["-c", "from xvectors.cli import main; main()"]])
def test_however_it_is_started_the_program_is_called_xvectors(program: list[str]) -> None:
    printed = subprocess.run([sys.executable, *program, "trian"], capture_output=True, text=True)
    assert printed.returncode == 2
    assert "Usage: xvectors [OPTIONS]" in printed.stderr
    assert "Did you mean 'train'" in printed.stderr


def test_the_shell_completes_commands_options_and_recipes(tmp_path: Path) -> None:
    """The installed script asks the program, which answers without torch or numpy."""

    def completions(words: str) -> list[str]:
        heavy = "import sys; sys.modules.update(torch=None, numpy=None); from xvectors.cli import main; main()"
        environment = {"COMP_WORDS": words, "COMP_CWORD": str(words.count(" ")), "_XVECTORS_COMPLETE": "complete_bash"}
        printed = subprocess.run(
            [sys.executable, "-c", heavy], env=os.environ | environment, capture_output=True, text=True, check=True
        )
        return printed.stdout.split()

    assert completions("xvectors tr") == ["train", "trials"]
    assert completions("xvectors train --over") == ["--overwrite"]
    assert completions("xvectors train --recipe l") == ["lab"]
    assert completions("xvectors train --device c") == ["cpu", "cuda"]

    environment = {"HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    command = [sys.executable, "-m", "xvectors", "--install-completion", "bash"]
    subprocess.run(command, env=os.environ | environment, capture_output=True, check=True)
    assert ".bash_completions/xvectors.sh" in (tmp_path / ".bashrc").read_text()
    script = (tmp_path / ".bash_completions" / "xvectors.sh").read_text()
    assert "complete -o default -F _xvectors_completion xvectors" in script


def test_the_public_names() -> None:
    import xvectors

    assert xvectors.__all__ == [
        "Diarizer", "Fbank", "Manifest", "Recipe", "SpeakerEncoder", "TDNNLayer", "XVector", "XVectorsError",
        "evaluate", "export_onnx", "load_all_data", "load_recipe", "open_corpus", "train", "trust",
    ]  # fmt: skip
    assert all(getattr(xvectors, name).__name__ == name for name in xvectors.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        xvectors.nothing  # noqa: B018
