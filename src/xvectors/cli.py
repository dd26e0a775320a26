"""The command line: parsing and printing only. Everything heavy is imported inside the command that needs it."""

from __future__ import annotations

import json
import logging
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from xvectors.errors import ConfigError, XVectorsError

if TYPE_CHECKING:
    from xvectors.corpus import ScanReport
    from xvectors.training import TrainingResult

app = typer.Typer(
    name="xvectors",
    help="Speaker recognition from a folder of recordings.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

ERROR_STATUS = 2
SIGNAL_STATUS = 128
"""Plus the signal's number, as shells report it."""

Device = Annotated[str, typer.Option(help="cuda, mps, cpu, or auto for the first of these that is there.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars; only results and warnings.")]
Json = Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")]
Metadata = Annotated[
    Path | None,
    typer.Option(help="The table that goes with a folder, such as vox2_meta.csv or metadata_dev.csv."),
]
System = Annotated[Path, typer.Argument(metavar="DIR", help="A system directory, as `xvectors train` writes it.")]


@app.callback(invoke_without_command=True)
def options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Options of the program itself."""
    if version:
        from importlib import metadata

        print(metadata.version("xvectors"))
        raise typer.Exit


@app.command()
def synth(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to write the corpus to.")],
    speakers: Annotated[int, typer.Option(help="How many synthetic voices.")] = 60,
    utterances: Annotated[int, typer.Option(help="How many sentences each voice reads.")] = 20,
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.")] = 0,
    workers: Annotated[int | None, typer.Option(help="Processes; by default one a core.")] = None,
    quiet: Quiet = False,
) -> None:
    """Make a corpus of synthetic voices (espeak-ng), to try things on without recordings."""
    from xvectors.corpus.synth import synthesise

    metadata = synthesise(
        out, speakers=speakers, utterances=utterances, seed=seed, workers=workers, show_progress=not quiet
    )
    print(f"{speakers} synthetic voices x {utterances} utterances: {metadata}")


@app.command()
def train(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="The system directory to write.")],
    data: Annotated[
        Path | None,
        typer.Argument(
            metavar="DATA",
            help="A manifest CSV, a folder with one sub-folder a speaker, a VoxCeleb folder (with --metadata) or a "
            "Kaldi data directory. May be left out with --resume.",
        ),
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="A recipe's name (resnet, xvector, lab) or a TOML file.", show_default="resnet")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a setting: training.epochs=20."),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="DIR|starter",
            help="Fine-tune: keep features and backbone of this system, or of the one that comes with xvectors.",
        ),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Length of the run by the clock; the schedule ends when the time does.")
    ] = None,
    metadata: Metadata = None,
    device: Device = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last saved state.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a system that stands in DIR.")] = False,
    quiet: Quiet = False,
) -> None:
    """Train a system on recordings and write it to a directory."""
    from xvectors.config import DEFAULT_RECIPE, FINE_TUNING_RECIPE, load_recipe, override_recipe
    from xvectors.system import SystemFolder, read_description
    from xvectors.training import EpochResult
    from xvectors.training import train as run

    def on_scan(report: ScanReport) -> None:
        _print_lines(report.lines())

    def on_epoch(result: EpochResult) -> None:
        print(result, flush=True)

    overrides = [*(settings or ()), *([f"training.minutes={minutes}"] if minutes is not None else [])]
    if resume and recipe is None:
        chosen = override_recipe(read_description(SystemFolder(out)).recipe, overrides)
    else:
        chosen = load_recipe(recipe or (FINE_TUNING_RECIPE if start else DEFAULT_RECIPE), overrides)
    kept = [override for override in overrides if override.strip().startswith(("model.", "features."))]
    if start and kept:
        raise ConfigError(f"--set {kept[0]}: features and network are those of {start!r}; leave it out, or --from")
    result = run(
        data,
        out,
        chosen,
        start=start,
        metadata=metadata,
        device=device,
        resume=resume,
        overwrite=overwrite,
        on_scan=on_scan,
        on_epoch=on_epoch,
        show_progress=not quiet,
    )
    _finish_training(result, f"xvectors train -o {shlex.quote(str(out))} --resume")


@app.command()
def calibrate(
    system: System,
    data: Annotated[
        Path | None,
        typer.Option(help="A corpus of other speakers to learn from; by default those that training held out."),
    ] = None,
    metadata: Metadata = None,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Choose a system's back-end and calibrate its scores to log-likelihood ratios; `train` ends with it."""
    from xvectors.calibrate import calibrate as run

    verifier = run(system, data=data, metadata=metadata, device=device, show_progress=not quiet)
    basis, chosen = verifier.basis, verifier.backend_table
    print(f"back-end     {verifier.name}: {chosen['reason']}")
    print(
        f"learnt from  {basis['num_speakers']} speakers ({basis['source']}), {basis['num_recordings']} recordings and "
        f"{basis['num_crops']} crops of them"
    )
    for name, figures in verifier.figures.items():
        trials = figures["num_target_trials"] + figures["num_nontarget_trials"]
        cllr = f"Cllr {figures['cllr']:.3f} bits, at best {figures['min_cllr']:.3f}"
        print(f"{name.replace('_', ' '):<16} {trials:,} trials, EER {figures['eer']:.2%}, {cllr}")
    print(f"written to {system}: backend.npz, calibration.toml")


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
    if (system is None) == (scores is None):
        raise ConfigError("name a system directory to evaluate, or a file with --scores, one of the two")
    if scores is not None:
        _evaluate_scores(scores, trials, as_json)
        return
    from xvectors.report import evaluate as run

    assert system is not None
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
    _print_lines(result.lines())
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
) -> None:
    """Score a list of trials between embeddings, and write enroll, test, target, score (and llr)."""
    from xvectors.report.scoring_lists import score_list

    scored = score_list(embeddings, trials, out, system=system)
    _print_lines(scored.findings, stream=sys.stderr)
    print(f"{scored.num_trials:,} trials scored by {scored.backend}{', with LLRs' if scored.has_llrs else ''}: {out}")


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
    _print_lines(result.lines())
    print(f"written to {result.folder}: comparison.json, det.png")


