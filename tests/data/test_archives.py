"""Unpacking: archives of every kind, hostile ones, and images under other names and in other formats."""

import io
import shutil
import tarfile
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from toy import NAMES, get, same, sha256, tarred, zipped

from nsr_cli.data import archives, catalog
from nsr_cli.data.datasets import Source
from nsr_cli.data.images import read_image
from nsr_cli.data.manifest import check_dataset
from nsr_cli.errors import UserError


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
@pytest.mark.parametrize("part", [0.0, 0.4, 0.99])
def test_a_truncated_archive_is_refused(server, toy, images, root, kind, part):
    whole = {"zip": zipped(images), "tar": tarred(images, "w"), "tar.gz": tarred(images, "w:gz")}[kind]
    server.files["cut"] = whole[: int(len(whole) * part) or 1]
    server.files["whole"] = whole
    toy(Source(server.url("cut")))
    if not (kind == "tar" and part == 0.99):  # there only the padding at the end is cut off
        with pytest.raises(UserError, match=r"broken archive: |images are missing or differ"):
            get(root)
        assert not (root / "Toy").exists()
    toy(Source(server.url("whole")), manifest=False)
    get(root)
    assert same(root / "Toy", images)


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
    assert check_dataset("toy", root).problems == ()
    assert [path.name for path in catalog.image_paths("toy", root)] == sorted(NAMES)


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
    with pytest.raises(UserError, match=r"1 of 5 images are missing or differ, b\.png among them"):
        get(root)
    assert not (root / "Toy").exists()


def test_without_a_manifest_names_and_count_decide(server, toy, images, root):
    server.files["toy.zip"] = zipped(images)
    toy(Source(server.url("toy.zip")), manifest=False, files=NAMES)
    get(root)
    assert same(root / "Toy", images)
    assert check_dataset("toy", root).compared == "names and count"
    (root / "Toy" / "a.png").unlink()
    assert check_dataset("toy", root).problems == ("a.png: missing",)
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
    monkeypatch.setattr(archives, "MAX_IMAGE_BYTES", 2_000_000)
    monkeypatch.setattr(archives, "MAX_BYTES", 10_000_000)
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
        patch.setattr(archives, "MAX_ENTRIES", 5)
        with pytest.raises(UserError, match=r"hostile archive: over 5 entries"):
            get(root)
    shutil.copytree(images, tmp_path / "twins" / "HR")
    shutil.copytree(images, tmp_path / "twins" / "LR")
    server.files["twins.tar"] = tarred(tmp_path / "twins", "w")
    toy(Source(server.url("twins.tar")), manifest=False)
    with pytest.raises(UserError, match=r"two of its images are named a\.png"):
        get(root)
