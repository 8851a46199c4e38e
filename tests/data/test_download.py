"""Fetching from a real HTTP server on this machine, unpacking hostile archives, and checking what is here."""

import errno
import hashlib
import io
import os
import re
import shutil
import sys
import tarfile
import threading
import zipfile
from collections import namedtuple
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest

from nsr_cli.data import catalog, download
from nsr_cli.data.catalog import Dataset, Source
from nsr_cli.data.images import read_image
from nsr_cli.errors import UserError

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


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(download, "PAUSE", 0.001)
    monkeypatch.setattr(download, "CHUNK", 100)
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def root(tmp_path):
    return tmp_path / "root"


@pytest.fixture
def images(tmp_path) -> Path:
    """Three RGB, one grey, one JPEG image of noise."""
    folder = tmp_path / "images"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for name, shape in zip(NAMES, [(40, 30, 3), (40, 30, 3), (24, 36, 3), (20, 20), (16, 16, 3)], strict=True):
        cv2.imwrite(str(folder / name), generator.integers(0, 256, shape, dtype=np.uint8))
    return folder


@pytest.fixture
def toy(monkeypatch, tmp_path, images):
    """Registers the data set `toy` (the images above) with the given mirrors, and its manifest."""
    manifests = tmp_path / "manifests"
    manifests.mkdir()
    monkeypatch.setattr(download, "MANIFESTS", manifests)

    def register(*sources: Source, name="toy", manifest=True, files=(), **more) -> Dataset:
        dataset = Dataset(
            name,
            "Toy",
            5,
            True,
            "test",
            "none",
            "noise",
            folders=(name.title(),),
            sources=sources,
            files=files,
            **more,
        )
        monkeypatch.setitem(catalog.DATASETS, name, dataset)
        if manifest:
            shutil.copytree(images, tmp_path / "original" / name.title())
            download.write_manifest(name, tmp_path / "original", manifests)
        return dataset

    return register


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
    (folder,) = download.get("toy", root, progress=False)
    return folder


def same(folder: Path, images: Path) -> bool:
    names = sorted(path.name for path in folder.iterdir())
    return names == sorted(NAMES) and all(
        np.array_equal(read_image(folder / name), read_image(images / name)) for name in names
    )


# Fetching


@pytest.mark.parametrize("kind", ["zip", "deflated zip", "tar", "tar.gz"])
def test_get_unpacks_checks_and_puts_in_place(server, toy, images, root, kind):
    server.files["toy"] = {
        "zip": lambda: zipped(images),
        "deflated zip": lambda: zipped(images, compression=zipfile.ZIP_DEFLATED),
        "tar": lambda: tarred(images, "w"),
        "tar.gz": lambda: tarred(images, "w:gz"),
    }[kind]()
    toy(Source(server.url("toy"), checksum=sha256(server.files["toy"])))
    assert get(root) == root / "Toy"
    assert same(root / "Toy", images)
    assert [path.name for path in root.iterdir()] == ["Toy"]
    assert download.check("toy", root).problems == ()
    assert [path.name for path in catalog.image_paths("toy", root)] == sorted(NAMES)


def test_get_again_does_nothing(server, toy, images, root):
    server.files["toy.zip"] = zipped(images)
    toy(Source(server.url("toy.zip")))
    get(root)
    before = {path: path.stat().st_mtime_ns for path in (root / "Toy").iterdir()}
    assert get(root) == root / "Toy"
    assert len(server.requests) == 1
    assert before == {path: path.stat().st_mtime_ns for path in (root / "Toy").iterdir()}


def test_a_dropped_connection_is_taken_up_again(server, toy, images, root):
    body = server.files["toy.zip"] = zipped(images)
    toy(Source(server.url("toy.zip"), checksum=sha256(body)))
    server.drops, server.cut = 3, len(body) // 500 * 100
    get(root)
    assert same(root / "Toy", images)
    assert [wanted for _, wanted in server.requests] == [None] + [f"bytes={n * server.cut}-" for n in (1, 2, 3)]
    assert server.sent == len(body)  # no byte twice


def test_the_next_call_takes_up_where_this_one_failed(server, toy, images, root, monkeypatch):
    body = server.files["toy.zip"] = zipped(images)
    toy(Source(server.url("toy.zip"), checksum=sha256(body)))
    server.drops, server.cut = 1, 1000
    answer = Handler.answer

    def dies_after_the_first(handler, *args):
        server.status["toy.zip"] = 503
        answer(handler, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Handler, "answer", dies_after_the_first)
        with pytest.raises(UserError, match=r"^Toy could not be fetched\. http.*: HTTP 503 \(tried 5 times\)$"):
            get(root)
    assert not (root / "Toy").exists()
    server.status.clear()
    get(root)
    assert same(root / "Toy", images)
    assert server.requests[-1] == ("toy.zip", "bytes=1000-")


