"""The figures that are made of images: what trained runs restore, and what their gates choose."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import yaml
from hydra import compose
from omegaconf import DictConfig, OmegaConf
from torch import nn

from nsr_cli.commands.chosen import configs_of, first_seed, need_weights, suffix
from nsr_cli.commands.settings import run_of
from nsr_cli.commands.work import build, pick_device
from nsr_cli.data.catalog import image_paths
from nsr_cli.data.images import read_image
from nsr_cli.engine import checkpoint
from nsr_cli.engine.conventions import conventions
from nsr_cli.engine.evaluator import prepare, restore, score
from nsr_cli.engine.gate_maps import gate_maps, second_gates
from nsr_cli.errors import UserError, did_you_mean
from nsr_cli.folders import package_folder
from nsr_cli.models.tiled import tiling_of
from nsr_cli.report import pictures
from nsr_cli.report.pictures import Gated, Panel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RUNS = ["sparsity=none", "sparsity=softmax"]  # that are compared
CELLS = 60  # values of a map along the longer side of an image


def compare(cfg: DictConfig) -> Iterator[tuple[str, "Figure"]]:
    """One benchmark image: low resolution, bicubic, each of the runs, ground truth."""
    configs = configs_of(cfg, list(cfg.runs or RUNS))
    if other := [config.task.name for config in configs.values() if config.task.name != "sr"]:
        raise UserError(f"runs={list(cfg.runs)}: compare shows super-resolution, and task={other[0]} is not")
    scales = {config.scale for config in configs.values()}
    if len(scales) > 1:
        raise UserError(f"runs={list(cfg.runs)}: of several scales, {sorted(scales)}; expected runs of one")
    bicubic, device = compose("eval", ["model=bicubic", f"scale={scales.pop()}"]), torch.device("cpu")
    benchmark = next(iter(configs.values())).benchmarks[0]
    (path,) = images_of(cfg, benchmark, [])
    need_weights(cfg, configs)
    task = OmegaConf.to_container(bicubic.task, resolve=True)
    convention = conventions(task, benchmark, ["rgb"])[-1]
    image = read_image(path)
    degraded, truth = prepare(path, image, task, convention)

    def panel(title: str, method, tiling) -> Panel:
        with torch.no_grad():
            restored = restore(method, degraded, task["scale"], tiling)
        return Panel(title, restored, f"{score(restored, truth, image, convention)['psnr']:.2f} dB")

    def nearest(x: torch.Tensor) -> torch.Tensor:
        return x.repeat_interleave(task["scale"], 2).repeat_interleave(task["scale"], 3)

    panels = [panel("low resolution", nearest, None), panel("bicubic", build(bicubic, device), None)]
    for run, config in configs.items():
        network = with_weights(build(config, device), config)
        title = "N/A" if run == "sparsity=none" else run.replace("sparsity=", "")
        panels.append(panel(title, network, tiling_of(network, config.patch)))
    panels.append(Panel("ground truth", np.ascontiguousarray(truth), "PSNR"))
    measured = {"rgb": "RGB"}.get(convention.measured, "Y")
    heading = f"{path.name}, x{task['scale']}: protocol {cfg.protocol.name}, seed {first_seed(cfg)}\n"
    heading += f"PSNR in {measured}, border {convention.border}"
    yield f"compare-{path.stem}{suffix(cfg, configs)}", pictures.side_by_side(panels, cfg.crop, heading)


def gates(cfg: DictConfig) -> Iterator[tuple[str, "Figure"]]:
    """Figure 5: the gates of every block over images, one figure for each run."""
    experiment = yaml.safe_load((package_folder("experiments") / "figure5.yaml").read_text(encoding="utf-8"))
    own = experiment["command"].removeprefix("nsr ablate ")
    protocol = cfg.protocol.name
    paths = images_of(cfg, experiment["benchmark"][protocol], experiment["images"][protocol])
    configs = configs_of(cfg, list(cfg.runs or [own]))
    networks = {run: build(config, pick_device("auto")) for run, config in configs.items()}
    for run, network in networks.items():
        if not second_gates(network):
            raise UserError(f"runs=[{run}]: its network has no blocks with gates to show")
    need_weights(cfg, configs)
    for run, config in configs.items():
        network = with_weights(networks[run], config)
        gate = second_gates(network)[0]
        both = gate.sparsity_groups == 2 and gate.activation in ("softmax", "gumbel")  # sum to 1: one says all
        groups = range(1 if both else gate.sparsity_groups)
        images = [gated(network, config, path, list(groups)) for path in paths]
        of = f", the first of {gate.cardinality} cardinal groups" if gate.cardinality > 1 else ""
        heading = f"{experiment['title']}{of}\nnsr ablate {run}; protocol {protocol}, seed {config.seed}"
        yield (
            f"figure5{suffix(cfg, {run: config})}",
            pictures.gates(images, [f"group {group + 1}" for group in groups], heading),
        )


def gated(network: nn.Module, config: DictConfig, path: Path, groups: list[int]) -> Gated:
    """An image as the network is given it, and the gates over it."""
    task = OmegaConf.to_container(config.task, resolve=True)
    convention = conventions(task, config.benchmarks[0], list(config.model.reads))[0]
    degraded, _ = prepare(path, read_image(path), task, convention)
    stride = max(1, round(max(degraded.shape[:2]) / CELLS))
    maps = gate_maps(network, np.atleast_3d(degraded), config.patch, stride)
    return Gated(path.name, np.asarray(degraded).clip(0, 255).astype(np.uint8), maps[:, groups], stride)


def images_of(cfg: DictConfig, benchmark: str, names: list[str]) -> list[Path]:
    """The benchmark's images of these names, or the one that ``image`` names; its first where there is neither."""
    paths = {path.name: path for path in image_paths(benchmark, Path(cfg.data))}
    names = [cfg.image] if cfg.image else names or [next(iter(paths))]
    for name in names:
        if name not in paths:
            raise UserError(
                f"image={name}: not in {benchmark}{did_you_mean(name, list(paths))}; there are: {', '.join(paths)}"
            )
    return [paths[name] for name in names]


def with_weights(network: nn.Module, config: DictConfig) -> nn.Module:
    """The network of a config with what was trained, ready to evaluate."""
    run = run_of(config)
    network.load_state_dict(checkpoint.load_finished(run.folder / "weights.pt", run.weights.signature)["model"])
    return network.eval()
