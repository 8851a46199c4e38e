"""Restore a user's pictures, shared with other processes, and report the progress."""

import contextlib
import errno
import operator
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
from nsr_cli.data.origins import Origins
from nsr_cli.data.pictures import read_picture
from nsr_cli.engine.restoring import Restorer, restore_picture
from nsr_cli.errors import Failed, UserError
from nsr_cli.files import claim_file, lock_of, remove_temporary_files
from nsr_cli.models.tiled import tiling_of
from nsr_cli.runs.build import pick_device, set_inference
from nsr_cli.runs.sources import Source
from nsr_cli.words import clock, plural, print_line

LISTED = 10  # failures that the last line names, at most
SAY_EVERY = 10  # seconds between progress lines without a terminal
OF_ONE_FILE = (errno.EACCES, errno.EEXIST, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EPERM)


@dataclass(frozen=True)
class RestoreOptions:
    """How pictures are restored; the help of each key says more (nsr_cli/commands/knobs.py)."""

    overwrite: bool = False
    compare: bool = False
    colour: str | None = None
    tile: int | None = None
    inference: str = "soft"
    device: str = "auto"
    threads: int | None = None


def restorer_of(source: Source, options: RestoreOptions) -> Restorer:
    """The Restorer with the method of a source.

    Raises:
        UserError: no such device, or ``colour`` for a network that reads RGB.
    """
    if options.threads:
        torch.set_num_threads(options.threads)
    method, spec = source.open(pick_device(options.device)), source.spec
    set_inference(method, "hard" if "hard" in (options.inference, spec.inference) else "soft")
    tiling = tiling_of(method, options.tile or spec.tile) if isinstance(method, nn.Module) else None
    task = source.task
    reads = task.channels if "rgb" in spec.model.reads else 1
    if options.colour and reads != 1:
        raise UserError(f"colour={options.colour}: {source.name} reads RGB as it is; expected colour=null")
    default_colour = "luma" if task.name == "dejpeg" or task.luma_only(spec.model.reads) else "channels"
    return Restorer(method, reads, task.scale, options.colour or default_colour, tiling)


def made_by(source: Source, options: RestoreOptions) -> str:
    """The network and the options that decide how a picture is restored, in words."""
    usual, chosen = RestoreOptions(), {name: getattr(options, name) for name in ("colour", "tile", "inference")}
    given = [f"{name}={value}" for name, value in chosen.items() if value != getattr(usual, name)]
    return " ".join([source.spec.name, *given])


class Batch:
    """The pictures of a command: which are done, and which are refused.

    Args:
        outputs: the output file of each picture.
        origins: of the outputs.
        options: how to restore.

    Attributes:
        refused: a line for each picture that cannot be restored.
    """

    def __init__(self, outputs: dict[Path, Path], origins: Origins, options: RestoreOptions):
        self.outputs, self.origins, self.options = outputs, origins, options
        self.before = {path: self._times(path) for path in outputs} if options.overwrite else {}
        self.refused: list[str] = []

    def is_done(self, path: Path) -> bool:
        """Whether a picture's outputs exist; with overwrite=true, whether another process has just made them.

        Raises:
            UserError: the output is of another picture or network.
        """
        output, options = self.outputs[path], self.options
        with contextlib.suppress(OSError):  # anything but absence is reported when the file is written
            if not options.overwrite and output.exists() and (other := self.origins.other(path, output)):
                kept = "overwrite=true replaces it, out=FOLDER keeps both"
                raise UserError(f"{output} is there, made {other}; {kept}")
        times, before = self._times(path), self.before.get(path)
        return bool(times) and not (before and any(map(operator.eq, times, before)))

    def _times(self, path: Path) -> list[int] | None:
        """When a picture's outputs were written, in ns by the file system; None unless all of them are there."""
        files = [self.outputs[path], comparison_of(self.outputs[path])][: 1 + self.options.compare]
        with contextlib.suppress(OSError):
            return None if any(file.is_dir() for file in files) else [file.stat().st_mtime_ns for file in files]
        return None

    def refuse(self, path: Path, error: UserError) -> None:
        """Note and print why a picture is not restored."""
        self.refused.append(str(error) if str(path) in str(error) else f"{path}: {error}")
        print_above(f"not restored: {self.refused[-1]}")

    def waiting(self) -> dict[Path, None]:
        """The pictures that are neither done nor refused; locks of killed processes beside the others are removed."""
        waiting = {}
        for path, output in self.outputs.items():
            try:
                if not self.is_done(path):
                    waiting[path] = None
                    continue
                if lock_of(output).exists():
                    with claim_file(output, wait=False):
                        pass
                with contextlib.suppress(OSError):
                    if self.origins.is_changed(output):
                        print_above(f"{output}: changed or damaged since it was restored; overwrite=true restores anew")
            except UserError as error:
                self.refuse(path, error)
        return waiting


