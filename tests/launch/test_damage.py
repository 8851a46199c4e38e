"""Damaged files of a sweep: whatever is in them, `nsr status` and the launchers go on with what is left."""

import json
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from samples import bicubic, say

from nsr_cli import cli
from nsr_cli.launch import slurm
from nsr_cli.launch.cells import Cell, Watched
from nsr_cli.launch.on_slurm import OnSlurm
from nsr_cli.launch.slurm import Queued
from nsr_cli.launch.sweep import Job, Sweep, create_sweep, read_sweep

VALUES = (
    None, True, False, 0, -1, 7, 1.5, 1e308, float("inf"), float("nan"), 10**400, "", "x", "\0", "\ud800", "../..",
    "a" * 5000, "failed", "running", [], [[]], {}, {"0": None},
)  # fmt: skip
MUTANTS = 200  # of each file
LAUNCHER = dict.fromkeys(OnSlurm.least)  # null: as the cluster likes


@pytest.fixture
def sweep(tmp_path, monkeypatch) -> Sweep:
    """A sweep of three jobs beside an older one: one has failed, one trains, one pends."""
    results = tmp_path / "results"
    create_sweep(results, "nsr table 1", "local", [Job(0, "older", ["tau=9"], ["records/smoke/older.json"])])
    jobs = [Job(i, f"run{i}", [f"tau={i}"], [f"records/smoke/run{i}.json"]) for i in range(3)]
    sweep = create_sweep(results, "nsr ablate", "slurm", jobs)
    sweep.note_arrays([(0, 3, "5")])
    say(sweep, 0, "failed", error="ValueError: no", trace="Traceback\n")
    say(sweep, 1, "running")
    write(results / "runs/run1/stats.jsonl", {"step": 5, "steps": 9, "loss": 0.1, "steps_per_second": 2.0})
    queue = {(sweep.name, i): Queued(f"5_{i}", word, "", "n1") for i, word in enumerate(("RUNNING", "PENDING"), 1)}
    monkeypatch.setattr(slurm, "queue", lambda: queue)
    monkeypatch.setattr(slurm, "output_of", lambda *command: None)
    return sweep


def write(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content) + "\n")


def mutant(whole: bytes, chance: random.Random) -> bytes:
    """A file with a bit flipped, a part lost, or an entry dropped or replaced."""
    kind = chance.randrange(4)
    if kind == 0:
        at = chance.randrange(len(whole))
        return whole[:at] + bytes([whole[at] ^ (1 << chance.randrange(8))]) + whole[at + 1 :]
    if kind == 1:
        first, last = sorted(chance.sample(range(len(whole) + 1), 2))
        return whole[:first] + whole[last:]
    content = json.loads(whole)
    places = list(places_in(content))
    holder, key = chance.choice(places)
    if kind == 2:
        del holder[key]
    else:
        holder[key] = chance.choice(VALUES)
    return json.dumps(content).encode() + b"\n"


def places_in(content: dict | list):
    """Every (dict or list, key or index) below."""
    for key, value in list(content.items() if isinstance(content, dict) else enumerate(content)):
        yield content, key
        if isinstance(value, (dict, list)):
            yield from places_in(value)


def told(sweep: Sweep, capsys) -> str:
    """What `nsr status` prints, which must succeed."""
    capsys.readouterr()
    assert cli.run(["status", str(sweep.results)]) == 0, capsys.readouterr().err
    out, err = capsys.readouterr()
    assert err == ""
    return out


def launch(sweep: Sweep) -> None:
    """A launcher looks for its runs among the jobs of the queue, and hears how they ended."""
    dispatcher = OnSlurm(**LAUNCHER)

    def cell() -> Cell:
        return Cell("eval", "tau=0", bicubic("set5", data="/nowhere", results="/nowhere"))

    adopted, new = dispatcher.adopt([[cell()]], sweep.results)
    assert not adopted and len(new) == 1
    for index in range(3):
        watched = Watched(sweep, sweep.jobs[index], [cell()])
        dispatcher.note_end(watched, sweep.state_of(index), "killed by SIGKILL")
        assert watched.cells[0].failure


