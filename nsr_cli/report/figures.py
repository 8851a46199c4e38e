"""Pictures for people to look at, drawn with matplotlib."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nsr_cli.errors import UserError
from nsr_cli.files import replacing

INK, FRAME = "#222222", "#e4572e"


@dataclass(frozen=True)
class Panel:
    """One picture (H, W[, 3]) uint8 of the size of the ground truth, and what is written under it."""

    title: str
    picture: np.ndarray
    score: str = ""


def busiest(truth: np.ndarray, side: int) -> tuple[int, int]:
    """Top left corner of the square of ``side`` pixels in which neighbouring pixels differ most."""
    grey = truth.astype(np.float64).mean(axis=2) if truth.ndim == 3 else truth.astype(np.float64)
    detail = np.abs(np.diff(grey, axis=0))[:, :-1] + np.abs(np.diff(grey, axis=1))[:-1]
    sums = np.pad(detail.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    boxes = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    top, left = np.unravel_index(boxes.argmax(), boxes.shape)
    return int(top), int(left)


def side_by_side(panels: list[Panel], crop: int, heading: str, path: Path) -> None:
    """Write a PNG: each panel whole above its zoomed crop; the crop is the busiest part of the last panel."""
    try:
        from matplotlib.figure import Figure
        from matplotlib.patches import Rectangle
    except ImportError:
        raise UserError("figures need matplotlib: pip install 'nsr[figures]'") from None
    truth = panels[-1].picture
    crop = min(crop, *(side - 1 for side in truth.shape[:2]))
    top, left = busiest(truth, crop)
    height = truth.shape[0] / truth.shape[1]
    figure = Figure(figsize=(2.6 * len(panels), 2.6 * (height + 1) + 0.7), dpi=150, layout="constrained")
    figure.suptitle(heading, fontsize=11, color=INK)
    axes = figure.subplots(2, len(panels), height_ratios=[height, 1], squeeze=False)
    for (whole, zoom), panel in zip(axes.T, panels, strict=True):
        whole.imshow(panel.picture, cmap="gray", vmin=0, vmax=255)
        whole.add_patch(Rectangle((left - 0.5, top - 0.5), crop, crop, fill=False, edgecolor=FRAME, linewidth=1.2))
        whole.set_title(panel.title, fontsize=11, color=INK)
        zoom.imshow(panel.picture[top : top + crop, left : left + crop], cmap="gray", vmin=0, vmax=255)
        zoom.set_xlabel(panel.score, fontsize=11, color=INK)
        for axis, edge in ((whole, "none"), (zoom, FRAME)):
            axis.set_xticks([])
            axis.set_yticks([])
            for spine in axis.spines.values():
                spine.set_edgecolor(edge)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")
