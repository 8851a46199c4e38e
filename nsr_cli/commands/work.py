"""What the verbs share: build the method, train it once, score it, write its records."""

import contextlib
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from importlib import metadata
from pathlib import Path

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from tabulate import tabulate
from torch import nn

from nsr_cli.commands.recorded import (
    benchmarks_of,
    check_diverged,
    images_folder,
    lacks_weights,
    records_of,
    saved_images,
    scores_of,
    to_score,
    trains,
    uses_official,
)
from nsr_cli.commands.settings import Run, check, check_share, data_name, digest_of, run_of, sha256, weights_file
from nsr_cli.data.catalog import image_paths, lr_partners
from nsr_cli.data.examples import load_examples
from nsr_cli.data.images import image_size, write_png
from nsr_cli.data.resident import nearest
from nsr_cli.data.sampler import Batch, Example, PatchSampler, check_size
from nsr_cli.engine import checkpoint, heap
from nsr_cli.engine.conventions import all_conventions, conventions
from nsr_cli.engine.evaluator import evaluate, means
from nsr_cli.engine.loggers import TensorBoard
from nsr_cli.engine.observers import GateStatistics, Observers, Validation
from nsr_cli.engine.processes import local_rank, world_size
from nsr_cli.engine.ranks import Ranks, joined
from nsr_cli.engine.saver import Diverged, Saver
from nsr_cli.engine.schedule import Schedule, drop_steps
from nsr_cli.engine.trainer import autocast, train
from nsr_cli.engine.validation import validation
from nsr_cli.errors import UserError
from nsr_cli.files import check_writable, hold, sweep_up, write_json, write_text
from nsr_cli.folders import SUBMITTED_CODE, code_digest
from nsr_cli.layers.sparse_conv import SparseConv2d
from nsr_cli.layers.sparsify import sparsify
from nsr_cli.models.tiled import Tiling, tiling_of
from nsr_cli.models.weights import load_weights
from nsr_cli.ops import flops
from nsr_cli.report.records import to_json
from nsr_cli.words import clock


def perform(cfg: DictConfig, may_train: bool) -> None:
    """Train if need be, score what was not scored, and print where everything is."""
    check(cfg, trains=may_train)
    run = run_of(cfg)
    task = OmegaConf.to_container(cfg.task, resolve=True)
    benchmarks = benchmarks_of(cfg, run, may_train)
    device = pick_device(cfg.device)
    if cfg.threads:
        torch.set_num_threads(cfg.threads)
    with joined(device) as ranks:
        check_share(cfg.batch, ranks.world)
        if cfg.dry_run and ranks.leads:
            print(plan(cfg, run, build(cfg, device), device))
        elif ranks.leads:
            with ranks.calling() as call:
                lead(cfg, may_train, run, task, benchmarks, device, ranks, call)
        elif not cfg.dry_run and ranks.agree():
            follow(cfg, run, task, benchmarks, device, ranks)


def follow(
    cfg: DictConfig, run: Run, task: dict, benchmarks: dict[str, list[Path]], device: torch.device, ranks: Ranks
) -> None:
    """The work of torchrun's other processes: their share of a training."""
    try:
        preparation(cfg, run, build(cfg, device), task, benchmarks)(ranks)
    except Diverged:
        ranks.agree()  # once the first process has recorded it
        raise


