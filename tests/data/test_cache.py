"""The cache of training images: built once, verified, rebuilt when damaged, and done without where it cannot be."""

import os
import resource
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from nsr_cli.data import cache
from nsr_cli.data.cache import cache_identity, cached_images
from nsr_cli.errors import UserError

RNG = np.random.default_rng(0)
COLOUR = [RNG.integers(0, 256, (50 + i, 61 - i, 3), np.uint8) for i in range(3)]
GREY = [image[:, :, 0] for image in COLOUR]  # not contiguous
NAMES = ["a.png", "b.png", "c.png"]


def never(number: int) -> np.ndarray:
    raise AssertionError(f"image {number} is made again")


@pytest.fixture
def keep(tmp_path):
    """Cache three images below tmp_path/cache, of a source file beside it."""
    source = tmp_path / "source"
    source.touch()

    def call(make, said=None) -> list[np.ndarray]:
        say = (lambda text: None) if said is None else said.append
        return cached_images(tmp_path / "cache", "set-rgb", [source], NAMES, make, say)

    return call


def same(found: list[np.ndarray], expected: list[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) and a.dtype == np.uint8 for a, b in zip(found, expected, strict=True))


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("images", [COLOUR, GREY])
def test_images_come_back_as_they_were_made_once(keep, images, tmp_path):
    assert same(keep(images.__getitem__), images)
    found = keep(never)
    assert same(found, images)
    assert files(tmp_path / "cache") == ["images.bin", "lock"]
    for image in found:
        with pytest.raises(ValueError, match="read-only"):
            image[0, 0] = 0


def test_an_existing_cache_is_only_read(keep, monkeypatch):
    """So that it may lie where nothing can be written."""
    keep(COLOUR.__getitem__)

    def refuse(*arguments, **options):
        raise AssertionError("the folder is written to")

    monkeypatch.setattr(cache, "hold_folder", refuse)
    assert same(keep(never), COLOUR)


BUILDER = """
import sys, time
from pathlib import Path
import numpy as np
from nsr_cli.data.cache import cached_images
def say(text):
    print(text, flush=True)
folder = Path(sys.argv[1])
def make(number):
    with open(folder / "made", "a") as file:
        file.write(f"{number}\\n")
    while not (folder / "go").exists():
        time.sleep(0.01)
    return np.full((30, 40, 3), number, np.uint8)
images = cached_images(folder / "cache", "set", [folder / "source"], ["a", "b"], make, say)
print([int(image.sum()) for image in images], flush=True)
"""


def test_of_two_processes_one_builds_and_the_other_waits(tmp_path):
    (tmp_path / "source").touch()
    start = [sys.executable, "-c", BUILDER, tmp_path]
    first = subprocess.Popen(start, stdout=subprocess.PIPE, text=True)
    try:
        while not (tmp_path / "made").exists():
            assert first.poll() is None
            time.sleep(0.01)
        second = subprocess.Popen(start, stdout=subprocess.PIPE, text=True)
        waits = second.stdout.readline()
        assert f"is held by process {first.pid}" in waits and "which builds the training images; waiting" in waits
        (tmp_path / "go").touch()
        assert first.communicate()[0].splitlines()[-1] == second.communicate()[0].splitlines()[-1] == "[0, 3600]"
    finally:
        (tmp_path / "go").touch()
    assert (tmp_path / "made").read_text() == "0\n1\n"


def test_a_killed_build_leaves_nothing_that_is_taken_for_a_cache(tmp_path):
    (tmp_path / "source").touch()
    first = subprocess.Popen([sys.executable, "-c", BUILDER, tmp_path], stdout=subprocess.PIPE, text=True)
    while not (tmp_path / "made").exists():
        assert first.poll() is None
        time.sleep(0.01)
    first.kill()
    first.communicate()
    (folder,) = (tmp_path / "cache").iterdir()
    assert any(path.suffix == ".tmp" for path in folder.iterdir())
    (tmp_path / "go").touch()
    out = subprocess.run([sys.executable, "-c", BUILDER, tmp_path], capture_output=True, text=True).stdout
    assert out.splitlines()[-1] == "[0, 3600]"
    assert files(folder) == ["images.bin", "lock"]


def test_any_damage_is_found_said_and_mended(keep, tmp_path):
    keep(COLOUR.__getitem__)
    (path,) = tmp_path.glob("cache/*/images.bin")
    whole = path.read_bytes()
    end = len(whole)
    flips = [0, 5_000, 20_000, end - 300, end - 21, end - 20, end - 12, end - 5, end - 1]
    cuts = [0, 1, 19, 20, 100, sum(image.size for image in COLOUR), end - 1]
    flipped = [whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :] for at in flips]
    for damaged in [*flipped, *(whole[:at] for at in cuts), whole + b"\0", bytes(end), whole[9:]]:
        path.write_bytes(damaged)
        said = []
        assert same(keep(COLOUR.__getitem__, said), COLOUR)
        assert said[0].startswith(f"{path} is damaged (") and said[0].endswith("); building it again")
        assert path.read_bytes() == whole
    assert same(keep(never), COLOUR)


