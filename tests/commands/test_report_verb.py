"""nsr report on the committed records: the page as it is handed on, also in a real browser."""

import http.server
import json
import math
import os
import re
import shutil
import subprocess
import threading
from pathlib import Path

import html5lib
import pytest
from terminal import CHECKOUT

from nsr_cli import cli

FRAME = """<!DOCTYPE html><title>frame</title><link rel="icon" href="data:,"><p id="said"></p>{frames}<script>
onload = () => document.getElementById("said").textContent = [...document.querySelectorAll("iframe")].map(
  f => f.width + ":" + f.contentDocument.documentElement.scrollWidth + ":" + f.contentDocument.body.innerText.length
).join(" ");
</script>"""
WIDTHS = (390, 1280)


@pytest.fixture(scope="module")
def committed(tmp_path_factory) -> Path:
    """A copy of the committed results with their page, one damaged record, and one figure that is none."""
    folder = tmp_path_factory.mktemp("report")
    shutil.copytree(CHECKOUT / "results", folder / "results", ignore=shutil.ignore_patterns("smoke", "report.*"))
    first = min((folder / "results/records/short").glob("*.json"))
    first.write_text(first.read_text()[:-200])
    (folder / "results/figures/short").mkdir(parents=True, exist_ok=True)
    (folder / "results/figures/short/table2.png").write_bytes(b"torn")
    assert cli.run(["report", f"results={folder}/results", f"data={folder}/data"]) == 0
    return folder / "results"


def test_the_committed_results_make_one_valid_page(committed):
    html = (committed / "report.html").read_text()
    parser = html5lib.HTMLParser()
    parser.parse(html)
    assert parser.errors == [] and len(html) < 2 * 2**20
    for anchor in ("summary", "short", "short-table1", "search", "errata", "timings"):
        assert f'id="{anchor}"' in html
    targets = set(re.findall(r' id="([^"]+)"', html))
    assert set(re.findall(r'href="#([^"]+)"', html)) <= targets
    assert str(committed) not in html


def test_damage_is_named_and_the_page_is_there(committed):
    html = (committed / "report.html").read_text()
    section = html[html.index("Damaged, and so missing") :].partition("</section>")[0]
    assert min((committed / "records/short").glob("*.json")).name in section and "figures/short/table2.png" in section


def test_every_record_is_shown_once_as_a_source_or_among_others(committed):
    html = (committed / "report.html").read_text()
    named = set(re.findall(r"<code>(records/[^<]+\.json)</code>", html))
    assert named == {path.relative_to(committed).as_posix() for path in (committed / "records").glob("*/*.json")}


def test_protocols_and_the_file_can_be_chosen(nsr, tmp_path):
    result = nsr("report paper out=x/y.html")
    assert result.code == 0 and result.out.strip() == str(tmp_path / "x/y.html"), result.err
    html = (tmp_path / "x/y.html").read_text()
    assert "Protocol paper" in html and "Protocol short" not in html and "Not measured yet at protocol paper" in html
    assert "nsr table 1 protocol=paper run=true" in html


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("report shrt", "nsr report: no protocol 'shrt' (did you mean short?); there are: narrow, paper, short, smoke"),
        ("report out=.", "nsr report: out=.: a folder; expected a file"),
        ("report -m", "nsr report: -m: one report at a time"),
    ],
)
def test_bad_input(refused, line, message):
    refused(line, message)


@pytest.fixture
def served(committed):
    """A server of the results that a browser is given as its proxy, too: it sees every request that there is."""
    asked = []
    frames = "".join(f'<iframe src="report.html" width="{w}" height="900"></iframe>' for w in WIDTHS)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            page = FRAME.format(frames=frames) if "frame" in self.path else (committed / "report.html").read_text()
            self.send_response(200 if self.path.startswith(("http://nsr/", "/")) else 404)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(page.encode())

        def do_CONNECT(self):
            asked.append(self.path)
            self.send_error(502)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1], asked
        server.shutdown()


def chromium(tmp_path: Path, port: int, *flags: str) -> subprocess.CompletedProcess:
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("needs a browser: no chromium or google-chrome on the PATH")
    quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run",
             "--no-default-browser-check", "--disable-gpu", "--hide-scrollbars", "--no-sandbox"]  # fmt: skip
    own = [f"--user-data-dir={tmp_path}/profile", f"--proxy-server=127.0.0.1:{port}", "--enable-logging=stderr"]
    command = [program, "--headless", *quiet, *own, *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_in_a_browser_it_fits_a_phone_says_no_error_and_asks_for_nothing(served, tmp_path, scheme):
    port, asked = served
    colours = f"--blink-settings=preferredColorScheme={['dark', 'light'].index(scheme)}"
    done = chromium(tmp_path, port, colours, "--virtual-time-budget=20000", "--dump-dom", "http://nsr/frame.html")
    said = re.search(r'<p id="said">([^<]*)</p>', done.stdout)
    assert said and said[1], done.stderr
    for width, (asked_for, needed, letters) in zip(WIDTHS, (s.split(":") for s in said[1].split()), strict=True):
        assert int(asked_for) == int(needed) == width and int(letters) > 10_000
    assert "CONSOLE" not in done.stderr, done.stderr
    # the browser asks its maker for things of its own
    assert {path for path in asked if "nsr" in path} == {"http://nsr/frame.html", "http://nsr/report.html"}
    shot = tmp_path / f"{scheme}.png"
    done = chromium(
        tmp_path, port, colours, "--window-size=1280,1600", f"--screenshot={shot}", "http://nsr/report.html"
    )
    assert shot.stat().st_size > 20_000 and "CONSOLE" not in done.stderr


def test_pipes_and_devices_among_the_results_are_named_not_read(nsr, tmp_path):
    for file in ("records/smoke/pipe.json", "bench/pipe.json", "figures/smoke/curves.png"):
        (tmp_path / "results" / file).parent.mkdir(parents=True)
        os.mkfifo(tmp_path / "results" / file)
    result = nsr("report")
    assert result.code == 0, result.err
    html = (tmp_path / "results/report.html").read_text()
    for file in ("records/smoke/pipe.json", "bench/pipe.json", "figures/smoke/curves.png"):
        assert re.search(rf"<code>{file}</code>: [^<]*not a regular file", html), file


def test_a_device_or_a_pipe_is_not_replaced_by_the_page(nsr, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    result = nsr("report out=./pipe")
    assert (result.code, result.err) == (2, "nsr report: out=pipe: a device or a pipe; expected a file\n")
    assert (tmp_path / "pipe").is_fifo()


def test_a_damaged_measurement_of_the_bench_is_named(nsr, tmp_path):
    measured = json.loads(min((CHECKOUT / "results/bench").glob("*.json")).read_text())
    first = next(iter(next(iter(measured["tables"].values())).values()))[0]
    damaged = {
        "endless": {"tables": {"Forward": {"fixed size": [first | {"static": {"contiguous": math.inf}}]}}},
        "empty": {"setting": measured["setting"] | {"batch": 0}},
        "undated": {"made": {name: value for name, value in measured["made"].items() if name != "date"}},
    }
    (tmp_path / "results/bench").mkdir(parents=True)
    for name, change in damaged.items():
        (tmp_path / f"results/bench/{name}.json").write_text(json.dumps(measured | change))
    (tmp_path / "results/bench/deep.json").write_text("[" * 10**5)
    result = nsr("report")
    assert result.code == 0, result.err
    html = (tmp_path / "results/report.html").read_text()
    for name in (*damaged, "deep"):
        assert f"<code>bench/{name}.json</code>: it is no measurement of nsr bench" in html, name
