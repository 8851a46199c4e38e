"""Restore a user's pictures: which are to do, which another process is at, how far it is, and how it ended."""

import contextlib
import errno
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm

from nsr_cli.data.images import image_size
from nsr_cli.data.inputs import comparison_of
from nsr_cli.data.pictures import read_picture
from nsr_cli.engine.restoring import Restorer, restore_picture
from nsr_cli.errors import Failed, UserError
from nsr_cli.files import claimed
from nsr_cli.models.tiled import tiling_of
from nsr_cli.runs.build import pick_device, set_inference
from nsr_cli.runs.sources import Source
from nsr_cli.words import clock, plural, print_line

SAY_EVERY = 10  # seconds between lines, where there is no bar
OF_ONE_FILE = (errno.EACCES, errno.EEXIST, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EPERM)


@dataclass(frozen=True)
class How:
    """How pictures are restored; the help of each key says more (nsr_cli/commands/knobs.py)."""

    overwrite: bool = False
    compare: bool = False
    colour: str | None = None
    tile: int | None = None
    inference: str = "soft"
    device: str = "auto"
    threads: int | None = None


def restorer_of(source: Source, how: How) -> Restorer:
    """The method of a source, ready for pictures."""
    if how.threads:
        torch.set_num_threads(how.threads)
    method, spec = source.open(pick_device(how.device)), source.spec
    set_inference(method, "hard" if "hard" in (how.inference, spec.inference) else "soft")
    tiling = tiling_of(method, how.tile or spec.tile) if isinstance(method, nn.Module) else None
    task = source.task
    reads = task.channels if "rgb" in spec.model.reads else 1
    if how.colour and reads != 1:
        raise UserError(f"colour={how.colour}: {source.name} reads RGB as it is; expected colour=null")
    usual = "luma" if task.name == "dejpeg" or task.luma_only(spec.model.reads) else "channels"
    return Restorer(method, reads, task.scale, how.colour or usual, tiling)


def restore_all(outputs: dict[Path, Path], source: Source, how: How) -> None:
    """Restore pictures, but for those that are; several processes may share them.

    Args:
        outputs: the file of each picture's restored one.
        source: of the network.
        how: what else was asked for.

    Raises:
        Failed: some could not be; the others are.
    """
    began, restored, elsewhere, failures = time.time(), 0, 0, []

    def is_done(path: Path) -> bool:
        """Whether it was before; or since this process began, where it overwrites: then by another one."""
        wanted = [outputs[path], comparison_of(outputs[path])][: 1 + how.compare]
        with contextlib.suppress(OSError):  # what else than its absence there is, is told when it is written
            times = [file.stat().st_mtime for file in wanted]
            return not how.overwrite or min(times) > began
        return False

    waiting = dict.fromkeys(path for path in outputs if not is_done(path))
    there = len(outputs) - len(waiting)
    restorer = restorer_of(source, how) if waiting else None
    with Progress({path: _tiles(restorer, path) for path in waiting}) as progress:
        if waiting:
            progress.say(f"{plural(len(waiting), 'picture')} to restore by {source.name}")
        for wait in (False, True):  # what another process is at is looked at again when all else is done
            for path in list(waiting):
                try:
                    with _refusals(), claimed(outputs[path], wait) as ours, progress.of(path, ours):
                        if not ours:
                            continue
                        del waiting[path]
                        if is_done(path):
                            elsewhere += 1
                            continue
                        _restore(restorer, path, outputs[path], how, progress)
                        restored += 1
                except UserError as error:
                    waiting.pop(path, None)
                    failures.append(str(error) if str(path) in str(error) else f"{path}: {error}")
    counts = {"restored": restored, "restored by another process": elsewhere}
    counts["there already, and skipped (overwrite=true restores anew)"] = there
    print_line(", ".join(f"{count} {what}" for what, count in counts.items() if count) or "none restored")
    if failures:
        raise Failed(f"{len(failures)} of {plural(len(outputs), 'picture')} not restored: {'; '.join(failures)}")


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """What the system refuses of one file alone, as a UserError; a full disk refuses them all."""
    try:
        yield
    except OSError as error:
        if error.errno not in OF_ONE_FILE:
            raise
        raise UserError(f"{error.filename}: cannot be written ({error.strerror})") from error


def _restore(restorer: Restorer, path: Path, output: Path, how: How, progress: "Progress") -> None:
    comparison = comparison_of(output) if how.compare else None
    restore_picture(restorer, read_picture(path), output, comparison, how.overwrite, progress.step)
    progress.say(f"{path}: {output}")


def _tiles(restorer: Restorer, path: Path) -> int:
    """How many tiles a file has, by its header; none if that cannot be read, which is found out later."""
    try:
        return restorer.tiles(*image_size(path))
    except UserError:
        return 0


class Progress:
    """A bar over the tiles of all pictures, with the time left; without a terminal, a line every ten seconds.

    Args:
        tiles: of each picture.
    """

    def __init__(self, tiles: dict[Path, int]):
        self.tiles, self.total, self.done = tiles, sum(tiles.values()), 0
        self.bar = tqdm(
            total=self.total, unit="tile", dynamic_ncols=True, leave=False, disable=not sys.stderr.isatty()
        )  # fmt: skip
        self.began = self.last_said = time.monotonic()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.close()

    @contextlib.contextmanager
    def of(self, path: Path, ours: bool):
        """While a picture is ours; what of it was not restored here is no more to do."""
        before = self.done
        try:
            yield
        finally:
            if ours:
                self.total -= self.tiles[path] - (self.done - before)
                self.bar.total = self.total
                self.bar.refresh()

    def step(self, tiles: int) -> None:
        """So many more are done."""
        self.done += tiles
        self.bar.update(tiles)
        if self.bar.disable and time.monotonic() - self.last_said > SAY_EVERY:
            self.last_said = time.monotonic()
            left = (self.last_said - self.began) / self.done * (self.total - self.done) if self.done else 0
            print_line(f"tile {self.done:,}/{self.total:,}  {clock(left)} left")

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        with tqdm.external_write_mode():
            print_line(text)
