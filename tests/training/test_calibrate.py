"""Calibrating a trained system: on whom, what is written, and what a system without calibration does."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from support.commands import run
from xvectors.backends import PLDA
from xvectors.config import load_recipe, parse_toml
from xvectors.corpus import TRAIN, VAL, Manifest
from xvectors.corpus.synth import synthesize
from xvectors.embeddings import load_embeddings, write_embeddings
from xvectors.encoder import SpeakerEncoder, save_embeddings
from xvectors.encoder.results import known_durations
from xvectors.encoder.sharded import embed_in_parts
from xvectors.errors import CheckpointError, ConfigError, ManifestError
from xvectors.report import evaluate
from xvectors.system import SystemFolder
from xvectors.training import train
from xvectors.training.calibrate import calibrate, embed_with_crops, training_embeddings
from xvectors.verification import verifier_of
from xvectors.verification.decision import MIN_SPEECH_S

SETTINGS = (
    "model.size=0.125",
    "model.embedding_dim=32",
    "training.batch_size=16",
    "training.epochs=2",
    "training.workers=0",
    "training.precision=float32",
    # the buzzes differ in what mean normalization takes away
    "features.mean_normalization=false",
    "data.chunk_min_s=0.5",
    "data.chunk_max_s=0.6",
    "data.validation_chunk_s=0.6",
)


def system_of(corpus: Path, out: Path, held_out: int) -> SystemFolder:
    """4 speakers are trained on, `held_out` held out, and the others of the ten are for testing."""
    rows = Manifest.read_csv(corpus / "metadata.csv")
    table = out.parent / f"{out.name}.csv"
    split = np.where(rows.speaker_index < 4, 0, np.where(rows.speaker_index < 4 + held_out, VAL, 2))
    split[(rows.speaker_index < 4) & (np.arange(len(rows)) % 8 > 5)] = VAL
    names = {0: "train", VAL: "val", 2: "test"}
    with table.open("w") as file:
        file.write("path,speaker,split\n")
        for row in range(len(rows)):
            file.write(f"{rows.full_path(row)},{rows.speakers[rows.speaker_index[row]]},{names[int(split[row])]}\n")
    train(table, out, load_recipe("xvector", SETTINGS), device="cpu")
    return SystemFolder(out)


@pytest.fixture(scope="module")
def held_out(toy_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> SystemFolder:
    return system_of(toy_corpus, tmp_path_factory.mktemp("calibrate") / "system", held_out=3)


def test_training_ends_with_a_calibration_on_held_out_speakers(held_out: SystemFolder) -> None:
    table = parse_toml(held_out.calibration.read_text(), "")
    basis = table["basis"]
    assert basis["speakers"] == ["s04", "s05", "s06"]
    assert (basis["held_out"], basis["source"]) == (True, "held-out speakers")
    # 8 recordings a speaker of 0.6 to 1.3 s: all can be cropped to 0.5 s, three to 1 s
    assert (basis["num_recordings"], basis["crop_durations_s"]) == (24, [0.5, 1.0])
    assert basis["num_crops"] == 24 + 9
    assert table["backend"]["name"] == "cosine"
    assert table["backend"]["reason"] == "3 held-out speakers; to choose takes 5"
    verifier = verifier_of(held_out)
    assert verifier.is_calibrated
    assert verifier.figures["whole_recordings"]["num_target_trials"] == 3 * 28


def test_the_calibration_set_knows_sessions(held_out: SystemFolder) -> None:
    encoder = SpeakerEncoder.from_pretrained(held_out.path, device="cpu")
    rows = Manifest.read_csv(held_out.corpus).take(range(6))
    rows = replace(rows, session_index=np.array([0, 0, 1, 1, 0, -1], np.int32), sessions=("monday", "tuesday"))
    basis = embed_with_crops(encoder, rows, 0.5)
    assert basis.session is not None
    names = np.array(["monday", "monday", "tuesday", "tuesday", "monday", ""])  # one holds too little speech
    assert basis.session.tolist() == names[basis.recording].tolist()
    assert set(basis.session) == {"monday", "tuesday", ""}
    assert basis.num_across_sessions == len({"s00"})
    unknown = replace(rows, session_index=np.full(6, -1, np.int32), sessions=())
    assert embed_with_crops(encoder, unknown, 0.5).session is None
    assert parse_toml(held_out.calibration.read_text(), "")["basis"]["num_across_sessions"] == 0


def test_evaluate_decides_by_llrs(held_out: SystemFolder, tmp_path: Path) -> None:
    result = evaluate(held_out.path, device="cpu", out=tmp_path)
    assert (len(result.manifest.speakers), result.backend, result.threshold) == (3, "cosine", 0.0)
    assert result.is_calibrated
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert any(line.startswith("the calibration rests on 3 speakers, fewer than 10") for line in metrics["warnings"])
    assert metrics["figures"]["cllr"]["value"] >= metrics["figures"]["min_cllr"]["value"]
    assert metrics["leakage"]["checked"] is True
    assert (metrics["leakage"]["shared_speakers"], metrics["leakage"]["shared_recordings"]) == ([], [])
    lines = (tmp_path / "scores.csv").read_text().splitlines()
    assert lines[0] == "enroll,test,target,score,llr"
    assert len(lines) == 1 + 24 * 23 // 2


def test_back_ends_are_fitted_on_the_training_recordings(
    held_out: SystemFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    encoder = SpeakerEncoder.from_pretrained(held_out.path, device="cpu")
    found = training_embeddings(held_out, encoder)
    assert found is not None
    corpus = Manifest.read_csv(held_out.corpus)
    trained = corpus.take(np.flatnonzero(corpus.split == TRAIN))
    assert found[1].tolist() == [trained.speakers[s] for s in trained.speaker_index]
    assert sorted(set(found[1])) == ["s00", "s01", "s02", "s03"]
    np.testing.assert_allclose(found[0], encoder.encode_manifest(trained).embeddings, atol=1e-4)

    gone = SystemFolder(tmp_path)
    gone.corpus.write_text(held_out.corpus.read_text().replace(".flac", "-gone.flac"))
    assert training_embeddings(gone, encoder) is None
    count = len(trained)
    (message,) = (record.getMessage() for record in caplog.records)
    assert message.startswith(f"{count} of {count} training recordings")
    assert "-gone.flac" in message


def test_the_same_system_gives_the_same_calibration(held_out: SystemFolder) -> None:
    before = held_out.calibration.read_bytes()
    calibrate(held_out.path, device="cpu")
    assert held_out.calibration.read_bytes() == before


def test_crops_are_parts_of_their_recordings(held_out: SystemFolder) -> None:
    """A crop's embedding is that of the samples in its place."""
    encoder = SpeakerEncoder.from_pretrained(held_out.path, device="cpu")
    corpus = Manifest.read_csv(held_out.corpus)
    some = corpus.take(np.arange(4))
    basis = embed_with_crops(encoder, some, 0.3, seed=5)
    assert basis.whole.tolist() == [True] * 4 + [False] * (len(basis.whole) - 4)
    np.testing.assert_allclose(basis.embeddings[:4], encoder.encode_manifest(some).embeddings, atol=1e-4)
    at = int(np.flatnonzero(~basis.whole)[0])
    row = int(basis.recording[at])
    start_s = np.random.default_rng(5).random(4)[row] * (some.duration_s[row] - 0.5)
    from xvectors import audio

    samples, _ = audio.read(some.full_path(row), sample_rate_hz=encoder.sample_rate_hz, start_s=start_s, duration_s=0.5)
    np.testing.assert_allclose(basis.embeddings[at], encoder.encode(samples)[0], atol=1e-4)
    assert basis.condition is not None
    heard = [encoder.listen(some.full_path(row)), encoder.listen(samples)]
    np.testing.assert_array_equal(basis.condition[[row, at]], [one.condition for one in heard])