def test_a_server_without_ranges_is_asked_from_the_start(server, toy, images, root):
    body = server.files["toy.zip"] = zipped(images)
    toy(Source(server.url("toy.zip"), checksum=sha256(body)))
    server.drops, server.cut, server.ranges = 1, 1000, False
    get(root)
    assert same(root / "Toy", images)


@pytest.mark.parametrize("surplus", [0, 7])
def test_a_beginning_that_is_too_long_is_thrown_away(server, toy, images, root, surplus):
    """With nothing left to fetch (416) the file is complete, or no beginning of this file at all."""
    body = server.files["toy.zip"] = zipped(images)
    source = Source(server.url("toy.zip"), checksum=sha256(body))
    toy(source)
    downloads = root / ".downloads"
    downloads.mkdir(parents=True)
    key = hashlib.sha256(source.url.encode()).hexdigest()[:8]
    (downloads / f"{key}-toy.zip.part").write_bytes(body + b"x" * surplus)
    get(root)
    assert same(root / "Toy", images)
    assert len(server.requests) == (2 if surplus else 1)


def test_a_wrong_checksum_leaves_nothing_behind(server, toy, images, root):
    server.files["toy.zip"] = zipped(images)
    toy(Source(server.url("toy.zip"), checksum=sha256(b"another file")))
    with pytest.raises(UserError, match=r"wrong checksum, expected sha256:"):
        get(root)
    assert not (root / "Toy").exists()
    assert not list((root / ".downloads").glob("*toy.zip*"))


def test_mirrors_are_tried_in_turn(server, toy, images, root):
    body = server.files["good.zip"] = zipped(images)
    server.files["wrong.zip"] = body[:-1] + b"!"
    server.status["ill.zip"] = 500
    toy(
        Source("http://127.0.0.1:9/dead.zip"),  # the discard port: nobody answers
        Source(server.url("gone.zip")),
        Source(server.url("ill.zip")),
        Source(server.url("wrong.zip"), checksum=sha256(body)),
        Source(server.url("good.zip"), checksum=sha256(body)),
        Source(server.url("never.zip")),
    )
    get(root)
    assert same(root / "Toy", images)
    asked = [path for path, _ in server.requests]
    assert asked == ["gone.zip", *["ill.zip"] * download.ATTEMPTS, "wrong.zip", "good.zip"]


def test_when_all_mirrors_fail_each_is_named(server, toy, root):
    toy(Source("http://127.0.0.1:9/dead.zip"), Source(server.url("gone.zip")))
    with pytest.raises(UserError) as error:
        get(root)
    assert str(error.value) == (
        "Toy could not be fetched. http://127.0.0.1:9/dead.zip: no connection (tried 5 times); "
        f"{server.url('gone.zip')}: HTTP 404"
    )


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
@pytest.mark.parametrize("part", [0.0, 0.4, 0.99])
def test_a_truncated_archive_is_refused(server, toy, images, root, kind, part):
    whole = {"zip": zipped(images), "tar": tarred(images, "w"), "tar.gz": tarred(images, "w:gz")}[kind]
    server.files["cut"] = whole[: int(len(whole) * part) or 1]
    server.files["whole"] = whole
    toy(Source(server.url("cut")))
    if not (kind == "tar" and part == 0.99):  # there only the padding at the end is cut off
        with pytest.raises(UserError, match=r"broken archive: |images are others"):
            get(root)
        assert not (root / "Toy").exists()
    toy(Source(server.url("whole")), manifest=False)
    get(root)
    assert same(root / "Toy", images)


def test_an_archive_that_two_parts_share_is_fetched_once(server, toy, images, root, monkeypatch):
    server.files["both.zip"] = zipped(images)
    toy(Source(server.url("both.zip")), name="one")
    toy(Source(server.url("both.zip")), name="two")
    pair = Dataset("pair", "Pair", 10, True, "test", "none", "noise", parts=("one", "two"))
    monkeypatch.setitem(catalog.DATASETS, "pair", pair)
    assert download.get("pair", root, progress=False) == [root / "One", root / "Two"]
    assert same(root / "One", images) and same(root / "Two", images)
    assert len(server.requests) == 1
    assert download.check("pair", root).found == 10


