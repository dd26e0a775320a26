"""Commands that measure: evaluate, score, fuse, compare, plot."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from xvectors.cli.shared import Device, Json, Metadata, Quiet, System, app, print_lines
from xvectors.errors import ConfigError


@app.command()
def evaluate(
    system: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="A system directory; left out with --scores.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Another corpus to test on; by default the speakers kept apart.")
    ] = None,
    metadata: Metadata = None,
    trials: Annotated[
        Path | None, typer.Option(help="A trial list (VoxCeleb's, Kaldi's, or CSV); by default all pairs.")
    ] = None,
    scores: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Measure these scores instead, whoever made them: `enroll test score [label]` a line, or CSV.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Where to write; by default in DIR/report."),
    ] = None,
    audio: Annotated[
        bool, typer.Option("--audio/--no-audio", help="Put short excerpts of the worst trials into the page.")
    ] = True,
    device: Device = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure a system on speakers it never saw, or a file of scores: error rates with intervals, calibration."""
    if system is None and scores is not None:
        _evaluate_scores(scores, trials, as_json)
        return
    if system is None or scores is not None:
        raise ConfigError("name a system directory to evaluate, or a file with --scores, one of the two")
    from xvectors.report import evaluate as run

    result = run(
        system,
        data=data,
        metadata=metadata,
        trials=trials,
        out=out,
        audio=audio,
        device=device,
        show_progress=not quiet,
    )
    if as_json:
        from dataclasses import asdict

        print(json.dumps(asdict(result), indent=2))
        return
    print_lines(result.lines())
    print(f"written to {result.report}: index.html (the report), metrics.json, scores.csv, embeddings.npz, scores.png")


@app.command()
def score(
    embeddings: Annotated[Path, typer.Argument(metavar="EMB.npz", help="Embeddings, as `xvectors embed` writes them.")],
    trials: Annotated[Path, typer.Option(help="A trial list (VoxCeleb's, Kaldi's, or CSV).")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE.csv", help="The file to write.")],
    system: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Score by this system's back-end and calibration; by default by cosine."),
    ] = None,
    enrollment: Annotated[
        Path | None,
        typer.Option(help="Lines `model recording ...`: the trials' first names are models of several recordings."),
    ] = None,
) -> None:
    """Score a list of trials between embeddings, and write enroll, test, target, score (and llr)."""
    from xvectors.report.scoring_lists import score_list

    scored = score_list(embeddings, trials, out, system=system, enrollment=enrollment)
    print_lines(scored.findings, stream=sys.stderr)
    print(f"{scored.num_trials:,} trials scored by {scored.backend}{', with LLRs' if scored.has_llrs else ''}: {out}")


@app.command()
def fuse(
    scores: Annotated[list[Path], typer.Argument(metavar="A.csv B.csv ...", help="Each system's scores, same trials.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE.csv", help="The file to write.")],
    fit_on: Annotated[
        list[Path],
        typer.Option(metavar="DEV.csv", help="Labelled scores of other speakers to learn from; once for each system."),
    ],
    trials: Annotated[
        Path | None, typer.Option(help="The trials' list, where the files have no labels or hold more.")
    ] = None,
) -> None:
    """Make one score of several systems': learn weights from other trials, and write LLRs."""
    from xvectors.report.fusing import fuse as run

    fused = run(scores, out, fit_on=fit_on, trials=trials)
    print(f"learnt from  {fused.num_target:,} target and {fused.num_nontarget:,} non-target trials")
    for path, weight in zip(scores, fused.fusion.weights_.tolist(), strict=True):
        print(f"weight       {weight:+.4g}  {path}")
    print(f"offset       {fused.fusion.offset_:+.4g}")
    print(f"{fused.num_trials:,} LLRs: {out}")


@app.command()
def compare(
    systems: Annotated[
        list[Path], typer.Argument(metavar="DIR1 DIR2 ...", help="Evaluated systems, or files of scores.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Where to write; by default beside the first's scores.")
    ] = None,
) -> None:
    """Compare systems on the same trials: differences to the first, with intervals and p-values, and DET curves."""
    from xvectors.report.comparison import compare as run

    result = run(systems, out)
    print_lines(result.lines())
    print(f"written to {result.folder}: comparison.json, det.png")


@app.command()
def plot(system: System, device: Device = "auto", quiet: Quiet = False) -> None:
    """Draw the training curves and a t-SNE map of the test speakers."""
    from xvectors.report import plot as run

    print_lines(str(path) for path in run(system, device=device, show_progress=not quiet))


def _evaluate_scores(scores: Path, trials: Path | None, as_json: bool) -> None:
    """Measure a file of scores and print its figures."""
    from xvectors.report.outputs import figure_table
    from xvectors.report.score_files import measure_score_file

    measurement, measured = measure_score_file(scores, trials)
    tables = {key: figure_table(figure) for key, figure in measurement.figures.items()}
    num_target = int(measured.target.sum())
    if as_json:
        counts = {"num_target_trials": num_target, "num_nontarget_trials": len(measured) - num_target}
        print(json.dumps({**counts, "figures": tables, "notes": measurement.notes}, indent=2))
        return
    print_lines(measured.findings.lines(), stream=sys.stderr)
    print(f"{num_target:,} target and {len(measured) - num_target:,} non-target trials")
    print_lines(measurement.lines())
    print("actDCF and Cllr take the scores for natural-log likelihood ratios")