def lead(
    cfg: DictConfig,
    may_train: bool,
    run: Run,
    task: dict,
    benchmarks: dict[str, list[Path]],
    device: torch.device,
    ranks: Ranks,
    call: Callable[[], None],
) -> None:
    """The work of the first process, which is the only one but for torchrun's."""

    def missing_now() -> list[str]:
        return to_score(cfg, run, benchmarks, records_of(cfg, run))

    missing, own = missing_now(), trains(cfg)
    weights, gone, begin = run.folder / "weights.pt", run.folder / "diverged.txt", None

    def record_divergence() -> None:
        what = gone.read_text(encoding="utf-8")
        for name in missing:
            write_record(cfg, run, method, name, benchmarks[name], scores={}, diverged=what)

    if missing or cfg.explain or (cfg.weights and lacks_weights(cfg, run)):
        check_writable("results", cfg.results)
        method = build(cfg, device)
        if lacks_weights(cfg, run):
            if not may_train:
                where = run.folder.resolve()
                raise UserError(f"no weights of this run in {where}; `nsr train` with these overrides trains it")
            begin = preparation(cfg, run, method, task, benchmarks)  # bad images are found before anything is written
        if run.budget == "smoke":
            say("protocol smoke: seconds on a few photographs, to see that all works; for real: protocol=short, paper")
        with hold(run.folder, cfg.wait, say):
            sweep_up(run.records, f"{run.scores.name}--")
            trained = None
            if begin and gone.exists() and not cfg.rescore:  # once is enough, for whichever benchmark or inference
                record_divergence()
                begin, own, missing = None, False, []
            if begin and not weights.exists():  # else another process has trained it while this one waited
                write_text(run.folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(run.weights.signed)))
                call()
                try:
                    begin(ranks)
                    gone.unlink(missing_ok=True)
                except Diverged as error:
                    write_text(gone, error.what)
                    record_divergence()
                    ranks.agree(True)  # the others may leave
                    raise
            if own:
                trained = checkpoint.load_finished(weights, run.weights.signature)
                for path in checkpoint.checkpoints(run.folder):  # of a process that was killed once it had finished
                    path.unlink()
                method.load_state_dict(trained["model"])
            set_inference(method, cfg.inference)
            still = missing_now()  # the one who held the run may have scored it
            for name in missing:
                if name in still:
                    score_run(cfg, run, method, task, name, benchmarks[name], trained)
    records = records_of(cfg, run)
    check_diverged(run, records)
    for name, paths in benchmarks.items():
        say(f"{run.scores.name} on {name}: {scores_of(records[name])}\n  {run.record(name).resolve()}")
        if cfg.save_images:
            say(f"  {images_folder(run, name).resolve()}")
        if cfg.explain:
            say(explanation(cfg, method, task, name, paths))


def preparation(
    cfg: DictConfig, run: Run, network: nn.Module, task: dict, benchmarks: dict[str, list[Path]]
) -> Callable[[Ranks], None]:
    """Read and check all that a training needs; returns what trains the network then."""
    if cfg.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    if cfg.compile and not any(map(shutil.which, (os.environ.get("CXX", "g++"), "clang++"))):
        raise UserError("compile=true: needs a C++ compiler; there is no g++ or clang++ on this machine")
    sources = image_paths(cfg.train, Path(cfg.data))
    examples = training_examples(cfg, task, sources)
    steps, device = steps_of(cfg, len(examples)), next(network.parameters()).device
    sampler = sampler_of(cfg, task, examples, device)
    benchmark, paths = next(iter(benchmarks.items()))
    convention = conventions(task, benchmark, list(cfg.model.reads))[0]
    validate = validation(paths, task, convention, cfg.patch, luma_only(cfg))

    def begin(ranks: Ranks) -> None:
        if ranks.leads:
            together = f" by {ranks.world} processes" if ranks.world > 1 else ""
            say(f"training {run.weights.name}: {steps:,} steps{together} in {run.folder.resolve()}")
        data = digest_of([*sources, *lr_partners(sources, task.get("scale", 1))])
        train(
            network,
            sampler,
            Schedule(steps, cfg.learning_rate, drop_steps(cfg.lr_drops, steps), cfg.lr_factor),
            Saver(run.folder, run.weights.signature, data, cfg.checkpoint_minutes),
            Observers(
                run.folder,
                [Validation(validate, cfg.validate_every), GateStatistics()],
                [TensorBoard(run.folder)] if cfg.tensorboard else [],
                say=say if ranks.leads else lambda text: None,
                bar=ranks.leads and sys.stderr.isatty(),
            ),
            patch=cfg.patch,
            seed=cfg.seed,
            precision=cfg.precision,
            compiled=cfg.compile,
            ranks=ranks,
        )

    return begin