def test_what_is_half_fetched_for_another_data_set_stays(server, toy, images, root):
    body = server.files["toy.zip"] = zipped(images)
    server.files["other.zip"] = body[:500]
    toy(Source(server.url("other.zip")), name="other")
    other = root / ".downloads" / f"{hashlib.sha256(server.url('other.zip').encode()).hexdigest()[:8]}-other.zip.part"
    other.parent.mkdir(parents=True)
    other.write_bytes(body[:500])
    (other.parent / "tmp1234").touch()
    toy(Source(server.url("toy.zip")))
    get(root)
    assert sorted(path.name for path in other.parent.iterdir()) == [other.name, "lock"]
    server.files["other.zip"] = body
    download.get("other", root, progress=False)
    assert server.requests[-1] == ("other.zip", "bytes=500-")
    assert sorted(path.name for path in root.iterdir()) == ["Other", "Toy"]


def test_an_interrupted_unpacking_goes_on_without_a_new_download(server, toy, images, root, monkeypatch):
    server.files["toy.zip"] = zipped(images)
    toy(Source(server.url("toy.zip")))
    copied = []

    def interrupted(source, target):
        if len(copied) == 2:
            raise KeyboardInterrupt
        copied.append(target.write(source.read()))

    with monkeypatch.context() as patch:
        patch.setattr(download.shutil, "copyfileobj", interrupted)
        with pytest.raises(KeyboardInterrupt):
            get(root)
    assert not (root / "Toy").exists()
    get(root)
    assert same(root / "Toy", images)
    assert len(server.requests) == 1


def test_files_of_a_folder_are_fetched_one_by_one_and_the_rest_later(server, toy, images, root):
    for name in NAMES:
        server.files[f"folder/{name}"] = (images / name).read_bytes()
    server.status["folder/c.png"] = 404
    toy(Source(server.url("folder/")))
    with pytest.raises(UserError, match=r"folder/: HTTP 404"):
        get(root)
    assert not (root / "Toy").exists()
    server.status.clear()
    server.requests.clear()
    get(root)
    assert same(root / "Toy", images)
    assert [path for path, _ in server.requests] == ["folder/c.png", "folder/grey.png", "folder/photo.jpg"]


def test_other_names_and_formats_of_the_same_pixels_are_recognised(server, toy, images, root, tmp_path):
    """A mirror may name its images otherwise, keep BMP files, or a grey image as three equal channels."""
    other = tmp_path / "other"
    other.mkdir()
    cv2.imwrite(str(other / "img_001.bmp"), cv2.imread(str(images / "a.png")))
    shutil.copy(images / "b.png", other / "img_002.png")
    cv2.imwrite(str(other / "img_003.bmp"), cv2.imread(str(images / "c.png")))
    cv2.imwrite(str(other / "img_004.png"), cv2.imread(str(images / "grey.png"), cv2.IMREAD_COLOR))
    shutil.copy(images / "photo.jpg", other / "img_005.jpg")
    cv2.imwrite(str(other / "not_one_of_them.png"), np.zeros((40, 30, 3), np.uint8))
    (other / "no_image.png").write_bytes(b"text")
    server.files["toy.zip"] = zipped(other)
    toy(Source(server.url("toy.zip")))
    get(root)
    assert same(root / "Toy", images)
    assert read_image(root / "Toy" / "grey.png").ndim == 2


def test_one_image_under_two_names_is_kept_twice(server, toy, images, root):
    """As in T91."""
    shutil.copy(images / "a.png", images / "b.png")
    server.files["toy.zip"] = zipped(images)
    toy(Source(server.url("toy.zip")))
    get(root)
    assert same(root / "Toy", images)


def test_other_pixels_are_refused(server, toy, images, root, tmp_path):
    other = shutil.copytree(images, tmp_path / "other")
    changed = cv2.imread(str(other / "b.png"))
    changed[3, 4, 1] ^= 1
    cv2.imwrite(str(other / "b.png"), changed)
    server.files["toy.zip"] = zipped(other)
    toy(Source(server.url("toy.zip")))
    with pytest.raises(UserError, match=r"1 of 5 images are others, b\.png among them"):
        get(root)
    assert not (root / "Toy").exists()


