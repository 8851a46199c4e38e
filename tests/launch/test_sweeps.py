"""Sweeps on a real Slurm, as a user types them: each job waited for, each end told, nothing done twice."""

import json
import os
import re
import shutil
import signal
from pathlib import Path

import pytest
from shell import CHECKOUT, HELD, TINY, Shell, entries, logs, records, states, stats, submitted, sweeps, wait_until

SLURM = "hydra/launcher=slurm"


@pytest.fixture
def shell(slurm, tmp_path):
    shell = Shell(tmp_path, slurm)
    yield shell
    shell.close()


@pytest.fixture
def programs(shell, tmp_path):
    """Put a program of one line before one of Slurm's, which stands in the line as {}."""
    bin = tmp_path / "bin"
    bin.mkdir()
    own = f"{bin}:{shell.environment['PATH']}"

    def put(name: str, line: str) -> None:
        (bin / name).write_text(f"#!/bin/sh\n{line.format(shutil.which(name))}\n")
        (bin / name).chmod(0o755)
        shell.environment["PATH"] = own

    return put


def test_a_sweep_is_submitted_once_and_whoever_repeats_it_waits_for_it(shell, tmp_path):
    results, line = tmp_path / "results", f"ablate -m seed=0,1,2,3 tau=1,1.0 {TINY} {SLURM}"
    code, said = shell.run(f"{line} wait=false {HELD}")
    array = submitted(said)  # two cells are the same run, and one job
    assert code == 0 and f"submitted 4 jobs as {array}: {results}/sweeps/" in said and "wait=false: " in said
    (sweep,) = sweeps(results)
    assert [job.cells for job in sweep.jobs] == [[f"seed={i} tau=1", f"seed={i} tau=1.0"] for i in range(4)]

    code, said = shell.run("status")
    assert code == 0 and f"{sweep.folder}: nsr ablate, 4 runs\n  4 pending\n" in said
    assert f"  seed=2 tau=1; seed=2 tau=1.0\n    JobHeldUser, job {array}_2\n" in said

    left = shell.start(line)
    left.has_said("0 of 4 done, 0 running, 4 pending (JobHeldUser)")
    left.process.send_signal(signal.SIGINT)
    code, said = left.finish()
    assert code == 130 and "jobs as " not in said and "Traceback" not in said
    assert f"4 are in the queue already, in {sweep.folder}\n" in said and f"`scancel {array}` ends them" in said
    assert set(shell.queue()) == {f"{array}_{i}" for i in range(4)}

    waiting = shell.start(line)
    waiting.has_said("4 pending (JobHeldUser)")
    shell.slurm("scancel", f"{array}_3")
    shell.slurm("scontrol", "release", array)
    code, said = waiting.finish()
    assert code == 1 and "jobs as " not in said and "Traceback" not in said
    for cell in ("seed=3 tau=1", "seed=3 tau=1.0"):
        assert f"\nnsr ablate {cell}: it never began; Slurm has no record of it\n" in said
    assert said.endswith("nsr ablate: 2 of 8 jobs failed; the others are done\n")
    assert set(records(results)) == {0, 1, 2} and states(sweep) == dict.fromkeys(range(3), "done")
    for seed, record in records(results).items():
        assert f"\nseed={seed} tau=1: embedded_val rgb: {record['scores']['rgb']['psnr']:.4f} dB" in said
    code, said = shell.run("status")
    assert code == 0 and "\n  3 done, 1 missing\n" in said

    code, said = shell.run(line)
    assert code == 0 and "6 of 8 are done already\n" in said and "\nsubmitted 1 job as " in said
    assert set(records(results)) == {0, 1, 2, 3} and logs(results).count("\ntraining wdsr-") == 4
    code, said = shell.run(line)
    assert (code, said) == (0, "8 of 8 are done already\n") and len(sweeps(results)) == 2


