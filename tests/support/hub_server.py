"""A stand-in for the Hugging Face Hub on this machine: the part of its API that uploads and downloads models use.

Repositories are in memory. Weights are kept as the hub keeps them, by SHA-256 (Git LFS); other files by Git's digest.
"""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from support.servers import served

TOKEN = "hf_of_the_tests"
"""The token that may write, and read what is private."""
LARGE = (".safetensors", ".npz", ".onnx", ".pt", ".bin")
TOKEN_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACE_TOKEN")


@dataclass
class Repository:
    """Files of each commit, and the commit of each branch. `commits` is in order."""

    private: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def commit(self, files: dict[str, bytes], branch: str = "main") -> str:
        """Add a commit whose files are these; returns its digest."""
        content = f"{len(self.commits)}{sorted((name, hashlib.sha1(data).hexdigest()) for name, data in files.items())}"
        oid = hashlib.sha1(content.encode()).hexdigest()
        self.commits[oid] = files
        self.branches[branch] = oid
        return oid

    def find(self, revision: str) -> str | None:
        """Return the commit of a branch or commit; None if there is no such."""
        return self.branches.get(revision, revision if revision in self.commits else None)


@dataclass
class HubServer:
    """The repositories by owner/name, and the faults to show.

    Attributes
    ----------
    cut_after : the next download of a file breaks off after this number of bytes; None for none
    damaged : names of files of which other bytes are sent than announced
    asked : method, path and Range of each request
    """

    repositories: dict[str, Repository] = field(default_factory=dict)
    cut_after: int | None = None
    damaged: set[str] = field(default_factory=set)
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    stored: dict[str, bytes] = field(default_factory=dict)
    endpoint: str = ""

    def put(self, name: str, files: dict[str, bytes], *, private: bool = False) -> str:
        """Add a repository, or a commit to it; returns the commit."""
        return self.repositories.setdefault(name, Repository(private=private)).commit(files)


