"""`make gpu-check`: does everything work on this machine's GPU, and how fast is it? In less than eight minutes.

    python tests/gpu/check.py [--again] [PART ...]

Each part runs in a process and a time of its own; one that fails hides no other. After each, what is known lies in
results/bench/gpu-check-CARD.json and .md: repeated, the command goes on with what has not passed. Without a GPU it
checks what a CPU can.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from xml.etree import ElementTree

import torch
from tabulate import tabulate

from nsr_cli.files import write_json, write_text
from nsr_cli.folders import child_environment, code_digest
from nsr_cli.runs.provenance import provenance
from nsr_cli.words import plural, print_line

ROOT = Path(__file__).resolve().parents[2]
IN_ALL = 460  # seconds
PYTEST = "-m pytest -v -p no:cacheprovider -p no:xdist --junitxml={out}"
CHECKS = {  # seconds at most, and what Python runs
    "layer": (120, f"{PYTEST} tests/gpu/test_layer_on_gpu.py"),
    "samplers": (40, f"{PYTEST} tests/data/test_sampler.py"),
    "training": (120, f"{PYTEST} tests/gpu/test_training_on_gpu.py"),
}
TIMES = {
    "steps": (90, "tests/gpu/times.py steps {out} cuda"),
    "bench bf16": (60, "-m nsr_cli bench device=cuda precision=bf16 networks=false results={results}"),
    "bench fp32": (60, "-m nsr_cli bench device=cuda precision=fp32 networks=false results={results}"),
    "several": (60, "tests/gpu/times.py several {out} cuda"),
    "patches": (30, "tests/gpu/times.py patches {out} cuda"),
    "tiles": (70, "tests/gpu/times.py tiles {out} cuda"),
    "compiled": (150, "tests/gpu/times.py compiled {out} cuda"),
    "bench compiled": (120, "-m nsr_cli bench device=cuda precision=bf16 groups=[4] compile=true results={results}"),
}
ON_A_CPU = CHECKS | {
    "fused kernel, interpreted": (120, f"{PYTEST} tests/layers/test_fused.py"),
    "choice of ways": (60, f"{PYTEST} tests/layers/test_choice.py"),
}
ON_A_CPU = {name: (5 * seconds, command) for name, (seconds, command) in ON_A_CPU.items()}


def main(arguments: list[str]) -> int:
    gpu = torch.cuda.is_available()
    parts = CHECKS | TIMES if gpu else ON_A_CPU
    wanted = [name for name in arguments if name != "--again"] or list(parts)
    if unknown := [name for name in wanted if name not in parts]:
        print(f"no part {unknown[0]!r}; there are: {', '.join(parts)}", file=sys.stderr)
        return 2
    results = Path(os.environ.get("NSR_RESULTS", ROOT / "results")).resolve()
    made = provenance(torch.device("cuda" if gpu else "cpu")) | {"code": code_digest()}
    stem = results / "bench" / f"gpu-check-{'-'.join(made['device'].lower().split())}"
    if not gpu:
        print_line(
            f"no GPU: torch {torch.__version__} sees none. What a CPU can check follows; nothing of it ran on a GPU."
        )
    known = {} if "--again" in arguments or not gpu else earlier(stem.with_suffix(".json"), made)
    end = time.monotonic() + (IN_ALL if gpu else 3600)
    for name in wanted:
        if known.get(name, {}).get("state") == "passed":
            print_line(f"{name}: passed before (--again repeats it)")
            continue
        known[name] = run(*parts[name], end - time.monotonic(), results, "cuda" if gpu else "cpu")
        print_line(f"{name}: {told(known[name])}")
        if gpu:
            content = {"format": 1, "made": made, "parts": known}
            write_json(stem.with_suffix(".json"), content)
            write_text(stem.with_suffix(".md"), markdown(content))
    if gpu:
        print(stem.with_suffix(".md"))
    return int(any(known[name]["state"] not in ("passed", "skipped") for name in wanted))


def earlier(path: Path, made: dict) -> dict:
    """The parts of an earlier check of the same code on the same card with the same torch."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        same = all(content["made"][key] == made[key] for key in ("device", "torch", "code"))
        return content["parts"] if same else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def run(most: float, command: str, left: float, results: Path, device: str) -> dict:
    """What became of a part: its state, its seconds, and what its tests and times are."""
    if left < 5:
        return {
            "state": "not begun",
            "seconds": 0,
            "why": f"the {IN_ALL} s of a check are over; repeat it for the rest",
        }
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        words = [word.format(out=out, results=results) for word in command.split()]
        environment = child_environment() | {"NSR_GPU_CHECK_DEVICE": device}
        began, log = time.monotonic(), Path(folder) / "log"
        with log.open("wb") as file:
            pipes = {"stdin": subprocess.DEVNULL, "stdout": file, "stderr": subprocess.STDOUT}
            child = subprocess.Popen(
                [sys.executable, *words], cwd=ROOT, env=environment, start_new_session=True, **pipes
            )
            try:
                state = "passed" if child.wait(min(most, left)) == 0 else "failed"
            except subprocess.TimeoutExpired:
                state = "out of time"
            finally:
                if child.poll() is None:
                    os.killpg(child.pid, signal.SIGKILL)  # all that it started, too
                    child.wait()
        found = {"state": state, "seconds": round(time.monotonic() - began, 1), **outcome(out)}
        if state == "passed" and found.get("tests") == 0:
            found |= {"state": "skipped", "why": found["reason"]}
        if state != "passed":
            found["log"] = log.read_text(encoding="utf-8", errors="replace")[-4000:]
        return found


