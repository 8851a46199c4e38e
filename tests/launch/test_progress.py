"""How a sweep does, told from its records, its states and the queue; and what `nsr status` makes of it."""

import json
import os

import pytest
from samples import say

from nsr_cli import cli
from nsr_cli.engine.processes import start_time
from nsr_cli.errors import UserError
from nsr_cli.launch import progress, slurm
from nsr_cli.launch.progress import last_line, progress_of, records_in, seconds_left
from nsr_cli.launch.slurm import Queued
from nsr_cli.launch.sweep import Job, create_sweep, read_sweep
from nsr_cli.runs.record import Record, write_record


@pytest.fixture
def sweep(tmp_path):
    """A sweep of five jobs of Slurm."""
    jobs = [Job(i, f"run{i}", [f"tau={i}"], [f"records/smoke/run{i}--set5.json"]) for i in range(5)]
    sweep = create_sweep(tmp_path / "results", "nsr ablate", "slurm", jobs)
    sweep.note_arrays([(0, 5, "5")])
    return sweep


def record(sweep, index: int) -> None:
    """A whole record of what a job makes; what it says is nothing to a sweep."""
    path = sweep.results / sweep.jobs[index].records[0]
    write_record(path, Record(sweep.jobs[index].run, "5a", {}, "set5", scores={}, made={}))


def words(sweep, queue) -> list[str]:
    return [p.word for p in progress_of(sweep, records_in(sweep.results), queue)]


def queued(sweep, index: int, state: str, reason: str = "None") -> dict:
    return {(sweep.name, index): Queued(f"5_{index}", state, reason, "n1")}


def test_a_sweep_is_read_as_it_was_written(sweep):
    assert read_sweep(sweep.folder) == sweep
    assert read_sweep(sweep.folder / "states") is None


def test_each_word(sweep):
    record(sweep, 0)
    say(sweep, 0, "done")
    say(sweep, 1, "running")
    say(sweep, 3, "failed", error="ValueError: no")
    queue = queued(sweep, 1, "RUNNING") | queued(sweep, 2, "PENDING", "Priority")
    found = progress_of(sweep, records_in(sweep.results), queue)
    assert [p.word for p in found] == ["done", "running", "pending", "failed", "missing"]
    assert found[2].detail == "Priority" and found[3].detail == "ValueError: no"


def test_a_job_that_left_the_queue_without_a_word_has_failed(sweep):
    say(sweep, 0, "running")
    assert words(sweep, {})[0] == "failed"
    assert words(sweep, None)[0] == "running"  # Slurm does not answer: its last word stands


def test_a_job_that_was_stopped_or_requeued_waits_or_is_missing(sweep):
    for said in ("stopped", "requeued"):
        say(sweep, 0, said)
        assert words(sweep, queued(sweep, 0, "PENDING", "BeginTime"))[0] == "pending"
        assert words(sweep, {})[0] == "missing"


def test_the_process_that_failed_first_speaks_for_its_job(sweep):
    say(sweep, 0, "running")
    say(sweep, 0, "failed", rank=2, error="Connection closed by peer")
    say(sweep, 0, "failed", rank=1, error="ValueError: the reason")
    assert sweep.state_of(0)["error"] == sweep.states()[0]["error"] == "ValueError: the reason"


def test_a_diverged_run_has_failed_although_it_is_recorded(sweep):
    record(sweep, 0)
    say(sweep, 0, "failed", error="the loss is nan at step 3")
    (sweep.results / "runs/run0").mkdir(parents=True)
    (sweep.results / "runs/run0/diverged.txt").touch()
    assert words(sweep, {})[0] == "failed"
    record(sweep, 1)
    say(sweep, 1, "failed", error="OSError: disk full")  # since then another sweep has done it
    assert words(sweep, {})[1] == "done"