def build(cfg: DictConfig, device: torch.device) -> Callable:
    """The method of a config: a network, freshly initialised from the seed, or a classical function."""
    torch.manual_seed(cfg.seed)
    try:
        method = instantiate(cfg.model.network)
    except Exception as error:
        if isinstance(error.__cause__, ValueError):  # a layer refused its settings
            raise UserError(str(error.__cause__)) from None
        raise
    if isinstance(method, nn.Module) and "gate" not in cfg.model.network and cfg.sparsity.gate != "none":
        attach(method, cfg)
    if cfg.ckpt:
        path, checksum = weights_file(cfg)
        if cfg.ckpt == "published" and not path.is_file():
            where = f"its authors' {path.name} (SHA-256 {checksum[:8]}...) there; NSR_DATA names the folder of data"
            raise UserError(f"ckpt=published: no file {path}; expected {where}")
        if path.is_file() and sha256(str(path)) != checksum:
            raise UserError(f"ckpt=published: {path} is another file than the published one; name it as ckpt=FILE")
        load_weights(method, path)
    return method.to(device) if isinstance(method, nn.Module) else method


def set_inference(method: Callable, inference: str) -> None:
    """Let the sparse layers of a trained network mix, or choose."""
    for layer in method.modules() if isinstance(method, nn.Module) else ():
        if isinstance(layer, SparseConv2d):
            layer.inference = inference


def attach(network: nn.Module, cfg: DictConfig) -> None:
    """Make the convolutions in the depth of any network sparse: those with as many channels in as out."""
    chosen = cfg.sparsity

    def deep(name: str, conv: nn.Conv2d) -> bool:
        return conv.in_channels == conv.out_channels

    widths = [m.out_channels for n, m in network.named_modules() if isinstance(m, nn.Conv2d) and deep(n, m)]
    if not widths:
        raise UserError(
            f"sparsity={chosen.gate}: model={cfg.model.name} has no convolution of equal widths to make sparse"
        )
    if (chosen.cardinality or 1) > max(widths):
        raise UserError(f"cardinality={chosen.cardinality}: expected 1 to {max(widths)}, the layer's output channels")
    sparsify(network, chosen.groups, chosen.cardinality or 1, chosen.gate, chosen.tau, where=deep)


def pick_device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if world_size() > 1 and name.startswith("cuda:"):
        raise UserError(f"device={name}: {world_size()} processes take a GPU each; expected auto, cuda or cpu")
    name = f"cuda:{local_rank()}" if name == "cuda" else name
    torch.backends.cudnn.allow_tf32 = False  # fp32 is fp32, on a GPU too
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
        return device
    except (RuntimeError, AssertionError):
        found = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        raise UserError(f"device={name}: not on this machine; there are: auto, {', '.join(found)}") from None


def training_examples(cfg: DictConfig, task: dict, paths: list[Path]) -> list[Example]:
    """The training images, degraded where that does not change from step to step."""
    form = {"sr": "luma" if cfg.model.reads[0] == "luma" else "rgb", "denoise": "grey", "dejpeg": "luma"}[task["name"]]
    place = Path(cfg.results) / "cache", data_name(cfg.train)
    return load_examples(paths, task, form, cfg.patch, *place, say)


def sampler_of(cfg: DictConfig, task: dict, examples: list[Example], device: torch.device) -> Callable[[int], Batch]:
    """The batch of each step, as uint8 where the task adds no noise; cut on a GPU if the images fit there."""
    sizes = {"patch": cfg.patch, "batch": cfg.batch, "patches_per_image": cfg.patches_per_image}
    sampler = PatchSampler(examples, task.get("scale", 1), **sizes, seed=cfg.seed, sigma=task.get("sigma", 0))
    return nearest(sampler, device)


def steps_of(cfg: DictConfig, images: int) -> int:
    """Steps of the whole training."""
    steps = cfg.steps or cfg.epochs * images * cfg.patches_per_image // cfg.batch
    if steps == 0:
        patches = cfg.epochs * images * cfg.patches_per_image
        raise UserError(f"batch={cfg.batch}: {patches} patches in {cfg.epochs} epochs make no step")
    return steps


