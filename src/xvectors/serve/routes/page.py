"""The page at /: files of the package, without a build step and without other hosts."""

from __future__ import annotations

from importlib import resources

from fastapi import APIRouter, Response

from xvectors.serve.problems import Problem

router = APIRouter(include_in_schema=False)

FILES = {
    "index.html": "text/html",
    "style.css": "text/css",
    "app.js": "text/javascript",
    "map.js": "text/javascript",
    "service.js": "text/javascript",
    "sound.js": "text/javascript",
    "strings.js": "text/javascript",
    "tap.js": "text/javascript",
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; media-src blob:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Nothing is loaded from, or sent to, any other host."""


@router.get("/")
def index() -> Response:
    """Return the page."""
    return file("index.html")


@router.get("/page/{name}")
def file(name: str) -> Response:
    """Return one of the page's files."""
    if name not in FILES:
        raise Problem("not-found", "the page has no such file", f"its files are {', '.join(FILES)}")
    content = resources.files("xvectors.serve").joinpath("page", name).read_bytes()
    headers = {"content-security-policy": POLICY, "permissions-policy": "microphone=(self)"}
    return Response(content, media_type=f"{FILES[name]}; charset=utf-8", headers=headers)
