"""The page of made-up results: what it says of them, that it is HTML, and that it holds all that it shows."""

import re
from dataclasses import replace

import html5lib
import numpy as np
import pytest
from PIL import Image
from test_tables import CONTROLLED, cell

from nsr_cli.report.chapters import Chapter, Section, Source, Unmeasured, scores_in_words, summaries_of
from nsr_cli.report.page import MOST_OTHERS, Report, minus, pictures_of, render_page, strong
from nsr_cli.report.sheet import sheet_of

MINUS = "\N{MINUS SIGN}"
HOSTILE = "</style><script>alert(1)</script>"
SEARCH = {"title": "Budgets", "found": [{"candidate": "small", "compared": ["softmax", "uniform"], "dB": -0.2}]}
ERRATA = {"title": "Errata", "errata": [{"where": "Table 9", "printed": "39.97", "here": "29.97."}]}
MADE = {"date": "2026-01-02", "device": "a machine", "threads": 2, "torch": "2.9", "commit": "abc1234"}


def section(**more) -> Section:
    """Table X, of which softmax is 0.2 dB above N/A in each of three seeds, and uniform weights are not measured."""
    seeds = [cell("N/A", 30.0, s) for s in range(3)] + [cell("Softmax", 30.2, s, odd=0.01) for s in range(3)]
    sheet = sheet_of(CONTROLLED, [*seeds, *(cell("Uniform", None, s) for s in range(3))], "paper")
    sources = [
        Source(
            row=c.row,
            column=c.column,
            scores=scores_in_words(c.record),
            file=f"records/paper/{i}.json",
            command=f"nsr ablate protocol=paper seed={c.seed}",
            record=replace(c.record, made=MADE, trained={"steps": 300, "seconds": 61}),
        )
        for i, c in enumerate(seeds)
    ]
    missing = ["nsr ablate -m sparsity=uniform protocol=paper seed=0,1,2"]
    made = Section(sheet, sources, (6, 9), [0, 1, 2], [], missing, ["urban100 (nsr data get urban100)"])
    return replace(made, **more)


def report(**more) -> Report:
    chapter = Chapter("paper", "To the letter.", [section()], [Unmeasured(CONTROLLED, ["nsr table Y protocol=paper"])])
    return replace(Report([chapter], {"paper": []}, [], SEARCH, ERRATA, {}, {}), **more)


def text_of(html: str) -> str:
    """What a reader sees, with single spaces."""
    body = html[html.index("<body>") :]
    return " ".join(re.sub(r"<[^>]+>", " ", body).split())


def test_it_is_html_by_the_standard():
    """html5lib follows the standard's own algorithm, and names every error that it meets."""
    parser = html5lib.HTMLParser()
    parser.parse(render_page(report(damaged={"records/x.json": HOSTILE})))
    assert parser.errors == []


def test_nothing_is_loaded_and_nothing_is_run():
    html = render_page(report())
    assert "default-src 'none'" in html
    assert not re.search(r"<script|<link(?! rel=\"icon\" href=\"data:,\")|<iframe|@import|\bon\w+=|url\(", html)
    assert all(address.startswith(("#", "data:")) for address in re.findall(r'(?:href|src)="([^"]*)"', html))


def test_measured_stands_beside_printed_and_a_difference_has_its_sign():
    html = render_page(report())
    assert re.search(
        r'<td class="tint up" style="--a:0\.67">\+0\.20[02]</td>', html
    )  # 0.2 of the 0.3 dB of full colour
    assert ">30.000</a>" in html and "34.87" in html
    lower = [cell("N/A", 30.0), cell("Softmax", 29.5), cell("Uniform", None)]
    lower = section(sheet=sheet_of(CONTROLLED, lower, "paper"))
    html = render_page(report(chapters=[Chapter("paper", "", [lower])]))
    assert f'<td class="tint down" style="--a:1.00">{MINUS}0.500</td>' in html


def test_claims_and_controls_are_at_the_top():
    text = text_of(render_page(report()))
    summary = text[text.index("Summary") : text.index("Protocol paper To the letter.")]
    assert "1 hold 0 fail 0 undecided 1 not measured" in summary
    assert "softmax helps ✓ holds +0.202" in summary and "Softmax over N/A" in summary
    assert "not measured a gate is above uniform weights" in summary