def score_run(
    cfg: DictConfig, run: Run, method: Callable, task: dict, benchmark: str, paths: list[Path], trained: dict | None
) -> None:
    """Score a method on one benchmark by each of its conventions, and write the record."""
    began = time.monotonic()
    tiling = tiling_of(method, cfg.patch) if isinstance(method, nn.Module) else None
    used = conventions(task, benchmark, list(cfg.model.reads))
    found, places = {}, saved_images(run, benchmark, paths)
    for path, by_convention, restored in evaluate(method, paths, task, used, tiling, luma_only(cfg)):
        found[path.name] = by_convention
        if cfg.save_images:
            write_png(places[path], restored)
    scores = {}
    for convention in used:
        images = {name: by_convention[convention.name] for name, by_convention in found.items()}
        scores[convention.name] = {"convention": convention.spelled_out(), **means(images), "images": images}
    budget = trained and {
        "steps": trained["step"],
        "patches": trained["step"] * cfg.batch,
        "seconds": round(trained["seconds"], 1),
    }
    seconds = round(time.monotonic() - began, 1)
    tiles = vars(tiling) if tiling else None
    write_record(cfg, run, method, benchmark, paths, tiling=tiles, scores=scores, trained=budget, seconds=seconds)


def write_record(cfg: DictConfig, run: Run, method: Callable, benchmark: str, paths: list[Path], **found) -> None:
    """Write what was found out about a run on a benchmark, beside what both are."""
    record = {
        "format": 1,
        "run": run.weights.name,
        "signature": run.scores.signature,
        "benchmark": data_name(benchmark),
        "config": run.scores.signed,
        "official_low_resolution": uses_official(cfg.task, paths),
        "cost": vars(cost_of(cfg, method)) if isinstance(method, nn.Module) else None,
        **found,
        "made": provenance(cfg),
    }
    write_json(run.record(benchmark), to_json(record))


def cost_of(cfg: DictConfig, network: nn.Module) -> flops.Cost:
    return flops.count(network, channels_of(cfg), cfg.patch)


def luma_only(cfg: DictConfig) -> bool:
    return list(cfg.model.reads) == ["luma"] and cfg.task.name == "sr"


def channels_of(cfg: DictConfig) -> int:
    """Channels of the images that the method is given."""
    return 1 if cfg.model.reads[0] == "luma" else cfg.task.channels


def provenance(cfg: DictConfig) -> dict:
    """Device, versions and commit that a record was made with."""
    device = pick_device(cfg.device)
    submitted = os.environ.get(SUBMITTED_CODE)
    return {
        "date": time.strftime("%Y-%m-%d"),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in ("torch", "numpy", "opencv-python-headless")},
        "commit": commit(),
        **({"code": "changed after it was submitted"} if submitted and submitted != code_digest() else {}),
    }


@lru_cache
def commit() -> str | None:
    """The commit of the checkout that this code runs from; None for an installed package, or without git."""
    checkout = Path(__file__).resolve().parents[2]
    if not (checkout / ".git").exists():
        return None
    code = [name for name in ("nsr_cli", "conf", "experiments") if (checkout / name).is_dir()]
    with contextlib.suppress(OSError):
        git = partial(subprocess.run, cwd=checkout, capture_output=True, text=True)
        name = git(["git", "describe", "--always"]).stdout.strip()
        changed = git(["git", "status", "--porcelain", "--", *code]).stdout  # results change while runs are made
        return name + ("-dirty" if changed else "") or None
    return None


