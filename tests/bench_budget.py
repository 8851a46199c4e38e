"""At which CPU budget do gates act? Trains what experiments/search.yaml lists; prints the table of what was found.

    NSR_DATA=... nice -n 10 .venv/bin/python tests/bench_budget.py    # trains what results/search/ lacks: hours
    .venv/bin/python tests/bench_budget.py --table                    # the table alone

One thread. A line of results/search/trainings.jsonl is a finished training; one that was stopped goes on where it was.
"""

import os

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import argparse
import copy
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, stdev

import torch
import yaml
from tabulate import tabulate
from torch import Tensor, nn

from nsr_cli.data.catalog import image_paths
from nsr_cli.data.examples import load_examples
from nsr_cli.data.sampler import PatchSampler
from nsr_cli.engine.evaluator import evaluate
from nsr_cli.engine.observers import Observers, Validation
from nsr_cli.engine.saver import Saver
from nsr_cli.engine.schedule import Schedule, drop_steps
from nsr_cli.engine.trainer import train
from nsr_cli.files import read_json_lines
from nsr_cli.layers.gates import Gate
from nsr_cli.models.tiled import tiling_of
from nsr_cli.models.wdsr import WDSR
from nsr_cli.tasks import Task
from nsr_cli.tasks.dejpeg import JpegArtifacts
from nsr_cli.tasks.denoise import Denoising
from nsr_cli.tasks.sr import SuperResolution

ROOT = Path(__file__).parents[1]
LINES = ROOT / "results/search/trainings.jsonl"
LEVEL = {"sr": "scale", "denoise": "sigma", "dejpeg": "quality"}
CONVENTION = {"sr": "rgb", "denoise": "grey", "dejpeg": "luma"}
LOOK_IMAGES = 10
BLIND = {"uniform": ("weight", "bias"), "static": ("weight",)}  # what is frozen at 0 of a gate that sees no input
GATE_COLUMNS = ("none", "uniform", "static", "softmax")


def settings(search: dict) -> Iterator[dict]:
    """Every training of the search, in its order: a candidate with one gate and one seed."""
    for candidate in search["candidates"]:
        common = {**search["defaults"], **{key: value for key, value in candidate.items() if key != "why"}}
        pairs = [(gate, seed) for seed in common.pop("seeds") for gate in common["gates"]]
        del common["gates"]
        for gate, seed in pairs:
            yield {**common, "gate": gate, "seed": seed}


def build(setting: dict) -> WDSR:
    """The network, initialised from the seed.

    ``uniform`` is softmax with frozen logits of 0: every weight is 1/k. ``static`` learns logits that see no input.
    """
    torch.manual_seed(setting["seed"])
    sizes = {name: setting[name] for name in ("blocks", "units", "width")}
    if setting["gate"] != "none":
        sizes |= {"sparsity_groups": setting["k"], "cardinality": setting["d"], "tau": setting["tau"]}
        sizes["gate"] = "softmax" if setting["gate"] in BLIND else setting["gate"]
    network = WDSR(setting["task"].get("scale", 1), 3 if setting["task"]["name"] == "sr" else 1, **sizes)
    for gate in gates_of(network).values():
        for name in BLIND.get(setting["gate"], ()):
            nn.init.zeros_(getattr(gate.linear, name)).requires_grad_(False)
    return network


def task_of(setting: dict) -> Task:
    """The task of a setting."""
    name, *level = setting["task"].values()
    return {"sr": SuperResolution, "denoise": Denoising, "dejpeg": JpegArtifacts}[name](**{LEVEL[name]: level[0]})


def gates_of(network: nn.Module) -> dict[str, Gate]:
    return {name.removesuffix(".gate"): module for name, module in network.named_modules() if isinstance(module, Gate)}


def describe(weights: Tensor) -> dict[str, float]:
    """How sparse a layer's gate is, and how much it depends on its input.

    Args:
        weights: mixing weights (tiles, k, d), summing to 1 along k.

    Returns:
        Means over cardinal groups: ``largest`` weight, effective ``groups`` (exponential of the mean entropy, 1 to k)
        and ``adaptivity``, the mutual information between tile and group in bits, 0 to log2(k).
    """
    weights = weights.double()
    mean_entropy = torch.special.entr(weights).sum(dim=1).mean(dim=0)  # (d,), nats
    entropy_of_mean = torch.special.entr(weights.mean(dim=0)).sum(dim=0)  # (d,)
    return {
        "largest": weights.amax(dim=1).mean().item(),
        "groups": mean_entropy.exp().mean().item(),
        "adaptivity": (entropy_of_mean - mean_entropy).clamp(min=0).mean().item() / math.log(2),
    }


def measure(network: WDSR, setting: dict, paths: list[Path]) -> tuple[dict[str, float], dict[str, dict]]:
    """PSNR of each image, and of each layer what ``describe`` says about all tiles of these images."""
    network, seen = copy.deepcopy(network).eval(), {}  # of its own: a training goes on where it was
    for name, gate in gates_of(network).items():
        gate.register_forward_hook(lambda gate, inputs, weights, name=name: seen.setdefault(name, []).append(weights))
    task = task_of(setting)
    rules = task.conventions(setting["benchmark"], ["rgb"], Path())
    rule = next(rule for rule in rules if rule.name == CONVENTION[setting["task"]["name"]])
    scored = evaluate(network, paths, task, [rule], tiling_of(network, setting["patch"]))
    images = {path.stem: round(scores[rule.name]["psnr"], 5) for path, scores, _ in scored}
    return images, {name: rounded(describe(torch.cat(weights))) for name, weights in seen.items()}


