"""Commands on galleries as a whole: gallery copy, gallery export, gallery import, gallery purge."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xvectors.cli.shared import RECOGNIZE, GalleryOption, SystemOption, app, command, print_lines
from xvectors.cli.terminal import print
from xvectors.text import count, first_few

if TYPE_CHECKING:
    from xvectors.gallery import ImportResult

GALLERY = "Commands"

group = typer.Typer(help="Copy, export, import or purge the enrolled speakers.", no_args_is_help=True)
app.add_typer(group, name="gallery", rich_help_panel=RECOGNIZE)


@command(GALLERY, "xvectors gallery copy team.sqlite postgresql://db.example/voices", name="copy", group=group)
def gallery_copy_command(
    source: Annotated[str, typer.Argument(metavar="FROM", help="Gallery to copy: a file, or postgresql://...")],
    target: Annotated[
        str, typer.Argument(metavar="TO", help="Gallery to copy to, which is made if it does not exist.")
    ],
    merge: Annotated[
        bool, typer.Option("--merge", help="Add voiceprints to names that are already enrolled there.")
    ] = False,
) -> None:
    """Add all enrolled speakers of a gallery to another: of a file to a server, the other way, or of the same kind.

    Either all are added or none. Voiceprints that exist there already are not added again, so the command can be
    repeated. Both galleries must be your own; `xvectors gallery import` is for files from others.
    """
    from xvectors.gallery import copy_gallery

    number, known = copy_gallery(source, target, merge=merge)
    print(f"copied: {count(number, 'voiceprint')}; there already: {known}")


@command(GALLERY, "xvectors gallery export -o backup.sqlite", name="export", group=group)
def gallery_export_command(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Gallery file to write.")],
    gallery: GalleryOption = None,
) -> None:
    """Write all enrolled speakers to a file that `xvectors gallery import` reads."""
    from xvectors.gallery import export_gallery, open_store

    with open_store(gallery) as store:
        number = export_gallery(store, output)
    print(f"{count(number, 'voiceprint')}: {output}")


@command(GALLERY, "xvectors gallery import backup.sqlite", name="import", group=group)
def gallery_import_command(
    source: Annotated[
        Path, typer.Argument(metavar="FILE", help="Gallery file, as written by `xvectors gallery export`.")
    ],
    merge: Annotated[
        bool, typer.Option("--merge", help="Add voiceprints to names that are already enrolled here.")
    ] = False,
    system: SystemOption = "starter",
    gallery: GalleryOption = None,
) -> None:
    """Add the speakers of another gallery to this one.

    Voiceprints that exist here already are not added again. The file is checked first; if anything in it is wrong,
    nothing is added.
    """
    from xvectors.gallery import import_gallery, open_gallery

    with open_gallery(gallery, system=system, create=True) as opened:
        result = import_gallery(opened, source, merge=merge)
    print_lines(_warnings(result), stream=sys.stderr)
    if result.merged:
        print(f"further voiceprints for names that were enrolled: {', '.join(result.merged)}")
    print(f"added: {count(result.num_added, 'voiceprint')}; there already: {result.num_known}")


@command(GALLERY, "xvectors gallery purge", name="purge", group=group)
def gallery_purge_command(gallery: GalleryOption = None) -> None:
    """Remove expired voiceprints, and overwrite the data of all that were removed."""
    from datetime import UTC, datetime

    from xvectors.gallery import open_store

    with open_store(gallery) as store:
        number = store.purge(datetime.now(UTC))
    print(f"{count(number, 'expired voiceprint')} removed")


def _warnings(result: ImportResult) -> Iterator[str]:
    for name, doubts in result.doubts.items():
        lowest = min(doubts, key=lambda doubt: doubt.llr)
        yield (
            f"warning: {count(len(doubts), 'imported voiceprint')} of {name} does not sound like the others of that "
            f"name (LLR {lowest.llr:.1f}, below the threshold of {lowest.threshold:.1f}): is it the same person? If "
            f"not, `xvectors forget {name} --last` undoes this import"
        )
    if result.unchecked:
        yield (
            "note: whether the imported voiceprints of a name are all of one voice was not checked for "
            f"{first_few(result.unchecked, 5)}: they are of another system than --system, or it is not calibrated"
        )
