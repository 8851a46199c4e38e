"""The files of a training: checkpoints to resume from, then its weights. Only finite numbers are written."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from nsr_cli.data.sampler import Batch
from nsr_cli.engine import checkpoint
from nsr_cli.errors import Failed


class Diverged(Failed):
    """The loss, or a weight, is no longer a finite number.

    Attributes:
        what: what happened, without paths of this machine.
    """

    def __init__(self, what: str, folder: Path):
        saved = checkpoint.checkpoints(folder)
        where = f"the last good checkpoint is {saved[-1].resolve()}" if saved else "there is no checkpoint before it"
        super().__init__(f"{what}; {where}")
        self.what = what


@dataclass(frozen=True)
class Resumed:
    """The state that a training resumes from.

    Attributes:
        step: steps that are done.
        losses: of the steps since the last line of stats.jsonl.
        best: the best validation so far: ``psnr`` in dB and ``step``; empty before the first one.
    """

    step: int = 0
    losses: list[float] = field(default_factory=list)
    best: dict = field(default_factory=dict)


class Saver:
    """Saves and loads the state of one training.

    Args:
        folder: of checkpoint-*.pt and, at the end, weights.pt.
        signature: of the run; a checkpoint of another run is refused.
        data: digest of the training images; a checkpoint made on others is refused.
        minutes: between checkpoints.
    """

    def __init__(self, folder: Path, signature: str, data: str = "", minutes: float = 5):
        self.folder, self.signature, self.data, self.minutes = folder, signature, data, minutes

    def resume(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
        say: Callable[[str], None],
    ) -> Resumed:
        """Load the newest readable checkpoint, if any, into these objects, and remember them for `save`.

        Raises:
            Failed: a checkpoint of another run, of other training images or of another version; none that can be read;
                or a number of the model that is not finite, so that nothing could be saved.
        """
        if bad := [name for name, tensor in model.state_dict().items() if not tensor.isfinite().all()]:
            advice = "a constant is no weight with register_buffer(..., persistent=False)"
            raise Failed(f"{bad[0]}: not finite before the first step; expected finite numbers: {advice}")
        self.model, self.optimizer, self.scaler = model, optimizer, scaler
        self.last_save = time.monotonic()
        self.began = self.last_save  # less the time of training before
        found = checkpoint.load_newest(self.folder, say)
        if found is None:
            return Resumed()
        path, state = found
        checkpoint.check_resumable(self.folder, state, signature=self.signature, data=self.data)
        checkpoint.load_into(model, state["model"], path)
        load_optimizer(optimizer, state["optimizer"])
        scaler.load_state_dict(state["scaler"])
        self.began -= state["seconds"]
        return Resumed(state["step"], state["losses"], state["best"])

    def is_due(self) -> bool:
        """Whether it is time for a checkpoint."""
        return time.monotonic() - self.last_save > 60 * self.minutes

    def save(self, step: int, losses: list[Tensor], best: dict) -> bool:
        """Write the checkpoint after ``step`` steps; where a number is not finite, write nothing and return False."""
        values = torch.stack(losses).tolist() if losses else []
        state = self._snapshot(step) if all(map(math.isfinite, values)) else None
        if state:
            state |= {"optimizer": self.optimizer.state_dict(), "scaler": self.scaler.state_dict()}
            state |= {"losses": values, "best": best, "data": self.data}
            checkpoint.save_step(self.folder, step, state)
        self.last_save = time.monotonic()
        return state is not None

    def finish(self, step: int, writes: bool) -> dict:
        """The final state: ``model``, ``signature``, ``step``, ``seconds``, ``patch``; also written to weights.pt.

        Raises:
            Diverged: a weight is not finite.
        """
        state = self._snapshot(step)
        if state is None:
            raise Diverged(f"the weights are not finite after step {step}", self.folder)
        state["patch"] = getattr(self.model, "tile", None)  # the size of its gates' tiles, for readers of the file
        if writes:
            checkpoint.save(self.folder / "weights.pt", state)
            for path in checkpoint.checkpoints(self.folder):
                path.unlink()
        return state

    def check_finite(self, losses: list[float], step: int, batch_at: Callable[[int], Batch]) -> None:
        """Raise Diverged, which names step and files, unless the losses of the last steps are finite."""
        bad = next((i for i, loss in enumerate(losses) if not math.isfinite(loss)), None)
        if bad is not None:
            failed = step - len(losses) + bad  # counted from 0, as batch_at does
            files = ", ".join(sorted(set(batch_at(failed).names)))
            raise Diverged(f"the loss is {losses[bad]} at step {failed + 1}, on patches of {files}", self.folder)

    def _snapshot(self, step: int) -> dict | None:
        """The state to save; None where a weight is not finite."""
        weights = {name: tensor.cpu() for name, tensor in self.model.state_dict().items()}
        if not all(tensor.isfinite().all() for tensor in weights.values()):
            return None
        seconds = time.monotonic() - self.began
        return {"model": weights, "signature": self.signature, "step": step, "seconds": seconds}


def load_optimizer(optimizer: torch.optim.Optimizer, saved: dict) -> None:
    """Load an optimizer's state in the memory layout of its parameters, as fused steps read raw memory."""
    optimizer.load_state_dict(saved)
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if value.shape == parameter.shape:
                state[name] = torch.empty_like(parameter).copy_(value)