def restore_all(outputs: dict[Path, Path], source: Source, options: RestoreOptions) -> None:
    """Restore the pictures that are not restored yet; several processes may share them.

    Args:
        outputs: the output file of each picture.
        source: of the network.
        options: how to restore.

    Raises:
        Failed: some pictures could not be restored; all others are.
    """
    restored, restored_elsewhere, origins = 0, 0, Origins(made_by(source, options))
    batch = Batch(outputs, origins, options)
    waiting = batch.waiting()
    skipped = len(outputs) - len(waiting) - len(batch.refused)
    restorer = restorer_of(source, options) if waiting else None
    with Progress({path: _tile_count(restorer, path) for path in waiting}) as progress:
        if waiting:
            print_above(f"{plural(len(waiting), 'picture')} to restore by {source.name}")
        for wait in (False, True):  # at last, wait for the pictures that other processes restore
            for path in list(waiting):
                try:
                    with (
                        _refusals(),
                        claim_file(outputs[path], wait) as is_claimed,
                        progress.picture(path, is_claimed),
                    ):
                        if not is_claimed:
                            continue
                        del waiting[path]
                        if batch.is_done(path):
                            restored_elsewhere += 1
                            continue
                        _restore(restorer, path, outputs[path], options, origins, progress)
                        restored += 1
                except UserError as error:
                    waiting.pop(path, None)
                    batch.refuse(path, error)
    counts = {"restored": restored, "restored by another process": restored_elsewhere}
    counts["there already, and skipped (overwrite=true restores anew)"] = skipped
    print_line(", ".join(f"{count} {what}" for what, count in counts.items() if count) or "none restored")
    if failures := batch.refused:
        listed = "; ".join(failures[:LISTED]) + ("; the lines above name the others" if failures[LISTED:] else "")
        raise Failed(f"{len(failures)} of {plural(len(outputs), 'picture')} not restored: {listed}")


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """Raise UserError for what the system refuses of one file alone; a full disk refuses them all."""
    try:
        yield
    except OSError as error:
        if error.errno not in OF_ONE_FILE:
            raise
        raise UserError(f"{error.filename}: cannot be written ({error.strerror})") from error


def _restore(
    restorer: Restorer, path: Path, output: Path, options: RestoreOptions, origins: Origins, progress: "Progress"
) -> None:
    comparison = comparison_of(output) if options.compare else None
    remove_temporary_files(output.parent, f"{comparison_of(output).name}.")
    picture = read_picture(path)
    origins.note(path, output)
    restore_picture(restorer, picture, output, comparison, options.overwrite, progress.step)
    origins.note_written(output)
    print_above(f"{path}: {output}")


def _tile_count(restorer: Restorer, path: Path) -> int:
    """The number of tiles of a picture, by its header; 0 if the header is unreadable, which is reported later."""
    try:
        return restorer.tiles(*image_size(path))
    except UserError:
        return 0


class Progress:
    """A bar over the tiles of all pictures, with the time left; without a terminal, a line every ten seconds.

    Args:
        tiles: number of tiles of each picture.
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
    def picture(self, path: Path, is_claimed: bool):
        """While this process restores a picture; afterwards its skipped tiles leave the total."""
        before = self.done
        try:
            yield
        finally:
            if is_claimed:
                self.total -= self.tiles[path] - (self.done - before)
                self.bar.total = self.total
                self.bar.refresh()

    def step(self, tiles: int) -> None:
        """Advance the bar by a number of restored tiles."""
        self.done += tiles
        self.bar.update(tiles)
        if self.bar.disable and time.monotonic() - self.last_said > SAY_EVERY:
            self.last_said = time.monotonic()
            left = (self.last_said - self.began) / self.done * (self.total - self.done) if self.done else 0
            print_line(f"tile {self.done:,}/{self.total:,}  {clock(left)} left")


def print_above(text: str) -> None:
    """Print a line above the bar, if there is one."""
    with tqdm.external_write_mode():
        print_line(text)
