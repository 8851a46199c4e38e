"""Jobs that are stopped and started again by Slurm, with one process and with two: the same bits in the end."""

import contextlib
import re
import subprocess

import pytest
from shell import Shell, assert_same_bits, logs, records, states, stats, submitted, sweeps, wait_until, weights

STEPS = 120
RUN = f"sparsity=softmax blocks=1 units=4 width=1 batch=4 threads=1 device=cpu steps={STEPS} validate_every=1000"
SLURM = "hydra/launcher=slurm"
DDP = "hydra/launcher=slurm_ddp hydra.launcher.mem_gb=2 hydra.launcher.nodes={} hydra.launcher.tasks_per_node={}"
NODE, NODES = DDP.format(1, 2), DDP.format(2, 1)
GPUS = "hydra/launcher=slurm_ddp hydra.launcher.nodes=2 hydra.launcher.gpus_per_node=1"  # a process each

# WDSR, but that from the middle on its training waits at every step until a file is there.
SLOW = """
import pathlib, time
from nsr_cli.models.wdsr import WDSR

class Slow(WDSR):
    steps = 0

    def forward(self, x):
        self.steps += self.training
        if self.training and self.steps > 60 and not pathlib.Path("hurry").exists():
            time.sleep(2)
        return super().forward(x)
"""
UNLUCKY = """
import os
from nsr_cli.models.wdsr import WDSR

class Unlucky(WDSR):
    def forward(self, x):
        if os.environ["SLURM_PROCID"] == "1":
            raise ZeroDivisionError("no luck on the second node")
        return super().forward(x)
"""


@pytest.fixture
def shell(slurm, tmp_path):
    (tmp_path / "slow.py").write_text(SLOW)
    (tmp_path / "unlucky.py").write_text(UNLUCKY)
    shell = Shell(tmp_path, slurm)
    yield shell
    shell.close()


def resumed(text: str) -> list[int]:
    """The steps after which a job was resumed, which it was; from each that it said it saved."""
    found = [int(step) for step in re.findall(r"^resuming after step (\d+) of", text, re.MULTILINE)]
    saved = [int(step) for step in re.findall(r"after step (\d+), which is saved", text)]
    assert found and set(saved) <= set(found)
    return found


def was_requeued(shell: Shell, job: str) -> bool:
    return "Restarts=0" not in shell.slurm("scontrol", "show", "job", job)


