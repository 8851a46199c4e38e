"""Perform a run: train once, score the benchmarks that are missing, print the records."""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from nsr_cli.data.images import image_size
from nsr_cli.engine import checkpoint
from nsr_cli.engine.evaluator import check_large_enough
from nsr_cli.engine.ranks import Ranks, join_processes
from nsr_cli.engine.saver import Diverged
from nsr_cli.errors import UserError
from nsr_cli.files import check_name, check_writable, hold_folder, remove_temporary_files, write_json, write_text
from nsr_cli.ops.metrics import metric
from nsr_cli.regular import read_regular
from nsr_cli.runs.build import build, check_network, pick_device, set_inference
from nsr_cli.runs.plan import plan_lines
from nsr_cli.runs.record import Record
from nsr_cli.runs.run import Run, check_share
from nsr_cli.runs.score import convention_table, save_record, score_run, tiling_for
from nsr_cli.runs.stored import Store, print_scores
from nsr_cli.runs.train import prepare_training
from nsr_cli.words import print_line

SMOKE = "protocol smoke: seconds on a few photographs, to see that all works; for real: protocol=short, paper"


def perform(run: Run) -> dict[str, Record]:
    """Train if needed, score the benchmarks without a record, and print the scores.

    Returns:
        The record of each benchmark; empty for a dry run, and in processes that only share a training.

    Raises:
        UserError, Failed: in one line; finished results are kept.
    """
    store = Store()
    images = {} if run.request.dry_run else store.images(run)
    for name in run.request.metrics:
        metric(name)  # raises UserError for an unknown one before anything is trained
    device = pick_device(run.request.device)
    if run.request.threads:
        torch.set_num_threads(run.request.threads)
    with join_processes(device) as ranks:
        check_share(run, ranks.world)
        if run.request.dry_run:
            if ranks.is_first:
                for line in plan_lines(run, build(run, device), device, store):
                    print_line(line)
        elif ranks.is_first:
            with ranks.calling_others() as call:
                return _run_first_rank(run, store, images, device, ranks, call)
        elif ranks.broadcast():
            _run_other_rank(run, store, images, device, ranks)
    return {}


def _run_other_rank(run: Run, store: Store, images: dict[str, list[Path]], device: torch.device, ranks: Ranks) -> None:
    """The work of every process but the first: its share of a training."""
    try:
        prepare_training(run, build(run, device), store.training_images(run), images)(ranks)
    except Diverged:
        ranks.broadcast()  # waits until the first process has recorded the divergence
        raise


def _run_first_rank(
    run: Run, store: Store, images: dict[str, list[Path]], device: torch.device, ranks: Ranks, call: Callable[[], None]
) -> dict[str, Record]:
    """The work of the first process, which is the only one without torchrun."""
    method = None
    if not store.is_finished(run):
        for path, damage in store.damaged.items():
            print_line(f"{path.absolute()} counts as missing: {damage}")
        method = _make_missing(run, store, images, device, ranks, call)
    records = Store().finished_records(run)
    print_scores(run, records)
    for name, paths in images.items() if run.request.explain else ():
        print_line(convention_table(run, method, name, paths))
    return records


def _make_missing(
    run: Run, store: Store, images: dict[str, list[Path]], device: torch.device, ranks: Ranks, call: Callable[[], None]
) -> Callable:
    """Train and score what is missing. Returns the method with its weights."""
    missing = {name: images[name] for name in store.unscored(run)}
    for folder in (run.request.results, run.records, run.folder.parent):
        check_writable("results", str(folder))
    for name, paths in missing.items():
        check_name("benchmarks", run.record(name), run.data_name(name))
        run.task_on(name, paths)  # raises UserError for an image without a partner
    method, begin = build(run, device), None
    tiling_for(run, method)  # raises UserError for a tiling of other networks
    if isinstance(method, nn.Module):
        check_network(run.spec, method)
    if run.lacks_weights:
        if not run.request.may_train:
            where = run.folder.resolve()
            raise UserError(f"no weights of this run in {where}; `nsr train` with these overrides trains it")
        for name, paths in missing.items():
            for path in paths:
                check_large_enough(path, image_size(path), run.task, run.conventions(name))
        begin = prepare_training(run, method, store.training_images(run), images)  # bad images are found here
    if run.spec.budget == "smoke":
        print_line(SMOKE)
    with hold_folder(run.folder, run.request.wait, print_line):
        remove_temporary_files(run.records, f"{run.spec.name}--")
        for folder in (run.folder / "images").glob("*"):
            remove_temporary_files(folder)
        if begin and not run.request.rescore and (what := _known_divergence(run)):  # not tried again
            _record_divergence(run, method, missing, what)
            return method
        if begin and run.lacks_weights:  # else another process has trained it while this one waited
            call()
            _train(run, method, begin, missing, ranks)
        trained = _load_trained(run, method)
        set_inference(method, run.spec.inference)
        unscored = Store().unscored(run)  # another process may have scored some meanwhile
        for name, paths in missing.items():
            if name in unscored:
                score_run(run, method, name, paths, trained)
    return method


def _train(
    run: Run, method: nn.Module, begin: Callable[[Ranks], None], missing: dict[str, list[Path]], ranks: Ranks
) -> None:
    """Train; if the training diverges, write records of that for the missing benchmarks."""
    write_text(run.folder / "spec.json", json.dumps(run.spec.weights_spec.content, indent=1) + "\n")
    own = run.with_request(metrics=[]).own_code
    if own and not checkpoint.checkpoints(run.folder):
        write_json(run.code_file, own)
    try:
        begin(ranks)
        _divergence_file(run).unlink(missing_ok=True)
    except Diverged as error:
        write_text(_divergence_file(run), error.what)
        _record_divergence(run, method, missing, error.what)
        ranks.broadcast(True)  # lets the other processes exit
        raise


def _load_trained(run: Run, method: Callable) -> dict | None:
    """Load the weights of a run's training. Returns its ``step`` and ``seconds``; None for untrained methods."""
    if not run.trains:
        return None
    trained = checkpoint.load_finished(run.weights, run.spec.weights_spec.signature, method)
    for path in checkpoint.checkpoints(run.folder):  # left by a process that was killed after its last step
        path.unlink()
    return trained


def _divergence_file(run: Run) -> Path:
    """The text file on how a run's training diverged."""
    return run.folder / "diverged.txt"


def _known_divergence(run: Run) -> str:
    """How the run's training diverged before; empty where it did not, or where the file is empty."""
    path = _divergence_file(run)
    return read_regular(path).decode(errors="replace") if path.exists() else ""


def _record_divergence(run: Run, method: nn.Module, missing: dict[str, list[Path]], what: str) -> None:
    for name, paths in missing.items():
        save_record(run, method, name, paths, scores={}, diverged=what)
