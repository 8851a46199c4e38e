"""Observers look at a training without changing it: measurements, stats.jsonl, loggers and the terminal."""

import contextlib
import errno
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
from torch import Tensor, nn
from tqdm import tqdm

from nsr_cli.engine.gate_stats import gate_statistics
from nsr_cli.engine.loggers import Logger, flattened
from nsr_cli.engine.saver import Resumed
from nsr_cli.errors import UserError
from nsr_cli.files import name_file_in_errors, read_json_lines, write_text
from nsr_cli.words import clock

PRINT_EVERY = 10  # seconds between lines, where there is no bar


@dataclass(frozen=True)
class Progress:
    """The state of a training that observers see.

    Attributes:
        step: steps that are done, of ``steps``.
        losses: of the steps since the line before.
        learning_rate: of the last step.
        gradient_norm: of all parameters together, at the last step.
        waited: seconds that this process has waited for batches.
        model: after the last step, in training mode.
        degraded: batch of the last step (B, C, H, W), in [0, 1].
    """

    step: int
    steps: int
    losses: list[float]
    learning_rate: float
    gradient_norm: float
    waited: float
    model: nn.Module
    degraded: Tensor


class Observer(Protocol):
    """Measures something while a training goes on.

    Attributes:
        every: steps between its measurements, and it measures at the last step; None: at every line.
    """

    every: int | None

    def __call__(self, progress: Progress) -> dict:
        """Entries of the line: numbers, or dicts and lists of them; arrays (H, W[, C]), uint8, are images."""


class Validation:
    """Measures ``psnr`` in dB, and restored images, by a function from validation.py."""

    def __init__(self, measure: Callable[[nn.Module], dict], every: int):
        self.measure, self.every = measure, every

    def __call__(self, progress: Progress) -> dict:
        return self.measure(progress.model)


class GateStatistics:
    """Measures ``gates``: statistics of gates by layer; nothing where there are no gates."""

    every = None

    def __call__(self, progress: Progress) -> dict:
        gates = gate_statistics(progress.model, progress.degraded)
        return {"gates": gates} if gates else {}