def test_a_damaged_image_is_named(keep, tmp_path):
    keep(COLOUR.__getitem__)
    (path,) = tmp_path.glob("cache/*/images.bin")
    content = bytearray(path.read_bytes())
    content[COLOUR[0].size] ^= 1  # the first byte of the second image
    path.write_bytes(content)
    said = []
    keep(COLOUR.__getitem__, said)
    assert said[0] == f"{path} is damaged (b.png has a wrong checksum); building it again"


def test_a_cache_under_the_name_of_another_is_not_used(keep, tmp_path):
    keep(COLOUR.__getitem__)
    (path,) = tmp_path.glob("cache/*/images.bin")
    whole = path.read_bytes()
    (tmp_path / "source").write_text("changed")
    keep(GREY.__getitem__)
    (other,) = set(tmp_path.glob("cache/*/images.bin")) - {path}
    other.write_bytes(whole)
    said = []
    assert same(keep(GREY.__getitem__, said), GREY)
    assert said[0] == f"{other} is damaged (it is of other images); building it again"


def test_what_changes_an_image_makes_another_cache(tmp_path, monkeypatch):
    paths = [tmp_path / "a.bmp", tmp_path / "b.bmp"]
    for path in paths:
        path.write_bytes(b"1234")
        os.utime(path, (1, 1))
    seen = [cache_identity("set-rgb", paths)]
    assert cache_identity("set-rgb", paths) == seen[0]
    seen.append(cache_identity("set-luma", paths))
    seen.append(cache_identity("set-rgb", paths[:1]))
    seen.append(cache_identity("set-rgb", paths[::-1]))
    paths[1].write_bytes(b"1235")  # of the same size
    seen.append(cache_identity("set-rgb", paths))
    paths[1].write_bytes(b"12345")
    os.utime(paths[1], (1, 1))
    seen.append(cache_identity("set-rgb", paths))
    code = tmp_path / "resize.py"
    code.write_text("another kernel")
    monkeypatch.setattr(cache.resize, "__file__", str(code))
    seen.append(cache_identity("set-rgb", paths))
    monkeypatch.setattr(cache.PIL, "__version__", "1.0")
    seen.append(cache_identity("set-rgb", paths))
    assert len(set(seen)) == len(seen)


def test_caches_of_older_files_are_named_and_kept(keep, tmp_path):
    keep(COLOUR.__getitem__)
    (older,) = (tmp_path / "cache").iterdir()
    (tmp_path / "cache/set-rgb-x2-12345678").mkdir()  # of something else
    (tmp_path / "source").write_text("changed")
    said = []
    keep(COLOUR.__getitem__, said)
    assert said[-1].endswith(f"delete what no training uses: {older.name}")
    assert (older / "images.bin").exists()


def test_a_full_disk_leaves_nothing_behind_and_the_images_in_memory(keep, tmp_path):
    large = [RNG.integers(0, 256, (600, 500, 3), np.uint8) for _ in NAMES]
    said, before = [], resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, before[1]))  # writing fails in the second image
    try:
        found = keep(large.__getitem__, said)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert same(found, large)
    (folder,) = (tmp_path / "cache").iterdir()
    assert said[-1] == f"no cache of training images in {folder} (File too large); they stay in this process's memory"
    assert files(tmp_path / "cache") == ["lock"]
    assert same(keep(large.__getitem__), large) and files(tmp_path / "cache") == ["images.bin", "lock"]


def test_without_a_place_for_a_cache_the_images_stay_in_memory(tmp_path):
    (tmp_path / "cache").touch()  # a file
    said = []
    found = cached_images(tmp_path / "cache", "set", [], NAMES, COLOUR.__getitem__, said.append)
    assert same(found, COLOUR)
    assert len(said) == 1 and "they stay in this process's memory" in said[0] and "Not a directory" in said[0]


def test_an_image_that_cannot_be_read_stops_the_build(keep, tmp_path):
    def make(number: int) -> np.ndarray:
        if number == 1:
            raise UserError("cannot read b.png")
        return COLOUR[number]

    with pytest.raises(UserError, match=r"^cannot read b.png$"):
        keep(make)
    assert files(tmp_path / "cache") == ["lock"]


def test_building_needs_the_memory_of_one_image(tmp_path):
    def make(number: int) -> np.ndarray:
        return np.full((1000, 1000, 3), number, np.uint8)

    tracemalloc.start()
    try:
        images = cached_images(tmp_path, "set", [], [str(i) for i in range(20)], make, lambda text: None)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [int(image[0, 0, 0]) for image in images] == list(range(20))
    assert peak < 8e6  # of 60 MB: the last image made and the one being made
