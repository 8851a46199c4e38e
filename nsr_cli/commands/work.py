"""What the verbs share: build the method, train it once, score it, write its records."""

import contextlib
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from tabulate import tabulate
from torch import nn

from nsr_cli.commands.settings import Run, check, run_of, weights_file
from nsr_cli.data import degrade
from nsr_cli.data.catalog import image_paths
from nsr_cli.data.images import read_image, write_png
from nsr_cli.data.sampler import Example, PatchSampler
from nsr_cli.engine import checkpoint
from nsr_cli.engine.conventions import all_conventions, conventions
from nsr_cli.engine.evaluator import evaluate, means
from nsr_cli.engine.trainer import clock, train
from nsr_cli.errors import UserError
from nsr_cli.files import hold, sweep_up, write_json, write_text
from nsr_cli.layers.sparsify import sparsify
from nsr_cli.models.tiled import Tiling, tiling_of
from nsr_cli.models.weights import load_weights
from nsr_cli.ops import flops
from nsr_cli.report.records import read_record


def perform(cfg: DictConfig, may_train: bool) -> None:
    """Train if need be, score what was not scored, and print where everything is."""
    run = run_of(cfg)
    try:
        check(cfg)
        if run.budget == "smoke":
            say("protocol smoke: seconds on a few photographs, to see that all works; for real: protocol=short, paper")
        _perform(cfg, run, may_train)
    finally:  # Hydra has made the run's folder; leave no empty one behind
        for folder in (run.folder, run.folder.parent, Path(cfg.results)):
            with contextlib.suppress(OSError):
                folder.rmdir()


def _perform(cfg: DictConfig, run: Run, may_train: bool) -> None:
    task = OmegaConf.to_container(cfg.task, resolve=True)
    root = Path(cfg.data)
    benchmarks = {name: image_paths(name, root) for name in cfg.benchmarks}
    device = pick_device(cfg.device)
    if cfg.threads:
        torch.set_num_threads(cfg.threads)
    method = build(cfg).to(device) if cfg.model.trained else build(cfg)
    if cfg.dry_run:
        print(plan(cfg, run, method, device))
        return

    def is_missing(name: str) -> bool:
        images = cfg.save_images and not all(
            (images_folder(run, name) / f"{path.stem}.png").exists() for path in benchmarks[name]
        )
        return cfg.rescore or images or read_record(run.record(name)) is None

    missing = [name for name in benchmarks if is_missing(name)]
    trains = cfg.model.trained and not cfg.ckpt
    weights = run.folder / "weights.pt"
    if missing or cfg.explain or (may_train and trains and not weights.exists()):
        examples = None
        if trains and not weights.exists():
            if not may_train:
                where = run.folder.resolve()
                raise UserError(f"no weights of this run in {where}; `nsr train` with these overrides trains it")
            examples = training_examples(cfg, task, root)
            sampler = sampler_of(cfg, task, examples)  # complains about small images before anything is written
        with hold(run.folder, cfg.wait, say):
            sweep_up(run.records, run.name)
            if trains and not weights.exists():
                write_text(run.folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(run.identity)))
                train_run(cfg, run, method, sampler, steps_of(cfg, len(examples)))
            trained = None
            if trains:
                trained = checkpoint.load(weights)
                method.load_state_dict(trained["model"])
            for name in missing:
                if is_missing(name):  # else the one who held the run has scored it
                    score_run(cfg, run, method, task, name, benchmarks[name], trained)
    for name, paths in benchmarks.items():
        say(summary(run, name))
        if cfg.save_images:
            say(f"  {images_folder(run, name).resolve()}")
        if cfg.explain:
            say(explanation(cfg, method, task, name, paths))


def build(cfg: DictConfig) -> Callable:
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
        load_weights(method, weights_file(cfg)[0])
    return method


def attach(network: nn.Module, cfg: DictConfig) -> None:
    """Make the convolutions in the depth of any network sparse: those with as many channels in as out."""
    chosen = cfg.sparsity
    try:
        sparsify(
            network,
            chosen.groups,
            chosen.cardinality or 1,
            chosen.gate,
            chosen.tau,
            where=lambda name, conv: conv.in_channels == conv.out_channels,
        )
    except ValueError as error:
        raise UserError(str(error)) from None


def pick_device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
        return device
    except (RuntimeError, AssertionError):
        found = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        raise UserError(f"device={name}: not on this machine; there are: auto, {', '.join(found)}") from None


def training_examples(cfg: DictConfig, task: dict, root: Path) -> list[Example]:
    """The training images, degraded where that does not change from step to step."""
    paths = image_paths(cfg.train, root)
    rgb_or_luma = degrade.as_luma if cfg.model.reads[0] == "luma" else degrade.as_rgb
    given = {"sr": rgb_or_luma, "denoise": degrade.as_grey, "dejpeg": degrade.as_luma}[task["name"]]
    examples = []
    for path in paths:
        truth = given(read_image(path))
        if task["name"] == "sr":
            truth = degrade.modcrop(truth, task["scale"])
            if min(truth.shape[:2]) < task["scale"]:
                raise UserError(f"{path} is smaller than the scale {task['scale']}")
            degraded = degrade.low_resolution(path, truth, task["scale"])
        else:
            degraded = degrade.jpeg(truth, task["quality"]) if task["name"] == "dejpeg" else truth
        examples.append(Example(path.name, degraded, truth))
    return examples


def sampler_of(cfg: DictConfig, task: dict, examples: list[Example]) -> PatchSampler:
    sizes = {"patch": cfg.patch, "batch": cfg.batch, "patches_per_image": cfg.patches_per_image}
    return PatchSampler(examples, task.get("scale", 1), **sizes, seed=cfg.seed, sigma=task.get("sigma", 0))


