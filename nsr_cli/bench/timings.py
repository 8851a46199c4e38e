"""The rebuttal's timing table: rows of measured times, and their Markdown beside the printed numbers."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import yaml
from tabulate import tabulate

from nsr_cli.stopwatch import ratio
from nsr_cli.words import plural

Grid = tuple[list[str], list[list[str]]]  # head and body
COLUMNS = SIZE, FLOPS = "fixed size", "fixed FLOPs"
RESTORED = 4  # patches a side of the restored image


@dataclass(frozen=True)
class Timing:
    """The content of experiments/timing.yaml.

    Attributes:
        setting: of the printed numbers: batch, channels, size and kernel (in pixels).
        printed: printed milliseconds per sample, by "fixed size" or "fixed FLOPs" and k; N/A is the plain convolution.
        printed_for: the title of the measurement that the printed numbers belong to.
        network: settings of the timed whole networks.
        notes: shown above the tables.
    """

    title: str
    text: str
    setting: dict[str, int]
    printed: dict[str, dict[int | str, str]]
    printed_for: str
    network: dict[str, int]
    notes: tuple[str, ...] = ()


def load_timing(folder: Path) -> Timing:
    """The Timing in the folder of experiments."""
    return Timing(**yaml.safe_load((folder / "timing.yaml").read_text(encoding="utf-8")))


def output_channels(column: str, channels: int, groups: int) -> int:
    """The number of output channels of a convolution with k groups (0: N/A) in a column of the rebuttal's table."""
    return channels // max(groups, 1) if column == SIZE else channels


def row_of(
    groups: int,
    outputs: int,
    static: Mapping[str, list[float]],
    sparse: Mapping[str, list[float]],
    plain: list[float],
    chosen: str,
) -> dict:
    """A row of the table.

    Args:
        groups: k; 0 for N/A, which has no sparse convolution.
        outputs: number of output channels.
        static, sparse: seconds in each round, by way of computing, of convolutions of this row's shape.
        plain: seconds in each round of the plain convolution of N/A.
        chosen: the way that the sparse layer takes by itself.

    Returns:
        Median seconds by way, the fastest and chosen ways, and median ratios to ``plain`` and to the fastest static.
    """
    static_way = min(static, key=lambda way: median(static[way]))
    layer = sparse[chosen] if sparse else plain
    return {
        "k": groups or "N/A",
        "outputs": outputs,
        "static": {way: median(seconds) for way, seconds in static.items()},
        "sparse": {way: median(seconds) for way, seconds in sparse.items()},
        "fastest static": static_way,
        "chosen": chosen if sparse else "",
        "of plain": ratio(layer, plain),
        "of fastest static": ratio(layer, static[static_way]),
    }


def render(measured: dict, timing: Timing) -> str:
    """The Markdown of a measurement by `nsr bench`; ``measured`` is the content of its JSON file."""
    parts = [f"## {timing.title}, measured", convolution_caption(measured, timing), LEGEND, *timing.notes]
    for title, grid in convolution_grids(measured, timing):
        parts += [f"### {title}", markdown_table(*grid)]
    if measured["networks"]:
        network = network_caption(measured["network"])
        parts += ["### Whole networks", network, markdown_table(*network_grid(measured["networks"]))]
    return "\n\n".join(parts) + "\n"


def convolution_grids(measured: dict, timing: Timing) -> Iterator[tuple[str, Grid]]:
    """The title, head and body of each table of convolutions."""
    for title, tables in measured["tables"].items():
        for column, rows in tables.items():
            printed = timing.printed[column] if title == timing.printed_for else {}
            yield f"{title}, {column}", convolution_grid(rows, printed, measured["setting"])


LEGEND = """\
- static: one kernel for all samples; `nn.Conv2d` on a contiguous batch, on a channels-last batch, and, forward, on a
  channels-last batch sample by sample into an existing output (the fastest is bold);
- sparse: a kernel for each sample, with its gate and the mixing of kernels; the samples as groups of one convolution
  (contiguous, as in the authors' code), one by one (channels-last), or, on a GPU, as matrix products of the
  unfolded input (contiguous), fused into one kernel (channels-last), as branches (Eq. 8: k convolutions, then their
  sum), or compiled (the layer's own choice is bold);
- of plain: the time over that of N/A, contiguous; paper's: the ratio of the printed times, and these in milliseconds;
- of fastest static: the time over that of the fastest static convolution of the same shape."""