FILES = ("sweep.json", "arrays.json", "states/0.json", "states/1.json", "../../runs/run1/stats.jsonl")


@pytest.mark.parametrize("name", FILES)
def test_no_damage_brings_a_command_down(sweep, capsys, name):
    path, chance, unread = sweep.folder / name, random.Random(name), 0
    whole = path.read_bytes()
    before = told(sweep, capsys)
    changed = 0
    for number in range(MUTANTS):
        path.write_bytes(content := mutant(whole, chance))
        try:
            out = told(sweep, capsys)
            launch(sweep)
        except Exception as error:
            raise AssertionError(f"mutant {number} of {name}: {content[:2000]!r}") from error
        damaged = read_sweep(sweep.folder) is None
        assert (str(sweep.folder) in out.partition("left out, ")[2]) == damaged
        assert "nsr table 1" in out
        unread, changed = unread + damaged, changed + (out != before)
    assert (unread > 0) == (name == "sweep.json") and changed > 0  # they did damage


def break_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def nest(path: Path) -> None:
    path.write_text("[" * 100_000)


def make_pipe(path: Path) -> None:
    """Reading it would never end."""
    path.unlink(missing_ok=True)
    os.mkfifo(path)


@pytest.mark.parametrize(
    "damage", [break_off, nest, Path.unlink, lambda path: (path.unlink(), path.mkdir()), make_pipe]
)
def test_a_sweep_that_cannot_be_read_is_named_and_left_out(sweep, capsys, damage: Callable):
    damage(sweep.folder / "sweep.json")
    out = told(sweep, capsys)
    assert out.endswith(f"\nleft out, because their sweep.json cannot be read: {sweep.folder}\n")
    assert "nsr table 1, 1 run\n" in out and "nsr ablate" not in out


def test_statistics_that_are_no_file_are_named(sweep, capsys):
    make_pipe(stats := sweep.results / "runs/run1/stats.jsonl")
    named = f"on n1; cannot read {stats}: a device, a pipe or a socket, not a regular file, job 5_1\n"
    assert named in told(sweep, capsys)


@pytest.mark.parametrize("name", ["arrays.json", "states/1.json", "../../records/smoke/run0.json"])
def test_a_pipe_is_read_by_no_command(sweep, capsys, name):
    (sweep.results / "records/smoke").mkdir(parents=True)
    say(sweep, 0, "done")
    make_pipe(sweep.folder / name)
    assert "nsr ablate, 3 runs\n" in told(sweep, capsys)
    launch(sweep)


def test_where_no_sweep_can_be_read_that_is_an_error(sweep, capsys):
    for path in sweep.results.glob("sweeps/*/sweep.json"):
        path.write_text("{}")
    assert cli.run(["status", str(sweep.results)]) == 2
    err = capsys.readouterr().err
    assert str(sweep.folder) in err and " cannot be read; hydra/launcher=" in err and err.count("\n") == 1
    assert cli.run(["status", str(sweep.folder)]) == 2
    assert capsys.readouterr().err.startswith(f"nsr status: {sweep.folder}: its sweep.json is damaged; ")


def test_files_that_are_no_states_are_nothing_to_a_sweep(sweep, capsys):
    before = told(sweep, capsys)
    for name in ("abc", "abc-1", "²", "-1", "9" * 100, "1-x", "1-2", ".0.json.n1-7"):
        write(sweep.folder / f"states/{name}.json", json.loads((sweep.folder / "states/0.json").read_text()))
    (sweep.folder / "states/2-1.json").mkdir()
    assert told(sweep, capsys) == before


@pytest.mark.parametrize("name", [f"records/smoke/run{i}.json" for i in range(2)])
def test_a_damaged_record_is_none(sweep, capsys, name):
    before = told(sweep, capsys)
    for content in ("", "{}", "[" * 100_000, '{"digest": "0"}', '{"format": 2,\n "digest": "5a"\n}\n'):
        (sweep.results / name).parent.mkdir(parents=True, exist_ok=True)
        (sweep.results / name).write_text(content)
        assert told(sweep, capsys) == before