def steps_of(cfg: DictConfig, images: int) -> int:
    return cfg.steps or cfg.epochs * images * cfg.patches_per_image // cfg.batch


def train_run(cfg: DictConfig, run: Run, network: nn.Module, sampler: PatchSampler, steps: int) -> None:
    say(f"training {run.name}: {steps:,} steps in {run.folder.resolve()}")
    began = time.monotonic()
    train(
        network,
        sampler,
        run.folder,
        run.signature,
        steps=steps,
        seed=cfg.seed,
        learning_rate=cfg.learning_rate,
        lr_drops=list(cfg.lr_drops),
        lr_factor=cfg.lr_factor,
        precision=cfg.precision,
        checkpoint_minutes=cfg.checkpoint_minutes,
        say=say,
        progress=sys.stderr.isatty(),
    )
    say(f"trained in {clock(time.monotonic() - began)}")


def score_run(
    cfg: DictConfig, run: Run, method: Callable, task: dict, benchmark: str, paths: list[Path], trained: dict | None
) -> None:
    """Score a method on one benchmark by each of its conventions, and write the record."""
    began = time.monotonic()
    tiling = tiling_of(method, cfg.patch) if isinstance(method, nn.Module) else None
    used = conventions(task, benchmark, list(cfg.model.reads))
    found = {}
    for path, by_convention, restored in evaluate(method, paths, task, used, tiling):
        found[path.name] = by_convention
        if cfg.save_images:
            write_png(images_folder(run, benchmark) / f"{path.stem}.png", restored)
    scores = {}
    for convention in used:
        images = {name: by_convention[convention.name] for name, by_convention in found.items()}
        scores[convention.name] = {"convention": convention.spelled_out(), **means(images), "images": images}
    record = {
        "format": 1,
        "run": run.name,
        "signature": run.signature,
        "benchmark": Path(benchmark).name,
        "config": run.identity,
        "tiling": vars(tiling) if tiling else None,
        "scores": scores,
        "cost": vars(cost_of(cfg, method)) if isinstance(method, nn.Module) else None,
        "trained": trained
        and {
            "steps": trained["step"],
            "patches": trained["step"] * cfg.batch,
            "seconds": round(trained["seconds"], 1),
        },
        "seconds": round(time.monotonic() - began, 1),
        "made": provenance(cfg),
    }
    write_json(run.record(benchmark), record)


def images_folder(run: Run, benchmark: str) -> Path:
    return run.folder / "images" / Path(benchmark).name


def cost_of(cfg: DictConfig, network: nn.Module) -> flops.Cost:
    return flops.count(network, channels_of(cfg), cfg.patch)


def channels_of(cfg: DictConfig) -> int:
    """Channels of the images that the method is given."""
    return 1 if cfg.model.reads[0] == "luma" else cfg.task.channels


def provenance(cfg: DictConfig) -> dict:
    """Device, versions and commit that a record was made with."""
    here = Path(__file__).resolve().parent.parent.parent
    git = subprocess.run(["git", "-C", here, "describe", "--always", "--dirty"], capture_output=True, text=True)
    device = pick_device(cfg.device)
    return {
        "date": time.strftime("%Y-%m-%d"),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in ("torch", "numpy", "opencv-python-headless")},
        "commit": git.stdout.strip() or None if (here / ".git").exists() else None,
    }


def summary(run: Run, benchmark: str) -> str:
    record = read_record(run.record(benchmark))
    scores = "   ".join(
        f"{name}: {score['psnr']:.4f} dB  SSIM {score['ssim']:.5f}" for name, score in record["scores"].items()
    )
    return f"{run.name} on {benchmark}: {scores}\n  {run.record(benchmark).resolve()}"


def explanation(cfg: DictConfig, method: Callable, task: dict, benchmark: str, paths: list[Path]) -> str:
    """The mean scores on one benchmark under every convention, and for gated networks every tile, as a table."""
    usual = tiling_of(method, cfg.patch) if isinstance(method, nn.Module) else None
    tilings = [usual]
    if usual and usual.overlap:  # of a network with gates: the tile is part of the protocol
        tilings += [Tiling(2 * usual.side, usual.margin, usual.overlap), Tiling(2**20, 0, 0)]
    listed = [replace(c, name=str(i)) for i, c in enumerate(all_conventions(task, list(cfg.model.reads)))]
    lines = []
    for tiling in tilings:
        found = {p.name: scores for p, scores, _ in evaluate(method, paths, task, listed, tiling)}
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
    lines = [OmegaConf.to_yaml(OmegaConf.create(run.identity)).rstrip(), "", f"run folder      {run.folder.resolve()}"]
    if isinstance(method, nn.Module):
        cost = cost_of(cfg, method)
        lines += [
            f"parameters      {cost.parameters:,}",
            f"MACs per pixel  {cost.macs / 1e6:.4g} M of the input, convolutions alone (the paper's FLOPs)",
            f"gates, mixing   {cost.overhead / 1e6:.4g} M more, on tiles of {cfg.patch}x{cfg.patch}",
        ]
    if isinstance(method, nn.Module) and not cfg.ckpt:
        done = (run.folder / "weights.pt").exists()
        steps = steps_of(cfg, len(image_paths(cfg.train, Path(cfg.data))))
        seconds, memory = rehearse(cfg, method, device)
        lines += [
            f"training        {steps:,} steps of {cfg.batch} patches"
            + (", finished: would be skipped" if done else ""),
            f"time            about {clock(steps * seconds)} on this {device.type}, at {1 / seconds:.1f} steps/s",
            f"memory          about {memory / 2**20:,.0f} MiB for weights, optimizer and activations",
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
    for _ in range(4):
        began = time.monotonic()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            with torch.autocast(device.type, torch.bfloat16, enabled=cfg.precision == "bf16"):
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