def test_without_a_manifest_names_and_count_decide(server, toy, images, root):
    server.files["toy.zip"] = zipped(images)
    toy(Source(server.url("toy.zip")), manifest=False, files=NAMES)
    get(root)
    assert same(root / "Toy", images)
    assert download.check("toy", root).compared == "names and count"
    (root / "Toy" / "a.png").unlink()
    assert download.check("toy", root).problems == ("a.png: missing",)
    shutil.rmtree(root)
    toy(Source(server.url("toy.zip"), "*/[abc].png"), manifest=False)
    with pytest.raises(UserError, match=r"not the images expected: 2 of 5 images missing"):
        get(root)


def test_members_choose_among_the_folders_of_an_archive(server, toy, images, root, tmp_path):
    both = tmp_path / "both"
    shutil.copytree(images, both / "truth")
    shutil.copytree(images, both / "small")
    server.files["toy.tar"] = tarred(both, "w")
    toy(Source(server.url("toy.tar"), "*/truth/*"))
    get(root)
    assert same(root / "Toy", images)


def test_only_what_is_missing_is_added_to_a_folder(server, toy, images, root):
    server.files["toy.zip"] = zipped(images)
    toy(Source(server.url("toy.zip")))
    (root / "Toy").mkdir(parents=True)
    shutil.copy(images / "a.png", root / "Toy")
    (root / "Toy" / "notes.txt").write_text("mine")
    before = (root / "Toy" / "a.png").stat().st_ino
    get(root)
    assert download.check("toy", root).problems == ()
    assert (root / "Toy" / "a.png").stat().st_ino == before
    assert (root / "Toy" / "notes.txt").read_text() == "mine"


def test_other_images_of_the_same_names_are_never_overwritten(server, toy, images, root):
    server.files["toy.zip"] = zipped(images)
    toy(Source(server.url("toy.zip")))
    shutil.copytree(images, root / "Toy")
    shutil.copy(images / "a.png", root / "Toy" / "b.png")
    with pytest.raises(UserError, match=r"^Toy: b\.png: other pixels than .*, in .*/Toy; move that away first$"):
        get(root)
    assert not server.requests


def test_a_data_set_without_a_source_says_where_to_ask(root):
    with pytest.raises(UserError) as error:
        download.get("manga109", root, progress=False)
    assert str(error.value) == (
        f"Manga109 can't be fetched: ask its authors at http://www.manga109.org; its images belong into {root}/Manga109"
    )
    with pytest.raises(UserError, match=r"^no data set 'set6' \(did you mean 'set5'\?\)"):
        download.get("set6", root)
    assert not root.exists()


def test_what_a_package_ships_needs_no_download(root):
    (folder,) = download.get("embedded_val", root)
    assert (folder / "chelsea.png").is_file() and not root.exists()
    assert download.check("embedded_val", root).problems == ()


# Full disks, foreign folders, two at once


def test_too_little_room_is_said_before_the_download(server, toy, images, root, monkeypatch):
    server.files["toy.zip"] = zipped(images)
    toy(Source(server.url("toy.zip")))
    usage = namedtuple("usage", "total used free")(10, 0, 10)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(UserError, match=r"^disk full: 0 MiB needed in .*, 0 MiB free$"):
        get(root)


