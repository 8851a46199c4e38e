"""Fetching data sets from mirrors; images are compared with the manifest before they appear in the data root."""

import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from nsr_cli.data import catalog
from nsr_cli.data.archives import unpack
from nsr_cli.data.datasets import Dataset, Source
from nsr_cli.data.fetch import MirrorFailed, download
from nsr_cli.data.images import image_size, read_image, write_png
from nsr_cli.data.manifest import Entry, check_dataset, checksum, compare_names, digest, read_manifest
from nsr_cli.errors import UserError


def get_dataset(name: str, root: Path) -> list[Path]:
    """Fetch a data set into the data root, unless it is already here and right.

    Mirrors are tried in turn. A dropped download resumes where it stopped, in this call or the next; until its data
    set is complete it stays in `<root>/.downloads`.

    Args:
        name: a name from the catalogue.
        root: the data root.

    Returns:
        The folders that hold the data set, absolute.

    Raises:
        UserError: the name is unknown, the data set must be fetched by hand, all mirrors failed, the disk is full, or
            the folder holds other images under these names, which are never overwritten.
    """
    dataset = catalog.find_dataset(name, root)
    root = Path(root).absolute()
    parts = [catalog.find_dataset(part, root) for part in dataset.parts] or [dataset]
    with disk_errors(dataset.title, root):
        folders = [_folder_if_complete(part, root) for part in parts]
        if not all(folders):
            with locked_downloads(root) as downloads:
                folders = [folder or _fetch(part, root, downloads) for part, folder in zip(parts, folders, strict=True)]
                _remove_downloads(parts, downloads)
    return folders


@contextlib.contextmanager
def disk_errors(title: str, root: Path) -> Iterator[None]:
    """Turn an OSError while a data set is fetched into a UserError."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(f"disk full in {root}; free some and repeat, it goes on where it stopped") from error
        raise UserError(f"{title}: {error.strerror or error}: {error.filename or root}") from error


def _folder_if_complete(dataset: Dataset, root: Path) -> Path | None:
    """The folder of a data set that is here and right; None if images must be fetched.

    Raises:
        UserError: the folder holds wrong images, or the data set must be fetched by hand.
    """
    if dataset.package:
        return catalog.image_paths(dataset.name, root)[0].parent
    folder = catalog.locate(dataset, root)
    if catalog.own_images(dataset, folder):
        found = check_dataset(dataset.name, root)
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
def locked_downloads(root: Path) -> Iterator[Path]:
    """The folder of unfinished downloads, locked against a second `nsr data get` into the same root."""
    downloads = root / ".downloads"
    root.mkdir(parents=True, exist_ok=True)
    downloads.mkdir(exist_ok=True)
    with (downloads / "lock").open("w") as lock:
        try:
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another `nsr data get` is at work in {downloads}; wait for it") from None
        except (ImportError, OSError):
            pass  # this system or file system has no such locks
        try:
            yield downloads
        finally:
            if [path.name for path in downloads.iterdir()] == ["lock"]:
                shutil.rmtree(downloads)


def _remove_downloads(parts: list[Dataset], downloads: Path) -> None:
    """Remove the downloads of these data sets; unfinished downloads of others stay."""
    for dataset in parts:
        shutil.rmtree(downloads / dataset.name, ignore_errors=True)
        for source in dataset.sources:
            archive = _archive(source, downloads)
            archive.unlink(missing_ok=True)
            archive.with_name(archive.name + ".part").unlink(missing_ok=True)
    for left_behind in downloads.glob("tmp*"):  # pooch's temporary files, left by a killed process
        left_behind.unlink()


def _archive(source: Source, downloads: Path) -> Path:
    return downloads / f"{_key(source)}-{Path(source.url).name}"


def _key(source: Source) -> str:
    return hashlib.sha256(source.url.encode()).hexdigest()[:8]


def _fetch(dataset: Dataset, root: Path, downloads: Path) -> Path:
    folder = catalog.locate(dataset, root) or root / dataset.folders[0]
    failures = []
    for source in dataset.sources:
        try:
            ready = _images_of(dataset, source, downloads)
        except MirrorFailed as failure:
            failures.append(f"{source.url}: {failure}")
            continue
        _install(ready, folder)
        return folder
    raise UserError(f"{dataset.title} could not be fetched. " + "; ".join(failures))


def _images_of(dataset: Dataset, source: Source, downloads: Path) -> Path:
    """Download from one mirror, unpack and compare; returns a folder with exactly the right images."""
    manifest = read_manifest(dataset.name)
    work = downloads / dataset.name
    shutil.rmtree(work / "unpacked", ignore_errors=True)
    if source.url.endswith("/"):
        unpacked = work / _key(source)
        names = list(manifest) if manifest else list(dataset.files)
        for number, name in enumerate(names, 1):
            there = str(Path(name).with_suffix(source.suffix)) if source.suffix else name
            download(source.url + quote(there), None, unpacked / there, f"{dataset.name} {number}/{len(names)}")
        archive = None
    else:
        archive = _archive(source, downloads)
        download(source.url, source.checksum, archive, dataset.name)
        unpacked = work / "unpacked"
        unpacked.mkdir(parents=True)
        try:
            unpack(archive, source.members, unpacked)
        except MirrorFailed:
            archive.unlink()
            raise
    try:
        return _arrange(dataset, manifest, unpacked, work / "ready")
    except MirrorFailed:
        shutil.rmtree(unpacked)
        if archive and not source.checksum:
            archive.unlink()
        raise


def _arrange(dataset: Dataset, manifest: dict[str, Entry] | None, unpacked: Path, ready: Path) -> Path:
    """Put the images of the data set into `ready`, under the manifest's names; returns `ready`.

    With a manifest, images are recognised by their checksums, whatever a mirror names them: a BMP becomes the PNG of
    the same pixels, and a grey image stored as three equal channels becomes grey again. Without a manifest, names and
    number must match.

    Raises:
        MirrorFailed: an image is missing or wrong.
    """
    shutil.rmtree(ready, ignore_errors=True)
    ready.mkdir(parents=True)
    if manifest is None:
        paths = catalog.own_images(dataset, unpacked)
        missing, wrong = compare_names(dataset, paths)
        if missing or wrong:
            raise MirrorFailed(f"not the images expected: {wrong[0] if wrong else f'{missing[0]} missing'}")
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
        raise MirrorFailed(f"{len(absent)} of {len(manifest)} images are missing or differ, {absent[0]} among them")
    return ready


def _place(path: Path, names: dict[str, list[str]], sizes: set[tuple[int, int]], ready: Path) -> None:
    try:
        if image_size(path) not in sizes:
            return
        image = read_image(path)
    except UserError:
        return  # an unreadable file is no image of the data set
    same = [name for name in names.get(checksum(path, image), ()) if Path(name).suffix == path.suffix]
    for name in same:
        shutil.copyfile(path, ready / name)
    if same:
        return
    if image.ndim == 3 and (image == image[..., :1]).all() and digest(image[..., 0]) in names:
        image = image[..., 0]
    for name in names.get(digest(image), ()):
        write_png(ready / name, image)


def _install(ready: Path, folder: Path) -> None:
    """Rename the new folder into place; add only missing images to an existing folder."""
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        os.replace(ready, folder)
        return
    for path in catalog.images_in(ready):
        if not (folder / path.name).exists():
            half = folder / f".{path.name}.part"
            shutil.copyfile(path, half)
            os.replace(half, folder / path.name)
