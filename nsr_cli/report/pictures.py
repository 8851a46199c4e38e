"""Figures made of images: restored ones side by side, gates as maps."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nsr_cli.report.figures import INK, SMALL, TEXT, blank, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

FRAME = "#e4572e"


@dataclass(frozen=True)
class Panel:
    """One picture (H, W[, 3]) uint8 of the size of the ground truth, and what is written under it."""

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
        stride: pixels of the picture that a value of the maps stands for, in either direction.
    """

    name: str
    picture: np.ndarray
    maps: np.ndarray
    stride: int


def busiest(truth: np.ndarray, side: int) -> tuple[int, int]:
    """Top left corner of the square of ``side`` pixels in which neighbouring pixels differ most."""
    grey = truth.astype(np.float64).mean(axis=2) if truth.ndim == 3 else truth.astype(np.float64)
    detail = np.abs(np.diff(grey, axis=0))[:, :-1] + np.abs(np.diff(grey, axis=1))[:-1]
    sums = np.pad(detail.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    boxes = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    top, left = np.unravel_index(boxes.argmax(), boxes.shape)
    return int(top), int(left)


def side_by_side(panels: list[Panel], crop: int, heading: str) -> "Figure":
    """Each panel whole above its zoomed crop; the crop is the busiest part of the last panel."""
    from matplotlib.patches import Rectangle

    truth = panels[-1].picture
    crop = min(crop, *(side - 1 for side in truth.shape[:2]))
    top, left = busiest(truth, crop)
    height = truth.shape[0] / truth.shape[1]
    figure = blank(2.6 * len(panels), 2.6 * (height + 1) + 0.7, heading)
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


RANGES = ("own range", "0 to 1")
MANY = 4  # groups, from which on they are columns


def gates(images: list[Gated], groups: Sequence[str], heading: str, use: Sequence[dict] = ()) -> "Figure":
    """Each image beside the gates of every block and their mean over the depth; two rows for each group that is shown.

    Gates may differ little over an image, and much from block to block: in the upper row every column has a range of
    its own, from blue to yellow, with a bar below that tells it. In the lower one the same colours are 0 to 1, so that
    a gate that chooses little looks as it is.

    Args:
        images: with maps of the same blocks.
        groups: names of those that the maps show.
        heading: of the figure.
        use: what the gate of each block does (see nsr_cli.engine.gate_stats): ``groups`` and ``adaptivity``.
    """
    if len(groups) > MANY:
        return gates_by_group(images, groups, heading, use)
    blocks = len(images[0].maps)
    wide = max(1.2, min(2.1, 16 / (blocks + 2)))  # inches of a column
    rows = [(image, group, own) for image in images for group in range(len(groups)) for own in (True, False)]
    ratios = [image.picture.shape[0] / image.picture.shape[1] for image, _, _ in rows]
    height = sum(ratio * wide + 0.08 for ratio in ratios) + 1.5 + 0.4 * bool(use)
    figure = blank(wide * (blocks + 2) + 0.4, height, heading)
    *axes, bars = figure.subplots(len(rows) + 1, blocks + 2, height_ratios=[*ratios, 0.1 / wide])
    axes = np.array(axes)
    for (image, group, own), axis in zip(rows, axes[:, 0], strict=True):
        if group == 0 and own:
            axis.imshow(image.picture, cmap="gray", vmin=0, vmax=255)
            axis.set_ylabel(image.name, fontsize=SMALL, color=INK)
    for block, column in enumerate(axes.T[1:]):
        shown = [depth(image)[block, group] for image, group, _ in rows]
        stretched = span(shown)
        for axis, values, (image, _, own) in zip(column, shown, rows, strict=True):
            drawn = overlay_map(axis, values, image, *(stretched if own else (0.0, 1.0)))
            if own:
                bar_below(bars[block + 1], drawn, stretched)
    bar_below(bars[0], drawn, (0.0, 1.0))
    for axis, title in zip(axes[0], titles_of(blocks, use), strict=True):
        axis.set_title(title, fontsize=TEXT - bool(use), color=INK)
    for axis, (_, group, own) in zip(axes[:, 1], rows, strict=True):
        named = [groups[group]] * (len(groups) > 1) + [RANGES[not own]]
        axis.set_ylabel("\n".join(named), fontsize=SMALL, color=INK)
    for axis in axes.flat:
        hide_ticks(axis, "none")
    of = "the sparsity groups" if len(groups) > 1 else f"sparsity {groups[0]}"
    said = f"mixing weight of {of}, twice: each column in a range of its own, and all from 0 to 1; mean: over the depth"
    if use:
        said += "; groups: the effective number of them; bits: what tile and group say of each other, over these images"
    figure.supxlabel(wrapped(said, figure.get_figwidth(), SMALL), fontsize=SMALL, color=INK)
    return figure


def gates_by_group(images: list[Gated], groups: Sequence[str], heading: str, use: Sequence[dict]) -> "Figure":
    """The same for many groups: a column for each, and two rows for each block of an image and for the mean."""
    blocks = [title.replace("\n", ", ", 1) for title in titles_of(len(images[0].maps), use)[1:]]
    rows = [(image, block, own) for image in images for block in range(len(blocks)) for own in (True, False)]
    ranges = [span([depth(image)[block] for image in images]) for block in range(len(blocks))]
    ratios = [image.picture.shape[0] / image.picture.shape[1] for image, _, _ in rows]
    wide = 1.2  # inches of a column
    height = sum(ratio * wide + 0.08 for ratio in ratios) + 1.2
    figure = blank(wide * (len(groups) + 1) + 0.8, height, heading)
    axes = figure.subplots(len(rows), len(groups) + 1, height_ratios=ratios)
    for (image, block, own), (first, *others) in zip(rows, axes, strict=True):
        if block == 0 and own:
            first.imshow(image.picture, cmap="gray", vmin=0, vmax=255)
            first.set_title(image.name, fontsize=SMALL, color=INK)
        lowest, highest = ranges[block] if own else (0.0, 1.0)
        for axis, values in zip(others, depth(image)[block], strict=True):
            overlay_map(axis, values, image, lowest, highest)
        label = f"{blocks[block]}\n{lowest:.2f} to {highest:.2f}" if own else RANGES[1]
        others[0].set_ylabel(label, fontsize=SMALL, color=INK)
    for axis, group in zip(axes[0, 1:], groups, strict=True):
        axis.set_title(group, fontsize=TEXT, color=INK)
    for axis in axes.flat:
        hide_ticks(axis, "none")
    said = "mixing weights, twice: from blue to yellow is each block's own range, and 0 to 1; mean: over the depth"
    if use:
        said += "; groups: the effective number of them; bits: what tile and group say of each other, over these images"
    figure.supxlabel(wrapped(said, figure.get_figwidth(), SMALL), fontsize=SMALL, color=INK)
    return figure


def titles_of(blocks: int, use: Sequence[dict]) -> list[str]:
    """Heads of the columns; with what the gates do, where that is known, and its mean over the blocks."""
    names = [*(f"block {number}" for number in range(1, blocks + 1)), "mean"]
    if use:
        mean = {key: sum(own[key] for own in use) / len(use) for key in ("groups", "adaptivity")}
        told = [f"{own['groups']:.2f} groups\n{own['adaptivity']:.3f} bits" for own in (*use, mean)]
        names = [f"{name}\n{text}" for name, text in zip(names, told, strict=True)]
    return ["input", *names]


def bar_below(axis: "Axes", drawn: "AxesImage", ends: tuple[float, float]) -> None:
    """The colours of a picture in a bar, with the numbers at its ends."""
    bar = axis.figure.colorbar(drawn, cax=axis, orientation="horizontal")
    digits = 0 if ends == (0, 1) else 2 if ends[1] - ends[0] >= 0.1 else 3
    bar.set_ticks(list(ends), labels=[f"{end:.{digits}f}" for end in ends])
    for label, side in zip(axis.get_xticklabels(), ("left", "right"), strict=True):
        label.set(horizontalalignment=side, fontsize=SMALL, color=INK)


def depth(image: Gated) -> np.ndarray:
    """The maps of every block, and behind them their mean over the blocks."""
    return np.concatenate([image.maps, image.maps.mean(axis=0, keepdims=True)])


def span(maps: list[np.ndarray]) -> tuple[float, float]:
    """The least and largest value, and at least 0.002 between them: less is not shown as a difference."""
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
    """No ticks, and a frame of that colour."""
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_edgecolor(edge)