@app.command()
def embed(
    system: System,
    data: Annotated[Path, typer.Argument(metavar="DATA", help="A manifest or a folder, as for `train`.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE.npz", help="The file to write.")],
    metadata: Metadata = None,
    device: Device = "auto",
    batch_size: Annotated[int, typer.Option(help="Recordings a batch; it does not change the result.")] = 32,
    quiet: Quiet = False,
) -> None:
    """Embed every recording of a corpus into one npz file; recordings that cannot be used are listed."""
    from xvectors.calibrate import known_durations
    from xvectors.corpus import open_corpus
    from xvectors.encoder import SpeakerEncoder, save_embeddings

    encoder = SpeakerEncoder.load(system, device=device)
    manifest = open_corpus(data, metadata=metadata)
    embedded = encoder.encode_manifest(manifest, batch_size=batch_size, show_progress=not quiet)
    durations = manifest.duration_s.copy()
    durations[embedded.rows] = known_durations(manifest.take(embedded.rows))
    manifest = manifest.with_columns(duration_s=durations)
    _print_lines((f"left out: {reason}" for _, reason in embedded.failures), stream=sys.stderr)
    save_embeddings(out, manifest, embedded)
    print(f"{len(embedded.rows)} embeddings of {encoder.embedding_dim} dimensions: {out}")
    if embedded.failures:
        print(f"{len(embedded.failures)} recordings left out, listed above")


@app.command()
def plot(system: System, device: Device = "auto", quiet: Quiet = False) -> None:
    """Draw the training curves and a t-SNE map of the test speakers."""
    from xvectors.report import plot as run

    _print_lines(str(path) for path in run(system, device=device, show_progress=not quiet))


