"""Hooks of mkdocs.yml: generated pages, links into the repository, and the check that the site needs no network."""

from __future__ import annotations

import importlib
import pkgutil
import posixpath
import re
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import typer.cli
import typer.main
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import xvectors
from xvectors import integrations
from xvectors.cli import app

ROOT = Path(__file__).resolve().parents[1]
PROJECT_PAGES = ("README.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "CHANGELOG.md", "SECURITY.md")
NOT_API = {f"xvectors.{name}" for name in ("__main__", "cli", "devices", "files", "processes", "progress", "text")}
LINK = re.compile(r"(?<=\]\()(?P<path>[^)\s#:]+)(?P<anchor>#[^)\s]*)?(?=\))")


def first_sentence(text: str | None) -> str:
    return re.split(r"(?<=\.)\s", (text or "").strip(), maxsplit=1)[0]


def commands_page() -> str:
    """Write the page of all commands from their help."""
    command = typer.main.get_command(app)
    context = command.make_context("xvectors", [], resilient_parsing=True)
    page = typer.cli.get_docs_for_click(obj=command, ctx=context, name="xvectors").replace("`xvectors`", "Commands", 1)
    for name in command.list_commands(context):
        line = f"* [`{name}`](#xvectors-{name}): {first_sentence(command.get_command(context, name).help)}"
        page = re.sub(rf"^\* `{name}`: .*$", lambda _, line=line: line, page, count=1, flags=re.MULTILINE)
    return re.sub(r"^(Examples|Start here):\n((?:  .+\n)+)", r"\1:\n\n```sh\n\2```\n", page, flags=re.MULTILINE)


def public_names(module: ModuleType) -> list[str]:
    """List what `__all__` declares, else the module's own classes and functions without an underscore."""
    own = [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and callable(value) and getattr(value, "__module__", "").startswith(module.__name__)
    ]
    return list(getattr(module, "__all__", own))


def api_pages() -> dict[str, str]:
    """Write a page for the package, whose names are documented where they come from, and one for each public module."""
    origins = {name: getattr(xvectors, name) for name in xvectors.__all__}
    listed = "".join(
        f"- [`{name}`][{each.__module__}.{each.__qualname__}]: {first_sentence(each.__doc__)}\n"
        for name, each in origins.items()
    )
    pages = {"xvectors": f"# xvectors\n\nThese names can be imported from `xvectors` itself:\n\n{listed}"}
    for found in pkgutil.iter_modules(xvectors.__path__, "xvectors."):
        names = [] if found.name in NOT_API else public_names(importlib.import_module(found.name))
        if names:
            members = "".join(f"        - {name}\n" for name in names)
            pages[found.name] = f"# {found.name}\n\n::: {found.name}\n    options:\n      members:\n{members}"
    for found in pkgutil.iter_modules(integrations.__path__, "xvectors.integrations."):
        pages[found.name] = f"# {found.name}\n\n::: {found.name}\n"  # not imported: the other toolkit may be missing
    return dict(sorted(pages.items()))


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the project's own pages, the commands and the Python API."""
    for name in PROJECT_PAGES:
        if (ROOT / name).exists():
            files.append(File.generated(config, f"project/{name}", abs_src_path=str(ROOT / name)))
    files.append(File.generated(config, "reference/commands.md", content=commands_page()))
    pages = api_pages()
    for name, content in pages.items():
        files.append(File.generated(config, f"reference/api/{name}.md", content=content))
    (reference,) = (section["Reference"] for section in config.nav or [] if "Reference" in section)
    reference += ["reference/commands.md", {"Python API": [f"reference/api/{name}.md" for name in pages]}]
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
