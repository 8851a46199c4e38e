"""Training: one flat loop. observers.py looks at it, and saver.py writes its checkpoints and weights."""

import signal
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nsr_cli.data.sampler import Batch
from nsr_cli.engine import heap
from nsr_cli.engine.interrupts import deferred_signals
from nsr_cli.engine.observers import Observers, Progress
from nsr_cli.engine.prefetch import Prefetch
from nsr_cli.engine.ranks import Exchange, Ranks
from nsr_cli.engine.saver import Saver
from nsr_cli.engine.schedule import Schedule
from nsr_cli.errors import Failed
from nsr_cli.layers.half import autocast
from nsr_cli.layers.layout import best_layout, set_layout


def train(
    model: nn.Module,  # trained in place, on the device that it is on
    batch_at: Callable[[int], Batch],  # the batch of a step, counted from 0; the same one whenever it is asked
    schedule: Schedule,  # how many steps, and the learning rate of each
    saver: Saver,  # writes checkpoints, and weights.pt at the end
    observers: Observers,  # make a line now and then; at the same intervals in every process
    *,
    patch: int,  # side of a degraded patch, in pixels
    seed: int,
    precision: str,  # fp32, bf16, or fp16 with a gradient scaler
    compiled: bool = False,  # the network through torch.compile
    ranks: Ranks = Ranks(),  # noqa: B008  (frozen) this process among those that share every batch
) -> dict:
    """Minimise the L1 distance by Adam; resume from the last checkpoint, and write weights.pt at the end.

    Every random number comes from (seed, step), so that a resumed run computes what an uninterrupted one does. Of
    several processes each computes its share of a batch, gradients are averaged, and the first alone writes.

    A signal (interrupts.SIGNALS) to any process saves a checkpoint at the next step's end; then all act on it.

    Returns:
        The state written to weights.pt: ``model``, ``signature``, ``step``, ``seconds``.

    Raises:
        Diverged: a loss or weights that are not finite; names the step, the batch's files and the last checkpoint.
        Failed: a checkpoint of another run, of other training images or of another version; none that can be read.
    """
    device, layout, steps = next(model.parameters()).device, best_layout(model, patch), schedule.steps
    set_layout(model, layout)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=schedule.learning_rate, fused=True)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
    network = torch.compile(model) if compiled else model
    resumed = saver.resume(model, optimizer, scaler, observers.say)
    step, losses = resumed.step, [torch.tensor(loss, device=device) for loss in resumed.losses]  # since the last line
    if step:
        observers.say(f"resuming after step {step:,} of {steps:,}")
    ranks.check_step(step, device, saver.folder)
    model.train()
    with (
        heap.keep_freed_memory(),
        Prefetch(batch_at, step, steps) as batches,
        deferred_signals() as interrupts,
        observers.running(resumed, steps, ranks.is_first),
    ):
        exchange = Exchange(ranks)
        while step < steps:
            batch = batches.next()
            own = ranks.share(len(batch.degraded))
            degraded, truth = (as_float(patches[own], device) for patches in (batch.degraded, batch.truth))
            degraded = degraded.contiguous(memory_format=layout)
            rate = schedule.rate(step)
            for group in optimizer.param_groups:
                group["lr"] = rate

            torch.manual_seed(step_seed(seed, step) + ranks.rank)  # for gates that sample
            with autocast(device, precision):
                restored = network(degraded)
            loss = F.l1_loss(restored.float(), truth)
            optimizer.zero_grad(set_to_none=True)
            scaler.scale(loss).backward()
            gradients = gradients_of(model, parameters)
            loss, stopping = exchange(gradients, loss.detach(), interrupts.pending())
            scaler.unscale_(optimizer)
            scaler.step(optimizer)
            scaler.update()
            step += 1
            losses.append(loss)
            observers.count_step()

            if observers.is_due(step, steps):
                values = torch.stack(losses).tolist()  # waits for the device; so not at every step
                saver.check_finite(values, step, batch_at)
                losses = []
                if ranks.is_first:
                    norm = nn.utils.get_total_norm(gradients).item()
                    observers.observe(Progress(step, steps, values, rate, norm, batches.waited, model, degraded))
            saved = False
            if ranks.is_first and step < steps and (stopping or saver.is_due()):
                saved = saver.save(step, losses, observers.best)
            if stopping and step < steps:
                what = "which is saved" if saved else "which is not finite and not saved"
                observers.say(f"stopped by {signal.Signals(stopping).name} after step {step:,}, {what}")
                interrupts.end_process(stopping)
        final = saver.finish(step, writes=ranks.is_first)
        if interrupts.pending():
            interrupts.end_process()
    return final


def gradients_of(model: nn.Module, parameters: list[nn.Parameter]) -> list[Tensor]:
    """The gradients of all parameters. Raises Failed where one is missing, as Adam would skip it silently."""
    gradients = [p.grad for p in parameters]
    if any(gradient is None for gradient in gradients):
        unused = ", ".join(name for name, p in model.named_parameters() if p.requires_grad and p.grad is None)
        raise Failed(f"the loss does not depend on {unused}; freeze them (requires_grad=False)")
    return gradients


def as_float(patches: Tensor, device: torch.device) -> Tensor:
    """Patches on the device, in [0, 1]; bytes travel as bytes."""
    patches = patches.to(device, non_blocking=True)
    return patches.float().div_(255) if patches.dtype == torch.uint8 else patches


def step_seed(seed: int, step: int) -> int:
    """A seed of 63 bits for each (seed, step)."""
    return (seed * 0x9E3779B97F4A7C15 + step * 0xD1B54A32D192ED03) % 2**63