@pytest.mark.parametrize(
    ("said", "in_queue", "expected"),
    [
        ("running", "RUNNING", "running"),
        (None, "PENDING", "pending"),
        ("requeued", "PENDING", "pending"),
        ("done", "COMPLETING", "done"),
        ("failed", None, "failed"),
        ("running", None, "failed"),
        ("stopped", None, "missing"),
        (None, None, "missing"),
    ],
)
def test_records_of_before_do_not_make_a_job_done(sweep, said, in_queue, expected):
    """It is to score them anew, or to keep weights or images too."""
    record(sweep, 0)
    os.utime(sweep.results / sweep.jobs[0].records[0], (5, 5))
    if said:
        say(sweep, 0, said)  # at 10 s
    assert words(sweep, queued(sweep, 0, in_queue) if in_queue else {})[0] == expected
    record(sweep, 0)  # by another sweep
    assert words(sweep, {})[0] == "done"


def test_a_killed_job_of_two_records_is_done_once_both_are_new(tmp_path):
    jobs = [Job(0, "run0", ["tau=0"], ["records/smoke/a.json", "records/smoke/b.json"])]
    sweep = create_sweep(tmp_path / "results", "nsr eval", "slurm", jobs)
    for name in jobs[0].records:
        write_record(sweep.results / name, Record("run0", "5a", {}, "set5", scores={}, made={}))
    say(sweep, 0, "running")
    os.utime(sweep.results / jobs[0].records[0], (5, 5))
    assert words(sweep, {}) == ["failed"]
    os.utime(sweep.results / jobs[0].records[0])
    assert words(sweep, {}) == ["done"]


def test_on_this_machine_a_job_lives_as_long_as_its_process(tmp_path):
    local = create_sweep(
        tmp_path / "results", "nsr ablate", "local", [Job(0, "run0", ["tau=0"], ["records/smoke/a.json"])]
    )
    assert words(local, {}) == ["pending"]  # the process that launched it is this one
    say(local, 0, "running", pid=os.getpid(), started=start_time(os.getpid()))
    assert words(local, {}) == ["running"]
    say(local, 0, "running", pid=os.getpid())  # the number is another process's now
    assert words(local, {}) == ["failed"]
    say(local, 0, "running")
    assert words(local, {}) == ["failed"]


def test_only_records_that_jobs_name_are_read(sweep, monkeypatch):
    record(sweep, 0)
    other = sweep.results / "records/smoke/other.json"
    other.write_bytes((sweep.results / sweep.jobs[0].records[0]).read_bytes())
    read = []
    monkeypatch.setattr(progress, "is_whole", lambda path: read.append(path.name) or True)
    monkeypatch.setattr(slurm, "queue", lambda: queued(sweep, 1, "PENDING"))
    assert cli.run(["status", str(sweep.results)]) == 0
    assert read.count("run0--set5.json") == 1 and "run1--set5.json" not in read and "other.json" not in read


def test_time_left(sweep):
    (sweep.results / "runs/run1").mkdir(parents=True)
    line = {"step": 100, "steps": 400, "loss": 0.02, "steps_per_second": 10.0}
    (sweep.results / "runs/run1/stats.jsonl").write_text(json.dumps(line) + '\n{"step": 150, "lo')
    record(sweep, 0)
    say(sweep, 0, "done")  # took 60 s
    say(sweep, 1, "running")  # has 30 s of 40 left
    queue = queued(sweep, 1, "RUNNING") | queued(sweep, 2, "PENDING") | queued(sweep, 3, "PENDING")
    found = progress_of(sweep, records_in(sweep.results), queue)
    assert found[1].detail.startswith("step 100 of 400, 10.0 steps/s, loss 0.0200")
    assert seconds_left(found) == pytest.approx(30 + 2 * (60 + 40) / 2)  # one at a time
    assert seconds_left(found[2:]) is None


def test_the_last_line_of_a_long_file(tmp_path):
    path = tmp_path / "stats.jsonl"
    path.write_text("".join(json.dumps({"step": i, "more": "x" * 100}) + "\n" for i in range(1000)))
    assert last_line(path)["step"] == 999
    assert last_line(tmp_path / "none") is None


