"""Figures made of images: restored ones side by side, gates as maps."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nsr_cli.report.figures import INK, SMALL, TEXT, blank_figure, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

FRAME = "#e4572e"


@dataclass(frozen=True)
class Panel:
    """A picture (H, W[, 3]) uint8 of the ground truth's size, with a title above and a score below."""

    title: str
    picture: np.ndarray
    score: str = ""


@dataclass(frozen=True)
class Gated:
    """An image and the gates of a network over it.

    Attributes:
        name: of the image.
        picture: what the network is given, (H, W[, 3]) uint8.
        maps: mixing weights (blocks, groups shown, rows, columns).
        stride: side of the square that a value of the maps covers, in pixels of the picture.
    """

    name: str
    picture: np.ndarray
    maps: np.ndarray
    stride: int


def busiest_corner(truth: np.ndarray, side: int) -> tuple[int, int]:
    """(top, left) of the square of ``side`` pixels in which neighbouring pixels differ most."""
    grey = truth.astype(np.float64).mean(axis=2) if truth.ndim == 3 else truth.astype(np.float64)
    detail = np.abs(np.diff(grey, axis=0))[:, :-1] + np.abs(np.diff(grey, axis=1))[:-1]
    sums = np.pad(detail.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    boxes = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    top, left = np.unravel_index(boxes.argmax(), boxes.shape)
    return int(top), int(left)


def side_by_side(panels: list[Panel], crop: int, heading: str) -> "Figure":
    """Each whole panel above its zoomed crop, which is the busiest square of the last panel."""
    from matplotlib.patches import Rectangle

    truth = panels[-1].picture
    crop = min(crop, *(side - 1 for side in truth.shape[:2]))
    top, left = busiest_corner(truth, crop)
    height = truth.shape[0] / truth.shape[1]
    figure = blank_figure(2.6 * len(panels), 2.6 * (height + 1) + 0.7, heading)
    axes = figure.subplots(2, len(panels), height_ratios=[height, 1], squeeze=False)
    for (whole, zoom), panel in zip(axes.T, panels, strict=True):
        whole.imshow(panel.picture, cmap="gray", vmin=0, vmax=255)
        whole.add_patch(Rectangle((left - 0.5, top - 0.5), crop, crop, fill=False, edgecolor=FRAME, linewidth=1.2))
        whole.set_title(panel.title, fontsize=TEXT, color=INK)
        zoom.imshow(panel.picture[top : top + crop, left : left + crop], cmap="gray", vmin=0, vmax=255)
        zoom.set_xlabel(panel.score, fontsize=TEXT, color=INK)
        hide_ticks(whole, "none")
        hide_ticks(zoom, FRAME)
    return figure


USE = "; groups: the effective number of them; bits: what tile and group say of each other, over these images"
RANGES = ("own range", "0 to 1")
MOST_ROW_GROUPS = 4  # more groups are shown as columns


def gates_figure(images: list[Gated], groups: Sequence[str], heading: str, use: Sequence[dict] = ()) -> "Figure":
    """Each image beside the gate maps of every block and their mean over blocks; two rows for each shown group.

    Gates may differ little over an image, and much between blocks. In the upper row every column has its own colour
    range, from blue to yellow, with a colour bar below. In the lower row the colours span 0 to 1, so that a gate that
    hardly chooses looks constant.

    Args:
        images: with maps of the same blocks.
        groups: names of the groups in the maps.
        heading: of the figure.
        use: statistics of each block's gate (see nsr_cli.engine.gate_stats): ``groups`` and ``adaptivity``.
    """
    if len(groups) > MOST_ROW_GROUPS:
        return gates_by_group(images, groups, heading, use)
    blocks = len(images[0].maps)
    wide = max(1.2, min(2.1, 16 / (blocks + 2)))  # inches of a column
    rows = [(image, group, own) for image in images for group in range(len(groups)) for own in (True, False)]
    ratios = [image.picture.shape[0] / image.picture.shape[1] for image, _, _ in rows]
    height = sum(ratio * wide + 0.08 for ratio in ratios) + 1.5 + 0.4 * bool(use)
    figure = blank_figure(wide * (blocks + 2) + 0.4, height, heading)
    *axes, bars = figure.subplots(len(rows) + 1, blocks + 2, height_ratios=[*ratios, 0.1 / wide])
    axes = np.array(axes)
    for (image, group, own), axis in zip(rows, axes[:, 0], strict=True):
        if group == 0 and own:
            axis.imshow(image.picture, cmap="gray", vmin=0, vmax=255)
            axis.set_ylabel(image.name, fontsize=SMALL, color=INK)
    for block, column in enumerate(axes.T[1:]):
        shown = [with_mean_map(image)[block, group] for image, group, _ in rows]
        stretched = value_range(shown)
        for axis, values, (image, _, own) in zip(column, shown, rows, strict=True):
            drawn = overlay_map(axis, values, image, *(stretched if own else (0.0, 1.0)))
            if own:
                draw_colour_bar(bars[block + 1], drawn, stretched)
    draw_colour_bar(bars[0], drawn, (0.0, 1.0))
    for axis, title in zip(axes[0], titles_of(blocks, use), strict=True):
        axis.set_title(title, fontsize=TEXT - bool(use), color=INK)
    for axis, (_, group, own) in zip(axes[:, 1], rows, strict=True):
        named = [groups[group]] * (len(groups) > 1) + [RANGES[not own]]
        axis.set_ylabel("\n".join(named), fontsize=SMALL, color=INK)
    of = "the sparsity groups" if len(groups) > 1 else f"sparsity {groups[0]}"
    said = f"mixing weight of {of}, twice: each column in a range of its own, and all from 0 to 1; mean: over the depth"
    return finished(figure, axes, said + USE * bool(use))


def gates_by_group(images: list[Gated], groups: Sequence[str], heading: str, use: Sequence[dict]) -> "Figure":
    """As gates_figure, for many groups: a column for each group, and two rows for each block and for the mean."""
    blocks = [title.replace("\n", ", ", 1) for title in titles_of(len(images[0].maps), use)[1:]]
    rows = [(image, block, own) for image in images for block in range(len(blocks)) for own in (True, False)]
    ranges = [value_range([with_mean_map(image)[block] for image in images]) for block in range(len(blocks))]
    ratios = [image.picture.shape[0] / image.picture.shape[1] for image, _, _ in rows]
    wide = 1.2  # inches of a column
    height = sum(ratio * wide + 0.08 for ratio in ratios) + 1.2
    figure = blank_figure(wide * (len(groups) + 1) + 0.8, height, heading)
    axes = figure.subplots(len(rows), len(groups) + 1, height_ratios=ratios)
    for (image, block, own), (first, *others) in zip(rows, axes, strict=True):
        if block == 0 and own:
            first.imshow(image.picture, cmap="gray", vmin=0, vmax=255)
            first.set_title(image.name, fontsize=SMALL, color=INK)
        lowest, highest = ranges[block] if own else (0.0, 1.0)
        for axis, values in zip(others, with_mean_map(image)[block], strict=True):
            overlay_map(axis, values, image, lowest, highest)
        label = f"{blocks[block]}\n{lowest:.2f} to {highest:.2f}" if own else RANGES[1]
        others[0].set_ylabel(label, fontsize=SMALL, color=INK)
    for axis, group in zip(axes[0, 1:], groups, strict=True):
        axis.set_title(group, fontsize=TEXT, color=INK)
    said = "mixing weights, twice: from blue to yellow is each block's own range, and 0 to 1; mean: over the depth"
    return finished(figure, axes, said + USE * bool(use))


def finished(figure: "Figure", axes: np.ndarray, said: str) -> "Figure":
    """The figure of gates, with its axes freed of ticks and a legend in words below."""
    for axis in axes.flat:
        hide_ticks(axis, "none")
    figure.supxlabel(wrapped(said, figure.get_figwidth(), SMALL), fontsize=SMALL, color=INK)
    return figure


def titles_of(blocks: int, use: Sequence[dict]) -> list[str]:
    """Titles of the columns; with the statistics ``use`` of each block, and their means, where given."""
    names = [*(f"block {number}" for number in range(1, blocks + 1)), "mean"]
    if use:
        mean = {key: sum(own[key] for own in use) / len(use) for key in ("groups", "adaptivity")}
        told = [f"{own['groups']:.2f} groups\n{own['adaptivity']:.3f} bits" for own in (*use, mean)]
        names = [f"{name}\n{text}" for name, text in zip(names, told, strict=True)]
    return ["input", *names]


def draw_colour_bar(axis: "Axes", drawn: "AxesImage", ends: tuple[float, float]) -> None:
    """Draw the colour bar of a map, with numbers at its two ends."""
    bar = axis.figure.colorbar(drawn, cax=axis, orientation="horizontal")
    digits = 0 if ends == (0, 1) else 2 if ends[1] - ends[0] >= 0.1 else 3
    bar.set_ticks(list(ends), labels=[f"{end:.{digits}f}" for end in ends])
    for label, side in zip(axis.get_xticklabels(), ("left", "right"), strict=True):
        label.set(horizontalalignment=side, fontsize=SMALL, color=INK)


def with_mean_map(image: Gated) -> np.ndarray:
    """(blocks + 1, groups, rows, columns): an image's maps, then their mean over blocks."""
    return np.concatenate([image.maps, image.maps.mean(axis=0, keepdims=True)])


def value_range(maps: list[np.ndarray]) -> tuple[float, float]:
    """(smallest, largest) value of maps, widened to at least 0.002: smaller differences are not shown."""
    lowest, highest = min(map(np.min, maps)), max(map(np.max, maps))
    wider = max(0, 0.001 - (highest - lowest) / 2)
    return float(lowest - wider), float(highest + wider)


def overlay_map(axis: "Axes", values: np.ndarray, image: Gated, lowest: float, highest: float) -> "AxesImage":
    """Draw a map so that every value lies over the pixels that it stands for."""
    height, width = image.picture.shape[:2]
    rows, columns = values.shape
    extent = (-0.5, columns * image.stride - 0.5, rows * image.stride - 0.5, -0.5)
    colours = {"cmap": "cividis", "vmin": lowest, "vmax": highest}  # blue to yellow, and dark to light in grey
    drawn = axis.imshow(values, **colours, extent=extent, interpolation="bilinear")
    axis.set_xlim(-0.5, width - 0.5)
    axis.set_ylim(height - 0.5, -0.5)
    return drawn


def hide_ticks(axis: "Axes", edge: str) -> None:
    """Remove the ticks, and give the frame a colour."""
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_edgecolor(edge)