# A network of the user's own, to which all happens that may happen to a job; the seed chooses.
OWN = """
import os, sys, time
import torch
from nsr_cli.models.wdsr import WDSR

class Own(WDSR):
    def __init__(self, **settings):
        self.seed = torch.initial_seed()
        print("GPU", os.environ["CUDA_VISIBLE_DEVICES"], "of", os.environ["SLURMD_NODENAME"], flush=True)
        if self.seed in (4, 5, 6):
            print("waits", flush=True)
            time.sleep(1000)
        super().__init__(**settings)

    def forward(self, x):
        if self.seed == 1:
            raise ZeroDivisionError("no luck with this one")
        if self.seed == 2:
            sys.exit(3)
        if self.seed == 3:
            hoard = bytes([1]) * (1400 << 20)  # ones: untouched zeros take no memory
            time.sleep(1000)
        return super().forward(x) * (float("nan") if self.seed == 8 else 1)
"""


def test_batches_that_the_processes_of_a_job_cannot_share_are_not_submitted(shell, tmp_path):
    ranks = "hydra/launcher=slurm_ddp hydra.launcher.nodes=2 hydra.launcher.tasks_per_node=2"
    code, said = shell.run(f"train -m batch=6,8 {ranks} dry_run=true")
    assert code == 2 and "\nwould be submitted: batch=8\n" in said and said.count("would be") == 1, said
    assert "nsr train batch=6: batch=6: expected a multiple of 4, the processes that share it\n" in said
    assert entries(tmp_path) == []


def test_every_end_of_a_job_is_told_and_the_others_are_done(shell, tmp_path):
    results, own = tmp_path / "results", "model.network._target_=own.Own"
    line = f"ablate -m seed=0,1,2,3,4,5,6,7,8 {TINY} {own} {SLURM}"
    (tmp_path / "own.py").write_text(OWN)
    code, said = shell.run(f"{line} dry_run=true".replace("0,1,2,3,4,5,6,7,8", "7"))
    assert code == 0 and said.startswith("would be submitted: ") and entries(tmp_path) == ["own.py"], said
    damaged = Path(said.split()[-1]) / "weights.pt"
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(b"no weights")

    sweep = shell.start(f"{line} hydra.launcher.gpus_per_node=1")
    sweep.has_said("9 jobs as ")
    array = submitted(sweep.said)
    (started,) = sweeps(results)
    log = {i: started.folder / f"logs/{array}_{i}_0_log.out" for i in range(9)}
    wait_until(lambda: all(log[i].exists() and "\nwaits\n" in log[i].read_text() for i in (4, 5, 6)))
    places = [next(text for text in log[i].read_text().splitlines() if text.startswith("GPU")) for i in (4, 5, 6)]
    assert len(set(places)) == 3 and set(places) < {f"GPU {i} of n{j}" for i in (0, 1) for j in (1, 2)}
    os.kill(started.state_of(4)["pid"], signal.SIGKILL)
    shell.slurm("scancel", f"{array}_5")
    shell.slurm("scancel", "--signal=USR2", f"{array}_6")  # as Slurm does when the time is nearly up
    code, said = sweep.finish()

    assert code == 1 and said.endswith("nsr ablate: 8 of 9 jobs failed; the others are done\n")
    for i, error in {
        1: "model=wdsr: fails on (1, 3, 32, 32): ZeroDivisionError: no luck with this one (own.py, line ",
        2: "SystemExit: 3",
        3: "out of memory; Slurm: FAILED, NonZeroExitCode, exit code 137, signal 0",
        4: "Slurm: FAILED, NonZeroExitCode, exit code 137, signal 0",
        5: "Slurm: CANCELLED",
        6: "the time limit came before anything was saved; expected a larger timeout_min",
        7: f"{damaged} is damaged",
    }.items():
        (told,) = [text for text in said.splitlines() if text.startswith(f"nsr ablate seed={i}: ")]
        assert told.startswith(f"nsr ablate seed={i}: {error}") and str(log[i]) in told, told
    assert "\nnsr ablate seed=8: diverged: the loss is nan at step 1, on patches of " in said
    assert said.count("Traceback") == 1 and "own.py" in said and "exceeded memory limit" in said
    said_themselves = {0: "done", 3: "running", 4: "running", 5: "stopped"}
    assert states(started) == dict.fromkeys(range(9), "failed") | said_themselves and set(records(results)) == {0, 8}
    code, said = shell.run("status")
    assert code == 0 and "\n  1 done, 7 failed, 1 missing\n" in said
    assert f"  seed=2\n    SystemExit: 3\n    {log[2]}\n" in said
    assert "  seed=4\n    it ended without a word; Slurm: FAILED, NonZeroExitCode, exit code 137" in said
    assert "  seed=5\n    stopped before its end; what it had is kept\n" in said

    (tmp_path / "own.py").write_text("from nsr_cli.models.wdsr import WDSR as Own\n")
    damaged.unlink()
    code, said = shell.run(line.replace("0,1,2,3,4,5,6,7,8", "0,1,7,8"))
    assert code == 1 and "1 of 4 are done already" in said and "\nsubmitted 2 jobs as " in said
    assert said.endswith("nsr ablate: 1 of 4 jobs failed; the others are done\n")  # seed=8, once is enough
    assert set(records(results)) == {0, 1, 7, 8} and len(stats(results, 8)) == 0
    code, said = shell.run(line.replace("0,1,2,3,4,5,6,7,8", "0,1,7"))
    assert (code, said) == (0, "3 of 3 are done already\n")


