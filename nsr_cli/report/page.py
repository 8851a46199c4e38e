"""The report as one HTML page that needs nothing beside it: a template, filled."""

import base64
import functools
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from nsr_cli import __version__
from nsr_cli.regular import open_regular
from nsr_cli.report.chapters import Chapter, scores_in_words
from nsr_cli.report.tables import CONTROLS, GATES, RULE
from nsr_cli.report.verdicts import steps_of
from nsr_cli.runs.record import Record
from nsr_cli.runs.stored import changed_code
from nsr_cli.words import plural

WIDEST = 1600  # pixels, the largest width of an embedded picture
FULL_COLOUR = 0.3  # dB at which the colour of a difference is full
MOST_OTHERS = 200  # the largest number of listed records that no table shows
FIGURES = {  # by the beginning of a file's name: (what is drawn, name for `nsr figure`)
    "figure4": ("PSNR against cardinality", "4"),
    "figure5": ("Figure 5: what the gates choose, a map for each block over images", "5"),
    "table2": ("Table 2: PSNR against computation and against parameters", "table2"),
    "table3": ("Table 3: PSNR against computation and against parameters", "table3"),
    "curves": ("Training curves: loss, and PSNR on validation images, against steps", "curves"),
    "compare": ("One image restored by several networks, beside bicubic and the ground truth", "compare"),
}


@dataclass(frozen=True)
class Picture:
    """A figure of the results, embedded.

    Attributes:
        data: a data URL with the picture itself.
        what: what is drawn.
        file: relative to the results.
        command: draws it.
    """

    data: str
    width: int
    height: int
    what: str
    file: str
    command: str


@dataclass(frozen=True)
class Report:
    """The content of the page.

    Attributes:
        chapters: one for each protocol.
        pictures: figures by protocol.
        timings: tables of each measurement of the layer's speed: its file, captions and grids.
        search: experiments/search.yaml.
        errata: of the paper.
        others: records that no table shows, by file.
        damaged: unreadable files, and why.
    """

    chapters: list[Chapter]
    pictures: dict[str, list[Picture]]
    timings: list[dict]
    search: Mapping
    errata: Mapping
    others: dict[str, Record]
    damaged: dict[str, str]

    @property
    def records(self) -> dict[str, Record]:
        """Every record once, by its file."""
        sections = (section for chapter in self.chapters for section in chapter.sections)
        return {s.file: s.record for section in sections for s in section.sources} | self.others

    @property
    def dates(self) -> list[str]:
        """The first and the last day of records: one entry where they are equal, none without dates."""
        every = sorted({str(record.made["date"]) for record in self.records.values() if record.made.get("date")})
        return list(dict.fromkeys([every[0], every[-1]])) if every else []


def render_page(report: Report) -> str:
    """The HTML of a report."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {"minus": minus, "strong": strong, "slug": slug, "strength": strength, "plot": plot}
    template = environment.get_template("page.html.j2")
    said = {"RULE": RULE, "CONTROLS": CONTROLS, "GATES": GATES, "MOST_OTHERS": MOST_OTHERS, "version": __version__}
    helpers = {"steps_of": steps_of, "scores": scores_in_words, "plural": plural, "changed_code": changed_code}
    return template.render(report=report, **said, **helpers).lstrip()


def minus(text: object) -> str:
    """The text, with minus signs instead of hyphens before numbers."""
    return re.sub(r"(?<![\w.])-(?=\.?\d)", "\N{MINUS SIGN}", str(text))


def strong(text: str) -> Markup:
    """HTML of a text in which **stars** mark strong words and `ticks` mark code."""
    marked = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", str(escape(text)))
    return Markup(re.sub(r"`(.+?)`", r"<code>\1</code>", marked))


def slug(text: str) -> str:
    """A text as the name of an anchor."""
    return re.sub(r"\W+", "-", text).strip("-").lower()


def strength(number: float) -> str:
    """How strong the colour of a difference in dB is, from 0 to 1."""
    return f"{min(1.0, abs(number) / FULL_COLOUR):.2f}"


def plot(finding: object, widest: float) -> Markup:
    """SVG of an effect and its deviation: a dot and whiskers from -widest to widest dB; hidden from screen readers."""
    x, around = (100 * (number or 0) / widest for number in (finding.effect, finding.spread))
    whisker = f'<path d="M{x - around:.1f} 8H{x + around:.1f}"/>' if around else ""
    return Markup(
        '<svg class="plot" viewBox="-104 0 208 16" aria-hidden="true"><path class="zero" d="M0 1V15"/>'
        f'{whisker}<circle cx="{x:.1f}" cy="8" r="4"/></svg>'
    )


def pictures_of(results: Path, protocol: str, damaged: dict[str, str]) -> list[Picture]:
    """The figures of a protocol; unreadable files are added to ``damaged``."""
    order = list(FIGURES)
    found = [path for path in (results / "figures" / protocol).glob("*.png") if kind_of(path)]
    pictures = []
    for path in sorted(found, key=lambda path: (order.index(kind_of(path)), path.stem)):
        what, name = FIGURES[kind_of(path)]
        file = path.relative_to(results).as_posix()
        own = path.stem.removeprefix(kind_of(path)).strip("-")
        command = f"nsr figure {name} protocol={protocol}" + (f"   (file {own})" if own else "")
        try:
            pictures.append(Picture(*embedded_picture(path), what, file, command))
        except (OSError, ValueError, SyntaxError) as error:  # Pillow raises these for broken pictures
            reason = getattr(error, "strerror", None) or re.sub(r" <.*", "", " ".join(str(error).split()))
            damaged[file] = f"it cannot be read: {reason}"
    return pictures


def kind_of(path: Path) -> str:
    """The key of FIGURES that a file's name begins with; empty where there is none."""
    return next((kind for kind in FIGURES if path.stem == kind or path.stem.startswith(f"{kind}-")), "")


@functools.cache
def embedded_picture(path: Path) -> tuple[str, int, int]:
    """(data URL, width, height) of a picture, as WebP and at most WIDEST pixels wide."""
    from PIL import Image

    with open_regular(path) as file, Image.open(file) as image:
        image = image.convert("RGB")
    image.thumbnail((WIDEST, 16 * WIDEST))
    content = io.BytesIO()
    image.save(content, "WEBP", quality=84, method=4)
    return f"data:image/webp;base64,{base64.b64encode(content.getvalue()).decode()}", *image.size
