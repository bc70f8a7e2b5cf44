"""A model hub on the loopback that speaks both hubs' protocols, and fails as it is told.

The API and the file store are two servers, as at the real hubs: the first redirects to the second.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs, quote, unquote, urlsplit


@dataclass
class FakeHub:
    """`files` by name. `cuts` are consumed one per transfer: after so many bytes the connection ends."""

    repo: str = "Qwen/Tiny-GGUF"
    files: dict[str, bytes] = field(default_factory=dict)
    checksums: dict[str, str] = field(default_factory=dict)
    cuts: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    ranges: bool = True
    token: str = ""
    listing_status: int = 200
    asked: list[str] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    store_headers: list[dict[str, str]] = field(default_factory=list)
    url: str = ""
    store_url: str = ""

    def checksum(self, name: str) -> str:
        return self.checksums.get(name, hashlib.sha256(self.files[name]).hexdigest())

    def hugging_face_tree(self) -> object:
        return [
            {
                "type": "file",
                "oid": "0" * 40,
                "size": len(content),
                "path": name,
                "lfs": {"oid": self.checksum(name), "size": len(content), "pointerSize": 134},
            }
            for name, content in self.files.items()
        ]

    def modelscope_files(self) -> object:
        files = [
            {
                "Path": name,
                "Name": name,
                "Type": "blob",
                "Size": len(content),
                "Sha256": self.checksum(name),
            }
            for name, content in self.files.items()
        ]
        return {
            "Code": 200,
            "Success": True,
            "Data": {"Files": [{"Path": "d", "Type": "tree"}, *files]},
        }


class _Quiet(BaseHTTPRequestHandler):
    hub: FakeHub

    def log_message(self, format: str, *args: object) -> None:
        pass

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)


class _Api(_Quiet):
    def do_GET(self) -> None:
        hub = self.hub
        hub.asked.append(self.path)
        place = urlsplit(self.path)
        given = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if hub.listing_status != 200 or (hub.token and given != hub.token):
            return self.answer(
                401 if hub.token else hub.listing_status, X_Error_Code="RepoNotFound"
            )
        if place.path == f"/api/models/{hub.repo}/tree/main":
            return self.answer(200, json.dumps(hub.hugging_face_tree()).encode())
        if place.path == f"/api/v1/models/{hub.repo}/repo/files":
            return self.answer(200, json.dumps(hub.modelscope_files()).encode())
        if place.path.startswith(f"/{hub.repo}/resolve/main/"):
            name = unquote(place.path.removeprefix(f"/{hub.repo}/resolve/main/"))
        elif place.path == f"/api/v1/models/{hub.repo}/repo":
            name = parse_qs(place.query)["FilePath"][0]
        else:
            return self.answer(404, X_Error_Code="RepoNotFound")
        return self.answer(302, Location=f"{hub.store_url}/{quote(name)}")


class _Store(_Quiet):
    def do_GET(self) -> None:
        hub = self.hub
        hub.store_headers.append({name.lower(): value for name, value in self.headers.items()})
        if hub.statuses and (status := hub.statuses.pop(0)) != 200:
            return self.answer(status)
        content = hub.files[unquote(self.path[1:])]
        asked = self.headers.get("Range")
        offset = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        hub.offsets.append(offset)
        partial = asked is not None and hub.ranges
        if partial and offset >= len(content):
            return self.answer(416)
        body = content[offset:] if partial else content
        self.send_response(206 if partial else 200)
        self.send_header("Content-Length", str(len(body)))
        if partial:
            self.send_header("Content-Range", f"bytes {offset}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        self.wfile.write(body[: hub.cuts.pop(0)] if hub.cuts else body)
        return None


@contextmanager
def fake_hub(hub: FakeHub) -> Iterator[FakeHub]:
    with ExitStack() as stack:
        hub.url, hub.store_url = (
            stack.enter_context(_served(type("Handler", (handler,), {"hub": hub})))
            for handler in (_Api, _Store)
        )
        yield hub


@contextmanager
def _served(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
