"""nsr bench: the rebuttal's timing table on this machine, and whole networks."""

import contextlib
import os
import platform
import re
from functools import partial
from pathlib import Path
from statistics import median

import torch
from omegaconf import DictConfig, OmegaConf

from nsr_cli.bench.timings import COLUMNS, SIZE, Timing, load_timing, output_channels, render, row_of
from nsr_cli.bench.workloads import MODES, NETWORKS, PLAIN, Convolution, chosen_way, convolutions, networks, ways
from nsr_cli.commands.knobs import BENCH, check_knobs
from nsr_cli.engine import heap
from nsr_cli.errors import UserError
from nsr_cli.files import check_writable, write_json, write_text
from nsr_cli.folders import package_folder
from nsr_cli.layers.choice import has_avx512
from nsr_cli.runs.build import pick_device
from nsr_cli.runs.provenance import provenance
from nsr_cli.stopwatch import ratio, time_in_turns
from nsr_cli.words import print_line

PASSES = {"Forward": False, "Forward and backward": True}


def main(cfg: DictConfig) -> None:
    """Measure, print and save the timing tables."""
    check(cfg)
    if cfg.save:
        check_writable("results", cfg.results)
    timing, device = load_timing(package_folder("experiments")), pick_device(cfg.device)
    if cfg.threads:
        torch.set_num_threads(cfg.threads)
    with heap.keep_freed_memory():  # as in training and in scoring
        measured = measure(cfg, timing, device)
    text = render(measured, timing)
    print(f"\n{text}")
    if cfg.save:
        stem = Path(cfg.results) / "bench" / file_stem(cfg, timing, measured["made"]["device"])
        write_json(json_path := stem.with_suffix(".json"), measured)
        write_text(text_path := stem.with_suffix(".md"), text)
        print(json_path.resolve(), text_path.resolve(), sep="\n")


def check(cfg: DictConfig) -> None:
    """Raise UserError for a knob out of range, or for knobs that allow no convolution together."""
    check_knobs(OmegaConf.to_container(cfg, resolve=True), BENCH)
    if cfg.precision not in ("fp32", "bf16"):
        raise UserError(f"precision={cfg.precision}: expected fp32 or bf16")
    most = max(cfg.groups)
    if any(cfg.channels % k for k in cfg.groups):
        raise UserError(f"groups={list(cfg.groups)}: expected divisors of channels={cfg.channels}")
    narrowest = output_channels(SIZE, cfg.channels, most)
    if cfg.cardinality > narrowest:
        why = f"the output channels at {SIZE} and k = {most}"
        raise UserError(f"cardinality={cfg.cardinality}: expected 1 to {narrowest}, {why}")


def measure(cfg: DictConfig, timing: Timing, device: torch.device) -> dict:
    """Measure all times. Returns the content of the JSON file: settings, machine, tables and seconds."""
    settle = partial(torch.cuda.synchronize, device) if device.type == "cuda" else lambda: None
    race = partial(time_in_turns, rounds=cfg.rounds, settle=settle)
    groups = list(dict.fromkeys(cfg.groups))
    setting = {name: cfg[name] for name in ("batch", "channels", "size", "cardinality", "precision")}
    setting["kernel"] = timing.setting["kernel"]
    shapes = {(k, output_channels(column, cfg.channels, k)) for column in COLUMNS for k in [PLAIN, *groups]}
    seconds, tables, rows = {}, {}, []
    for title, backward in PASSES.items():
        kind = backward, device.type, cfg.compile
        wanted = {one for k, n in shapes for one in (*ways(PLAIN, n, backward), *ways(k, n, *kind))}
        print_line(f"{title.lower()}: {len(wanted)} convolutions, {cfg.rounds} rounds after one to warm up")
        times = race(convolutions(sorted(wanted), setting, device, backward))
        seconds[title] = {str(one): values for one, values in times.items()}
        tables[title] = {column: table_rows(times, column, groups, setting, device, backward) for column in COLUMNS}
    if cfg.networks:
        print_line(f"whole networks: {cfg.rounds} rounds after one to warm up")
        times = race(networks(timing.network, cfg.precision, device, cfg.compile))
        seconds["Whole networks"] = {f"{name}, {mode}": values for (name, mode), values in times.items()}
        rows = [network_row(times, name) for name in dict.fromkeys(name for name, _ in times)]
    return {
        "format": 1,
        "setting": {**setting, "groups": groups, "rounds": cfg.rounds},
        "network": timing.network,
        "made": {**provenance(device), **machine_facts(device)},
        "tables": tables,
        "networks": rows,
        "seconds": seconds,
    }


def table_rows(
    times: dict[Convolution, list[float]],
    column: str,
    groups: list[int],
    setting: dict,
    device: torch.device,
    backward: bool,
) -> list[dict]:
    """The rows of one column of the rebuttal's table, N/A first."""
    channels = setting["channels"]
    plain, rows = times[Convolution(PLAIN, channels, "contiguous")], []
    for k in [PLAIN, *groups]:
        outputs = output_channels(column, channels, k)
        static = {one.way: times[one] for one in ways(PLAIN, outputs, backward)}
        sparse = {one.way: seconds for one, seconds in times.items() if one[:2] == (k, outputs)} if k else {}
        rows.append(row_of(k, outputs, static, sparse, plain, chosen_way(outputs, setting, device, backward)))
    return rows


def network_row(times: dict[tuple[str, str], list[float]], name: str) -> dict:
    """The median seconds of a network in each mode, and their ratio to those of N/A."""
    row: dict = {"network": name}
    for mode in MODES:
        own, plain = times[name, mode], times[NETWORKS[0], mode]
        row[mode] = {"seconds": median(own), "of N/A": ratio(own, plain)}
    return row


def machine_facts(device: torch.device) -> dict:
    """Facts of the machine that times depend on: threads, cores, and the processor or cuDNN's version."""
    found = {"threads": torch.get_num_threads(), "cores": os.cpu_count()}
    if device.type == "cuda":
        return {**found, "cudnn": torch.backends.cudnn.version()}
    return {**found, "device": processor_name()}


def processor_name() -> str:
    """The name of the CPU where the system tells it, else its architecture; with its instructions, if not AVX512."""
    name = platform.machine()
    with contextlib.suppress(OSError):
        if found := re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE):
            name = found[1].strip()
    return name if has_avx512() else f"{name} {torch.backends.cpu.get_cpu_capability()}"


def file_stem(cfg: DictConfig, timing: Timing, device: str) -> str:
    """<device>-<precision>-<threads>, then unusual settings, so that a trial does not replace the real table."""
    usual = {**timing.setting, "cardinality": 1, "groups": [2, 4, 8, 16]}
    usual |= {"networks": True, "compile": False, "rounds": 5}
    other = [f"{name}{cfg[name]}" for name in usual if name in cfg and cfg[name] != usual[name]]
    other = [re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_") for text in other]
    threads = f"{torch.get_num_threads()}-threads"
    return "-".join([re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-"), cfg.precision, threads, *other])
