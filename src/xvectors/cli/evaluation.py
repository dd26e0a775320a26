"""Commands that measure systems: evaluate, trials, score, fuse, compare, plot."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from xvectors.cli.shared import (
    MEASURE,
    CFa,
    CMiss,
    Device,
    Embeddings,
    Json,
    Labels,
    Metadata,
    PTarget,
    Quiet,
    SpeakerLevel,
    Speakers,
    System,
    Trust,
    command,
    one_of,
    print_lines,
)
from xvectors.cli.terminal import print, print_json
from xvectors.errors import ConfigError
from xvectors.text import count

if TYPE_CHECKING:
    from xvectors.evaluation import Evaluation
    from xvectors.metrics import LeastCost


@command(
    MEASURE,
    "xvectors evaluate exp/mine",
    "xvectors evaluate exp/mine --data other-speakers --trials trials.txt",
    "xvectors evaluate exp/backend --embeddings vectors.npz --labels speakers.csv",
    "xvectors evaluate --scores scores.csv",
)
def evaluate_command(
    system: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="System directory; not needed with --scores and --embeddings.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="DATA", help="Corpus to test on. By default the test speakers that training held out."),
    ] = None,
    metadata: Metadata = None,
    speaker_level: SpeakerLevel = None,
    trials: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Trial list in VoxCeleb's or Kaldi's format, or CSV. By default all pairs.",
        ),
    ] = None,
    embeddings: Embeddings = None,
    labels: Labels = None,
    scores: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Measure these scores instead of a system: lines `enroll test score` and perhaps a label, or CSV.",
        ),
    ] = None,
    speakers: Speakers = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FOLDER",
            help="Folder for the report. By default DIR/report; with --data NAME, DIR/report/NAME.",
        ),
    ] = None,
    audio: Annotated[
        bool, typer.Option("--audio/--no-audio", help="Include audio excerpts of the worst trials in the report.")
    ] = True,
    p_target: PTarget = 0.01,
    c_miss: CMiss = 1.0,
    c_fa: CFa = 1.0,
    device: Device = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
    trust: Trust = None,
) -> None:
    """Measure a system on speakers that it was not trained on, or a file of scores.

    Prints error rates with confidence intervals and the calibration loss, and writes a report with figures.
    """
    from xvectors.metrics import LeastCost

    cost = LeastCost(p_target, c_miss, c_fa)
    if embeddings is not None:
        others = (("--data", data), ("--metadata", metadata), ("--scores", scores), ("--speakers", speakers))
        if given := [name for name, value in others if value is not None]:
            raise ConfigError(f"{', '.join(given)} with --embeddings: their speakers are in --labels; leave it out")
        from xvectors.report.embeddings import evaluate_embeddings

        _print_evaluation(
            evaluate_embeddings(embeddings, labels, system=system, trials=trials, cost=cost, out=output, audio=audio),
            as_json,
        )
        return
    if labels is not None:
        raise ConfigError("--labels is for --embeddings: a corpus names its speakers itself; leave it out")
    if system is None and scores is not None:
        for_systems = (("--data", data), ("--metadata", metadata), ("--output", output))
        given = [name for name, value in for_systems if value is not None]
        if given:
            raise ConfigError(
                f"{', '.join(given)} with --scores: a file of scores has no corpus and no report; leave it out"
            )
        _evaluate_scores(scores, trials, speakers, cost, as_json)
        return
    if system is None or scores is not None:
        raise ConfigError("name a system directory to evaluate, or a file with --scores, but not both")
    if speakers is not None:
        raise ConfigError("--speakers is only for --scores: the corpus of a system names its speakers; leave it out")
    from xvectors.report.evaluation import evaluate

    result = evaluate(
        system,
        data=data,
        metadata=metadata,
        speaker_level=speaker_level,
        trials=trials,
        cost=cost,
        out=output,
        audio=audio,
        device=device,
        progress=not quiet,
    )
    _print_evaluation(result, as_json)


def _print_evaluation(result: Evaluation, as_json: bool) -> None:
    from xvectors.report.outputs import evaluation_to_dict, summary_lines

    if as_json:
        print_json(evaluation_to_dict(result))
        return
    print_lines(summary_lines(result))
    vectors = "embeddings.npz, " if (result.report / "embeddings.npz").is_file() else ""
    print(f"written to {result.report}: index.html (the report), metrics.json, scores.csv, {vectors}scores.png")


@command(
    MEASURE,
    "xvectors trials recordings -o trials.csv",
    "xvectors trials recordings -o trials.txt --per-speaker 50 --same-gender",
)
def trials_command(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA|EMB", help="Corpus, as in `xvectors train`, or embeddings written by `xvectors embed`."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Trial list to write.")],
    metadata: Metadata = None,
    speaker_level: SpeakerLevel = None,
    per_speaker: Annotated[
        int | None,
        typer.Option(metavar="N", help="Draw N target and N non-target trials for each speaker. By default all pairs."),
    ] = None,
    same_gender: Annotated[
        bool | None,
        typer.Option(
            "--same-gender/--cross-gender",
            help="Draw non-target trials within one gender, or across genders.",
            show_default="any",
        ),
    ] = None,
    same_session: Annotated[
        bool | None,
        typer.Option(
            "--same-session/--cross-session",
            help="Draw target trials within one session, or across sessions.",
            show_default="any",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Random seed; the same seed draws the same trials.")] = 0,
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="Format of the list: csv, voxceleb or kaldi. By default csv if FILE ends in .csv, else kaldi.",
            autocompletion=one_of("csv", "voxceleb", "kaldi"),
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a trial list from a corpus: all pairs of recordings, or some for each speaker."""
    from xvectors.evaluation.trial_lists import make_trials

    relation: dict[bool | None, Literal["any", "same", "different"]] = {None: "any", True: "same", False: "different"}
    made = make_trials(
        data,
        output,
        metadata=metadata,
        speaker_level=speaker_level,
        per_speaker=per_speaker,
        nontarget_gender=relation[same_gender],
        target_session=relation[same_session],
        seed=seed,
        form=form or ("csv" if output.suffix.lower() == ".csv" else "kaldi"),
    )
    if as_json:
        counts = {"num_target_trials": made.num_target, "num_nontarget_trials": made.num_nontarget}
        print_json({**counts, "path": str(output)})
        return
    print(f"{made.num_target:,} target and {made.num_nontarget:,} non-target trials: {output}")


