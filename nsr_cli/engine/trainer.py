"""Training: one flat loop."""

import json
import math
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from nsr_cli.data.sampler import Batch
from nsr_cli.engine import checkpoint, heap
from nsr_cli.engine.gate_stats import gate_statistics
from nsr_cli.engine.interrupts import SIGNALS, deferred
from nsr_cli.engine.ranks import Ranks
from nsr_cli.errors import Failed, UserError
from nsr_cli.files import read_json_lines, write_text
from nsr_cli.layers.sparse_conv import best_layout
from nsr_cli.words import clock

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
    patch: int,  # side of a degraded patch, in pixels
    seed: int,
    learning_rate: float,  # of Adam
    lr_drops: list,  # fractions of the training after which the learning rate drops
    lr_factor: float,  # by which it drops
    precision: str,  # fp32, bf16, or fp16 with a gradient scaler
    checkpoint_minutes: float,
    data: str = "",  # digest of the training images; a checkpoint made on others is refused
    compiled: bool = False,  # the network through torch.compile
    ranks: Ranks = Ranks(),  # noqa: B008  (frozen) this process among those that share every batch
    validate: Callable[[nn.Module], float] | None = None,  # PSNR in dB, for stats.jsonl
    validate_every: int = 500,  # steps
    log_every: int = 50,  # steps between lines of stats.jsonl, and between checks of the loss
    tensorboard: bool = False,  # the numbers of stats.jsonl for TensorBoard too
    say: Callable[[str], None] = print,
    progress: bool = False,  # a bar instead of lines
) -> dict:
    """Minimise the L1 distance; resume from the folder's last checkpoint, and leave weights.pt behind.

    Every random number comes from (seed, step), so that a resumed run computes what an uninterrupted one does. Of
    several processes each computes its share of a batch, gradients are averaged, and the first alone writes.

    SIGINT, SIGTERM and SIGUSR2, in whichever process, save a checkpoint at the next step's end; then all act.

    Returns:
        The state written to weights.pt: ``model``, ``signature``, ``step``, ``seconds``.

    Raises:
        Diverged: a loss or weights that are not finite; names the step, the batch's files and the last checkpoint.
        Failed: a checkpoint of another run, of other training images or of another version; none that can be read.
    """
    device, layout = next(model.parameters()).device, best_layout(model, patch)
    model.to(memory_format=layout)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=learning_rate, fused=True)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
    network = torch.compile(model) if compiled else model
    step, seconds, best = 0, 0.0, {}
    if state := checkpoint.load_newest(folder, say):
        checkpoint.check_resumable(folder, state, signature=signature, data=data)
        model.load_state_dict(state["model"])
        load_optimizer(optimizer, state["optimizer"])
        scaler.load_state_dict(state["scaler"])
        step, seconds, best = state["step"], state["seconds"], state["best"]
        say(f"resuming after step {step:,} of {steps:,}")
    (agreed,) = ranks.average([], torch.tensor(float(step), device=device))
    if agreed != step:
        raise Failed(f"this process would go on after step {step}, others elsewhere: all must see the same {folder}")

    def snapshot() -> dict | None:
        """The state to save; None where a weight is not finite."""
        weights = {name: tensor.cpu() for name, tensor in model.state_dict().items()}
        finite = all(tensor.isfinite().all() for tensor in weights.values())
        return {"model": weights, "signature": signature, "step": step, "seconds": seconds} if finite else None

    stats = Stats(folder, keep_until=step, tensorboard=tensorboard) if ranks.leads else None
    bar = tqdm(total=steps, initial=step, unit="step", disable=not progress, dynamic_ncols=True, leave=False)
    losses: list[Tensor] = []  # since the last line
    signalled = torch.zeros(len(SIGNALS))  # which of them any process had in the step before
    waiting = 0.0  # seconds for batches, since the last line
    began = last_save = last_line = time.monotonic()
    last_said = -math.inf
    seconds_before = seconds
    model.train()
    with heap.kept(), ThreadPoolExecutor(1) as ahead, deferred() as interrupts:  # a thread prepares the next batch
        upcoming = ahead.submit(batch_at, step) if step < steps else None
        while step < steps:
            asked = time.monotonic()
            batch = upcoming.result()
            waiting += time.monotonic() - asked
            upcoming = ahead.submit(batch_at, step + 1) if step + 1 < steps else None
            own = ranks.share(len(batch.degraded))
            degraded, truth = (as_float(patches[own], device) for patches in (batch.degraded, batch.truth))
            degraded = degraded.contiguous(memory_format=layout)
            rate = learning_rate * lr_factor ** sum(step >= round(drop * steps) for drop in lr_drops)
            for group in optimizer.param_groups:
                group["lr"] = rate

            torch.manual_seed(step_seed(seed, step) + ranks.rank)  # for gates that sample
            with autocast(device, precision):
                restored = network(degraded)
            loss = F.l1_loss(restored.float(), truth)
            optimizer.zero_grad(set_to_none=True)
            scaler.scale(loss).backward()
            gradients, loss = [p.grad for p in parameters], loss.detach()
            if any(gradient is None for gradient in gradients):
                unused = ", ".join(name for name, p in model.named_parameters() if p.requires_grad and p.grad is None)
                raise Failed(f"the loss does not depend on {unused}; freeze them (requires_grad=False)")
            stopping = interrupts.look()  # read once: a signal may come on any line
            if ranks.world > 1:  # all stop together, a step later, without waiting for an answer
                mine = torch.tensor([float(number == stopping) for number in SIGNALS], device=device)
                heard = [number for number, share in zip(SIGNALS, signalled.tolist(), strict=True) if share]
                stopping = heard[-1] if heard else None
                (loss,) = ranks.average([*gradients, mine], loss)
                signalled = mine
            scaler.unscale_(optimizer)
            scaler.step(optimizer)
            scaler.update()

            step += 1
            losses.append(loss)
            bar.update()
            now = time.monotonic()
            seconds = seconds_before + now - began
            look_due = validate is not None and (step % validate_every == 0 or step == steps)
            line_due = look_due or step % log_every == 0 or step == steps
            save_due = ranks.leads and (now - last_save > 60 * checkpoint_minutes or stopping)
            if line_due:
                values = torch.stack(losses).tolist()  # waits for the device; so not at every step
                _check_finite(values, step, batch_at, folder)
            if line_due and ranks.leads:
                mean, elapsed = sum(values) / len(values), max(now - last_line, 1e-9)
                line = {"step": step, "steps": steps, "loss": mean, "learning_rate": rate}
                line["gradient_norm"] = nn.utils.get_total_norm(gradients).item()
                line["steps_per_second"] = speed = round(len(values) / elapsed, 2)
                line["waiting"] = round(waiting / elapsed, 4)  # share of the time that the device had no batch
                if look_due:
                    line["psnr"] = validate(model)
                    best = max(best, {"psnr": line["psnr"], "step": step}, key=lambda found: found.get("psnr", 0))
                if gates := gate_statistics(model, degraded):
                    line["gates"] = gates
                stats.add(line)
                bar.set_postfix(loss=f"{mean:.4f}", lr=f"{rate:.0e}")
                if not progress and (now - last_said > SAY_EVERY or step == steps):
                    last_said = now
                    left = clock((steps - step) / speed) if speed else "?"
                    say(f"step {step:,}/{steps:,}  loss {mean:.5f}  lr {rate:.1e}  {speed:.1f} steps/s  {left} left")
            if line_due:
                losses, waiting, last_line = [], 0.0, time.monotonic()
            state = None
            if save_due and step < steps:
                state = snapshot() if all(map(math.isfinite, torch.stack(losses).tolist() if losses else [])) else None
                if state:  # else the next line stops all processes
                    state |= {"optimizer": optimizer.state_dict(), "scaler": scaler.state_dict()}
                    checkpoint.save_step(folder, step, {**state, "best": best, "data": data})
                last_save = time.monotonic()
            if stopping and step < steps:
                bar.close()
                interrupts.came = stopping  # in whichever process
                saved = "which is saved" if state else "which is not finite and not saved"
                say(f"stopped by {signal.Signals(stopping).name} after step {step:,}, {saved}")
                interrupts.leave()
        bar.close()
        final = snapshot()
        if final is None:
            raise Diverged(f"the weights are not finite after step {step}", folder)
        if ranks.leads:
            stats.close()
            checkpoint.save(folder / "weights.pt", final)
            for path in checkpoint.checkpoints(folder):
                path.unlink()
        if interrupts.look():
            interrupts.leave()
    return final


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """What the forward pass of a training with fp32, bf16 or fp16 runs in."""
    dtype = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    return torch.autocast(device.type, dtype, enabled=dtype is not None)