def outcome(path: Path) -> dict:
    """What a part left: the report of pytest, or rows of times; nothing where it was ended before."""
    with contextlib.suppress(OSError, ValueError, ElementTree.ParseError):
        text = path.read_text(encoding="utf-8")
        if text.startswith("{"):
            return json.loads(text)
        cases = list(ElementTree.fromstring(text).iter("testcase"))
        bad = [(case.get("name"), found) for case in cases for found in case if found.tag in ("failure", "error")]
        failed = {name: found.get("message", "")[:300] for name, found in bad}
        skipped = [found.get("message", "") for case in cases for found in case.findall("skipped")]
        counts = {"tests": len(cases) - len(skipped), "skipped": len(skipped)}
        return {**counts, "reason": "; ".join(sorted(set(skipped))), "failed": failed}
    return {}


def told(part: dict) -> str:
    """A part in a line, and a line for each of its tests that failed."""
    text = f"{part['state']} after {part['seconds']:.0f} s"
    if "tests" in part:
        text += f", {plural(part['tests'], 'test')}, {part['skipped']} skipped"
    text += f": {part.get('why') or part['reason']}" if part.get("why") or part.get("reason") else ""
    lines = [f"  {name}: {' '.join(why.split())}" for name, why in part.get("failed", {}).items()]
    if part["state"] not in ("passed", "skipped") and not lines:
        lines = ["  " + line for line in part.get("log", "").splitlines()[-8:]]
    return "\n".join([text, *lines])


def markdown(content: dict) -> str:
    made, parts = content["made"], content["parts"]
    shown = [[name, part["state"], f"{part['seconds']:.0f}", part.get("tests", ""), part.get("skipped", "")]
             for name, part in parts.items()]  # fmt: skip
    text = [f"## Check of {made['device']}, torch {made['torch']}"]
    text.append(tabulate(shown, ["part", "state", "seconds", "tests", "skipped"], tablefmt="pipe"))
    for name, part in parts.items():
        if part["state"] not in ("passed", "skipped"):
            text.append(f"### {name}\n\n```\n{told(part)}\n```")
        if rows := part.get("rows"):
            text += [f"### Times: {name}", tabulate(rows, "keys", tablefmt="pipe")]
    return "\n\n".join(text) + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
