"""A server on this machine that sends one file, with the faults that servers have."""

from __future__ import annotations

import http.server
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from support.servers import served


@dataclass
class FileServer:
    """What is sent for /model.pt, and how. Other paths are not found.

    Attributes
    ----------
    cut_after : the next answer breaks off after this number of bytes; None for none
    ranges : "kept" answers a range, "ignored" sends the whole file with status 200, "wrong" sends another range
    tag : the ETag; a request with another one in If-Range is answered with the whole file
    asked : the Range headers of the requests, in order; None for a request without
    """

    content: bytes
    cut_after: int | None = None
    ranges: str = "kept"
    tag: str = '"one"'
    asked: list[str | None] = field(default_factory=list)
    address: str = ""


@contextmanager
def serving(file: FileServer) -> Iterator[FileServer]:
    """Run the server for the duration of the block."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            file.asked.append(asked)
            start = 0
            if self.path != "/model.pt":
                return self.send_error(404)
            if asked and file.ranges != "ignored" and self.headers.get("If-Range", file.tag) == file.tag:
                start = int(asked.removeprefix("bytes=").rstrip("-"))
                if start >= len(file.content):
                    return self.send_error(416)
                start //= 2 if file.ranges == "wrong" else 1
            self.send_response(206 if start else 200)
            if start:
                size = len(file.content)
                self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
            if file.tag:
                self.send_header("ETag", file.tag)
            self.send_header("Content-Length", str(len(file.content) - start))
            self.end_headers()
            self.wfile.write(file.content[start : file.cut_after])
            file.cut_after = None
            return None

        def log_message(self, format: str, *args: object) -> None:
            pass

    with served(Handler) as address:
        file.address = f"{address}/model.pt"
        yield file
