"""SpeechBrain's mean of embeddings, which becomes the back-end of an imported system."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from support.commands import run
from support.published import golden, golden_checkpoint
from xvectors.backends import make_backend
from xvectors.errors import CheckpointError
from xvectors.system import SystemFolder
from xvectors.system.importers import FAMILIES, Source
from xvectors.system.importers.speechbrain.embedding_mean import find_backend
from xvectors.training import calibrate as calibrating
from xvectors.verification import verifier_of

DIM = 24
MEAN = np.linspace(-1.0, 2.0, DIM).astype(np.float32)
DEVIATION = np.linspace(0.5, 3.0, DIM).astype(np.float32)
WITHOUT_STD = """
compute_features: !new:speechbrain.lobes.features.Fbank
    n_mels: 80
mean_var_norm_emb: !new:speechbrain.processing.features.InputNormalization
    norm_type: global
    std_norm: False

classifier: !new:os.system [true]
"""


def written(folder: Path, mean: Any = MEAN, deviation: Any = DEVIATION, **more: Any) -> Path:
    """Write the statistics beside a model as SpeechBrain saves them; returns the path of the model."""
    statistics = {"count": 900, "glob_mean": torch.tensor(mean), "glob_std": torch.tensor(deviation), **more}
    torch.save(statistics, folder / "mean_var_norm_emb.ckpt")
    return folder / "embedding_model.ckpt"


def cosines(left: np.ndarray, right: np.ndarray, deviation: np.ndarray | float) -> np.ndarray:
    left, right = ((x.astype(np.float64) - MEAN) / deviation for x in (left, right))
    products = left @ right.T
    return products / np.linalg.norm(left, axis=1)[:, None] / np.linalg.norm(right, axis=1)


@pytest.mark.parametrize(
    ("deviation", "settings", "divisor"),
    [
        (DEVIATION, "", DEVIATION),
        (DEVIATION, WITHOUT_STD.replace("False", "True"), DEVIATION),
        (DEVIATION, WITHOUT_STD, 1.0),
        (np.ones(1, dtype=np.float32), "", 1.0),  # as its releases before 1.0 write it without std_norm
    ],
)
def test_scores_are_cosines_after_mean_and_deviation(
    deviation: np.ndarray, settings: str, divisor: Any, tmp_path: Path
) -> None:
    model = written(tmp_path, deviation=deviation, spk_dict_mean={}, spk_dict_count={})
    if settings:
        (tmp_path / "hyperparams.yaml").write_text(settings, encoding="utf-8")
    backend, notes = find_backend(model, DIM)
    assert backend is not None
    assert ("mean and deviations" in notes[0]) == (np.ndim(divisor) == 1)
    generator = np.random.default_rng(0)
    left, right = (generator.standard_normal((count, DIM)).astype(np.float32) for count in (4, 7))
    np.testing.assert_allclose(backend.score_matrix(left, right), cosines(left, right, divisor), atol=1e-6)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"mean": MEAN[:5]},
            r"glob_mean has 5 values, .* 24; .* import embedding_model\.ckpt alone",
        ),
        ({"deviation": DEVIATION[:5]}, "glob_std has 5 values, where 1 or 24"),
        ({"count": 0}, "count of embeddings is 0"),
        ({"mean": np.full(DIM, np.nan, dtype=np.float32)}, "glob_mean holds NaN"),
    ],
)
def test_statistics_that_are_refused(changed: Mapping[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"mean_var_norm_emb\.ckpt.*" + message):
        find_backend(written(tmp_path, **changed), DIM)


def test_files_that_hold_no_statistics(tmp_path: Path) -> None:
    model = tmp_path / "embedding_model.ckpt"
    assert find_backend(model, DIM) == (None, ())
    path = tmp_path / "mean_var_norm_emb.ckpt"
    torch.save({"weight": torch.ones(3), "glob_std": torch.ones(1)}, path)
    with pytest.raises(CheckpointError, match=r"mean_var_norm_emb\.ckpt: lacks glob_mean; get it from"):
        find_backend(model, DIM)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(CheckpointError, match=r"mean_var_norm_emb\.ckpt is damaged or cut off"):
        find_backend(model, DIM)
    written(tmp_path)
    (tmp_path / "hyperparams.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(CheckpointError, match=r"hyperparams\.yaml: is not a readable file"):
        find_backend(model, DIM)


def test_it_becomes_the_back_end_of_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "spkrec-xvect-voxceleb"
    source.mkdir()
    torch.save(golden_checkpoint(golden("speechbrain-xvector")), source / "embedding_model.ckpt")
    mean = np.linspace(-1.0, 2.0, 512).astype(np.float32)
    written(source, mean=mean, deviation=np.ones(1, dtype=np.float32))
    printed = run("import", source, "-o", tmp_path / "system")
    assert "after the mean of mean_var_norm_emb.ckpt" in " ".join(printed.stderr.split())
    folder = SystemFolder(tmp_path / "system")
    verifier = verifier_of(folder)
    assert (verifier.name, verifier.is_calibrated) == ("imported", False)
    x = np.random.default_rng(1).standard_normal((3, 512)).astype(np.float32)
    expected = make_backend("cosine").score_matrix(x - mean, x - mean)
    np.testing.assert_allclose(verifier.backend.score_matrix(x, x), expected, atol=1e-6)
    # a mean gives way to a back-end that is chosen on the user's recordings, unless it is asked for
    assert calibrating._imported_backend(folder, None) is None
    kept = calibrating._imported_backend(folder, "imported")
    assert kept is not None
    np.testing.assert_array_equal(kept.center, mean)


def test_networks_of_3d_speaker_do_not_take_it(tmp_path: Path) -> None:
    written(tmp_path, mean=np.zeros(192, dtype=np.float32), deviation=np.ones(192, dtype=np.float32))
    tensors = {key: torch.zeros(shape) for key, shape in golden("3dspeaker-ecapa")["tensors"].items()}
    source = Source(path=tmp_path / "ecapa.bin", tensors=tensors)
    families = {each.name: each for each in FAMILIES}
    assert families["3dspeaker-ecapa"].convert(source).backend is None
    assert families["speechbrain-ecapa"].convert(source).backend is not None
