"""A data set of five small images, archives of it, and a server on this machine that can be told to misbehave."""

import hashlib
import io
import re
import tarfile
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np

from nsr_cli.data import download
from nsr_cli.data.images import read_image

NAMES = ("a.png", "b.png", "c.png", "grey.png", "photo.jpg")


class Server(ThreadingHTTPServer):
    """Serves `files` (path to bytes) with Range requests, and can be told to misbehave."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.requests: list[tuple[str, str | None]] = []  # path, Range
        self.drops = 0  # how many answers still to cut
        self.cut = 0  # bytes sent before the cut
        self.ranges = True
        self.status: dict[str, int] = {}
        self.sent = 0

    def handle_error(self, request, client_address):
        """A client that hangs up is part of these tests, and no news."""

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{path}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server, path, wanted = self.server, self.path.lstrip("/"), self.headers.get("Range")
        server.requests.append((path, wanted))
        status = server.status.get(path, 200 if path in server.files else 404)
        if status != 200:
            return self.answer(status, b"", 0)
        body = server.files[path]
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and server.ranges else 0
        if start and start >= len(body):
            return self.answer(416, b"", 0, f"bytes */{len(body)}")
        rest = body[start:]
        span = f"bytes {start}-{len(body) - 1}/{len(body)}" if start else None
        self.answer(206 if start else 200, rest, len(rest), span)

    def answer(self, status: int, body: bytes, length: int, span: str | None = None):
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        if span:
            self.send_header("Content-Range", span)
        if body and self.server.drops:
            self.server.drops -= 1
            body = body[: self.server.cut]
            self.close_connection = True
        self.end_headers()
        self.wfile.write(body)
        self.server.sent += len(body)

    def log_message(self, *args):
        pass


def zipped(folder: Path, prefix: str = "toy/HR/", compression=zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.writestr("toy/readme.txt", "about")
        for path in sorted(folder.iterdir()):
            archive.write(path, prefix + path.name)
    return buffer.getvalue()


def tarred(folder: Path, mode: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        archive.add(folder, "toy/HR")
    return buffer.getvalue()


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def get(root: Path) -> Path:
    (folder,) = download.get_dataset("toy", root)
    return folder


def same(folder: Path, images: Path) -> bool:
    names = sorted(path.name for path in folder.iterdir())
    return names == sorted(NAMES) and all(
        np.array_equal(read_image(folder / name), read_image(images / name)) for name in names
    )
