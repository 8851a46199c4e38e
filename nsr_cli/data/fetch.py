"""Downloading one file by HTTP: resumed where a connection dropped, and checked against its checksum."""

import contextlib
import logging
import os
import shutil
import time
from pathlib import Path

from nsr_cli.errors import UserError

MAX_BYTES = 8 << 30  # of one file
CHUNK = 1 << 16  # bytes written at a time: the most that a dropped connection loses
ATTEMPTS = 5  # in a row without a new byte, before a mirror is given up
PAUSE = 0.5  # seconds before the second attempt; doubles with each further one
TIMEOUT = (10, 60)  # seconds to connect, and between two pieces of data


class MirrorFailed(Exception):
    """A mirror cannot provide the file; the next one may."""


def download(url: str, checksum: str | None, path: Path, label: str) -> None:
    """Download one file, resuming `<path>.part`; `path` appears only complete and with the right checksum.

    Args:
        url: of the file.
        checksum: "sha256:..." or "md5:..."; None if it is unknown.
        path: of the finished file.
        label: of the progress bar, which is shown on a terminal.

    Raises:
        MirrorFailed: no answer, an HTTP error, a wrong checksum, or too large a file.
        UserError: pooch is not installed, or the disk has too little space.
    """
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
    except ValueError as error:  # raised by pooch for a wrong checksum
        raise MirrorFailed(f"wrong checksum, expected {checksum}") from error
    finally:
        logger.setLevel(level)


def _resume(url: str, part: Path, output: Path, label: str) -> None:
    """Download into `part`, requesting only the rest after each dropped connection; then rename it to `output`."""
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
                    raise MirrorFailed(reason) from error
        grown = part.exists() and part.stat().st_size > before
        failed = 0 if grown else failed + 1
    raise MirrorFailed(f"{reason} (tried {ATTEMPTS} times)")


def _request(url: str, part: Path, have: int, label: str) -> bool:
    """One HTTP request for the bytes from `have` on; returns whether the file is now complete."""
    import requests

    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            total = response.headers.get("Content-Range", "").rpartition("/")[2]
            if total == str(have):
                return True
            part.unlink()  # longer than the file, so not part of it
            return False
        response.raise_for_status()
        partial = response.status_code == requests.codes.partial_content
        if partial and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            part.unlink()
            return False
        have = have if partial else 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        _check_free_space(part.parent, total - have if total else 0, total or 0)
        with part.open("ab" if partial else "wb") as file, _bar(label, have, total) as bar:
            for piece in response.iter_content(CHUNK):
                file.write(piece)
                have += len(piece)
                bar.update(len(piece))
                if have > MAX_BYTES:
                    raise MirrorFailed(f"more than {MAX_BYTES >> 30} GiB")
    return total is None or have == total


def _check_free_space(folder: Path, needed: int, total: int) -> None:
    """Raise before a download begins that is too large for the limit or the disk."""
    if total > MAX_BYTES:
        raise MirrorFailed(f"{total >> 20} MiB, more than {MAX_BYTES >> 30} GiB")
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(f"disk full: {needed >> 20} MiB needed in {folder}, {free >> 20} MiB free")


def _bar(label: str, have: int, total: int | None) -> contextlib.AbstractContextManager:
    from tqdm import tqdm

    return tqdm(desc=label, initial=have, total=total, unit="B", unit_scale=True, leave=False, disable=None)
