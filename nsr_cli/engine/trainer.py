"""Training: one flat loop."""

import json
import math
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from nsr_cli.data.sampler import Batch
from nsr_cli.engine import checkpoint
from nsr_cli.engine.interrupts import deferred
from nsr_cli.errors import Failed
from nsr_cli.files import write_text

SAY_EVERY = 10  # seconds between lines, where there is no bar


class Diverged(Failed):
    """The loss is no longer a number.

    Attributes:
        what: happened, without paths of this machine.
    """

    def __init__(self, what: str, folder: Path):
        saved = checkpoint.checkpoints(folder)
        where = f"the last good checkpoint is {saved[-1].resolve()}" if saved else "there is no checkpoint before it"
        super().__init__(f"{what}; {where}")
        self.what = what


def train(
    model: nn.Module,  # trained in place, on the device that it is on
    batch_at: Callable[[int], Batch],  # the batch of a step; the same one whenever it is asked
    folder: Path,  # of checkpoints, stats.jsonl and, at the end, weights.pt
    signature: str,  # of the run; a checkpoint of another run is refused
    *,
    steps: int,  # in all, across resumes
    seed: int,
    learning_rate: float,  # of Adam
    lr_drops: list[float],  # fractions of the training after which the learning rate drops
    lr_factor: float,  # by which it drops
    precision: str,  # fp32 or bf16
    checkpoint_minutes: float,
    log_every: int = 50,  # steps between lines of stats.jsonl, and between checks of the loss
    say: Callable[[str], None] = print,
    progress: bool = False,  # a bar instead of lines
) -> dict:
    """Minimise the L1 distance; resume from the folder's last checkpoint, and leave weights.pt behind.

    Every random number comes from (seed, step), so that a resumed run computes what an uninterrupted one does.

    SIGINT and SIGTERM save a checkpoint at the next step's end, then act.

    Returns:
        The state written to weights.pt: ``model``, ``signature``, ``step``, ``seconds``.

    Raises:
        Diverged: a loss or weights that are not finite; names the step, the batch's files and the last checkpoint.
    """
    device = next(model.parameters()).device
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    step, seconds = 0, 0.0
    if state := checkpoint.load_newest(folder, say):
        if state["signature"] != signature:
            raise Failed(f"{folder} holds a checkpoint of another run: {state['signature']}, not {signature}")
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        step, seconds = state["step"], state["seconds"]
        say(f"resuming after step {step:,} of {steps:,}")

    def snapshot() -> dict:
        weights = {name: tensor.cpu() for name, tensor in model.state_dict().items()}
        if not all(tensor.isfinite().all() for tensor in weights.values()):
            raise Diverged(f"the weights are not finite after step {step}", folder)
        return {"model": weights, "signature": signature, "step": step, "seconds": seconds}

    stats = Stats(folder / "stats.jsonl", keep_until=step)
    bar = tqdm(total=steps, initial=step, unit="step", disable=not progress, dynamic_ncols=True, leave=False)
    losses: list[torch.Tensor] = []  # since the last line
    began = last_save = last_line = time.monotonic()
    last_said = -math.inf
    seconds_before = seconds
    model.train()
    with ThreadPoolExecutor(1) as ahead, deferred() as interrupts:  # a thread prepares the next batch
        upcoming = ahead.submit(batch_at, step) if step < steps else None
        while step < steps:
            batch = upcoming.result()
            upcoming = ahead.submit(batch_at, step + 1) if step + 1 < steps else None
            rate = learning_rate * lr_factor ** sum(step >= round(drop * steps) for drop in lr_drops)
            for group in optimizer.param_groups:
                group["lr"] = rate

            torch.manual_seed(step_seed(seed, step))  # for gates that sample
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
                restored = model(batch.degraded.to(device))
            loss = F.l1_loss(restored.float(), batch.truth.to(device))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

            step += 1
            losses.append(loss.detach())
            bar.update()
            now = time.monotonic()
            seconds = seconds_before + now - began
            stopping = interrupts.came  # read once: a signal may come on any line
            save_due = now - last_save > 60 * checkpoint_minutes or stopping
            line_due = step % log_every == 0 or step == steps
            if line_due or save_due:
                values = torch.stack(losses).tolist()  # waits for the device; so not at every step
                _check_finite(values, step, batch_at, folder)
            if line_due:
                mean, speed = sum(values) / len(values), len(values) / max(now - last_line, 1e-9)
                stats.add(step=step, loss=mean, learning_rate=rate, steps_per_second=round(speed, 2))
                bar.set_postfix(loss=f"{mean:.4f}", lr=f"{rate:.0e}")
                if not progress and (now - last_said > SAY_EVERY or step == steps):
                    last_said = now
                    left = clock((steps - step) / speed)
                    say(f"step {step:,}/{steps:,}  loss {mean:.5f}  lr {rate:.1e}  {speed:.1f} steps/s  {left} left")
                losses, last_line = [], now
            if save_due and step < steps:
                checkpoint.save_step(folder, step, {**snapshot(), "optimizer": optimizer.state_dict()})
                last_save = time.monotonic()
            if stopping:
                bar.close()
                say(f"stopped by {signal.Signals(stopping).name} after step {step:,}, which is saved")
                interrupts.leave()
    bar.close()
    final = snapshot()
    checkpoint.save(folder / "weights.pt", final)
    for path in checkpoint.checkpoints(folder):
        path.unlink()
    return final


def step_seed(seed: int, step: int) -> int:
    """A seed of 63 bits for each (seed, step)."""
    return (seed * 0x9E3779B97F4A7C15 + step * 0xD1B54A32D192ED03) % 2**63


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss or m:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _check_finite(values: list[float], step: int, batch_at: Callable[[int], Batch], folder: Path) -> None:
    bad = next((i for i, value in enumerate(values) if not math.isfinite(value)), None)
    if bad is None:
        return
    failed = step - len(values) + bad  # counted from 0, as batch_at does
    files = ", ".join(sorted(set(batch_at(failed).names)))
    raise Diverged(f"the loss is {values[bad]} at step {failed + 1}, on patches of {files}", folder)


class Stats:
    """stats.jsonl: a line per interval; lines after the step that a run resumes from are dropped."""

    def __init__(self, path: Path, keep_until: int):
        self.path = path
        kept = []
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    kept += [line + "\n"] if json.loads(line)["step"] <= keep_until else []
                except json.JSONDecodeError:  # torn by a crash
                    break
        write_text(path, "".join(kept))

    def add(self, **values) -> None:
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")
