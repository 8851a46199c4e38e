"""The style that all figures share, and their files."""

import importlib.util
import io
import logging
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from nsr_cli.errors import UserError
from nsr_cli.files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, FAINT = "#222222", "#8a8a8a"
TEXT, SMALL = 11, 9  # points
METADATA = {"png": {"Software": None}, "pdf": {"CreationDate": None}}  # no dates: equal figures are equal bytes


def check_matplotlib() -> None:
    """Raise UserError where matplotlib is not installed. Called before any training starts."""
    if importlib.util.find_spec("matplotlib") is None:
        raise UserError("figures need matplotlib: pip install 'nsr[figures]'")


def blank_figure(width: float, height: float, heading: str) -> "Figure":
    """An empty figure of ``width`` by ``height`` inches, with a heading that is wrapped to its width."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.08)
    figure.suptitle(wrapped(heading, width, TEXT), fontsize=TEXT, color=INK)
    return figure


def wrapped(text: str, width: float, size: float) -> str:
    """Text in lines of at most ``width`` inches, at a font size in points."""
    letters = int(width * 72 / size / 0.6)  # a letter's width is 0.6 of its height
    return "\n".join(line for part in text.splitlines() for line in textwrap.wrap(part, letters))


def save(figure: "Figure", stem: Path) -> list[Path]:
    """Write ``stem``.png and ``stem``.pdf; returns their paths."""
    from matplotlib import rc_context

    logging.getLogger("fontTools").setLevel(logging.WARNING)  # it logs every glyph
    paths = []
    for form, metadata in METADATA.items():
        content = io.BytesIO()
        with rc_context({"pdf.fonttype": 42}):  # text that can be searched and edited
            figure.savefig(content, format=form, metadata=metadata)
        paths.append(stem.with_name(f"{stem.name}.{form}"))
        with replacing(paths[-1]) as temporary:
            temporary.write_bytes(content.getbuffer())
    return paths
