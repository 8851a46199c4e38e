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
from nsr_cli.data.regular import open_regular
from nsr_cli.report.chapters import Chapter, scores_in_words
from nsr_cli.report.tables import CONTROLS, GATES, RULE
from nsr_cli.report.verdicts import steps_of
from nsr_cli.runs.record import Record
from nsr_cli.words import plural

WIDEST = 1600  # pixels of an embedded picture
STRONG = 0.3  # dB at which the colour of a difference is full
OTHERS = 200  # records of no table that are listed
FIGURES = {  # by the beginning of a file's name: what is drawn, and its name behind `nsr figure`
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
        data: its address, which holds the picture itself.
        what: is drawn.
        file: below the results.
        command: that draws it.
    """

    data: str
    width: int
    height: int
    what: str
    file: str
    command: str


@dataclass(frozen=True)
class Report:
    """What the page shows.

    Attributes:
        timings: tables of each measurement of the layer's speed: its file, captions and grids.
        search: experiments/search.yaml.
        errata: of the paper.
        others: records that no table shows, by their files.
        damaged: files that could not be read, and in what.
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
        """The first day and the last on which records were made."""
        every = sorted({str(record.made["date"]) for record in self.records.values() if record.made.get("date")})
        return list(dict.fromkeys([every[0], every[-1]])) if every else []


def page(report: Report) -> str:
    """Its HTML."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {"minus": minus, "strong": strong, "slug": slug, "strength": strength, "plot": plot}
    template = environment.get_template("page.html.j2")
    said = {"RULE": RULE, "CONTROLS": CONTROLS, "GATES": GATES, "OTHERS": OTHERS, "version": __version__}
    helpers = {"steps_of": steps_of, "scores": scores_in_words, "plural": plural}
    return template.render(report=report, **said, **helpers).lstrip()


def minus(text: object) -> str:
    """Numbers with a minus sign in the place of a hyphen."""
    return re.sub(r"(?<![\w.])-(?=\.?\d)", "\N{MINUS SIGN}", str(text))


def strong(text: str) -> Markup:
    """Text in which **stars** make words strong and `ticks` make code."""
    marked = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", str(escape(text)))
    return Markup(re.sub(r"`(.+?)`", r"<code>\1</code>", marked))


def slug(text: str) -> str:
    """A text as the name of an anchor."""
    return re.sub(r"\W+", "-", text).strip("-").lower()


def strength(number: float) -> str:
    """How strong the colour of a difference in dB is, from 0 to 1."""
    return f"{min(1.0, abs(number) / STRONG):.2f}"


def plot(finding: object, widest: float) -> Markup:
    """An effect with its deviation as a dot on a line from -widest to widest dB, for those who see it."""
    x, around = (100 * (number or 0) / widest for number in (finding.effect, finding.spread))
    whisker = f'<path d="M{x - around:.1f} 8H{x + around:.1f}"/>' if around else ""
    return Markup(
        '<svg class="plot" viewBox="-104 0 208 16" aria-hidden="true"><path class="zero" d="M0 1V15"/>'
        f'{whisker}<circle cx="{x:.1f}" cy="8" r="4"/></svg>'
    )


def pictures_of(results: Path, protocol: str, damaged: dict[str, str]) -> list[Picture]:
    """The figures of a protocol; one that cannot be read is added to ``damaged``."""
    order = list(FIGURES)
    found = [path for path in (results / "figures" / protocol).glob("*.png") if kind_of(path)]
    pictures = []
    for path in sorted(found, key=lambda path: (order.index(kind_of(path)), path.stem)):
        what, name = FIGURES[kind_of(path)]
        file = path.relative_to(results).as_posix()
        own = path.stem.removeprefix(kind_of(path)).strip("-")
        command = f"nsr figure {name} protocol={protocol}" + (f"   (file {own})" if own else "")
        try:
            pictures.append(Picture(*embedded(path), what, file, command))
        except (OSError, ValueError, SyntaxError) as error:  # what Pillow raises for what is no picture
            reason = getattr(error, "strerror", None) or re.sub(r" <.*", "", " ".join(str(error).split()))
            damaged[file] = f"it cannot be read: {reason}"
    return pictures


def kind_of(path: Path) -> str:
    return next((kind for kind in FIGURES if path.stem == kind or path.stem.startswith(f"{kind}-")), "")


@functools.cache
def embedded(path: Path) -> tuple[str, int, int]:
    """(address that holds it, width, height) of a picture, as WebP and no wider than is of use on a screen."""
    from PIL import Image

    with open_regular(path) as file, Image.open(file) as image:
        image = image.convert("RGB")
    image.thumbnail((WIDEST, 16 * WIDEST))
    content = io.BytesIO()
    image.save(content, "WEBP", quality=84, method=4)
    return f"data:image/webp;base64,{base64.b64encode(content.getvalue()).decode()}", *image.size
