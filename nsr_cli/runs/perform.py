"""Do what a run asks for: train once, score what is missing, say where everything is."""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from nsr_cli.engine import checkpoint
from nsr_cli.engine.ranks import Ranks, joined
from nsr_cli.engine.saver import Diverged
from nsr_cli.errors import UserError
from nsr_cli.files import check_writable, hold, sweep_up, write_text
from nsr_cli.runs.build import build, check_network, pick_device, set_inference
from nsr_cli.runs.plan import plan
from nsr_cli.runs.record import Record
from nsr_cli.runs.run import Run, check_share
from nsr_cli.runs.score import explanation, record, score_run, tiling_for
from nsr_cli.runs.stored import Store, show
from nsr_cli.runs.train import prepare_training
from nsr_cli.words import print_line

SMOKE = "protocol smoke: seconds on a few photographs, to see that all works; for real: protocol=short, paper"


def perform(run: Run) -> dict[str, Record]:
    """Train if need be, score what was not scored, and print where everything is.

    Returns:
        The record of each benchmark; nothing for a dry run, and in processes that only share a training.

    Raises:
        UserError, Failed: in one line; what was finished before is kept.
    """
    store = Store()
    images = store.images(run)
    device = pick_device(run.request.device)
    if run.request.threads:
        torch.set_num_threads(run.request.threads)
    with joined(device) as ranks:
        check_share(run, ranks.world)
        if run.request.dry_run:
            if ranks.is_first:
                print(plan(run, build(run, device), device))
        elif ranks.is_first:
            with ranks.calling() as call:
                return _run_first_rank(run, store, images, device, ranks, call)
        elif ranks.broadcast():
            _follow(run, store, images, device, ranks)
    return {}


def _follow(run: Run, store: Store, images: dict[str, list[Path]], device: torch.device, ranks: Ranks) -> None:
    """The work of torchrun's other processes: their share of a training."""
    try:
        prepare_training(run, build(run, device), store.training_images(run), images)(ranks)
    except Diverged:
        ranks.broadcast()  # once the first process has recorded it
        raise


def _run_first_rank(
    run: Run, store: Store, images: dict[str, list[Path]], device: torch.device, ranks: Ranks, call: Callable[[], None]
) -> dict[str, Record]:
    """The work of the first process, which is the only one but for torchrun's."""
    method = None
    if not store.is_finished(run):
        for path, damage in store.damaged.items():
            print_line(f"{path.resolve()} counts as missing: {damage}")
        method = _make_missing(run, store, images, device, ranks, call)
    records = Store().finished(run)
    show(run, records)
    for name, paths in images.items() if run.request.explain else ():
        print_line(explanation(run, method, name, paths))
    return records


def _make_missing(
    run: Run, store: Store, images: dict[str, list[Path]], device: torch.device, ranks: Ranks, call: Callable[[], None]
) -> Callable:
    """Train and score what is missing; returns the method, with its weights."""
    missing = store.unscored(run)
    check_writable("results", run.request.results)
    for name in missing:
        run.task_on(name, images[name])  # complains about an image without a partner
    method, begin = build(run, device), None
    tiling_for(run, method)  # complains about one for other networks
    if isinstance(method, nn.Module):
        check_network(run.spec, method)
    if run.lacks_weights:
        if not run.request.may_train:
            where = run.folder.resolve()
            raise UserError(f"no weights of this run in {where}; `nsr train` with these overrides trains it")
        begin = prepare_training(run, method, store.training_images(run), images)  # bad images are found here
    if run.spec.budget == "smoke":
        print_line(SMOKE)
    with hold(run.folder, run.request.wait, print_line):
        sweep_up(run.records, f"{run.spec.name}--")
        if begin and _diverged(run).exists() and not run.request.rescore:  # once is enough, whatever is scored
            _record_divergence(run, method, {name: images[name] for name in missing})
            return method
        if begin and run.lacks_weights:  # else another process has trained it while this one waited
            call()
            _train(run, method, begin, {name: images[name] for name in missing}, ranks)
        trained = _load_trained(run, method)
        set_inference(method, run.spec.inference)
        still = Store().unscored(run)  # the one who held the run may have scored it
        for name in missing:
            if name in still:
                score_run(run, method, name, images[name], trained)
    return method


def _train(
    run: Run, method: nn.Module, begin: Callable[[Ranks], None], missing: dict[str, list[Path]], ranks: Ranks
) -> None:
    """Train, or record for the missing benchmarks that the training diverged."""
    write_text(run.folder / "spec.json", json.dumps(run.spec.of_weights.signed, indent=1) + "\n")
    try:
        begin(ranks)
        _diverged(run).unlink(missing_ok=True)
    except Diverged as error:
        write_text(_diverged(run), error.what)
        _record_divergence(run, method, missing)
        ranks.broadcast(True)  # the others may leave
        raise


def _load_trained(run: Run, method: Callable) -> dict | None:
    """Give the method the weights of its training; returns what else is kept of that."""
    if not run.trains:
        return None
    trained = checkpoint.load_finished(run.weights, run.spec.of_weights.signature, method)
    for path in checkpoint.checkpoints(run.folder):  # of a process that was killed once it had finished
        path.unlink()
    return trained


def _diverged(run: Run) -> Path:
    """The file that says how a training diverged."""
    return run.folder / "diverged.txt"


def _record_divergence(run: Run, method: nn.Module, missing: dict[str, list[Path]]) -> None:
    what = _diverged(run).read_text(encoding="utf-8")
    for name, paths in missing.items():
        record(run, method, name, paths, scores={}, diverged=what)
