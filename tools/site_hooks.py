"""Hooks of mkdocs.yml: pages from outside docs/, links into the repository, and the check for network use."""

from __future__ import annotations

import posixpath
import re
from html.parser import HTMLParser
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
PROJECT_PAGES = ("README.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "CHANGELOG.md", "SECURITY.md")
LINK = re.compile(r"(?<=\]\()(?P<path>[^)\s#:]+)(?P<anchor>#[^)\s]*)?(?=\))")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the project's own pages."""
    for name in PROJECT_PAGES:
        if (ROOT / name).exists():
            files.append(File.generated(config, f"project/{name}", abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links to files outside docs/ at the site's page for that file, or at a copy of it in the site."""
    outside = page.file.generated_by is not None
    source = ROOT / (posixpath.basename(page.file.src_uri) if outside else f"docs/{page.file.src_uri}")

    def replace(link: re.Match[str]) -> str:
        target = (source.parent / link["path"]).resolve()
        if not target.is_file() or not target.is_relative_to(ROOT):
            return link[0]  # mkdocs reports what it cannot find
        name = target.relative_to(ROOT).as_posix()
        if name.startswith("docs/"):
            uri = name.removeprefix("docs/")
        elif name in PROJECT_PAGES:
            uri = f"project/{name}"
        else:
            uri = f"repository/{name}"
            if files.get_file_from_path(uri) is None:
                files.append(File.generated(config, uri, abs_src_path=str(target)))
        return posixpath.relpath(uri, posixpath.dirname(page.file.src_uri)) + (link["anchor"] or "")

    return LINK.sub(replace, markdown)


class Resources(HTMLParser):
    """Collects what a page loads from other hosts: anything but links that a reader follows."""

    def __init__(self) -> None:
        super().__init__()
        self.remote: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            loaded = name in ("src", "srcset", "poster") or (tag == "link" and name == "href")
            if loaded and re.match(r"(https?:)?//", value or ""):
                self.remote.append(f"<{tag} {name}={value}>")


def on_post_build(*, config: MkDocsConfig) -> None:
    """Fail where a page or style sheet loads something from the network."""
    found = []
    for path in sorted(Path(config.site_dir).rglob("*.html")):
        resources = Resources()
        resources.feed(path.read_text(encoding="utf-8"))
        found += [f"{path.relative_to(config.site_dir)}: {each}" for each in resources.remote]
    for path in sorted(Path(config.site_dir).rglob("*.css")):
        found += [f"{path.name}: {each}" for each in re.findall(r"url\(['\"]?https?:[^)]*\)", path.read_text("utf-8"))]
    if found:
        raise PluginError("the site must be readable without network, but it loads:\n" + "\n".join(found))