def load_optimizer(optimizer: torch.optim.Optimizer, saved: dict) -> None:
    """Load what a checkpoint holds, in the memory layout of the parameters: fused steps go through raw memory."""
    optimizer.load_state_dict(saved)
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if value.shape == parameter.shape:
                state[name] = torch.empty_like(parameter).copy_(value)


def as_float(patches: Tensor, device: torch.device) -> Tensor:
    """Patches on the device, in [0, 1]; bytes travel as bytes."""
    patches = patches.to(device, non_blocking=True)
    return patches.float().div_(255) if patches.dtype == torch.uint8 else patches


def step_seed(seed: int, step: int) -> int:
    """A seed of 63 bits for each (seed, step)."""
    return (seed * 0x9E3779B97F4A7C15 + step * 0xD1B54A32D192ED03) % 2**63


def _check_finite(values: list[float], step: int, batch_at: Callable[[int], Batch], folder: Path) -> None:
    bad = next((i for i, value in enumerate(values) if not math.isfinite(value)), None)
    if bad is None:
        return
    failed = step - len(values) + bad  # counted from 0, as batch_at does
    files = ", ".join(sorted(set(batch_at(failed).names)))
    raise Diverged(f"the loss is {values[bad]} at step {failed + 1}, on patches of {files}", folder)


class Stats:
    """stats.jsonl: a line per interval; lines after the step that a run resumes from are dropped."""

    def __init__(self, folder: Path, keep_until: int, tensorboard: bool = False):
        self.path = folder / "stats.jsonl"
        lines = [line for line in read_json_lines(self.path) if isinstance(line.get("step"), int)]
        kept = [line for line in lines if line["step"] <= keep_until]
        write_text(self.path, "".join(json.dumps(line) + "\n" for line in kept))
        self.board = summary_writer(folder, keep_until) if tensorboard else None

    def add(self, line: dict) -> None:
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        if self.board:
            for name, number in flattened(line):
                self.board.add_scalar(name, number, line["step"])
            self.board.flush()

    def close(self) -> None:
        if self.board:
            self.board.close()


def summary_writer(folder: Path, resumed_after: int):
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UserError("tensorboard=true needs TensorBoard: pip install 'nsr[tensorboard]'") from None
    return SummaryWriter(str(folder / "tensorboard"), purge_step=resumed_after + 1)


def flattened(line: dict, prefix: str = "") -> Iterator[tuple[str, float]]:
    """The numbers of a line under names like gates/body.0.conv1/chosen/2."""
    for key, value in line.items():
        if isinstance(value, list):
            value = {str(i): item for i, item in enumerate(value)}
        if isinstance(value, dict):
            yield from flattened(value, f"{prefix}{key}/")
        elif key not in ("step", "steps"):
            yield prefix + key, value