@app.command()
def models(
    mels: Annotated[int, typer.Option(help="Filterbanks a frame.")] = 80,
    seconds: Annotated[float, typer.Option(help="Length of the recording whose embedding is counted.")] = 3.0,
) -> None:
    """List the networks that `--set model.name=...` takes, with their sizes and costs."""
    import torch
    from rich.console import Console
    from rich.table import Table

    from xvectors.models import MODELS, build_model, count_flops

    table = Table(caption="parameters without the classifier", caption_justify="left")
    for column in ("name", "network", "embedding", "parameters", f"GFLOP for {seconds:g} s"):
        table.add_column(column, justify="left" if column in ("name", "network") else "right")
    for name, cls in MODELS.items():
        with torch.device("meta"):
            model = build_model(name, num_speakers=2, input_dim=mels)
        parameters = sum(p.numel() for key, p in model.named_parameters() if not key.startswith("classifier."))
        flops = count_flops(model, round(100 * seconds))
        what = (cls.__doc__ or "").strip().splitlines()[0]
        table.add_row(name, what, str(model.embedding_dim), f"{parameters / 1e6:.2f} M", f"{flops / 1e9:.2f}")
    Console(width=None if sys.stdout.isatty() else 140).print(table)


@app.command()
def demo(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to write everything to.")],
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """The whole job from nothing: synthetic voices, training, evaluation and plots, in a few minutes."""
    from rich.console import Console
    from rich.table import Table

    from xvectors.demo import run_demo

    result = run_demo(out, say=lambda line: print(line, flush=True), device=device, show_progress=not quiet)
    if result.evaluation is None:
        _finish_training(result.training, f"xvectors demo {shlex.quote(str(out))}")
        return
    best = result.training.epochs[result.training.best_epoch - 1]
    evaluation = result.evaluation
    table = Table(title="Speaker recognition on synthetic voices", title_justify="left")
    table.add_column("what")
    table.add_column("result")
    table.add_row("training speakers", str(result.training.num_speakers))
    table.add_row("validation accuracy", f"{best.val_accuracy:.1%} (epoch {best.epoch})")
    table.add_row("unseen speakers", f"{evaluation.num_speakers} ({evaluation.num_utterances} utterances)")
    table.add_row("EER on unseen speakers", f"{evaluation.eer:.2%}")
    table.add_row("minDCF(0.01)", f"{evaluation.min_dcf:.3f}")
    table.add_row("corpus", str(result.corpus))
    table.add_row("system", str(result.training.folder.path))
    for path in result.plots:
        table.add_row(path.stem, str(path))
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def main() -> None:
    """Run the command line; a user's mistake is one line and exit status 2."""
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING, stream=sys.stderr)
    try:
        app()
    except XVectorsError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(ERROR_STATUS)


def _finish_training(result: TrainingResult, command: str) -> None:
    """Print the figures of a run; end with the shell's status for the signal that interrupted it."""
    if result.epochs:
        print()
        _print_lines(result.lines())
    if result.unreadable:
        print(f"{len(result.unreadable)} recordings could not be read any more:")
        _print_lines(f"  {reason}" for reason in result.unreadable.values())
    if result.interrupted is not None:
        print(f"interrupted by {result.interrupted.name} and saved; go on with: {command}")
        raise typer.Exit(SIGNAL_STATUS + result.interrupted.value)
    print(f"system: {result.folder.path}")


def _evaluate_scores(scores: Path, trials: Path | None, as_json: bool) -> None:
    """Measure a file of scores and print its figures."""
    from xvectors.report.outputs import figure_table
    from xvectors.report.score_files import measure_score_file

    measurement, measured = measure_score_file(scores, trials)
    tables = {key: figure_table(figure) for key, figure in measurement.figures.items()}
    num_target = int(measured.target.sum())
    if as_json:
        counts = {"num_target_trials": num_target, "num_nontarget_trials": len(measured) - num_target}
        print(json.dumps({**counts, "figures": tables}, indent=2))
        return
    _print_lines(measured.findings.lines(), stream=sys.stderr)
    print(f"{num_target:,} target and {len(measured) - num_target:,} non-target trials")
    _print_lines(measurement.lines())
    print("actDCF and Cllr take the scores for natural-log likelihood ratios")


def _print_lines(lines: Iterable[str], stream: TextIO | None = None) -> None:
    for line in lines:
        print(line, file=stream or sys.stdout, flush=True)


if __name__ == "__main__":
    main()