def convolution_caption(measured: dict, timing: Timing) -> str:
    """The setting of a measurement of convolutions, in words."""
    used, made = measured["setting"], measured["made"]
    kernel, size, rounds, threads = used["kernel"], used["size"], used["rounds"], made["threads"]
    text = (
        f"One {kernel}x{kernel} convolution of {used['channels']} channels, on batches of {used['batch']} samples of "
        f"{size}x{size} pixels; sparse ones have softmax gates and d = {used['cardinality']}. {timing.text}\n\n"
        f"Times are milliseconds per sample: medians of {plural(rounds, 'round')}, in which every convolution runs "
        f"once; ratios are medians of the ratios within a round. Measured on {made['device']}, {made['cores']} cores, "
        f"{plural(threads, 'thread')}, in {used['precision']}, with torch {made['torch']}. "
        "On a CPU freed memory is kept for the next tensor, as nsr does when it trains and scores."
    )
    if other := [f"{name} {value}" for name, value in timing.setting.items() if used[name] != value]:
        text += f" **The printed times are of another setting: {', '.join(other)}.**"
    return text


def convolution_grid(rows: list[dict], printed: dict[int | str, str], setting: dict) -> Grid:
    """Head and body of a table of rows from :func:`row_of`, with the printed numbers if there are any."""
    formulations = list(dict.fromkeys(way for row in rows for way in row["sparse"]))
    head = ["k", "channels", *(f"static, {way}" for way in rows[0]["static"])]
    head += [
        *(f"sparse, {way}" for way in formulations),
        "of plain",
        *(["paper's"] if printed else []),
        "of fastest static",
    ]
    body = []
    for row in rows:
        line = [str(row["k"]), f"{setting['channels']} to {row['outputs']}"]
        for way, seconds in row["static"].items():
            text = milliseconds(seconds / setting["batch"])
            line.append(f"**{text}**" if way == row["fastest static"] else text)
        for way in formulations:
            text = milliseconds(row["sparse"][way] / setting["batch"]) if row["sparse"] else ""
            line.append(f"**{text}**" if way == row["chosen"] else text)
        line.append(f"{row['of plain']:.2f}")
        if printed:
            paper = printed.get(row["k"])
            line.append(f"{float(paper) / float(printed['N/A']):.2f} ({paper})" if paper else "not printed")
        body.append([*line, f"{row['of fastest static']:.2f}"])
    return head, body


def network_grid(rows: list[dict]) -> Grid:
    """Head and body of the table of whole networks."""
    modes = [key for key in rows[0] if key != "network"]
    head = ["network", *(text for mode in modes for text in (mode, "of N/A"))]
    body = []
    for row in rows:
        pairs = ((milliseconds(row[mode]["seconds"]), f"{row[mode]['of N/A']:.2f}") for mode in modes)
        body.append([row["network"], *(text for pair in pairs for text in pair)])
    return head, body


def network_caption(network: dict) -> str:
    """The settings of the whole networks, in words."""
    patch = network["patch"]
    return (
        f"WDSR x{network['scale']} with {network['blocks']} blocks, {network['units']} units and width "
        f"{network['width']}, plain (N/A) or with softmax gates of k = {network['groups']} and "
        f"d = {network['cardinality']}: milliseconds of a batch of {network['batch']} patches of {patch}x{patch}, "
        "each in the memory layout that it is trained in. A training step is forward, L1 loss, backward and Adam. "
        f"Restored is an image of {RESTORED * patch}x{RESTORED * patch} pixels, by both networks in tiles of "
        f"{patch}x{patch} that overlap."
    )


def markdown_table(head: list[str], body: list[list[str]]) -> str:
    """A Markdown table with right-aligned numbers."""
    align = ["left", *["right"] * (len(head) - 1)]
    return tabulate(body, head, tablefmt="pipe", colalign=align, disable_numparse=True)


def milliseconds(seconds: float) -> str:
    """Seconds in milliseconds, with three significant digits."""
    shown = 1000 * seconds
    return f"{shown:.{max(0, 2 - math.floor(math.log10(shown)))}f}" if shown > 0 else "0"