@command(
    MEASURE,
    "xvectors score embeddings.npz --trials trials.csv",
    "xvectors score embeddings.npz --trials trials.csv --system exp/mine -o scores.csv",
)
def score_command(
    embeddings: Annotated[
        Path,
        typer.Argument(metavar="EMB", help="Embeddings written by `xvectors embed`: npz, CSV, or a folder of parts."),
    ],
    trials: Annotated[Path, typer.Option(metavar="FILE", help="Trial list in VoxCeleb's or Kaldi's format, or CSV.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE.csv",
            help="File to write. By default EMB.scores.csv beside the embeddings.",
        ),
    ] = None,
    system: Annotated[
        Path | None,
        typer.Option(
            metavar="SYSTEM", help="System whose back-end and calibration score the trials. By default cosine scores."
        ),
    ] = None,
    enrollment: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Enrollment list, lines `model recording ...`, for trials whose first name is a model of several "
            "recordings.",
        ),
    ] = None,
    enroll_by: Annotated[
        str,
        typer.Option(
            metavar="average|book",
            help="How a model of several recordings is scored: average (the mean embedding) or book (PLDA's likelihood "
            "given all recordings).",
            autocompletion=one_of("average", "book"),
        ),
    ] = "average",
    as_json: Json = False,
) -> None:
    """Score a trial list with saved embeddings.

    Writes a CSV file with the columns enroll, test, target, score and, if the system is calibrated, llr.
    """
    from xvectors.evaluation.scoring import score_trial_list

    if output is None:
        output = embeddings.with_suffix(".scores.csv")
        if output.exists():
            raise ConfigError(f"{output} exists already; name the file with -o to replace it, or remove it")
    scored = score_trial_list(embeddings, trials, output, system=system, enrollment=enrollment, enroll_by=enroll_by)
    print_lines(scored.findings, stream=sys.stderr)
    if as_json:
        figures = {"num_trials": scored.num_trials, "backend": scored.backend, "has_llrs": scored.has_llrs}
        print_json({**figures, "path": str(output)})
        return
    print(
        f"{count(scored.num_trials, 'trial')} scored by "
        f"{scored.backend}{', with LLRs' if scored.has_llrs else ''}: {output}"
    )