def test_a_number_tells_its_record_command_commit_and_machine():
    html = render_page(report())
    hint = re.search(r'<td class="measured" title="([^"]*)"><a href="#paper-tableX-0">30.000</a>', html)[1]
    first, *seeds = hint.splitlines()
    assert first == "nsr ablate protocol=paper seed=0" and len(seeds) == 3
    expected = (
        "seed 0: 30.0000 dB; records/paper/0.json; 300 steps in 1:01; 2026-01-02, commit abc1234, a machine, 2 threads"
    )
    assert seeds[0] == expected
    row = html[html.index('<tr id="paper-tableX-0">') :].partition("</tr>")[0]
    for told in ("records/paper/0.json", "nsr ablate protocol=paper seed=0", "abc1234", "a machine", "torch 2.9"):
        assert told in row


def test_what_is_missing_stands_there_with_its_commands():
    text = text_of(render_page(report()))
    assert "Missing: 3 of 9 cells" in text
    assert "nsr ablate -m sparsity=uniform protocol=paper seed=0,1,2" in text
    assert "urban100 (nsr data get urban100)" in text
    assert "Not measured yet at protocol paper: 1 table " in text and "nsr table Y protocol=paper" in text


def test_the_tally_says_that_it_is_of_the_papers_claims():
    (chapter, *_) = (shown := report()).chapters
    assert f"not measured of the paper\N{RIGHT SINGLE QUOTATION MARK}s {sum(chapter.tally.values())} claim" in text_of(
        render_page(shown)
    )


def test_errata_search_and_damage_are_shown_and_escaped():
    html = render_page(report(damaged={"records/paper/x.json": HOSTILE}))
    assert HOSTILE not in html and "&lt;script&gt;" in html and "records/paper/x.json" in html
    text = text_of(html)
    assert "Table 9 Printed: 39.97. Here: 29.97." in text and f"softmax {MINUS} uniform {MINUS}0.200" in text
    assert "Damaged" not in text_of(render_page(report()))


def test_records_of_no_table_are_listed_up_to_a_number():
    record = cell("N/A", 30.0).record
    html = render_page(report(others={f"records/short/{i}.json": record for i in range(MOST_OTHERS + 7)}))
    assert html.count("<code>records/short/") == MOST_OTHERS and f"{MOST_OTHERS + 7} records that none" in html


def test_the_same_results_are_the_same_page():
    assert render_page(report()) == render_page(report())


def test_pictures_are_embedded_and_what_is_none_is_damaged(tmp_path):
    folder = tmp_path / "figures/short"
    folder.mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 256, (30, 2000, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "figure5.png")
    Image.fromarray(noise).save(folder / "unknown.png")
    (folder / "curves.png").write_bytes(b"torn")
    damaged = {}
    (picture,) = pictures_of(tmp_path, "short", damaged)
    assert (picture.width, picture.height) == (1600, 24) and picture.command == "nsr figure 5 protocol=short"
    assert damaged == {"figures/short/curves.png": "it cannot be read: cannot identify image file"}
    html = render_page(report(pictures={"paper": [picture]}))
    assert f'<img src="{picture.data}" width="1600" height="24" alt="Figure 5' in html


@pytest.mark.parametrize(
    ("given", "shown"),
    [("-0.1", f"{MINUS}0.1"), ("(-.0002)", f"({MINUS}.0002)"), ("wdsr-4", "wdsr-4"), ("+1 ± 2", "+1 ± 2")],
)
def test_a_minus_is_none_of_a_word(given, shown):
    assert minus(given) == shown


def test_stars_and_ticks_are_marks_and_the_rest_is_text():
    assert strong("**a** `b` <c>") == "<strong>a</strong> <code>b</code> &lt;c&gt;"


def test_a_claim_of_which_nothing_is_measured_is_not_called_undecided():
    sheet = section().sheet
    assert [v.word for v in summaries_of(sheet.claims)] == ["holds"] and [
        v.word for v in summaries_of(sheet.own_claims)
    ] == ["not measured"]


def test_a_claim_on_rows_of_different_images_says_so():
    cells = [cell("N/A", 30.0, s) for s in range(3)] + [cell("Softmax", 30.2, s) for s in range(3)]
    images = {f"other-{name}": psnr for name, psnr in cells[-1].record.scores["rgb"].images.items()}
    scores = {"rgb": replace(cells[-1].record.scores["rgb"], images=images)}
    cells[-1] = replace(cells[-1], record=replace(cells[-1].record, scores=scores))
    different = section(sheet=sheet_of(CONTROLLED, cells, "paper"))
    text = text_of(render_page(report(chapters=[Chapter("paper", "", [different])])))
    assert "? undecided softmax helps div2k_val Softmax over N/A 0 undecided: scored on different images" in text


def test_the_page_tells_records_from_figures():
    text = text_of(render_page(report()))
    assert "records alone" not in text and "the figures are embedded as they lie in the results" in text