def test_the_verb_shows_counts_reasons_and_logs(sweep, monkeypatch, capsys):
    record(sweep, 0)
    say(sweep, 0, "done")
    say(sweep, 3, "failed", error="ValueError: no")
    queue = queued(sweep, 1, "RUNNING") | queued(sweep, 2, "PENDING", "Priority")
    monkeypatch.setattr(slurm, "queue", lambda: queue)
    say(sweep, 1, "running")
    assert cli.run(["status", str(sweep.results)]) == 0
    out = capsys.readouterr().out
    assert (
        f"{sweep.folder}: nsr ablate, 5 runs\n  1 done, 1 running, 1 pending, 1 failed, 1 missing; about 2:00 left"
        in out
    )
    assert "  tau=2\n    Priority, job 5_2\n" in out
    assert f"  tau=3\n    ValueError: no\n    {sweep.folder}/logs/5_3_0_log.out" in out
    assert "tau=0" not in out

    monkeypatch.setattr(slurm, "queue", lambda: None)
    assert cli.run(["status", str(sweep.folder)]) == 0
    assert capsys.readouterr().out.startswith("Slurm does not answer (squeue)")


def test_a_sweep_of_which_all_is_done_is_two_lines(sweep, monkeypatch, capsys):
    for index in range(5):
        record(sweep, index)
        say(sweep, index, "done")
    monkeypatch.setattr(slurm, "queue", dict)
    assert cli.run(["status", str(sweep.folder)]) == 0
    assert capsys.readouterr().out == f"{sweep.folder}: nsr ablate, 5 runs\n  5 done\n"


def test_several_sweeps_are_a_line_each_and_the_newest_in_full(sweep, monkeypatch, capsys):
    monkeypatch.setattr(slurm, "queue", dict)
    other = create_sweep(
        sweep.results, "nsr table 1", "slurm", [Job(0, "run9", ["ablate tau=9"], ["records/smoke/b.json"])]
    )
    os.utime(sweep.folder / "sweep.json", (1, 1))
    assert cli.run(["status", str(sweep.results)]) == 0
    out = capsys.readouterr().out
    assert f"{other.name}  nsr table 1" in out and f"{sweep.name}  nsr ablate" in out
    assert "missing:\n  ablate tau=9" in out and "tau=1" not in out


def test_many_jobs_of_a_kind_are_cut_short_unless_all_are_asked_for(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(slurm, "queue", dict)
    jobs = [Job(i, f"run{i}", [f"tau={i}"], [f"records/smoke/{i}.json"]) for i in range(30)]
    create_sweep(tmp_path, "nsr ablate", "slurm", jobs)
    assert cli.run(["status", str(tmp_path)]) == 0
    assert capsys.readouterr().out.endswith("  tau=9\n  and 20 more (--all shows them)\n")
    assert cli.run(["status", str(tmp_path), "--all"]) == 0
    assert capsys.readouterr().out.endswith("  tau=29\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["/nowhere"], "nsr status: /nowhere: no such folder; expected a sweep's, or results with sweeps below\n"),
        (["{empty}"], "nsr status: {empty}: no sweep there; hydra/launcher=slurm or local makes them\n"),
        (["--al", "x"], "nsr status: "),
        (["a", "b"], "nsr status: unrecognized arguments: b\n"),
    ],
)
def test_bad_input(tmp_path, capsys, arguments, message):
    code = cli.run(["status", *(argument.format(empty=tmp_path) for argument in arguments)])
    err = capsys.readouterr().err
    assert code == 2 and err.startswith(message.format(empty=tmp_path)) and err.count("\n") == 1