def test_a_disk_that_fills_up_is_one_line_and_no_loss(server, toy, images, root, monkeypatch):
    server.files["toy.zip"] = zipped(images)
    toy(Source(server.url("toy.zip")))

    def full(source, target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(download.shutil, "copyfileobj", full)
        with pytest.raises(UserError, match=r"^disk full in .*/root; free some and repeat, it goes on where it stop"):
            get(root)
    get(root)
    assert same(root / "Toy", images)
    assert len(server.requests) == 1


def test_a_root_that_is_a_file_is_one_line(server, toy, images, root):
    toy(Source(server.url("toy.zip")))
    root.write_text("no folder")
    with pytest.raises(UserError, match=r"^Toy: File exists: .*/root$"):
        get(root)


def test_two_at_once_do_not_meet(server, toy, images, root):
    fcntl = pytest.importorskip("fcntl")
    server.files["toy.zip"] = zipped(images)
    toy(Source(server.url("toy.zip")))
    (root / ".downloads").mkdir(parents=True)
    with (root / ".downloads" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError, match=r"^another `nsr data get` is at work in "):
            get(root)
    get(root)
    assert same(root / "Toy", images)


# Hostile archives


def hostile_zip(name: str, mode: int = 0o100644, content: bytes = b"x") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        archive.writestr(info, content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def hostile_tar(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", size: int = 0) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        info = tarfile.TarInfo(name)
        info.type, info.linkname, info.size = kind, target, size
        archive.addfile(info, io.BytesIO(bytes(size)))
    return buffer.getvalue()


HOSTILE = {
    "zip ..": (hostile_zip("../../evil.png"), "leaves the folder"),
    "zip absolute": (hostile_zip("/evil.png"), "leaves the folder"),
    "zip backslashes": (hostile_zip("..\\..\\evil.png"), "leaves the folder"),
    "zip drive": (hostile_zip("C:evil.png"), "is no plain file"),
    "zip symlink": (hostile_zip("toy/evil.png", 0o120777, b"/etc/passwd"), "is no plain file"),
    "zip bomb": (hostile_zip("toy/evil.png", content=bytes(3_000_000)), "unpacks to 3000000 bytes"),
    "tar ..": (hostile_tar("toy/../../evil.png"), "leaves the folder"),
    "tar absolute": (hostile_tar("/tmp/evil.png"), "leaves the folder"),
    "tar symlink": (hostile_tar("toy/evil.png", tarfile.SYMTYPE, "/etc/passwd"), "is no plain file"),
    "tar hardlink": (hostile_tar("toy/evil.png", tarfile.LNKTYPE, "../../secret.png"), "is no plain file"),
    "tar device": (hostile_tar("toy/evil.png", tarfile.CHRTYPE), "is no plain file"),
    "tar bomb": (hostile_tar("toy/evil.png", size=3_000_000), "unpacks to 3000000 bytes"),
    "tar bomb beside the images": (
        hostile_tar("toy/zeros.bin", size=12_000_000),
        "entries or 10000000 bytes",
    ),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_archives_write_nothing(server, toy, images, root, tmp_path, monkeypatch, kind):
    monkeypatch.setattr(download, "MAX_IMAGE_BYTES", 2_000_000)
    monkeypatch.setattr(download, "MAX_BYTES", 10_000_000)
    server.files["evil"], reason = HOSTILE[kind]
    server.files["good.zip"] = zipped(images)
    toy(Source(server.url("evil")))
    with pytest.raises(UserError, match=rf"hostile archive: .*{reason}"):
        get(root)
    assert not list(tmp_path.rglob("*evil.png")) and not Path("/evil.png").exists()
    assert not (root / "Toy").exists()
    toy(Source(server.url("evil")), Source(server.url("good.zip")), manifest=False)
    get(root)
    assert same(root / "Toy", images)


def test_a_zip_that_lies_about_its_size_is_broken(server, toy, root):
    honest = hostile_zip("toy/evil.png", content=bytes(100_000))
    lying = honest.replace((100_000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    assert lying != honest
    server.files["toy.zip"] = lying
    toy(Source(server.url("toy.zip")))
    with pytest.raises(UserError, match=r"broken archive: "):
        get(root)


def test_too_many_entries_and_twin_names_are_refused(server, toy, images, root, monkeypatch, tmp_path):
    server.files["many.zip"] = zipped(images)
    toy(Source(server.url("many.zip")))
    with monkeypatch.context() as patch:
        patch.setattr(download, "MAX_ENTRIES", 5)
        with pytest.raises(UserError, match=r"hostile archive: over 5 entries"):
            get(root)
    shutil.copytree(images, tmp_path / "twins" / "HR")
    shutil.copytree(images, tmp_path / "twins" / "LR")
    server.files["twins.tar"] = tarred(tmp_path / "twins", "w")
    toy(Source(server.url("twins.tar")), manifest=False)
    with pytest.raises(UserError, match=r"two of its images are named a\.png"):
        get(root)


def test_a_download_larger_than_the_limit_is_not_begun(server, toy, images, root, monkeypatch):
    server.files["toy.zip"] = zipped(images)
    toy(Source(server.url("toy.zip")))
    monkeypatch.setattr(download, "MAX_BYTES", 1000)
    with pytest.raises(UserError, match=r"0 MiB, more than 0 GiB"):
        get(root)
    assert not list((root / ".downloads").glob("*.part"))


# Checking


def test_check_names_each_image_that_differs(toy, images, root):
    toy()
    here = shutil.copytree(images, root / "Toy")
    (here / "a.png").unlink()
    changed = cv2.imread(str(here / "b.png"))
    changed[0, 0, 0] ^= 1
    cv2.imwrite(str(here / "b.png"), changed)
    cv2.imwrite(str(here / "c.png"), np.zeros((24, 30, 3), np.uint8))
    (here / "grey.png").write_bytes(b"no image")
    cv2.imwrite(str(here / "photo.jpg"), cv2.imread(str(here / "photo.jpg")))
    cv2.imwrite(str(here / "extra.png"), np.zeros((2, 2, 3), np.uint8))
    found = download.check("toy", root)
    assert found.missing == ("a.png",) and found.found == 5 and found.compared == "checksums"
    assert [problem for problem in found.problems if "grey.png" not in problem] == [
        "a.png: missing",
        "b.png: other pixels than the published image",
        "c.png: 24x30x3, expected 24x36x3",
        "extra.png: not in this data set",
        "photo.jpg: other bytes than the published image",
    ]
    assert any(problem.startswith("grey.png: ") for problem in found.problems)


def test_a_grey_image_replicated_to_colour_is_noticed(toy, images, root):
    """Set14's grey `bridge` as RGB moves the Set14 mean by 0.094 dB (PROTOCOLS.md, building blocks)."""
    toy()
    here = shutil.copytree(images, root / "Toy")
    cv2.imwrite(str(here / "grey.png"), cv2.imread(str(here / "grey.png"), cv2.IMREAD_COLOR))
    assert download.check("toy", root).problems == ("grey.png: 20x20x3, expected 20x20x1",)


def test_a_png_written_anew_is_still_the_same_image(toy, images, root):
    toy()
    here = shutil.copytree(images, root / "Toy")
    before = (here / "a.png").read_bytes()
    cv2.imwrite(str(here / "a.png"), cv2.imread(str(here / "a.png")), [cv2.IMWRITE_PNG_COMPRESSION, 0])
    assert (here / "a.png").read_bytes() != before
    assert download.check("toy", root).problems == ()


def test_only_get_needs_pooch(toy, images, root, monkeypatch):
    """It is an extra of the package, not a requirement."""
    toy(Source("http://127.0.0.1:9/toy.zip"))
    for module in ("pooch", "requests"):
        monkeypatch.setitem(sys.modules, module, None)
    shutil.copytree(images, root / "Toy")
    assert download.check("toy", root).problems == ()
    assert get(root) == root / "Toy"
    shutil.rmtree(root)
    with pytest.raises(UserError, match=r"^`nsr data get` needs pooch, which is not installed: pip install pooch$"):
        get(root)


def test_check_of_what_is_not_here(tmp_path):
    with pytest.raises(UserError, match=r"^Set5: no folder "):
        download.check("set5", tmp_path)


def test_listing_says_where_or_how(toy, images, root):
    toy(Source("http://127.0.0.1:9/toy.zip"))
    rows = {row.name: row for row in download.listing(root)}
    assert list(rows) == list(catalog.DATASETS)
    assert rows["toy"].where == "not here: `nsr data get toy` fetches it"
    assert rows["manga109"].where == "not here: ask its authors at http://www.manga109.org"
    assert rows["t91_bsd200"].where == "not here: `nsr data get t91_bsd200` fetches it"
    assert rows["embedded_val"].where.endswith("skimage/data")
    (root / "Toy").mkdir(parents=True)
    shutil.copy(images / "a.png", root / "Toy")
    assert f"not here (1 of 5 in {root}/Toy)" in {row.name: row.where for row in download.listing(root)}["toy"]
    shutil.copytree(images, root / "Toy", dirs_exist_ok=True)
    assert {row.name: row.where for row in download.listing(root)}["toy"] == str(root / "Toy")


SHIPPED = sorted(path.stem for path in download.MANIFESTS.glob("*.json"))


def test_shipped_manifests_fit_the_catalog():
    assert "set5" in SHIPPED
    for name in SHIPPED:
        manifest, dataset = download.read_manifest(name), catalog.DATASETS[name]
        assert len(manifest) == dataset.count
        assert set(dataset.files) <= set(manifest)
        channels = {entry.channels for entry in manifest.values()}
        assert channels == ({1, 3} if name == "set14" else {3} if dataset.colour else {1})


def test_every_source_can_be_verified():
    """By a manifest, or by a published checksum of the archive."""
    for dataset in catalog.DATASETS.values():
        for source in dataset.sources:
            if not source.checksum and dataset.name not in SHIPPED:
                assert (dataset.name, source.url.rpartition("/")[2]) == ("urban100", "benchmark.tar")


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_manifests_describe_the_real_images(nsr_data, name):
    assert download.check(name, nsr_data).problems == ()