def test_durations_that_are_not_stated_are_looked_up(toy_corpus: Path) -> None:
    manifest = Manifest.read_csv(toy_corpus / "metadata.csv").take([0, 3])
    np.testing.assert_allclose(known_durations(manifest), [0.6, 0.9])
    np.testing.assert_allclose(known_durations(manifest.with_columns(duration_s=[0.5, np.nan])), [0.5, 0.9])


def test_too_few_held_out_speakers_fall_back_with_a_warning(
    toy_corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = system_of(toy_corpus, tmp_path / "system", held_out=2)
    assert "calibrating on validation recordings of trained speakers" in caplog.text
    assert "the LLRs of other speakers will be too confident" in caplog.text
    basis = verifier_of(folder).basis
    assert (basis["held_out"], basis["source"]) == (False, "validation recordings of trained speakers")
    assert basis["speakers"] == ["s00", "s01", "s02", "s03"]
    np.savez(tmp_path / "cohort.npz", embeddings=np.eye(32, dtype=np.float32), speaker=np.arange(32).astype(str))
    with pytest.raises(ManifestError, match="a back-end to normalize would be fitted on the speakers"):
        calibrate(folder.path, cohort=tmp_path / "cohort.npz", device="cpu")
    result = evaluate(folder.path, device="cpu")
    assert "the calibration learned from speakers that the network was trained on" in " ".join(result.warnings)

    folder.calibration.unlink()
    result = evaluate(folder.path, device="cpu")
    assert not result.is_calibrated
    assert "not calibrated" in result.warnings[0]
    assert "run `xvectors calibrate`" in result.warnings[0]
    assert (folder.report / "scores.csv").read_text().splitlines()[0] == "enroll,test,target,score"


def test_a_corpus_of_other_speakers(held_out: SystemFolder, toy_corpus: Path, tmp_path: Path) -> None:
    for name in ("system.toml", "model.safetensors", "speakers.csv"):
        (tmp_path / name).write_bytes((held_out.path / name).read_bytes())
    with pytest.raises(ManifestError, match="came without its corpus; name one to calibrate on with --data"):
        calibrate(tmp_path, device="cpu")
    manifest = Manifest.read_csv(toy_corpus / "metadata.csv")
    manifest.take(manifest.speaker_index >= 6).write_csv(tmp_path / "others.csv")
    verifier = calibrate(tmp_path, data=tmp_path / "others.csv", device="cpu")
    assert verifier.basis["speakers"] == ["s06", "s07", "s08", "s09"]
    assert verifier.basis["held_out"] is True
    others = {"data": tmp_path / "others.csv", "device": "cpu"}
    with pytest.raises(ManifestError, match="back-end asnorm is fitted on half of the speakers"):
        calibrate(tmp_path, backend="asnorm", **others)
    assert calibrate(tmp_path, backend="cosine", **others).backend_table == {"reason": "as asked for"}
    with pytest.raises(ConfigError, match="back-end 'plada' is not known"):
        calibrate(tmp_path, backend="plada", **others)
    with (tmp_path / "others.csv").open(newline="") as file:
        rows = [row | {"domain": "a" if row["speaker"] < "s08" else "b"} for row in csv.DictReader(file)]
    with (tmp_path / "divided.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    divided = calibrate(tmp_path, data=tmp_path / "divided.csv", device="cpu").basis
    assert divided["domains"] == ["a", "b"]
    assert divided["num_target_trials"] == verifier.basis["num_target_trials"]
    # of the six pairs of four speakers, two are of one domain
    assert 3 * divided["num_nontarget_trials"] == verifier.basis["num_nontarget_trials"]


@pytest.fixture
def many_held_out(held_out: SystemFolder, toy_corpus: Path, tmp_path: Path) -> SystemFolder:
    """The system without its calibration, whose corpus now trains on s00 to s03 and holds out three others."""
    folder = tmp_path / "copy"
    folder.mkdir()
    for name in ("system.toml", "model.safetensors", "speakers.csv", "corpus.csv"):
        (folder / name).write_bytes((held_out.path / name).read_bytes())
    return SystemFolder(folder)


def embedded_file(system: SystemFolder, manifest: Manifest, path: Path) -> Path:
    save_embeddings(path, manifest, SpeakerEncoder.from_pretrained(system.path, device="cpu").encode_manifest(manifest))
    return path


def test_an_imposter_cohort_normalizes_scores_and_is_recorded(
    many_held_out: SystemFolder, toy_corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    system = many_held_out
    manifest = Manifest.read_csv(toy_corpus / "metadata.csv")
    others = embedded_file(system, manifest.take(manifest.speaker_index < 4), tmp_path / "imposters.npz")
    options = {"backend": "snorm", "device": "cpu"}
    verifier = calibrate(system.path, cohort=others, **options)
    assert verifier.basis["cohort"] == {"file": "imposters.npz", "num_speakers": 4, "num_embeddings": 32}
    assert not [record for record in caplog.records if "cohort" in record.getMessage()]
    saved = verifier_of(system)
    assert saved.basis["cohort"] == verifier.basis["cohort"]
    assert saved.backend.normalizer is not None
    # S-norm centers by the training recordings, and its cohort is the mean of each imposter's
    arrays = load_embeddings(others, "speaker")
    centered = saved.backend.transform(arrays["embeddings"])
    means = [centered[arrays["speaker"] == name].mean(axis=0) for name in ("s00", "s01", "s02", "s03")]
    np.testing.assert_allclose(saved.backend.normalizer.cohort_, means, atol=1e-5)
    assert saved.backend.normalizer.cohort_speakers_.tolist() == ["s00", "s01", "s02", "s03"]
    assert "cohort" not in calibrate(system.path, **options).basis

    overlapping = embedded_file(system, manifest.take(manifest.speaker_index >= 6), tmp_path / "overlap.npz")
    calibrate(system.path, cohort=overlapping, **options)
    assert "1 calibration speaker is in the cohort of the score normalization (s06): their target" in caplog.text
    assert "3 test speakers are in the cohort of the score normalization (s07, s08, s09): their target" in caplog.text

    command = ("calibrate", system.path, "--backend", "snorm", "--device", "cpu", "-q", "--cohort", others)
    assert "cohort       4 speakers, 32 recordings (imposters.npz)\n" in run(*command).stdout


def test_cohorts_that_cannot_be_used(many_held_out: SystemFolder, tmp_path: Path) -> None:
    system, path = many_held_out, tmp_path / "cohort.npz"
    options = {"cohort": path, "device": "cpu"}
    with pytest.raises(
        ConfigError,
        match=r"back-end lda_plda has no use for --cohort .*cohort.npz; name one that has with --backend "
        r"\(snorm, asnorm, wccn_asnorm, lda_plda_asnorm\), or leave --cohort out",
    ):
        calibrate(system.path, backend="lda_plda", **options)
    with pytest.raises(CheckpointError, match=r"cohort.npz: no such file; `xvectors embed DATA -o .*` writes"):
        calibrate(system.path, backend="snorm", **options)
    rows = np.random.default_rng(0).standard_normal((4, 32)).astype(np.float32)
    for arrays, error, message in (
        ({"embeddings": rows}, CheckpointError, "not an embeddings file"),
        ({"embeddings": rows, "speaker": ["a", "b"]}, CheckpointError, r"speaker has the shape \[2\]"),
        ({"embeddings": rows[:, :5], "speaker": list("abab")}, CheckpointError, "npz: embeddings have 5 dimensions"),
        ({"embeddings": rows * np.nan, "speaker": list("abab")}, CheckpointError, "npz: embedding row 0 holds a value"),
        ({"embeddings": rows, "speaker": ["a", "", "b", " "]}, ManifestError, "2 of 4 embeddings name no speaker"),
        ({"embeddings": rows, "speaker": ["a"] * 4}, ManifestError, "a cohort of one speaker"),
    ):
        np.savez(path, **{key: np.array(value) for key, value in arrays.items()})
        with pytest.raises(error, match=message):
            calibrate(system.path, backend="snorm", **options)
    # nothing is named, three held-out speakers choose nothing, and four training speakers are no cohort: cosine
    np.savez(path, embeddings=rows, speaker=np.array(list("abab")))
    with pytest.raises(ConfigError, match="back-end cosine has no use for --cohort"):
        calibrate(system.path, **options)
    assert not system.calibration.exists()


def test_every_back_end_is_adapted_to_another_domain(
    many_held_out: SystemFolder, toy_corpus: Path, tmp_path: Path
) -> None:
    """Recordings and their embeddings adapt alike. The toy voices sound like two people to this system."""
    system = many_held_out
    manifest = Manifest.read_csv(toy_corpus / "metadata.csv")
    others = manifest.take(manifest.speaker_index >= 4)
    new = embedded_file(system, others, tmp_path / "new.npz")
    others.write_csv(tmp_path / "new.csv")
    options = {"backend": "snorm", "device": "cpu"}
    plain = calibrate(system.path, **options)
    saved = [calibrate(system.path, adapt_to=given, **options) for given in (new, tmp_path / "new.csv")]
    for verifier, name in zip(saved, ("new.npz", "new.csv"), strict=True):
        facts = verifier.basis["adapted_to"]
        assert (facts["file"], facts["num_listed"]) == (name, 48)
        assert (facts["num_groups"], facts["mean_weight"]) == (2, 0.0)
        assert facts["num_in_cohort"] == 2
        assert "by" not in facts
        assert facts["cllr_before"] == plain.figures["all"]["cllr"]
        assert facts["cllr_after"] == verifier.figures["all"]["cllr"]
        assert verifier.backend.normalizer is not None
        assert verifier.backend.normalizer.cohort_speakers_[4:].tolist() == ["unlabeled 1", "unlabeled 2"]
    first, second = (verifier.basis["adapted_to"] for verifier in saved)
    assert first["mean_distance"] == pytest.approx(second["mean_distance"], abs=1e-3)
    assert first["median_llr_after"] == pytest.approx(second["median_llr_after"], abs=0.05)
    assert verifier_of(system).basis["adapted_to"] == second
    for backend in ("cosine", "lda"):
        adapted = calibrate(system.path, adapt_to=new, backend=backend, device="cpu").basis["adapted_to"]
        assert adapted["mean_distance"] == first["mean_distance"]


def test_plda_is_adapted_to_another_domain(many_held_out: SystemFolder, toy_corpus: Path, tmp_path: Path) -> None:
    system = many_held_out
    manifest = Manifest.read_csv(toy_corpus / "metadata.csv")
    new = embedded_file(system, manifest.take(manifest.speaker_index >= 4), tmp_path / "new.npz")
    options = {"backend": "lda_plda", "device": "cpu"}
    within = []
    for method in ("coral_plus", "kaldi"):
        given = {} if method == "coral_plus" else {"adapt_by": method}
        verifier = calibrate(system.path, adapt_to=new, **given, **options)
        assert verifier.basis["adapted_to"]["by"] == method
        saved = verifier_of(system).backend
        assert isinstance(saved.scorer, PLDA)
        within.append(saved.scorer.within_)
        usable = load_embeddings(new, "speech_s")
        moved = saved.transform(usable["embeddings"][usable["speech_s"] >= MIN_SPEECH_S])
        np.testing.assert_allclose(saved.scorer.mean_, moved.mean(axis=0), atol=1e-4)
    assert np.abs(within[0] - within[1]).max() > 1e-3
    command = ("calibrate", system.path, "--backend", "lda_plda", "--device", "cpu", "-q")
    printed = run(*command, "--adapt-to", new, "--adapt-by", "coral").stdout
    assert "adapted to   PLDA was adapted by coral\n" in printed
    assert "unlabeled recordings (new.npz), which sound like about" in printed
    with pytest.raises(ConfigError, match="adaptation 'corall' is not known; did you mean"):
        calibrate(system.path, adapt_to=new, adapt_by="corall", **options)
    embedded_file(system, manifest.take([40]), tmp_path / "one.npz")
    with pytest.raises(ManifestError, match="1 usable unlabeled recording to adapt to; give 10 or more"):
        calibrate(system.path, adapt_to=tmp_path / "one.npz", **options)


@pytest.mark.parametrize("form", ["emb.csv", "emb.parquet", "parts", "part"])
def test_cohorts_and_domains_come_in_every_form_that_embed_writes(
    form: str, many_held_out: SystemFolder, toy_corpus: Path, tmp_path: Path
) -> None:
    """They count as the npz of the same recordings does."""
    system = many_held_out
    manifest = Manifest.read_csv(toy_corpus / "metadata.csv")
    encoder = SpeakerEncoder.from_pretrained(system.path, device="cpu")
    imposters = manifest.take(manifest.speaker_index < 4)
    if form == "emb.csv":
        path = tmp_path / form
        write_embeddings(path, imposters, encoder.encode_manifest(imposters))
    else:
        path = tmp_path / "folder"
        written = {"part_format": "npz"} if form == "parts" else {}
        embed_in_parts(encoder, imposters, path, rows_per_part=20 if form != "part" else 32, **written)
        path = path / "part-00000.parquet" if form == "part" else path
    options = {"device": "cpu"}
    plain = embedded_file(system, imposters, tmp_path / "emb.npz")
    # parts are other batches than the whole, whose sums are rounded differently
    normalized, expected = (
        calibrate(system.path, backend="snorm", cohort=given, **options).backend.normalizer for given in (path, plain)
    )
    assert normalized is not None
    assert expected is not None
    np.testing.assert_allclose(normalized.cohort_, expected.cohort_, atol=1e-3)
    assert normalized.cohort_speakers_.tolist() == ["s00", "s01", "s02", "s03"]
    assert verifier_of(system).basis["cohort"] == {"file": "emb.npz", "num_speakers": 4, "num_embeddings": 32}
    adapted, same = (
        calibrate(system.path, backend="lda_plda", adapt_to=given, **options).basis["adapted_to"]
        for given in (path, plain)
    )
    assert (adapted["file"], adapted["num_listed"], adapted["by"]) == (path.name, 32, "coral_plus")
    assert adapted["mean_weight"] == pytest.approx(same["mean_weight"], abs=0.01)


def test_what_cannot_be_calibrated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError, match="no such folder"):
        calibrate(tmp_path / "none", device="cpu")
    monkeypatch.setattr("xvectors.training.calibrate.find_system", lambda name: SystemFolder(tmp_path / "package"))
    with pytest.raises(CheckpointError, match="the starter system belongs to the package"):
        calibrate("starter", device="cpu")


def test_a_name_of_two_voices_is_left_out_of_the_calibration(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Seven voices, of which the last goes by the first one's name; two of six names would be too many to leave out."""
    corpus, system = tmp_path / "voices", tmp_path / "system"
    synthesize(corpus, speakers=7, utterances=6, seed=6, workers=1)
    shutil.copytree(Path(str(resources.files("xvectors.system") / "starter")), system)
    manifest = Manifest.read_csv(corpus / "metadata.csv")

    def write(renamed: dict[str, str]) -> Path:
        rows = []
        for row, speaker in enumerate(manifest.speaker_index):
            name = manifest.speakers[speaker]
            rows.append(f"{manifest.full_path(row)},{renamed.get(name, name)}")
        table = tmp_path / "table.csv"
        table.write_text("path,speaker\n" + "\n".join(rows) + "\n")
        return table

    first, second, *_, before_last, last = manifest.speakers
    calibrate(system, data=write({last: first}), device="cpu")
    (line,) = [r.getMessage() for r in caplog.records if "two people" in r.getMessage()]
    assert line.startswith(
        f"left out of the calibration: speaker {first!r}: 6 and 6 of its recordings sound like two people, such as "
    )
    assert line.endswith("; listen, and correct the labels")
    basis = parse_toml((system / "calibration.toml").read_text(), "")["basis"]
    assert basis["left_out_as_two_voices"] == [first]
    assert (basis["num_speakers"], first in basis["speakers"]) == (5, False)

    caplog.clear()
    calibrate(system, data=write({last: first, before_last: second}), device="cpu")
    (line,) = [r.getMessage() for r in caplog.records if "two people" in r.getMessage()]
    assert line.startswith("2 of the 5 speakers to calibrate on sound like two people each, perhaps for two devices ")
    basis = parse_toml((system / "calibration.toml").read_text(), "")["basis"]
    assert "left_out_as_two_voices" not in basis
    assert basis["num_speakers"] == 5