def test_what_scontrol_says_of_an_end(monkeypatch):
    line = "JobId=5 JobName=nsr JobState=OUT_OF_MEMORY Reason=OutOfMemory ExitCode=0:125"
    monkeypatch.setattr(slurm, "output_of", lambda *command: line)
    assert slurm.describe_end(slurm.facts_of("5")) == "Slurm: OUT_OF_MEMORY, OutOfMemory, exit code 0, signal 125"
    monkeypatch.setattr(slurm, "output_of", lambda *command: None)
    assert slurm.describe_end(slurm.facts_of("5")) == "Slurm has no record of it"


def test_jobs_of_an_array_that_never_began_share_a_record(monkeypatch):
    """As Slurm 22.05 answers: nothing for 7_3, and for 7 a line for each task that began and one for all others."""
    lines = "JobId=8 ArrayTaskId=0 JobState=RUNNING\nJobId=7 ArrayTaskId=2-3,5%1 JobState=CANCELLED\n"
    monkeypatch.setattr(slurm, "output_of", lambda *command: lines if command[-1] == "7" else None)
    states = [slurm.facts_of(f"7_{task}").get("JobState") for task in range(1, 6)]
    assert states == [None, "CANCELLED", "CANCELLED", None, "CANCELLED"]


def test_a_job_that_died_before_it_could_say_anything_has_failed(sweep):
    (sweep.folder / "logs" / "5_0_0_log.out").write_text("ImportError: no torch on this node")
    found = progress_of(sweep, records_in(sweep.results), {})
    assert [p.word for p in found] == ["failed", *["missing"] * 4]


def test_a_failure_of_an_earlier_attempt_is_forgotten(sweep):
    say(sweep, 0, "failed", rank=1, error="node failure")
    say(sweep, 0, "running", attempt=1)
    assert sweep.state_of(0)["state"] == sweep.states()[0]["state"] == "running"


def test_a_path_that_slurm_would_read_otherwise_is_refused(tmp_path):
    odd = create_sweep(tmp_path / "50%A", "nsr ablate", "slurm", [Job(0, "run0", ["tau=0"], [])])
    with pytest.raises(UserError, match="50%A: Slurm reads % in the names of files as its own"):
        slurm.submit(odd, [""], {})


def test_the_queue_knows_our_jobs_by_their_names(monkeypatch):
    shown = (
        "77_3|nsr-1121-091233-3f2a.1001|PENDING|Priority|\n"
        "78|nsr-1121-091233-3f2a.0|RUNNING|None|n[1-2]\n"
        "79_1|somebody-else.0|RUNNING|None|n3\n"
        "80|of|another's taste|PENDING|None|\n"
        "81|nsr-1121-091233-3f2b.0|PENDING|launch failed requeued held|\n"  # after the failure of a node
    )
    monkeypatch.setattr(slurm, "output_of", lambda *command: shown)
    found = slurm.queue()
    assert list(found) == [("1121-091233-3f2a", 1004), ("1121-091233-3f2a", 0), ("1121-091233-3f2b", 0)]
    array, single, held = found.values()
    assert held.reason == "launch failed requeued held, until `scontrol release 81`"
    assert array.is_pending and (array.reason, single.reason, single.nodes) == ("Priority", "", "n[1-2]")


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Slurm's commands as scripts: a function (name, script)."""
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    (tmp_path / "bin").mkdir()

    def write(name: str, script: bytes) -> None:
        (tmp_path / "bin" / name).write_bytes(b"#!/bin/sh\n" + script)
        (tmp_path / "bin" / name).chmod(0o755)

    return write


def test_jobs_in_the_queue_may_have_names_of_any_bytes(programs):
    programs("squeue", b"printf '1|na\\377me|PENDING|None|\\n2|nsr-1121-091233-3f2a.0|RUNNING|None|n1\\n'")
    assert list(slurm.queue()) == [("1121-091233-3f2a", 0)]


def test_nothing_is_known_of_a_job_without_an_id(programs):
    programs("scontrol", b"echo JobId=5 JobState=PENDING")  # without an id it lists every job
    assert slurm.facts_of("5")["JobState"] == "PENDING" and slurm.facts_of("") == {}