def rounded(numbers: dict[str, float]) -> dict[str, float]:
    return {name: round(number, 5) for name, number in numbers.items()}


def run(setting: dict, data: Path) -> dict:
    """Train and score one setting; the line to be written."""
    task, name = task_of(setting), f"{setting['name']}-{setting['gate']}-{setting['seed']}"
    folder, benchmark = ROOT / "results/runs/search" / name, image_paths(setting["benchmark"], data)
    paths = benchmark[:: setting["every"]][: setting["images"]]
    sources = image_paths(setting["train"], data)
    cache = ROOT / "results/cache", setting["train"]
    examples = load_examples(sources, task, task.form(["rgb"]), setting["patch"], *cache)
    sizes = {"scale": task.scale, **{key: setting[key] for key in ("patch", "batch", "seed")}}
    sampler = PatchSampler(examples, **sizes, patches_per_image=100, sigma=task.sigma)
    folder.mkdir(parents=True, exist_ok=True)
    looks, looking = folder / "looks.jsonl", [0.0]

    def look(network: WDSR) -> dict[str, float]:
        began = time.process_time()
        images, layers = measure(network, setting, paths[:LOOK_IMAGES])
        line = {"psnr": round(mean(images.values()), 4)}
        line |= {"adaptivity": {layer: found["adaptivity"] for layer, found in layers.items()}} if layers else {}
        with open(looks, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        looking[0] += time.process_time() - began
        return {"psnr": line["psnr"]}

    network, began, clock = build(setting), time.monotonic(), time.process_time()
    resumed, steps = bool(list(folder.glob("checkpoint-*.pt"))), setting["steps"]
    schedule = Schedule(steps, setting["learning_rate"], drop_steps(["20/30", "25/30"], steps), 0.2)
    saver = Saver(folder, json.dumps(setting, sort_keys=True), minutes=2)
    observers = Observers(folder, [Validation(look, steps // 3)])
    training = {key: setting[key] for key in ("patch", "seed", "precision")}
    train(network, sampler, schedule, saver, observers, **training)
    cpu, wall = time.process_time() - clock - looking[0], time.monotonic() - began
    images, layers = measure(network, setting, paths)
    used = {"cpu_seconds": round(cpu, 1), "wall_seconds": round(wall, 1), "resumed": resumed}
    found = {"psnr": round(mean(images.values()), 4), "looks": read_json_lines(looks), "layers": layers}
    return {"setting": setting, **found, **used, "images": images}


def table(lines: list[dict]) -> str:
    """One row per candidate and seed: PSNR by gate, softmax less uniform with Student's t over images, adaptivity."""
    cells: dict[tuple, dict] = {}
    for line in lines:
        setting = line["setting"]
        cells.setdefault((setting["name"], setting["seed"]), {})[setting["gate"]] = line
    rows = []
    for (name, seed), own in cells.items():
        control = next(iter(own.values()))["setting"].get("control", name)  # whose networks without a gate stand beside
        by_gate = {**cells.get((control, seed), {}), **own}
        row = [name, seed, *(f"{by_gate[gate]['psnr']:.3f}" if gate in by_gate else "" for gate in GATE_COLUMNS)]
        gap = ["", "", ""]
        if {"softmax", "uniform"} <= set(by_gate):
            ours, theirs = (by_gate[gate]["images"] for gate in ("softmax", "uniform"))
            gaps = [ours[image] - theirs[image] for image in ours]
            t = mean(gaps) / (stdev(gaps) / len(gaps) ** 0.5)
            gap = [f"{mean(gaps):+.3f}", f"{t:.1f}", f"{sum(g > 0 for g in gaps)} of {len(gaps)}"]
        layers = own.get("softmax", {}).get("layers", {}).values()
        said = ["", ""]
        if layers:
            said = [f"{mean(found[key] for found in layers):.3f}" for key in ("adaptivity", "groups")]
        minutes = [f"{line['cpu_seconds'] / 60:.1f}" for line in own.values() if not line["resumed"]]
        rows.append([*row, *gap, *said, " ".join(minutes)])
    heads = ["candidate", "seed", "N/A", *GATE_COLUMNS[1:], "softmax - uniform, dB", "t", "images above"]
    heads += ["adaptivity, bits", "effective groups", "CPU minutes"]
    return tabulate(rows, heads, tablefmt="pipe", disable_numparse=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", action="store_true", help="train nothing")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    data = Path(os.environ.get("NSR_DATA", "data"))
    LINES.parent.mkdir(parents=True, exist_ok=True)
    while not chosen.table:  # the list is read again after each training, so that it may grow meanwhile
        done = [line["setting"] for line in read_json_lines(LINES)]
        listed = settings(yaml.safe_load((ROOT / "experiments/search.yaml").read_text(encoding="utf-8")))
        setting = next((setting for setting in listed if setting not in done), None)
        if setting is None:
            break
        print(f"{setting['name']} {setting['gate']} seed {setting['seed']}", flush=True)
        line = run(setting, data)
        with open(LINES, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    print(table(read_json_lines(LINES)))


if __name__ == "__main__":
    main()