class Observers:
    """Makes a line whenever one is due, and gives it to stats.jsonl, the terminal and the loggers.

    Args:
        folder: of stats.jsonl.
        observers: add entries to a line.
        loggers: receive every line, as stats.jsonl and the terminal do.
        every: steps between lines, and between checks of the loss.
        say: prints a text.
        bar: whether to show a progress bar instead of a printed line now and then.

    Attributes:
        best: the best validation so far: ``psnr`` in dB and ``step``.
    """

    def __init__(
        self,
        folder: Path,
        observers: Sequence[Observer] = (),
        loggers: Sequence[Logger] = (),
        every: int = 50,
        say: Callable[[str], None] = print,
        bar: bool = False,
    ):
        self.stats, self.console = StatsFile(folder / "stats.jsonl"), Console(say, bar)
        self.observers, self.loggers, self.every = observers, list(loggers), every
        self.say = self.console.say

    def is_due(self, step: int, steps: int) -> bool:
        """Whether a line is due after ``step`` steps."""
        intervals = [self.every, *(observer.every for observer in self.observers)]
        return step == steps or any(step % every == 0 for every in intervals if every)

    @contextlib.contextmanager
    def running(self, resumed: Resumed, steps: int, is_first: bool) -> Iterator[None]:
        """Start and close everything around a training. Only the first process writes."""
        self.best, self.last_step, self.last_line, self.waited = resumed.best, resumed.step, time.monotonic(), 0.0
        with contextlib.ExitStack() as ending:
            self.console.start(resumed.step, steps)
            ending.callback(self.console.close)
            if is_first:
                self.stats.start(resumed.step)
                for logger in self.loggers:
                    self._start(logger, resumed.step)
                    ending.push(partial(self._close, logger))
            yield

    def count_step(self) -> None:
        self.console.count_step()

    def observe(self, progress: Progress) -> None:
        """Make the line that is due, and show it."""
        step, elapsed = progress.step, max(time.monotonic() - self.last_line, 1e-9)
        line = {
            "step": step,
            "steps": progress.steps,
            "loss": sum(progress.losses) / len(progress.losses),
            "learning_rate": progress.learning_rate,
            "gradient_norm": progress.gradient_norm,
            "steps_per_second": round((step - self.last_step) / elapsed, 2),
            "waiting": round((progress.waited - self.waited) / elapsed, 4),  # share of the time without a batch
        }
        for observer in self.observers:
            if not observer.every or step == progress.steps or step % observer.every == 0:
                line |= observer(progress)
        images = {name: line.pop(name) for name in list(line) if isinstance(line[name], np.ndarray)}
        if "psnr" in line and line["psnr"] > self.best.get("psnr", -math.inf):
            self.best = {"psnr": line["psnr"], "step": step}
        self.stats.add(line)
        self.console.show(line)
        for logger in list(self.loggers):
            self._log(logger, step, dict(flattened(line)), images)
        self.last_step, self.last_line, self.waited = step, time.monotonic(), progress.waited

    def _start(self, logger: Logger, step: int) -> None:
        try:
            logger.start(step)
        except Exception as error:  # of many kinds: no account, no server
            raise UserError(f"{type(logger).__name__} does not start: {_reason(error)}") from error

    def _log(self, logger: Logger, step: int, numbers: dict[str, float], images: dict[str, np.ndarray]) -> None:
        """Log a line. A logger that fails, as when its server is gone, is dropped, and the training goes on."""
        try:
            logger.log(step, numbers)
            if images:
                logger.images(step, images)
        except Exception as error:
            self.say(f"{type(logger).__name__} fails at step {step:,} and gets no more of this run: {_reason(error)}")
            self.loggers.remove(logger)

    def _close(self, logger: Logger, kind: type[BaseException] | None, *error: object) -> None:
        try:
            logger.close(finished=kind is None)
        except Exception as error:
            self.say(f"{type(logger).__name__} does not end well: {_reason(error)}")


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class StatsFile:
    """stats.jsonl: a line per interval; lines after the step that a run resumes from are dropped."""

    def __init__(self, path: Path):
        self.path = path

    def start(self, step: int) -> None:
        """Drop the lines after ``step``."""
        lines = [line for line in read_json_lines(self.path) if isinstance(line.get("step"), int)]
        write_text(self.path, "".join(json.dumps(line) + "\n" for line in lines if line["step"] <= step))

    def add(self, line: dict) -> None:
        with name_file_in_errors(self.path), open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


class Console:
    """A progress bar, or a line every ten seconds."""

    def __init__(self, say: Callable[[str], None], bar: bool):
        self.print, self.has_bar, self.last_said = say, bar, -math.inf

    def start(self, step: int, steps: int) -> None:
        hidden = not self.has_bar
        self.bar = tqdm(total=steps, initial=step, unit="step", disable=hidden, dynamic_ncols=True, leave=False)

    def count_step(self) -> None:
        self.bar.update()

    def show(self, line: dict) -> None:
        step, steps, speed = line["step"], line["steps"], line["steps_per_second"]
        loss, rate = line["loss"], line["learning_rate"]
        self.bar.set_postfix(loss=f"{loss:.4f}", lr=f"{rate:.0e}")
        if not self.has_bar and (time.monotonic() - self.last_said > PRINT_EVERY or step == steps):
            self.last_said = time.monotonic()
            left = clock((steps - step) / speed) if speed else "?"
            self.say(f"step {step:,}/{steps:,}  loss {loss:.5f}  lr {rate:.1e}  {speed:.1f} steps/s  {left} left")

    def say(self, text: str) -> None:
        """Print. A closed terminal is no error, as the training must still be saved."""
        try:
            self.print(text)
        except OSError as error:
            if error.errno != errno.EIO:
                raise

    def close(self) -> None:
        self.bar.close()
