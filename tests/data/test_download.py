"""Fetching from a real HTTP server on this machine: drops, mirrors, full disks, folders that hold something."""

import errno
import hashlib
import os
import shutil
from collections import namedtuple

import pytest
from toy import NAMES, Handler, get, same, sha256, zipped

from nsr_cli.data import archives, download, fetch
from nsr_cli.data.datasets import DATASETS, Dataset, Source
from nsr_cli.data.manifest import check_dataset
from nsr_cli.errors import UserError


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
    assert asked == ["gone.zip", *["ill.zip"] * fetch.ATTEMPTS, "wrong.zip", "good.zip"]


def test_when_all_mirrors_fail_each_is_named(server, toy, root):
    toy(Source("http://127.0.0.1:9/dead.zip"), Source(server.url("gone.zip")))
    with pytest.raises(UserError) as error:
        get(root)
    assert str(error.value) == (
        "Toy could not be fetched. http://127.0.0.1:9/dead.zip: no connection (tried 5 times); "
        f"{server.url('gone.zip')}: HTTP 404"
    )


def test_an_archive_that_two_parts_share_is_fetched_once(server, toy, images, root, monkeypatch):
    server.files["both.zip"] = zipped(images)
    toy(Source(server.url("both.zip")), name="one")
    toy(Source(server.url("both.zip")), name="two")
    pair = Dataset("pair", "Pair", 10, True, "test", "none", "noise", parts=("one", "two"))
    monkeypatch.setitem(DATASETS, "pair", pair)
    assert download.get_dataset("pair", root) == [root / "One", root / "Two"]
    assert same(root / "One", images) and same(root / "Two", images)
    assert len(server.requests) == 1
    assert check_dataset("pair", root).found == 10


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
    download.get_dataset("other", root)
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
        patch.setattr(archives.shutil, "copyfileobj", interrupted)
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


def test_only_what_is_missing_is_added_to_a_folder(server, toy, images, root):
    server.files["toy.zip"] = zipped(images)
    toy(Source(server.url("toy.zip")))
    (root / "Toy").mkdir(parents=True)
    shutil.copy(images / "a.png", root / "Toy")
    (root / "Toy" / "notes.txt").write_text("mine")
    before = (root / "Toy" / "a.png").stat().st_ino
    get(root)
    assert check_dataset("toy", root).problems == ()
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
        download.get_dataset("manga109", root)
    assert str(error.value) == (
        f"Manga109 can't be fetched: ask its authors at http://www.manga109.org; its images belong into {root}/Manga109"
    )
    with pytest.raises(UserError, match=r"^no data set 'set6' \(did you mean 'set5'\?\)"):
        download.get_dataset("set6", root)
    assert not root.exists()


def test_what_a_package_ships_needs_no_download(root):
    (folder,) = download.get_dataset("embedded_val", root)
    assert (folder / "chelsea.png").is_file() and not root.exists()
    assert check_dataset("embedded_val", root).problems == ()


# Full disks, foreign folders, two at once


def test_too_little_room_is_said_before_the_download(server, toy, images, root, monkeypatch):
    server.files["toy.zip"] = zipped(images)
    toy(Source(server.url("toy.zip")))
    usage = namedtuple("usage", "total used free")(10, 0, 10)
    monkeypatch.setattr(fetch.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(UserError, match=r"^disk full: 0 MiB needed in .*, 0 MiB free$"):
        get(root)


def test_a_disk_that_fills_up_is_one_line_and_no_loss(server, toy, images, root, monkeypatch):
    server.files["toy.zip"] = zipped(images)
    toy(Source(server.url("toy.zip")))

    def full(source, target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(archives.shutil, "copyfileobj", full)
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


def test_a_download_larger_than_the_limit_is_not_begun(server, toy, images, root, monkeypatch):
    server.files["toy.zip"] = zipped(images)
    toy(Source(server.url("toy.zip")))
    monkeypatch.setattr(fetch, "MAX_BYTES", 1000)
    with pytest.raises(UserError, match=r"0 MiB, more than 0 GiB"):
        get(root)
    assert not list((root / ".downloads").glob("*.part"))