def explanation(cfg: DictConfig, method: Callable, task: dict, benchmark: str, paths: list[Path]) -> str:
    """The mean scores on one benchmark under every convention, and for gated networks every tile, as a table."""
    usual = tiling_of(method, cfg.patch) if isinstance(method, nn.Module) else None
    tilings = [usual]
    if usual and usual.overlap:  # of a network with gates: the tile is part of the protocol
        tilings += [Tiling(2 * usual.side, usual.margin, usual.overlap), Tiling(2**20, 0, 0)]
    listed = [replace(c, name=str(i)) for i, c in enumerate(all_conventions(task, list(cfg.model.reads)))]
    lines = []
    for tiling in tilings:
        found = {p.name: scores for p, scores, _ in evaluate(method, paths, task, listed, tiling, luma_only(cfg))}
        tile = "any" if tiling is None or not usual.overlap else "whole" if tiling.side == 2**20 else str(tiling.side)
        for c in listed:
            mean = means({name: scores[c.name] for name, scores in found.items()})
            degraded = "rounded" if c.rounded else "clipped" if c.clipped else "float"
            measured = c.given if c.measured == "as given" else c.measured
            output = "rounded" if c.output_rounded else "float"
            numbers = (f"{mean['psnr']:.4f}", f"{mean['ssim']:.5f}", f"{mean['ssim8']:.5f}")
            lines.append([c.given, degraded, output, measured, c.border, tile, *numbers])
    head = ["reads", "degraded", "restored", "measured", "border", "tile", "PSNR", "SSIM Gaussian", "SSIM 8x8"]
    title = f"{cfg.model.name} on {benchmark} under every convention (see the record for the table's own):"
    return f"{title}\n\n{tabulate(lines, head, tablefmt='pipe', disable_numparse=True)}"


def plan(cfg: DictConfig, run: Run, method: Callable, device: torch.device) -> str:
    """What `dry_run=true` prints: config, cost, places, and an estimate from a few real steps."""
    lines = [
        OmegaConf.to_yaml(OmegaConf.create(run.scores.signed)).rstrip(),
        "",
        f"run folder      {run.folder.resolve()}",
    ]
    if isinstance(method, nn.Module):
        cost = cost_of(cfg, method)
        lines += [
            f"parameters      {cost.parameters:,}",
            f"MACs per pixel  {cost.macs / 1e6:.4g} M of the input, convolutions alone (the paper's FLOPs)",
            f"gates, mixing   {cost.overhead / 1e6:.4g} M more, on tiles of {cfg.patch}x{cfg.patch}",
        ]
    if isinstance(method, nn.Module) and not cfg.ckpt:
        done = (run.folder / "weights.pt").exists()
        paths, scale = image_paths(cfg.train, Path(cfg.data)), cfg.task.get("scale", 1)
        steps, sizes = steps_of(cfg, len(paths)), [image_size(path) for path in paths]
        for path, size in zip(paths, sizes, strict=True):
            check_size(path.name, size[0] // scale, size[1] // scale, cfg.patch)
        images = sum(height * width for height, width in sizes) * channels_of(cfg) * (1 + 1 / scale**2)
        seconds, memory = rehearse(cfg, method, device)
        lines += [
            f"training        {steps:,} steps of {cfg.batch} patches"
            + (", finished: would be skipped" if done else ""),
            f"time            about {clock(steps * seconds)} on this {device.type}, at {1 / seconds:.1f} steps/s",
            f"memory          about {memory / 2**20:,.0f} MiB for weights, optimizer and activations",
            f"                and {images / 2**20:,.0f} MiB for {len(paths)} training images",
        ]
    return "\n".join([*lines, "dry_run=true: nothing was trained"])


def rehearse(cfg: DictConfig, network: nn.Module, device: torch.device) -> tuple[float, float]:
    """(seconds of a training step, bytes that training needs), from a few real steps on zeros."""
    saved = {}  # bytes that the backward pass keeps, by the storage they lie in

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    batch = torch.zeros(cfg.batch, channels_of(cfg), cfg.patch, cfg.patch, device=device)
    durations = []
    with heap.kept():  # as in training
        for _ in range(4):
            began = time.monotonic()
            with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                with autocast(device, cfg.precision):
                    loss = network(batch).float().abs().mean()
                held = sum(saved.values())
            loss.backward()
            loss.item()
            durations.append(time.monotonic() - began)
            saved.clear()
    weights = sum(p.nbytes for p in network.parameters())
    return min(durations), held + 3 * weights  # the weights are among what is held; gradients and Adam's two are not


def say(text: str) -> None:
    print(text, flush=True)