def test_two_sweeps_at_once_train_each_run_once(shell, tmp_path, programs):
    results, line = tmp_path / "results", f"ablate -m seed=0 {TINY} {SLURM} hydra.launcher.cpus_per_task=null"
    programs("sbatch", 'touch waiting-$$; until test -e open; do sleep 0.1; done; exec {} "$@"')
    both = [shell.start(line) for _ in range(2)]  # neither sees in the queue what the other one will submit
    wait_until(lambda: len(list(tmp_path.glob("waiting-*"))) == 2)
    (tmp_path / "open").touch()
    for sweep in both:
        code, said = sweep.finish()
        assert code == 0 and "submitted 1 job as" in said and "\n1 of 1 done, 0 running\n" in said, said
    assert [states(sweep) for sweep in sweeps(results)] == [{0: "done"}, {0: "done"}]
    assert set(records(results)) == {0} and len(stats(results)) == 1
    assert logs(results).count("\ntraining wdsr-") == 1 and logs(results).count(" on embedded_val: rgb: ") == 2


def test_what_slurm_refuses_is_a_line_and_leaves_nothing(shell, tmp_path):
    code, said = shell.run(f"ablate -m seed=0,1 {TINY} {SLURM} hydra.launcher.partition=nowhere")
    assert code == 2 and said.startswith("nsr ablate: Slurm refuses the jobs: "), said
    assert "nowhere" in said and said.count("\n") == 1 and entries(tmp_path) == []


def test_a_cluster_that_does_not_answer_is_a_line(shell, tmp_path):
    conf = Path(shell.environment["SLURM_CONF"]).read_text()
    nobody = re.sub(r"SlurmctldPort=\d+", "SlurmctldPort=9", conf) + "MessageTimeout=2\nTCPTimeout=1\n"
    (tmp_path / "slurm.conf").write_text(nobody)
    line, silent = f"ablate -m seed=0,1 {TINY} {SLURM}", {"SLURM_CONF": str(tmp_path / "slurm.conf")}
    code, said = shell.run(line, **silent)
    assert (code, said) == (1, "nsr ablate: Slurm does not answer (squeue); nothing was submitted\n")
    assert entries(tmp_path) == ["slurm.conf"]
    assert shell.run(f"{line} wait=false {HELD}")[0] == 0
    code, said = shell.run("status", **silent)
    assert code == 0 and said.startswith("Slurm does not answer (squeue): its pending and running jobs are not known\n")


