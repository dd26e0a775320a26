"""The command that brings what earlier versions wrote up to date."""

from __future__ import annotations

from pathlib import Path

from xvectors.cli.shared import TRAIN, GalleryPath, System, command
from xvectors.cli.terminal import print


@command(TRAIN, "xvectors upgrade exp/xv", "xvectors upgrade exp/xv --gallery team.sqlite")
def upgrade(system: System, gallery: GalleryPath = None) -> None:
    """Bring a system that an earlier xvectors wrote, and the speakers enrolled with it, up to date.

    Its calibration and the enrolled speakers are bound to the features as well as to the weights from then on. Make
    sure first that its system.toml is as training wrote it.
    """
    from xvectors.gallery import SqliteStore, default_gallery
    from xvectors.system import SystemFolder
    from xvectors.system.upgrade import upgrade_system
    from xvectors.verification.fingerprint import fingerprint_of, weights_digest

    folder = SystemFolder(Path(system))
    done = upgrade_system(folder)
    print(f"{folder.path} is up to date" if done is None else f"{folder.path} was brought up to date")
    path = gallery if gallery is not None else default_gallery()
    if gallery is not None or path.exists():
        with SqliteStore(path) as store:
            count = store.rebind(done or weights_digest(folder.weights), fingerprint_of(folder))
        print(f"{path}: {count} voiceprint{'s' * (count != 1)} of this system brought up to date")