def test_requeued_preempted_and_out_of_time_a_run_ends_in_the_same_bits(shell, tmp_path):
    results, seeds = tmp_path / "results", (0, 1, 2)
    line = f"train -m seed=0,1,2 {RUN} checkpoint_minutes=0.005"
    straight = shell.start(f"{line} results=straight")
    sweep = shell.start(f"{line} {SLURM} model.network._target_=slow.Slow")
    wait_until(lambda: all(stats(results, seed) for seed in seeds))
    array = submitted(sweep.said)
    code, said = shell.run("status")
    assert code == 0 and "\n  3 running" in said and re.search(rf"seed=1\n    step \d+ of {STEPS}, .* on n[12]", said)

    shell.slurm("scancel", "--signal=USR2", f"{array}_0")  # as Slurm does when the time is nearly up
    shell.slurm("scontrol", "requeue", f"{array}_1")
    wait_until(lambda: shell.queue()[f"{array}_0"] == shell.queue()[f"{array}_1"] == "PENDING")
    whole = ["--partition=high", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap=true"]
    shell.slurm("sbatch", *whole)
    wait_until(lambda: shell.queue()[f"{array}_2"] == "PENDING")
    (tmp_path / "hurry").touch()
    for seed in seeds:
        shell.hasten(f"{array}_{seed}")
    code, said = sweep.finish()
    assert code == 0 and said.endswith("\n3 of 3 done, 0 running\n"), said
    (own,) = sweeps(results)
    assert states(own) == dict.fromkeys(seeds, "done") and set(records(results)) == set(seeds)
    for seed in seeds:
        log = (own.folder / f"logs/{array}_{seed}_0_log.out").read_text()
        assert all(0 < step < STEPS for step in resumed(log)) and records(results)[seed]["trained"]["steps"] == STEPS
        assert [line["step"] for line in stats(results, seed)] == [50, 100, STEPS]
    code, said = straight.finish()
    assert code == 0, said
    assert_same_bits(weights(results), weights(tmp_path / "straight"))


def test_a_node_fails_and_a_time_limit_comes_and_the_runs_end_in_the_same_bits(shell, tmp_path):
    slow = f"{SLURM} model.network._target_=slow.Slow +hydra.launcher.additional_parameters.nodelist="
    limit = "hydra.launcher.timeout_min=2 hydra.launcher.signal_delay_s=60"  # comes up to 30 s before
    line = f"train -m {RUN} checkpoint_minutes=0.005"
    ways = {"straight": "", "limit": f"{slow}n1 {limit}", "failure": f"{slow}n2"}
    commands = {name: shell.start(f"{line} {way} results={name}") for name, way in ways.items()}
    wait_until(lambda: all(stats(tmp_path / name) for name in ways))
    wait_until(lambda: list(tmp_path.glob("failure/runs/*/checkpoint-*.pt")))  # a node that fails saves nothing
    jobs = {name: submitted(commands[name].said) for name in ways if name != "straight"}

    shell.slurm("scontrol", "update", "nodename=n2", "state=down", "reason=test")
    wait_until(lambda: was_requeued(shell, jobs["failure"]))
    with contextlib.suppress(subprocess.CalledProcessError):  # it may be back by itself
        shell.slurm("scontrol", "update", "nodename=n2", "state=resume")
    wait_until(lambda: was_requeued(shell, jobs["limit"]))
    (tmp_path / "hurry").touch()
    for job in jobs.values():
        shell.hasten(job)
    for name, command in commands.items():
        code, said = command.finish()
        assert code == 0, said
        assert set(records(tmp_path / name)) == {0}
        assert_same_bits(weights(tmp_path / name), weights(tmp_path / "straight"))
        assert name == "straight" or all(0 < step < STEPS for step in resumed(logs(tmp_path / name)))
    assert "stopped by SIGUSR2" in logs(tmp_path / "limit")  # before Slurm ends it


def test_two_processes_on_a_node_or_on_two_compute_what_one_does_even_when_interrupted(shell, tmp_path):
    line, slow = f"train -m {RUN}", "model.network._target_=slow.Slow"
    ways = {"late": f"{NODES} {slow}", "one": SLURM, "node": NODE, "nodes": NODES}
    commands = {}
    for name, way in ways.items():
        commands[name] = shell.start(f"{line} {way} results={name}")
        commands[name].has_said("submitted 1 job as ")  # the first one takes longest
    wait_until(lambda: stats(tmp_path / "late"))
    job = submitted(commands["late"].said)
    shell.slurm("scancel", "--signal=USR2", job)
    wait_until(lambda: shell.queue()[job] == "PENDING")
    (tmp_path / "hurry").touch()
    shell.hasten(job)
    for name, command in commands.items():
        code, said = command.finish()
        assert code == 0 and said.endswith("\n1 of 1 done, 0 running\n"), said
        assert set(records(tmp_path / name)) == {0} and states(*sweeps(tmp_path / name)) == {0: "done"}
    losses = {name: [line["loss"] for line in stats(tmp_path / name)] for name in ways}
    assert len(losses["one"]) == 3
    assert losses["node"] == pytest.approx(losses["one"], rel=1e-4)
    assert losses["nodes"] == losses["node"]
    (step,) = resumed(logs(tmp_path / "late"))
    assert 0 < step < STEPS and f"after step {step}, which is saved" in logs(tmp_path / "late")
    assert "120 steps by 2 processes" in logs(tmp_path / "nodes") and " by 2 " not in logs(tmp_path / "one")
    assert_same_bits(weights(tmp_path / "late"), weights(tmp_path / "nodes"))


def test_a_second_process_that_fails_is_reported(shell, tmp_path):
    code, said = shell.run(f"train -m {RUN} {GPUS} model.network._target_=unlucky.Unlucky")
    (sweep,) = sweeps(tmp_path / "results")
    log = sweep.folder / f"logs/{submitted(said)}_1_log.out"
    assert code == 1 and said.count("Traceback") == 1 and "unlucky.py" in said, said
    assert said.count(f": ZeroDivisionError: no luck on the second node; {log}\n") == 1, said
    assert said.endswith("\nnsr train: 1 of 1 jobs failed\n"), said
    assert "ZeroDivisionError" in log.read_text() and records(tmp_path / "results") == {}