def git_digest(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def is_large(path: str) -> bool:
    return path.endswith(LARGE)


class Refused(Exception):
    def __init__(self, status: int, code: str = "", url: str = "") -> None:
        self.status, self.code, self.url = status, code, url


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16  # headers and body in one packet, or each answer takes 40 ms
    hub: HubServer

    def do_POST(self) -> None:
        self._answer()

    do_GET = do_HEAD = do_PUT = do_POST

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append((self.command, path, self.headers.get("Range")))
        try:
            for pattern, method in ROUTES:
                if match := re.fullmatch(pattern, f"{self.command} {path}"):
                    return method(self, *match.groups())
            raise Refused(404)
        except Refused as error:
            content = json.dumps({"error": error.code, "url": error.url}).encode()
            self._send(error.status, content, {"X-Error-Code": error.code} if error.code else {})

    def _send(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.hub.cut_after is not None and "/resolve/" in self.path and len(content) > self.hub.cut_after:
            content, self.hub.cut_after, self.close_connection = content[: self.hub.cut_after], None, True
        self.wfile.write(content)

    def _json(self, content: Any) -> None:
        self._send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    @property
    def _may_write(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _repository(self, name: str, *, to_write: bool = False) -> Repository:
        found = self.hub.repositories.get(name)
        if not self._may_write and (found is None or found.private or to_write):
            raise Refused(401, "RepoNotFound")
        if found is None:
            raise Refused(404, "RepoNotFound")
        return found

    def _files(self, repository: Repository, revision: str) -> tuple[str, dict[str, bytes]]:
        commit = repository.find(revision)
        if commit is None:
            if revision == "main":
                return "", {}
            raise Refused(404, "RevisionNotFound")
        return commit, repository.commits[commit]

    def create(self) -> None:
        if not self._may_write:
            raise Refused(401)
        asked = json.loads(self.body)
        name = f"{asked['organization']}/{asked['name']}"
        url = f"{self.hub.endpoint}/{name}"
        if name in self.hub.repositories:
            raise Refused(409, url=url)
        private = asked.get("visibility") == "private" or asked.get("private") is True
        self.hub.repositories[name] = Repository(private=private)
        self.hub.put(name, {".gitattributes": b"*.safetensors filter=lfs\n"})
        self._json({"url": url})

    def branch(self, name: str, branch: str) -> None:
        repository = self._repository(name, to_write=True)
        if branch in repository.branches:
            raise Refused(409)
        repository.branches[branch] = repository.branches["main"]
        self._json({})

    def info(self, name: str, revision: str | None) -> None:
        repository = self._repository(name)
        commit, files = self._files(repository, revision or "main")
        siblings = [{"rfilename": path} for path in files]
        self._json({"id": name, "sha": commit, "private": repository.private, "siblings": siblings})

    def tree(self, name: str, revision: str) -> None:
        _, files = self._files(self._repository(name), revision)
        entries = []
        for path, content in files.items():
            entry: dict[str, Any] = {"type": "file", "path": path, "size": len(content), "oid": git_digest(content)}
            if is_large(path):
                sha256 = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"oid": sha256, "size": len(content), "pointerSize": 130}
            entries.append(entry)
        self._json(entries)

    def validate(self) -> None:
        if not re.match(r"---\n.*?\n---\n", json.loads(self.body)["content"], re.DOTALL):
            raise Refused(400)
        self._json({"errors": [], "warnings": []})

    def preupload(self, name: str, revision: str) -> None:
        _, files = self._files(self._repository(name, to_write=True), revision)
        self._json(
            {
                "files": [
                    {
                        "path": one["path"],
                        "uploadMode": "lfs" if is_large(one["path"]) else "regular",
                        "shouldIgnore": False,
                        "oid": git_digest(files[one["path"]]) if one["path"] in files else None,
                    }
                    for one in json.loads(self.body)["files"]
                ]
            }
        )

    def batch(self, name: str) -> None:
        self._repository(name, to_write=True)
        objects = json.loads(self.body)["objects"]
        for one in objects:
            if one["oid"] not in self.hub.stored:
                one["actions"] = {"upload": {"href": f"{self.hub.endpoint}/lfs/{one['oid']}"}}
        self._json({"transfer": "basic", "objects": objects})

    def store(self, oid: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise Refused(400)
        self.hub.stored[oid] = self.body
        self._send(200, b"")

    def commit(self, name: str, branch: str) -> None:
        repository = self._repository(name, to_write=True)
        files = dict(self._files(repository, branch)[1])
        for line in map(json.loads, self.body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.stored[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        oid = repository.commit(files, branch)
        self._json({"commitUrl": f"{self.hub.endpoint}/{name}/commit/{oid}", "commitOid": oid})

    def resolve(self, name: str, revision: str, path: str) -> None:
        commit, files = self._files(self._repository(name), revision)
        if path not in files:
            raise Refused(404, "EntryNotFound")
        content = files[path]
        digest = hashlib.sha256(content).hexdigest() if is_large(path) else git_digest(content)
        headers = {"X-Repo-Commit": commit, "ETag": f'"{digest}"', "Accept-Ranges": "bytes"}
        if is_large(path):
            headers |= {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(content))}
        if path in self.hub.damaged:
            content = content[:-1] + bytes([content[-1] ^ 1])
        asked = self.headers.get("Range")
        if asked is None:
            return self._send(200, content, headers)
        start = int(asked.removeprefix("bytes=").partition("-")[0])
        headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        return self._send(206, content[start:], headers)


NAME = r"([^/]+/[^/]+?)"
ROUTES = (
    (r"POST /api/repos/create", Handler.create),
    (r"POST /api/validate-yaml", Handler.validate),
    (rf"POST /api/models/{NAME}/branch/(.+)", Handler.branch),
    (rf"POST /api/models/{NAME}/preupload/(.+)", Handler.preupload),
    (rf"POST /api/models/{NAME}/commit/(.+)", Handler.commit),
    (rf"GET /api/models/{NAME}/tree/(.+)", Handler.tree),
    (rf"GET /api/models/{NAME}(?:/revision/(.+))?", Handler.info),
    (rf"POST /{NAME}\.git/info/lfs/objects/batch", Handler.batch),
    (r"PUT /lfs/([0-9a-f]{64})", Handler.store),
    (rf"(?:GET|HEAD) /{NAME}/resolve/([^/]+)/(.+)", Handler.resolve),
)


@contextmanager
def hub_server() -> Iterator[HubServer]:
    """Run a stand-in for the duration of the block."""
    hub = HubServer()
    handler = type("BoundHandler", (Handler,), {"hub": hub})
    with served(handler) as hub.endpoint:
        yield hub


def environment(hub: HubServer, home: str, token: str = "") -> dict[str, str]:
    """Variables with which a program uses the stand-in instead of the hub, with its cache and token below `home`."""
    return {
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": home,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        **({"HF_TOKEN": token} if token else {}),
    }


def use_in_this_process(patch: pytest.MonkeyPatch, hub: HubServer, home: str) -> None:
    """Let huggingface_hub, which reads its environment when it is imported, use the stand-in, without a token."""
    from huggingface_hub import constants, file_download

    patch.setattr(constants, "ENDPOINT", hub.endpoint)
    for module in (constants, file_download):  # the second in versions such as 0.30
        template = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        patch.setattr(module, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
    patch.setattr(constants, "HF_HUB_CACHE", f"{home}/hub")
    patch.setattr(constants, "HF_TOKEN_PATH", f"{home}/token")
    patch.setattr(constants, "HF_HUB_OFFLINE", False)
    patch.setattr(constants, "HF_HUB_DISABLE_XET", True, raising=False)  # newer than 0.30
    patch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    for name in TOKEN_VARIABLES:
        patch.delenv(name, raising=False)
