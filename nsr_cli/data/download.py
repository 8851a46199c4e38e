"""Fetching the named data sets, and checking what is here against the shipped manifests."""

import contextlib
import errno
import gzip
import hashlib
import json
import logging
import lzma
import os
import shutil
import stat
import sys
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple
from urllib.parse import quote

import numpy as np

from nsr_cli.data import catalog
from nsr_cli.data.catalog import IMAGE_SUFFIXES, Dataset, Source
from nsr_cli.data.images import image_size, read_image, write_png
from nsr_cli.errors import UserError

MANIFESTS = Path(__file__).parent / "manifests"

MAX_ENTRIES = 100_000  # entries of an archive, wanted or not
MAX_BYTES = 8 << 30  # of an archive, and of all that it unpacks to
MAX_IMAGE_BYTES = 64 << 20  # of one unpacked image file
CHUNK = 1 << 16  # bytes written at a time: what a dropped connection loses at most
ATTEMPTS = 5  # in a row without a new byte, before a mirror counts as dead
PAUSE = 0.5  # seconds before the second attempt; doubles with each further one
TIMEOUT = (10, 60)  # seconds to connect, and between two pieces of data


class Entry(NamedTuple):
    """What a manifest says of one image."""

    height: int
    width: int
    channels: int
    sha256: str


@dataclass(frozen=True)
class Check:
    """What `check` found: all is well when `problems` is empty.

    folder:   where it lies, absolute; None for a data set made of parts
    found:    number of images here
    compared: "checksums" where a manifest is shipped, else "names and count"
    missing:  what is not here
    wrong:    what is here but differs, one line per image
    """

    name: str
    folder: Path | None
    found: int
    compared: str
    missing: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()

    @property
    def problems(self) -> tuple[str, ...]:
        return (*(f"{name}: missing" for name in self.missing), *self.wrong)


class Row(NamedTuple):
    """One line of `nsr data list`."""

    name: str
    title: str
    images: int
    where: str
    licence: str


# What is here


def listing(root: Path) -> list[Row]:
    """Every data set: where it is on this machine, or how to get it (nothing is read but names)."""
    datasets = catalog.DATASETS.values()
    return [Row(data.name, data.title, data.count, _where(data, Path(root)), data.licence) for data in datasets]


def _where(dataset: Dataset, root: Path) -> str:
    if dataset.parts:
        missing = [part for part in dataset.parts if _where(catalog.find(part), root).startswith("not here")]
        return f"not here: {catalog.how_to_get(dataset)}" if missing else " + ".join(dataset.parts)
    folder = catalog.locate(dataset, root)
    found = len(catalog.own_images(dataset, folder)) if folder else 0
    if found == dataset.count:
        return str(folder.absolute())
    partly = f" ({found} of {dataset.count} in {folder.absolute()})" if found else ""
    return f"not here{partly}: {catalog.how_to_get(dataset)}"


def check(name: str, root: Path) -> Check:
    """Compare a data set with its manifest: count, names, sizes and checksums of every image.

    Where no manifest is shipped (the set was not at hand to make one), names and count alone are compared,
    and each file's header is read.

    Raises:
        UserError: unknown name, or the data set is not here at all.
    """
    dataset = catalog.find(name)
    if dataset.parts:
        checks = [check(part, root) for part in dataset.parts]
        return Check(
            name,
            None,
            sum(part.found for part in checks),
            " / ".join(dict.fromkeys(part.compared for part in checks)),
            tuple(missing for part in checks for missing in part.missing),
            tuple(wrong for part in checks for wrong in part.wrong),
        )
    folder = catalog.locate(dataset, root)
    paths = catalog.own_images(dataset, folder) if folder else []
    if not paths:
        catalog.image_paths(name, root)  # raises, and says what is missing
    manifest = read_manifest(name)
    if manifest:
        return Check(name, folder.absolute(), len(paths), "checksums", *_compare(paths, manifest))
    return Check(name, folder.absolute(), len(paths), "names and count", *_compare_names(dataset, paths))


