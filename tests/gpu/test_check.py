"""The order of a check: parts that fail or hang hide no other, and what passed is not repeated. No GPU is asked."""

import json
from pathlib import Path

import check
import pytest

PASSES = """
import json, sys
open(sys.argv[1], "w").write(json.dumps({"rows": [{"what": "a step", "ms": 1.5}]}))
"""
FAILS = "def test_good(): pass\ndef test_bad(): assert 1 == 2, 'one is not two'\n"
HANGS = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
open(sys.argv[1], "w").write(str(child.pid))
time.sleep(60)
"""


@pytest.fixture
def card(write, tmp_path, monkeypatch):
    """A machine whose card is called "Some Card", and parts of a check that take no GPU."""
    scripts = {
        name: write(f"{name}.py", text) for name, text in (("good", PASSES), ("test_it", FAILS), ("hang", HANGS))
    }
    monkeypatch.setattr(check.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(check, "provenance", lambda device: {"device": "Some Card", "torch": "9.9"})
    monkeypatch.setattr(check, "CHECKS", {"tests": (60, f"{check.PYTEST} {scripts['test_it']}")})
    times = {"hanging": (2, f"{scripts['hang']} {tmp_path}/child"), "good": (60, f"{scripts['good']} {{out}}")}
    monkeypatch.setattr(check, "TIMES", times)
    monkeypatch.setenv("NSR_RESULTS", str(tmp_path))
    return tmp_path / "bench/gpu-check-some-card.json"


def test_each_part_is_told_and_written_and_what_passed_is_not_repeated(card, capsys, tmp_path):
    assert check.main([]) == 1
    parts = json.loads(card.read_text())["parts"]
    assert {name: part["state"] for name, part in parts.items()} == {
        "tests": "failed", "hanging": "out of time", "good": "passed",
    }  # fmt: skip
    assert parts["tests"]["tests"] == 2 and "one is not two" in parts["tests"]["failed"]["test_bad"]
    said, text = capsys.readouterr().out, card.with_suffix(".md").read_text()
    assert "test_bad: AssertionError: one is not two" in said and "hanging: out of time after 2 s" in said
    assert "| a step |  1.5 |" in text and "one is not two" in text
    process = Path("/proc") / (tmp_path / "child").read_text() / "stat"  # what a part started is ended, too
    assert not process.exists() or process.read_text().split()[2] == "Z"
    assert check.main(["good"]) == 0 and "good: passed before" in capsys.readouterr().out
    assert check.main(["good", "--again"]) == 0 and "passed before" not in capsys.readouterr().out


def test_what_there_is_no_time_for_is_said(card, capsys, monkeypatch):
    monkeypatch.setattr(check, "IN_ALL", 1)
    assert check.main(["good"]) == 1
    assert "good: not begun after 0 s: the 1 s of a check are over" in capsys.readouterr().out


def test_a_part_that_does_not_exist(card, capsys):
    assert check.main(["fast"]) == 2
    assert capsys.readouterr().err == "no part 'fast'; there are: tests, hanging, good\n"


def test_the_requirements_are_those_of_the_package_without_torch():
    wanted = (check.ROOT / "setup.cfg").read_text().partition("install_requires =\n")[2].partition("\n\n")[0].split()
    listed = (check.ROOT / "tests/gpu/requirements.txt").read_text().splitlines()
    assert set(wanted) - set(listed) == {next(name for name in wanted if name.startswith("torch"))}
    assert not any(line.startswith("torch") for line in listed)
