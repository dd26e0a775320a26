"""What public runs of the bundled recipes reached, as their authors report it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class PublicRun:
    """Error rates of a published system, and the time that its training took if that is public.

    Attributes
    ----------
    system
        What was trained, and how it was scored.
    eer_percent
        EER on the cleaned lists of VoxCeleb1: O, E and H.
    source
        Where the figures are from.
    duration
        What is known of the training's time.
    """

    system: str
    eer_percent: tuple[float, float, float]
    source: str
    duration: str = ""

    def line(self) -> str:
        rates = " / ".join(f"{rate:g}" for rate in self.eer_percent)
        return f"{self.system}: {rates} % ({self.source}{'; ' if self.duration else ''}{self.duration})"


WESPEAKER = "WeSpeaker, examples/voxceleb/v2/README.md"
LARGE_MARGIN = "with the large-margin stage"

PUBLIC_RUNS: dict[str, tuple[PublicRun, ...]] = {
    "voxceleb-resnet34": (
        PublicRun(
            system="ResNet34, 150 epochs",
            eer_percent=(0.867, 1.049, 1.959),
            source=WESPEAKER,
            duration="3 to 4 days on two RTX 2080 Ti: WeSpeaker, issue 93",
        ),
        PublicRun(system=f"ResNet34, {LARGE_MARGIN}", eer_percent=(0.797, 0.937, 1.695), source=WESPEAKER),
        PublicRun(system=f"ResNet34, {LARGE_MARGIN} and AS-norm", eer_percent=(0.723, 0.867, 1.532), source=WESPEAKER),
    ),
    "voxceleb-ecapa": (
        PublicRun(system="ECAPA-TDNN, 150 epochs", eer_percent=(1.069, 1.209, 2.310), source=WESPEAKER),
        PublicRun(system=f"ECAPA-TDNN, {LARGE_MARGIN}", eer_percent=(0.878, 1.072, 2.007), source=WESPEAKER),
        PublicRun(
            system=f"ECAPA-TDNN, {LARGE_MARGIN} and AS-norm", eer_percent=(0.782, 1.005, 1.824), source=WESPEAKER
        ),
    ),
    "voxceleb-xvector": (
        PublicRun(system="x-vector, 150 epochs", eer_percent=(1.989, 1.950, 3.412), source=WESPEAKER),
        PublicRun(system=f"x-vector, {LARGE_MARGIN}", eer_percent=(1.749, 1.721, 2.944), source=WESPEAKER),
        PublicRun(system=f"x-vector, {LARGE_MARGIN} and AS-norm", eer_percent=(1.590, 1.641, 2.726), source=WESPEAKER),
    ),
    "voxceleb-redimnet2-b2": (
        PublicRun(
            system="ReDimNet2-B2, by its authors' own recipe",
            eer_percent=(0.57, 0.76, 1.41),
            source="Yakovlev and Okhotnikov, arXiv 2603.11841",
        ),
    ),
}
"""By the names of the recipes. All were trained on VoxCeleb2's development set, and score by cosine."""