def _compare(paths: list[Path], manifest: dict[str, Entry]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    here = {path.name: path for path in paths}
    missing = tuple(name for name in manifest if name not in here)
    wrong = [f"{name}: not in this data set" for name in here if name not in manifest]
    for name in manifest.keys() & here.keys():
        expected = manifest[name]
        try:
            entry = describe(here[name], expected)
        except UserError as error:
            wrong.append(f"{name}: {error}")
            continue
        if entry[:3] != expected[:3]:
            wrong.append(f"{name}: {_size(entry)}, expected {_size(expected)}")
        elif entry.sha256 != expected.sha256:
            wrong.append(f"{name}: other {'bytes' if _is_jpeg(name) else 'pixels'} than the published image")
    return missing, tuple(sorted(wrong))


def _compare_names(dataset: Dataset, paths: list[Path]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    names = {path.name for path in paths}
    missing = tuple(name for name in dataset.files if name not in names)
    wrong = []
    if not dataset.files and len(paths) < dataset.count:
        missing = (f"{dataset.count - len(paths)} of {dataset.count} images",)
    if len(paths) > dataset.count:
        wrong.append(f"{len(paths)} images, expected {dataset.count}")
    for path in paths:
        try:
            image_size(path)
        except UserError as error:
            wrong.append(f"{path.name}: {error}")
    return missing, tuple(wrong)


# Manifests


def read_manifest(name: str) -> dict[str, Entry] | None:
    """The shipped manifest of a data set, file name to `Entry`; None where there is none."""
    path = MANIFESTS / f"{name}.json"
    if not path.is_file():
        return None
    return {image: Entry(*entry) for image, entry in json.loads(path.read_text())["images"].items()}


def describe(path: Path, expected: Entry | None = None) -> Entry:
    """Size and checksum of an image file.

    The checksum is that of the decoded pixels (uint8, row by row, RGB interleaved), so that a PNG written
    anew still matches; of a JPEG it is that of the file, because decoders differ in the last bit. An image
    whose header already says another size than `expected` is not decoded, and has no checksum.
    """
    height, width = image_size(path)
    if expected and (height, width) != expected[:2]:
        return Entry(height, width, expected.channels, "")
    image = read_image(path)
    return Entry(height, width, 1 if image.ndim == 2 else image.shape[2], _checksum(path, image))


def _checksum(path: Path, image: np.ndarray) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if _is_jpeg(path.name) else _digest(image)


def _digest(image: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()


def write_manifest(name: str, root: Path, folder: Path = MANIFESTS) -> Path:
    """Make the manifest of a data set from the images that are here; returns the file written."""
    entries = {path.name: describe(path) for path in catalog.image_paths(name, root)}
    lines = ",\n".join(f"    {json.dumps(name)}: {json.dumps(entry)}" for name, entry in entries.items())
    meaning = "height, width, channels, sha256 of the decoded pixels (uint8, by rows; of a JPEG: of the file)"
    text = f'{{\n  "name": "{name}",\n  "entries": "{meaning}",\n  "images": {{\n{lines}\n  }}\n}}\n'
    path = folder / f"{name}.json"
    path.write_text(text)
    return path


def _is_jpeg(name: str) -> bool:
    return name.lower().endswith((".jpg", ".jpeg"))


def _size(entry: Entry) -> str:
    return f"{entry.height}x{entry.width}x{entry.channels}"


# Fetching


def get(name: str, root: Path, progress: bool = True) -> list[Path]:
    """Fetch a data set into the data root, unless it is already here and right.

    Mirrors are tried in turn; a dropped download goes on where it stopped, in this call or the next; every
    image is compared with the manifest before anything appears in the data set's folder. What was downloaded
    half stays in `<root>/.downloads` until its data set is here.

    Args:
        name: a name from the catalogue.
        root: the data root.
        progress: show a progress bar, where standard error is a terminal.

    Returns:
        The folders that hold it, absolute.

    Raises:
        UserError: unknown name; a data set that has to be asked for; all mirrors failed; disk full; the
            folder holds other images under these names, which are never overwritten.
    """
    dataset = catalog.find(name)
    root = Path(root).absolute()
    parts = [catalog.find(part) for part in dataset.parts] or [dataset]
    try:
        folders = [_folder_if_complete(part, root) for part in parts]
        if not all(folders):
            root.mkdir(parents=True, exist_ok=True)
            with _alone(root / ".downloads") as downloads:
                folders = [
                    folder or _fetch(part, root, downloads, progress)
                    for part, folder in zip(parts, folders, strict=True)
                ]
                _tidy(parts, downloads)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(f"disk full in {root}; free some and repeat, it goes on where it stopped") from error
        raise UserError(f"{dataset.title}: {error.strerror or error}: {error.filename or root}") from error
    return folders


def _folder_if_complete(dataset: Dataset, root: Path) -> Path | None:
    """The folder of a data set that is here and right; None where something has to be fetched."""
    if dataset.package:
        return catalog.image_paths(dataset.name, root)[0].parent
    folder = catalog.locate(dataset, root)
    if folder and catalog.own_images(dataset, folder):
        found = check(dataset.name, root)
        if found.wrong:
            more = f" (and {len(found.wrong) - 1} more)" if len(found.wrong) > 1 else ""
            raise UserError(f"{dataset.title}: {found.wrong[0]}{more}, in {folder}; move that away first")
        if not found.missing:
            return folder
    if not dataset.sources:
        where = root / dataset.folders[0]
        raise UserError(f"{dataset.title} can't be fetched: {dataset.ask}; its images belong into {where}")
    return None


@contextlib.contextmanager
def _alone(downloads: Path) -> Iterator[Path]:
    """The folder of half downloads, locked against a second `nsr data get` into the same root."""
    downloads.mkdir(exist_ok=True)
    with (downloads / "lock").open("w") as lock:
        try:
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another `nsr data get` is at work in {downloads}; wait for it") from None
        except (ImportError, OSError):
            pass  # no such locks on this system or file system
        try:
            yield downloads
        finally:
            if [path.name for path in downloads.iterdir()] == ["lock"]:
                shutil.rmtree(downloads)


def _tidy(parts: list[Dataset], downloads: Path) -> None:
    """Remove what was downloaded for these data sets; what is half fetched for others stays."""
    for dataset in parts:
        shutil.rmtree(downloads / dataset.name, ignore_errors=True)
        for source in dataset.sources:
            archive = _archive(source, downloads)
            archive.unlink(missing_ok=True)
            archive.with_name(archive.name + ".part").unlink(missing_ok=True)
    for left_behind in downloads.glob("tmp*"):  # pooch's, of a process that was killed
        left_behind.unlink()


def _archive(source: Source, downloads: Path) -> Path:
    return downloads / f"{_key(source)}-{Path(source.url).name}"


def _key(source: Source) -> str:
    return hashlib.sha256(source.url.encode()).hexdigest()[:8]


def _fetch(dataset: Dataset, root: Path, downloads: Path, progress: bool) -> Path:
    folder = catalog.locate(dataset, root) or root / dataset.folders[0]
    failures = []
    for source in dataset.sources:
        try:
            ready = _images_of(dataset, source, downloads, progress)
        except _MirrorFailed as failure:
            failures.append(f"{source.url}: {failure}")
            continue
        _install(ready, folder)
        return folder
    raise UserError(f"{dataset.title} could not be fetched. " + "; ".join(failures))


class _MirrorFailed(Exception):
    """This mirror does not give the data set; the next one may."""


def _images_of(dataset: Dataset, source: Source, downloads: Path, progress: bool) -> Path:
    """Download from one mirror, unpack, compare; returns a folder with the right images and nothing else."""
    manifest = read_manifest(dataset.name)
    work = downloads / dataset.name
    shutil.rmtree(work / "unpacked", ignore_errors=True)
    if source.url.endswith("/"):
        unpacked = work / _key(source)
        names = list(manifest) if manifest else list(dataset.files)
        for number, name in enumerate(names, 1):
            there = str(Path(name).with_suffix(source.suffix)) if source.suffix else name
            label = f"{dataset.name} {number}/{len(names)}"
            _download(source.url + quote(there), None, unpacked / there, progress and label)
        archive = None
    else:
        archive = _archive(source, downloads)
        _download(source.url, source.checksum, archive, progress and dataset.name)
        unpacked = work / "unpacked"
        unpacked.mkdir(parents=True)
        try:
            _unpack(archive, source.members, unpacked)
        except _MirrorFailed:
            archive.unlink()
            raise
    try:
        return _arrange(dataset, manifest, unpacked, work / "ready")
    except _MirrorFailed:
        shutil.rmtree(unpacked)
        if archive and not source.checksum:
            archive.unlink()
        raise


def _download(url: str, checksum: str | None, path: Path, label: str | bool) -> None:
    """Download one file, resuming `<path>.part`; `path` appears only when complete and its checksum right."""
    try:
        import pooch
    except ImportError:
        raise UserError("`nsr data get` needs pooch, which is not installed: pip install pooch") from None
    part = path.with_name(path.name + ".part")
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        pooch.retrieve(
            url,
            known_hash=checksum,
            fname=path.name,
            path=path.parent,
            downloader=lambda url, output, _: _resume(url, part, Path(output), label),
        )
    except ValueError as error:  # pooch's word for a wrong checksum
        raise _MirrorFailed(f"wrong checksum, expected {checksum}") from error
    finally:
        logger.setLevel(level)


def _resume(url: str, part: Path, output: Path, label: str | bool) -> None:
    """Download into `part`, asking after each drop for the rest only; then rename it to `output`."""
    import requests

    failed, reason = 0, ""
    while failed < ATTEMPTS:
        if failed:
            time.sleep(PAUSE * 2 ** (failed - 1))
        before = part.stat().st_size if part.exists() else 0
        try:
            if _request(url, part, before, label):
                os.replace(part, output)
                return
            reason = "the connection drops"
        except requests.RequestException as error:
            reason = "no answer in time" if isinstance(error, requests.Timeout) else "no connection"
            if error.response is not None:
                reason = f"HTTP {error.response.status_code}"
                if error.response.status_code < 500:
                    raise _MirrorFailed(reason) from error
        grown = part.exists() and part.stat().st_size > before
        failed = 0 if grown else failed + 1
    raise _MirrorFailed(f"{reason} (tried {ATTEMPTS} times)")


def _request(url: str, part: Path, have: int, label: str | bool) -> bool:
    """One HTTP request for the bytes from `have` on; returns whether the file is now complete."""
    import requests

    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            total = response.headers.get("Content-Range", "").rpartition("/")[2]
            if total == str(have):
                return True
            part.unlink()  # longer than the file: not a beginning of it
            return False
        response.raise_for_status()
        partial = response.status_code == requests.codes.partial_content
        if partial and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            part.unlink()
            return False
        have = have if partial else 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        _room(part.parent, total - have if total else 0, total or 0)
        with part.open("ab" if partial else "wb") as file, _bar(label, have, total) as bar:
            for piece in response.iter_content(CHUNK):
                file.write(piece)
                have += len(piece)
                bar.update(len(piece))
                if have > MAX_BYTES:
                    raise _MirrorFailed(f"more than {MAX_BYTES >> 30} GiB")
    return total is None or have == total


def _room(folder: Path, needed: int, total: int) -> None:
    """Refuse a download that can't fit before it begins."""
    if total > MAX_BYTES:
        raise _MirrorFailed(f"{total >> 20} MiB, more than {MAX_BYTES >> 30} GiB")
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(f"disk full: {needed >> 20} MiB needed in {folder}, {free >> 20} MiB free")


def _bar(label: str | bool, have: int, total: int | None) -> contextlib.AbstractContextManager:
    from tqdm import tqdm

    silent = not label or not sys.stderr.isatty()
    return tqdm(desc=label or None, initial=have, total=total, unit="B", unit_scale=True, leave=False, disable=silent)


# Unpacking


def _unpack(archive: Path, members: str, into: Path) -> None:
    """Unpack the wanted images of a zip or tar archive into one flat folder.

    Refused whole: an entry that leaves the folder or has an absolute path, a wanted image that is a link or
    no plain file, two images of one name, more entries or bytes than the limits above.
    """
    try:
        with _opened(archive) as entries:
            total = 0
            for number, (name, kind, size, content) in enumerate(entries, 1):
                path = PurePosixPath(name.replace("\\", "/"))
                total += size
                if path.is_absolute() or ".." in path.parts:
                    raise _MirrorFailed(f"hostile archive: the path {name!r} leaves the folder")
                if number > MAX_ENTRIES or total > MAX_BYTES:
                    raise _MirrorFailed(f"hostile archive: over {MAX_ENTRIES} entries or {MAX_BYTES} bytes")
                if path.suffix.lower() not in IMAGE_SUFFIXES or path.name.startswith(".") or kind == "folder":
                    continue
                if not fnmatch(str(path), members):
                    continue
                if kind != "file" or ":" in path.name:
                    raise _MirrorFailed(f"hostile archive: {name!r} is no plain file")
                if size > MAX_IMAGE_BYTES:
                    raise _MirrorFailed(f"hostile archive: {name!r} unpacks to {size} bytes")
                if (into / path.name).exists():
                    raise _MirrorFailed(f"two of its images are named {path.name}")
                with content() as source, (into / path.name).open("xb") as target:
                    shutil.copyfileobj(source, target)
    except _BROKEN as error:
        raise _MirrorFailed(f"broken archive: {error}") from error
    except OSError as error:
        if error.errno is None:  # how bz2 says that its data is damaged
            raise _MirrorFailed(f"broken archive: {error}") from error
        raise


_BROKEN = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,  # a zip compression that zipfile does not know
    RuntimeError,  # an encrypted zip
)

_Entries = Iterator[tuple[str, str, int, Callable[[], BinaryIO]]]  # path, kind, bytes unpacked, opener


@contextlib.contextmanager
def _opened(archive: Path) -> Iterator[_Entries]:
    with archive.open("rb") as file:
        magic = file.read(2)
    if magic == b"PK":
        with zipfile.ZipFile(archive) as opened:
            yield (
                (info.filename, _zip_kind(info), info.file_size, partial(opened.open, info))
                for info in opened.infolist()
            )
    else:
        with tarfile.open(archive, "r:gz" if magic == b"\x1f\x8b" else "r:") as opened:
            yield ((info.name, _tar_kind(info), info.size, partial(opened.extractfile, info)) for info in opened)


def _zip_kind(info: zipfile.ZipInfo) -> str:
    mode = info.external_attr >> 16
    if info.is_dir():
        return "folder"
    return "file" if stat.S_IFMT(mode) in (0, stat.S_IFREG) else "other"


def _tar_kind(info: tarfile.TarInfo) -> str:
    return "folder" if info.isdir() else "file" if info.isreg() else "other"


# Putting in place


def _arrange(dataset: Dataset, manifest: dict[str, Entry] | None, unpacked: Path, ready: Path) -> Path:
    """Put the images of the data set, under the manifest's names, into `ready`.

    With a manifest an image is known by its checksum, whatever a mirror names it: a BMP becomes the PNG of
    the same pixels, and a grey image kept as three equal channels becomes grey again. Without one, names and
    count must fit.
    """
    shutil.rmtree(ready, ignore_errors=True)
    ready.mkdir(parents=True)
    if manifest is None:
        paths = catalog.own_images(dataset, unpacked)
        missing, wrong = _compare_names(dataset, paths)
        if missing or wrong:
            raise _MirrorFailed(f"not the images expected: {wrong[0] if wrong else f'{missing[0]} missing'}")
        for path in paths:
            os.replace(path, ready / path.name)
        return ready

    names: dict[str, list[str]] = {}  # T91 holds one image twice
    for name, entry in manifest.items():
        names.setdefault(entry.sha256, []).append(name)
    sizes = {entry[:2] for entry in manifest.values()}
    for path in catalog.images_in(unpacked):
        _place(path, names, sizes, ready)
    absent = [name for name in manifest if not (ready / name).exists()]
    if absent:
        raise _MirrorFailed(f"{len(absent)} of {len(manifest)} images are others, {absent[0]} among them")
    return ready


def _place(path: Path, names: dict[str, list[str]], sizes: set[tuple[int, int]], ready: Path) -> None:
    try:
        image = read_image(path) if image_size(path) in sizes else None
    except UserError:
        return  # what can't be read is none of them
    if image is None:
        return
    same = [name for name in names.get(_checksum(path, image), ()) if Path(name).suffix == path.suffix]
    for name in same:
        shutil.copyfile(path, ready / name)
    if same:
        return
    if image.ndim == 3 and (image == image[..., :1]).all() and _digest(image[..., 0]) in names:
        image = image[..., 0]
    for name in names.get(_digest(image), ()):
        write_png(ready / name, image)


def _install(ready: Path, folder: Path) -> None:
    """Rename the new folder into place; into a folder that is there already, add the images that it lacks."""
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        os.replace(ready, folder)
        return
    for path in catalog.images_in(ready):
        if not (folder / path.name).exists():
            half = folder / f".{path.name}.part"
            shutil.copyfile(path, half)
            os.replace(half, folder / path.name)
