"""nsr figure: pictures from runs that are trained."""

from pathlib import Path

import numpy as np
from hydra import compose
from omegaconf import DictConfig, OmegaConf

from nsr_cli.commands.jobs import job
from nsr_cli.commands.settings import check_knobs, run_of
from nsr_cli.errors import UserError, did_you_mean

FIGURES = ["compare"]


@job
def main(cfg: DictConfig) -> None:
    check_knobs(cfg)
    if cfg.figure not in FIGURES:
        raise UserError(
            f"no figure '{cfg.figure}'{did_you_mean(str(cfg.figure), FIGURES)}; there are: {', '.join(FIGURES)}"
        )
    compare(cfg)


def compare(cfg: DictConfig) -> None:
    """One benchmark image: low resolution, bicubic, each of the runs, ground truth."""
    import torch

    from nsr_cli.commands.work import build
    from nsr_cli.data.catalog import image_paths
    from nsr_cli.data.images import read_image
    from nsr_cli.engine import checkpoint
    from nsr_cli.engine.conventions import conventions
    from nsr_cli.engine.evaluator import prepare, restore, score
    from nsr_cli.models.tiled import tiling_of
    from nsr_cli.report.figures import Panel, side_by_side

    shared = [f"protocol={cfg.protocol.name}", f"seed={cfg.seed}"]
    configs = {run: compose("ablate", [*run.split(), *shared]) for run in cfg.runs}
    for config in configs.values():
        config.results, config.data = cfg.results, cfg.data
    scales = {config.scale for config in configs.values()}
    if len(scales) > 1:
        raise UserError(f"runs={list(cfg.runs)}: of several scales, {sorted(scales)}; expected runs of one")
    bicubic, device = compose("eval", ["model=bicubic", f"scale={scales.pop()}"]), torch.device("cpu")
    benchmark = next(iter(configs.values())).benchmarks[0]
    paths = {path.name: path for path in image_paths(benchmark, Path(cfg.data))}
    name = cfg.image or next(iter(paths))
    if name not in paths:
        raise UserError(
            f"image={name}: not in {benchmark}{did_you_mean(name, list(paths))}; there are: {', '.join(paths)}"
        )
    task = OmegaConf.to_container(bicubic.task, resolve=True)
    convention = conventions(task, benchmark, ["rgb"])[-1]
    image = read_image(paths[name])
    degraded, truth = prepare(paths[name], image, task, convention)

    def panel(title: str, method, tiling) -> Panel:
        with torch.no_grad():
            restored = restore(method, degraded, task["scale"], tiling)
        return Panel(title, restored, f"{score(restored, truth, image, convention)['psnr']:.2f} dB")

    def nearest(x: torch.Tensor) -> torch.Tensor:
        return x.repeat_interleave(task["scale"], 2).repeat_interleave(task["scale"], 3)

    panels = [panel("low resolution", nearest, None), panel("bicubic", build(bicubic, device), None)]
    for run, config in configs.items():
        weights = run_of(config).folder / "weights.pt"
        if not weights.exists():
            command = f"nsr ablate {run} {' '.join(shared)} rescore=true"
            raise UserError(f"no weights in {weights.parent.resolve()}; train them: {command}")
        network = build(config, device)
        network.load_state_dict(checkpoint.load_finished(weights, run_of(config).weights.signature)["model"])
        title = "N/A" if config.sparsity.gate == "none" else run.replace("sparsity=", "")
        panels.append(panel(title, network.eval(), tiling_of(network, config.patch)))
    panels.append(Panel("ground truth", np.ascontiguousarray(truth), "PSNR"))
    path = Path(cfg.results) / "figures" / cfg.protocol.name / f"compare-{Path(name).stem}.png"
    heading = f"{name}, x{task['scale']}: {cfg.protocol.name} protocol, PSNR in RGB, border {convention.border}"
    side_by_side(panels, cfg.crop, heading, path)
    print(path.resolve())