@command(MEASURE, "xvectors fuse a.csv b.csv --fit-on a-dev.csv --fit-on b-dev.csv -o fused.csv")
def fuse_command(
    scores: Annotated[
        list[Path], typer.Argument(metavar="A.csv B.csv ...", help="Score file of each system, on the same trials.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE.csv", help="File to write.")],
    fit_on: Annotated[
        list[Path],
        typer.Option(
            metavar="DEV.csv",
            help="Labeled scores of other speakers to learn the fusion from. Repeat the option for each system.",
        ),
    ],
    trials: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Trial list, where score files lack labels or hold more trials."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Fuse the scores of several systems into one log-likelihood ratio for each trial."""
    from xvectors.evaluation.score_files import fuse_score_files

    fused = fuse_score_files(scores, output, fit_on=fit_on, trials=trials)
    weights = fused.fusion.weights_.tolist()
    if as_json:
        counts = {"num_target_trials": fused.num_target, "num_nontarget_trials": fused.num_nontarget}
        learned = {"weights": dict(zip(map(str, scores), weights, strict=True)), "offset": float(fused.fusion.offset_)}
        print_json({**counts, **learned, "num_trials": fused.num_trials, "path": str(output)})
        return
    print(f"learned from  {fused.num_target:,} target and {fused.num_nontarget:,} non-target trials")
    for path, weight in zip(scores, weights, strict=True):
        print(f"weight       {weight:+.4g}  {path}")
    print(f"offset       {fused.fusion.offset_:+.4g}")
    print(f"{fused.num_trials:,} LLRs: {output}")


@command(MEASURE, "xvectors compare exp/first exp/second", "xvectors compare a.csv b.csv -o comparison")
def compare_command(
    systems: Annotated[
        list[Path], typer.Argument(metavar="DIR1 DIR2 ...", help="Evaluated system directories, or score files.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FOLDER", help="Folder to write. By default that of the first scores."),
    ] = None,
    speakers: Speakers = None,
    p_target: PTarget = 0.01,
    c_miss: CMiss = 1.0,
    c_fa: CFa = 1.0,
    as_json: Json = False,
) -> None:
    """Compare systems on the same trials.

    Prints differences from the first system, with confidence intervals and p-values, and draws DET curves.
    """
    from xvectors.evaluation.score_files import compare_score_files
    from xvectors.metrics import LeastCost
    from xvectors.report.comparison import comparison_to_dict, write_comparison

    comparison = compare_score_files(systems, speakers=speakers, cost=LeastCost(p_target, c_miss, c_fa))
    folder = comparison.folder if output is None else output
    write_comparison(comparison, folder)
    if as_json:
        print_json(comparison_to_dict(comparison))
        return
    print_lines(comparison.lines())
    print(f"written to {folder}: comparison.json, det.png")


@command(MEASURE, "xvectors plot exp/mine")
def plot_command(system: System, device: Device = "auto", quiet: Quiet = False, trust: Trust = None) -> None:
    """Draw the training curves, a t-SNE map of the test speakers, and the distribution of their scores."""
    from xvectors.report import plot

    print_lines(str(path) for path in plot(system, device=device, progress=not quiet))


def _evaluate_scores(scores: Path, trials: Path | None, speakers: Path | None, cost: LeastCost, as_json: bool) -> None:
    """Measure a file of scores and print the results."""
    from xvectors.evaluation.score_files import measure_score_file
    from xvectors.report.outputs import measure_to_dict, point_to_dict

    measured, labeled = measure_score_file(scores, trials, speakers=speakers, cost=cost)
    tables = {key: measure_to_dict(measure) for key, measure in measured.measures.items()}
    num_target = int(labeled.target.sum())
    if as_json:
        counts = {"num_target_trials": num_target, "num_nontarget_trials": len(labeled) - num_target}
        points = [point_to_dict(point) for point in measured.operating_points]
        notes = [*labeled.findings.lines(), *measured.notes]
        print_json({**counts, "figures": tables, "operating_points": points, "notes": notes})
        return
    print_lines(labeled.findings.lines(), stream=sys.stderr)
    print(f"{num_target:,} target and {len(labeled) - num_target:,} non-target trials")
    print_lines(measured.lines())
    print("For actDCF and Cllr, scores are taken as natural-log likelihood ratios.")
