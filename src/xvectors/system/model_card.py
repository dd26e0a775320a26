"""The model card of a system that is published: what it is, how to load it, what was measured, and what was not."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xvectors.config import FeaturesConfig
from xvectors.config.tables import to_literal
from xvectors.errors import CheckpointError
from xvectors.models import MODELS, count_parameters
from xvectors.system.folder import SystemFolder
from xvectors.system.serialization import ONNX, Description, make_model
from xvectors.text import count
from xvectors.verification.verifier import Verifier, calibration_digest

CONDITIONS = {
    "gender": "women and men apart",
    "age": "age groups apart",
    "session": "recordings from different sessions (days, devices, rooms)",
    "shorter recording": "recordings of different durations",
    "noisier recording, SNR": "recordings with more or less noise",
}
"""Groups of trials in metrics.json, and how the card names what was not measured without them."""

OWN_TEST_SET = "test speakers of the corpus that it was trained on"
"""What an evaluation without --data measures, by the corpus.csv of the system."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """One evaluation from its metrics.json.

    Attributes
    ----------
    data : name of the corpus, without its folder
    scale : "llr" or "cosine"
    min_dcf_prior : the prior of a target trial in minDCF
    figures : key to value, unit and interval, as in metrics.json
    conditions : groups of trials that were measured, by the names in metrics.json
    """

    data: str
    num_speakers: int
    num_recordings: int
    num_trials: int
    scale: str
    min_dcf_prior: float
    figures: Mapping[str, Any]
    conditions: frozenset[str]
    shared_speakers: int


def read_results(folder: SystemFolder, fingerprint: str, verifier: Verifier) -> tuple[list[Result], list[str]]:
    """Read the evaluations in the report folder of a system.

    Returns them, and the names of those that are left out because they measured other weights or another calibration
    than the system has now, or do not say which.

    Raises CheckpointError for a damaged metrics.json.
    """
    results, left_out = [], []
    for path in [folder.report / "metrics.json", *sorted(folder.report.glob("*/metrics.json"))]:
        if not path.is_file():
            continue
        try:
            table = json.loads(path.read_text(encoding="utf-8"))
            measured = table.get("system_sha256"), table.get("calibration_sha256")
            if measured != (fingerprint, calibration_digest(verifier)):
                left_out.append(str(path))
                continue
            results.append(_result(table))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{path} is damaged; evaluate the system again, or remove the file") from error
    return results, left_out


def _result(table: Mapping[str, Any]) -> Result:
    figures = {key: table["figures"][key] for key in ("eer", "min_dcf", "cllr") if key in table["figures"]}
    for figure in figures.values():
        float(figure["value"])
    name = Path(table["data"]).name
    return Result(
        data=OWN_TEST_SET if name == "corpus.csv" else name,
        num_speakers=int(table["num_speakers"]),
        num_recordings=int(table["num_utterances"]),
        num_trials=int(table["num_target_trials"]) + int(table["num_nontarget_trials"]),
        scale=str(table["scale"]),
        min_dcf_prior=float(table["min_dcf_p_target"]),
        figures=figures,
        conditions=frozenset(str(one["dimension"]) for one in table["slices"]),
        shared_speakers=len(table["leakage"]["shared_speakers"]),
    )


def write_card(
    address: str,
    folder: SystemFolder,
    description: Description,
    verifier: Verifier,
    results: Sequence[Result],
    *,
    license: str = "",
    names_published: bool = False,
) -> str:
    """Write the card as Markdown, with the header that the Hugging Face Hub reads.

    Parameters
    ----------
    address
        hf://owner/name, from which the system will be loaded.
    folder, description, verifier
        The system.
    results
        Its evaluations.
    license
        Identifier of the license, such as cc-by-4.0; empty if unknown.
    names_published
        Whether the names of the speakers are published too.
    """
    header = ["---", *([f"license: {license}"] if license else []), "library_name: xvectors", "tags:"]
    header += [f"- {tag}" for tag in ("speaker-recognition", "speaker-verification", "speaker-embedding")] + ["---"]
    name = address.rpartition("/")[2]
    return "\n".join(
        [
            *header,
            f"# {name}",
            "",
            "A speaker-recognition system of xvectors: it says whether two recordings are of the same speaker.",
            "",
            *_use(address, description),
            *_facts(folder, description, verifier, license),
            *_results(results),
            *_not_measured(results),
            *_people(description, verifier, names_published),
        ]
    )


def _use(address: str, description: Description) -> list[str]:
    lines = ["## Use", "", "```sh", "pip install 'xvectors[hub]'", "```", "", "```python"]
    lines += ["from xvectors import SpeakerEncoder", ""]
    lines += [f'encoder = SpeakerEncoder.from_pretrained("{address}")', 'print(encoder.verify("a.wav", "b.wav"))']
    lines += ["```", "", f"On the command line: `xvectors verify a.wav b.wav --system {address}`.", ""]
    if code := _outside(description):
        lines += [f"It needs code from outside xvectors: {code}. Install it, and name its package with `--trust`.", ""]
    return lines


def _outside(description: Description) -> str:
    """The network from outside xvectors, which loading needs; empty if it is one of ours."""
    model = description.recipe.model.name
    return "" if model in MODELS or model == ONNX else f"the network `{model}`"


def _facts(folder: SystemFolder, description: Description, verifier: Verifier, license: str) -> list[str]:
    recipe = description.recipe
    network = f"`{recipe.model.name}`"
    if settings := ", ".join(f"`{key} = {to_literal(value)}`" for key, value in recipe.model.settings.items()):
        network += f" with {settings}"
    if recipe.model.name in MODELS:
        model = make_model(recipe, len(description.speakers))
        network += f": embeddings of {model.embedding_dim} dimensions, {count_parameters(model):,} parameters"
    rows = [("network", network), ("weights", f"{folder.weights.stat().st_size / 1e6:.1f} MB")]
    rows += [("front-end", front_end(recipe.features)), ("scores", _scores(verifier))]
    if description.origin is None:
        rows.append(("trained on", count(len(description.speakers), "speaker")))
    else:
        rows.append(("imported from", _source(description.origin)))
    rows.append(("written by", f"xvectors {description.versions.get('xvectors', 'of unknown version')}"))
    rows.append(("license", license or "not stated; ask the publisher"))
    return ["## System", "", "| | |", "|---|---|", *(f"| {key} | {_cell(value)} |" for key, value in rows), ""]


def front_end(features: FeaturesConfig) -> str:
    """Describe the features in a sentence."""
    parts = [f"{features.num_mels} log-mel filterbanks" if features.num_ceps == 0 else f"{features.num_ceps} MFCC"]
    parts += [f"frames of {features.frame_length_ms:g} ms every {features.frame_shift_ms:g} ms"]
    parts += [f"{features.window} window", f"{features.sample_rate_hz:,} Hz"]
    return ", ".join([*parts, *(["mean normalization"] if features.mean_normalization else [])])


def _scores(verifier: Verifier) -> str:
    if not verifier.is_calibrated:
        scorer = "cosine" if verifier.name == "cosine" else f"back-end `{verifier.name}`"
        return f"{scorer}, not calibrated: learn a calibration with `xvectors calibrate` before you trust an answer"
    basis = verifier.basis
    people = count(int(basis["num_speakers"]), "speaker") if "num_speakers" in basis else "an unknown number of people"
    return f"back-end `{verifier.name}`, calibrated to log-likelihood ratios on {people}"


def _source(origin: Mapping[str, Any]) -> str:
    text = f"{origin.get('title', 'another toolkit')}, {origin.get('source', 'source unknown')}"
    if "revision" in origin:
        text += f", commit {origin['revision']}"
    return text + (f" (sha256 of the file: {origin['sha256']})" if "sha256" in origin else "")


def _results(results: Sequence[Result]) -> list[str]:
    if not results:
        return ["## Results", "", "This system has not been measured: its error rates are unknown.", ""]
    lines = ["## Results", "", "| data | speakers | recordings | trials | EER | minDCF | Cllr |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for one in results:
        eer = _figure(one.figures.get("eer"), 100, 2, " %")
        min_dcf = f"{_figure(one.figures.get('min_dcf'), 1, 3, '')} (prior {one.min_dcf_prior:g})"
        cllr = _figure(one.figures.get("cllr"), 1, 3, " bits") if one.scale == "llr" else "not calibrated"
        cells = (_cell(one.data), f"{one.num_speakers:,}", f"{one.num_recordings:,}", f"{one.num_trials:,}")
        lines.append(f"| {' | '.join((*cells, eer, min_dcf, cllr))} |")
    lines += ["", "In brackets: 95 % confidence intervals for other speakers of the same kind.", ""]
    for one in results:
        if one.shared_speakers:
            people = count(one.shared_speakers, "speaker")
            lines += [f"On {one.data}, {people} had the names of training speakers: the figures may be too good.", ""]
    return lines


def _figure(figure: Mapping[str, Any] | None, factor: float, digits: int, unit: str) -> str:
    if figure is None:
        return "-"
    value, ends = float(figure["value"]), figure.get("interval") or {}
    low, high = ends.get("low"), ends.get("high")
    text = f"{value * factor:.{digits}f}{unit}"
    if low is None or high is None:
        return text
    return f"{text} [{low * factor:.{digits}f} to {high * factor:.{digits}f}]"


def _not_measured(results: Sequence[Result]) -> list[str]:
    lines = ["## Not measured", ""]
    if results:
        measured = frozenset().union(*(one.conditions for one in results))
        lines += [f"- {what}" for key, what in CONDITIONS.items() if key not in measured]
        lines.append("- languages, accents, devices, rooms and ways of speaking that the data above does not have")
    else:
        lines.append("- recordings of any kind")
    lines.append("- voices that are disguised, imitated, synthesized or played back")
    lines += [
        "",
        "Measure it on recordings of the kind that it will judge: `xvectors evaluate SYSTEM --data RECORDINGS`.",
    ]
    return [*lines, ""]


def _people(description: Description, verifier: Verifier, names_published: bool) -> list[str]:
    """What the files say about people whose voices the system learned from."""
    if not description.speakers and not verifier.speakers:
        return []
    names = "are published in `speakers.csv`" if names_published else "are withheld; numbers stand for them"
    return [
        "## Speakers",
        "",
        f"The names of the speakers that it learned from {names}. Weights and back-end are learned from their voices.",
        "",
    ]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