@pytest.fixture
def checkout(tmp_path):
    """A checkout of nsr with a smaller budget."""
    folder = tmp_path / "checkout"
    for name in ("nsr_cli", "conf", "experiments"):
        shutil.copytree(CHECKOUT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    smoke = folder / "conf/protocol/smoke.yaml"
    text = smoke.read_text()
    for was, now in ("blocks: 2", "blocks: 1"), ("units: 16", "units: 4"), ("steps: 2000", "steps: 6"):
        assert was in text
        text = text.replace(was, now)
    smoke.write_text(text)
    return folder


def test_a_table_by_slurm_and_code_that_changes_before_its_jobs_begin(shell, tmp_path, checkout):
    table = shell.start(f"table 1 run=true {SLURM} {HELD} protocol=smoke", PYTHONPATH=str(checkout))
    table.has_said(" pending (JobHeldUser)")
    count = int(re.search(r"0 of (\d+) done, 0 running, \1 pending", table.said)[1])
    with open(checkout / "nsr_cli/engine/trainer.py", "a") as file:
        file.write("# a thought\n")
    shell.slurm("scontrol", "release", submitted(table.said))
    code, said = table.finish()
    assert code == 0 and f"\n{count} of {count} done, 0 running\n## Table 1: " in said, said
    found = [json.loads(path.read_text()) for path in (tmp_path / "results/records/smoke").iterdir()]
    assert [record["made"].get("code") for record in found] == count * ["changed after it was submitted"]
    for record in found:
        assert f" {record['scores']['rgb']['psnr']:.3f} |" in said  # in its row
    assert str(tmp_path / "results/tables/smoke/table1.md") in said
    (sweep,) = sweeps(tmp_path / "results")
    assert sweep.title == "nsr table 1" and sweep.jobs[0].cells[0].startswith("ablate sparsity=none protocol=smoke")


# In jobs of Slurm the record is made up, so that there can be many; all else is real.
STUB = """
import os
if "SLURM_STEP_ID" in os.environ:
    import nsr_cli.launch.job
    from nsr_cli.runs.record import Record, Score, write_record
    def make_up(run):
        with open(f"{run.request.results}/ran", "a") as file:
            file.write(f"{run.spec.training.seed}\\n")
        (benchmark,), numbers = run.request.benchmarks, {"psnr": 30.0, "ssim": 0.9}
        scores = {c.name: Score(c, numbers, {"a.png": numbers}) for c in run.conventions(benchmark)}
        record = Record(run.name, run.spec.signature, run.spec.signed, benchmark, scores, made={})
        write_record(run.record(benchmark), record)
    nsr_cli.launch.job.do_run = make_up
"""


def test_more_jobs_than_an_array_may_have(shell, tmp_path, programs):
    """1,100 jobs on a Slurm whose limit is 1,001 go the same way, in minutes; here it says that its limit is 12."""
    (tmp_path / "sitecustomize.py").write_text(STUB)
    programs("scontrol", '{} "$@" | sed -E "s/^(MaxArraySize .*=) 1001$/\\1 12/"')
    seeds = list(range(30))
    line = f"ablate -m seed={','.join(map(str, seeds))} {TINY} {SLURM}"
    code, said = shell.run(line, PYTHONPATH=f"{tmp_path}:{CHECKOUT}")
    assert code == 0 and re.search(r"^submitted 30 jobs as \d+, \d+, \d+: ", said), said
    assert said.endswith("\n30 of 30 done, 0 running\n")
    ran = (tmp_path / "results/ran").read_text().splitlines()
    assert sorted(map(int, ran)) == seeds
    (sweep,) = sweeps(tmp_path / "results")
    assert states(sweep) == dict.fromkeys(seeds, "done")


def test_what_slurm_takes_is_done_and_what_it_refuses_is_submitted_next_time(shell, tmp_path, programs):
    programs("scontrol", '{} "$@" | sed -E "s/^(MaxArraySize .*=) 1001$/\\1 1/"')
    programs("sbatch", 'mkdir once 2>/dev/null || {{ echo "sbatch: error: no more of you" >&2; exit 1; }}; {} "$@"')
    line, results = f"ablate -m seed=0,1,2 {TINY} {SLURM}", tmp_path / "results"
    code, said = shell.run(line)
    assert code == 1 and "submitted 1 job as " in said and "\n1 of 1 done, 0 running\n" in said, said
    for seed in (1, 2):
        assert f"\nnsr ablate seed={seed}: not submitted, for Slurm refuses more: no more of you; repeat " in said
    assert set(records(results)) == {0} and said.endswith("nsr ablate: 2 of 3 jobs failed; the others are done\n")
    (tmp_path / "bin/sbatch").unlink()
    code, said = shell.run(line)
    assert code == 0 and "1 of 3 are done already" in said and "\nsubmitted 2 jobs as " in said
    assert set(records(results)) == {0, 1, 2}
