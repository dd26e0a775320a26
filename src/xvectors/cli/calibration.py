"""The command calibrate: of a system, or of embeddings that came from anywhere."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xvectors.cli.shared import (
    TRAIN,
    Device,
    Embeddings,
    Json,
    Labels,
    Metadata,
    Quiet,
    SpeakerLevel,
    Trust,
    command,
    one_of,
    print_lines,
)
from xvectors.cli.terminal import print, print_json
from xvectors.errors import ConfigError
from xvectors.text import count

if TYPE_CHECKING:
    from xvectors.verification import Verifier


@command(
    TRAIN,
    "xvectors calibrate exp/mine",
    "xvectors calibrate exp/mine --data other-speakers --backend plda",
    "xvectors calibrate --embeddings vectors.npz --labels speakers.csv -o exp/backend",
)
def calibrate_command(
    system: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="System directory; not needed with --embeddings.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DATA",
            help="Corpus to calibrate on, of speakers that the system was not trained on. By default the calibration "
            "speakers that training held out.",
        ),
    ] = None,
    metadata: Metadata = None,
    speaker_level: SpeakerLevel = None,
    backend: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Back-end to use, such as asnorm. By default the PLDA of an imported model, if it came with one, or "
            "the most accurate on held-out speakers.",
        ),
    ] = None,
    cohort: Annotated[
        Path | None,
        typer.Option(
            metavar="EMB",
            help="Embeddings of the cohort for score normalization, written by `xvectors embed`. By default the "
            "training speakers.",
        ),
    ] = None,
    adapt_to: Annotated[
        Path | None,
        typer.Option(
            metavar="DATA",
            help="Unlabeled recordings from where the system is used, 50 or more of many people, to adapt to: a "
            "folder, a manifest, or embeddings written by `xvectors embed`.",
        ),
    ] = None,
    adapt_by: Annotated[
        str,
        typer.Option(
            metavar="METHOD",
            help="Method of adapting the covariances of PLDA: coral_plus, coral or kaldi.",
            autocompletion=one_of("coral_plus", "coral", "kaldi"),
        ),
    ] = "coral_plus",
    embeddings: Embeddings = None,
    labels: Labels = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="With --embeddings: directory to write the back-end to."),
    ] = None,
    p_target: Annotated[
        float,
        typer.Option(
            metavar="P",
            help="Prior probability of a target trial (0 to 1): the calibration is fitted, and decisions are made, at "
            "this prior.",
        ),
    ] = 0.5,
    device: Device = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
    trust: Trust = None,
) -> None:
    """Choose a system's back-end, and calibrate its scores to log-likelihood ratios.

    `xvectors train` ends with this step. Run it again with other data or another back-end. With --embeddings, the
    vectors of any network are calibrated, and DIR can be given to `xvectors score` and `xvectors evaluate`.
    """
    if embeddings is not None:
        for_systems = (("DIR", system), ("--data", data), ("--metadata", metadata), ("--speaker-level", speaker_level))
        unused = [name for name, value in (*for_systems, ("--cohort", cohort), ("--adapt-to", adapt_to)) if value]
        if unused or output is None:
            wrong = f"{', '.join(unused)} cannot be used" if unused else "--output is missing"
            raise ConfigError(f"{wrong} with --embeddings: give --embeddings EMB --labels TABLE -o DIR")
        _calibrate_embeddings(embeddings, labels, output, backend, p_target, as_json)
        return
    if system is None or labels is not None or output is not None:
        raise ConfigError("name a system directory, or embeddings with --embeddings EMB --labels TABLE -o DIR")
    from xvectors.training.calibrate import calibrate

    verifier = calibrate(
        system,
        data=data,
        metadata=metadata,
        speaker_level=speaker_level,
        backend=backend,
        cohort=cohort,
        adapt_to=adapt_to,
        adapt_by=adapt_by,
        p_target=p_target,
        device=device,
        progress=not quiet,
    )
    _print_verifier(verifier, system, as_json)


def _calibrate_embeddings(
    embeddings: Path, labels: Path | None, output: Path, backend: str | None, p_target: float, as_json: bool
) -> None:
    from xvectors.labeled_embeddings import calibrate_embeddings

    verifier = calibrate_embeddings(embeddings, labels, output, backend=backend, p_target=p_target)
    _print_verifier(verifier, output, as_json)


def _print_verifier(verifier: Verifier, written_to: Path, as_json: bool) -> None:
    basis, chosen = verifier.basis, verifier.backend_table
    if as_json:
        print_json({"backend": verifier.name, **chosen, "basis": basis, "figures": verifier.figures})
        return
    print(f"back-end     {verifier.name}: {chosen['reason']}")
    print(
        f"learned from  {count(basis['num_speakers'], 'speaker')} ({basis['source']}), "
        f"{count(basis['num_recordings'], 'recording')} and "
        f"{count(basis['num_crops'], 'crop')} of them"
    )
    if fitted := basis.get("fitted_speakers"):
        print(f"fitted on    {count(len(fitted), 'other speaker')}")
    if test := basis.get("test_speakers"):
        print(f"kept apart   {count(len(test), 'speaker')}, on whom `xvectors evaluate --embeddings` measures")
    if "cohort" in basis:
        used = basis["cohort"]
        print(
            f"cohort       {count(used['num_speakers'], 'speaker')}, "
            f"{count(used['num_embeddings'], 'recording')} ({used['file']})"
        )
    if "adapted_to" in basis:
        from xvectors.verification.new_domain import lines

        print_lines(f"adapted to   {line}" for line in lines(basis["adapted_to"]))
    if across := basis.get("num_across_sessions"):
        print(f"sessions     target trials of {count(across, 'speaker')} are between two sessions")
    elif across == 0:
        print(
            "sessions     no speaker has two that are known: LLRs of recordings of other days may be too sure; a "
            "column `session` in the table of recordings says which are of one"
        )
    if magnitude := basis.get("magnitude"):
        used = "are a" if magnitude["used"] else "are no"
        print(
            f"magnitude    lengths of embeddings {used} measure of quality: with them, Cllr of speakers left out "
            f"changes by {magnitude['difference']:+.3f} bits ({magnitude['low']:+.3f} to {magnitude['high']:+.3f})"
        )
    shifts = verifier.figures.get("shifts", [])
    for name, figures in verifier.figures.items():
        if name == "shifts":
            continue
        trials = figures["num_target_trials"] + figures["num_nontarget_trials"]
        cllr = f"Cllr {figures['cllr']:.3f} bits, at best {figures['min_cllr']:.3f}"
        print(f"{name.replace('_', ' '):<16} {trials:,} trials, EER {figures['eer']:.2%}, {cllr}")
    if "fitted_speakers" in basis:
        from xvectors.verification.own_speakers import trust_lines

        print_lines(f"trust        {line}" for line in trust_lines(verifier))
    for row in shifts[1:]:
        print(
            f"{row['shift'] + ', ' + row['paired']:<24} EER {row['eer']:.2%}, Cllr {row['cllr']:.3f} bits "
            f"({row['cllr_before']:.3f} without regard to the condition), at best {row['min_cllr']:.3f}"
        )
    if verifier.bounds is not None:
        least, greatest = verifier.bounds
        print(
            f"LLRs         from {least:.1f} to {greatest:.1f}: this calibration set can bear out at most "
            f"{math.exp(greatest):,.0f} times for one speaker, and {math.exp(-least):,.0f} times for two"
        )
    print(f"written to {written_to}: backend.npz, calibration.toml")
