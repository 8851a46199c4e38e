"""A throw-away Slurm on loopback: a few nodes with fake GPUs, gone with the process that asked for it.

A keeper process, this file run as a script, owns the daemons. It stops them at the end of its standard input, which
comes however its parent ends. Orphans below it become its children, so that by the end it knows every process.
"""

import contextlib
import ctypes
import getpass
import json
import os
import random
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

FOREIGN = ("SLURM", "SALLOC_", "SBATCH_", "SCANCEL_", "SINFO_", "SQUEUE_", "SRUN_")  # what Slurm's commands obey
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scancel", "scontrol", "sinfo", "squeue", "srun")
PATH = os.environ["PATH"] + ":/usr/sbin:/sbin"  # where daemons lie is not in every user's
START_TIMEOUT = 30  # seconds
CANCEL_TIMEOUT = 3  # seconds; after KillWait, nothing ends better by waiting
REQUEUE_TIMEOUT = 60  # seconds; a job that ignores SIGTERM takes 7

SLURM_CONF = """\
ClusterName=mini
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
MailProg=/bin/true

AuthType=auth/munge
CredType=cred/munge
# A requeued job may start when its old credential has expired; 5 s is the least that Slurm takes.
AuthInfo=socket={folder}/munge.sock,cred_expire=5

# After an epilog the scheduler looks at once for what to start next; without one it does so each second.
Epilog=/bin/true

# Nothing of the host is touched: no cgroups, no binding to cores that do not exist.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SlurmdParameters=config_overrides

# As on clusters where sacct does not answer: what ended is known to scontrol alone, for MinJobAge seconds.
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
MinJobAge=7200

JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill

# Intervals of 1 s are the least that Slurm takes; the two schedulers do not keep step, so that a job waits less.
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
KillWait=2
ReturnToService=2
EnforcePartLimits=ALL
DefMemPerCPU=500
MaxArraySize=1001
# At random, so that no job is taken for one of another cluster.
FirstJobId={first_job}

{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=60 DefaultTime=5 PriorityTier=1 PreemptMode=REQUEUE
PartitionName=high Nodes=ALL Default=NO MaxTime=60 DefaultTime=5 PriorityTier=10 PreemptMode=OFF
"""


def missing_programs() -> list[str]:
    """What `cluster` needs and this machine lacks."""
    return [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]


@contextlib.contextmanager
def cluster(nodes: int = 2, cpus: int = 4, gpus: int = 2) -> Iterator[dict[str, str]]:
    """Yield the variables that lead Slurm's commands to a new cluster; its nodes n1, n2, ... are idle by then."""
    command = [sys.executable, __file__, str(nodes), str(cpus), str(gpus)]
    own = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    # A session of its own: Ctrl-C is for the tests, which then end the keeper in good order.
    keeper = subprocess.Popen(command, env=own, **pipes, text=True, start_new_session=True)
    try:
        if not (ready := keeper.stdout.readline()):
            raise RuntimeError(f"Slurm did not start: {keeper.stderr.read().strip()}")
        yield json.loads(ready)
    finally:
        # A word and not only the end: whatever was forked meanwhile holds the pipe open too.
        with contextlib.suppress(BrokenPipeError):
            keeper.stdin.write("stop\n")
            keeper.stdin.close()
        keeper.wait()
        keeper.stdout.close()
        keeper.stderr.close()


def hasten(job: str, environment: dict[str, str]) -> None:
    """Let a job that was requeued begin soon, if it has not: Slurm waits for the end of its credential."""
    look = ["squeue", "--noheader", "--states=all", f"--jobs={job}", "--format=%T %r"]
    deadline = time.monotonic() + REQUEUE_TIMEOUT
    while (found := subprocess.check_output(look, env=environment, text=True).strip()) != "PENDING BeginTime":
        if not found.startswith(("COMPLETING", "PENDING")):
            return
        if found.endswith("held"):  # on a busy machine: its node had not forgotten the old one, and is drained for that
            for fix in (["update", "nodename=ALL", "state=resume"], ["release", job]):
                subprocess.run(["scontrol", *fix], env=environment, stderr=subprocess.DEVNULL, check=False)
        if time.monotonic() > deadline:
            raise TimeoutError(f"job {job} neither begins nor is held back after a requeue: squeue says {found!r}")
        time.sleep(0.05)
    # Not now: in the very second that revoked the old credential, a new one counts as revoked too. And unchecked: by
    # now the job may have begun.
    subprocess.run(["scontrol", "update", f"job={job}", "StartTime=now+1"], env=environment, check=False)


def descendants(ancestor: int) -> set[int]:
    """The ids of the living processes below a process."""
    children = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                children.setdefault(int(parent), set()).add(int(stat.parent.name))
    found, fresh = set(), {ancestor}
    while fresh := set().union(*(children.get(pid, ()) for pid in fresh)):
        found |= fresh
    return found


def keep(nodes: int, cpus: int, gpus: int) -> None:
    """The keeper: start a cluster, say so, stop it at a word or the end of standard input."""
    adopt_orphans()
    # Not TMPDIR or pytest's: munged refuses a socket below a private folder, and a socket's path has 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="nsr-slurm-", dir="/tmp"))
    folder.chmod(0o755)
    environment = {"SLURM_CONF": str(folder / "slurm.conf")}
    os.environ.update(environment, PATH=PATH)
    try:
        configure(folder, nodes, cpus, gpus)
        start(folder, nodes)
        print(json.dumps(environment), flush=True)
        while not select.select([sys.stdin], [], [], 0.1)[0]:
            reap()
        cancel_jobs()
    finally:
        kill_all_below()
        shutil.rmtree(folder, ignore_errors=True)


def adopt_orphans() -> None:
    """Make this process the parent of every process below it whose own parent ends, as slurmstepd's does."""
    PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
    if ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError("prctl(PR_SET_CHILD_SUBREAPER) failed")


def configure(folder: Path, nodes: int, cpus: int, gpus: int) -> None:
    """Write the configuration, the fake GPUs and the key of munge."""
    controller_port, *ports = free_ports(1 + nodes)
    node = "NodeName=n{} NodeHostname=localhost NodeAddr=127.0.0.1 Port={} CPUs={} RealMemory=8000 Gres=gpu:{}"
    text = SLURM_CONF.format(
        folder=folder,
        user=getpass.getuser(),
        controller_port=controller_port,
        first_job=random.randrange(1000, 9_000_000),
        nodes="\n".join(["GresTypes=gpu"] + [node.format(i, port, cpus, gpus) for i, port in enumerate(ports, 1)]),
    )
    (folder / "slurm.conf").write_text(text)
    (folder / "state").mkdir()
    (folder / "dev").mkdir()
    # Slurm wants a device, and counts by its name.
    devices = [folder / "dev" / f"nvidia{i}" for i in range(gpus)]
    for device in devices:
        device.symlink_to("/dev/null")
    (folder / "gres.conf").write_text("".join(["AutoDetect=off\n", *(f"Name=gpu File={d}\n" for d in devices)]))
    (folder / "munge.key").touch(mode=0o600)
    (folder / "munge.key").write_bytes(os.urandom(128))


def free_ports(count: int) -> list[int]:
    """TCP ports that nothing listens to."""
    with contextlib.ExitStack() as held:
        ports = []
        while len(ports) < count:
            # Below the ports that the system hands to clients, which could take one before the daemon does.
            port = random.randrange(10_000, 32_000)
            with contextlib.suppress(OSError):
                held.enter_context(socket.socket()).bind(("127.0.0.1", port))
                ports.append(port)
        return ports


def start(folder: Path, nodes: int) -> None:
    """Start the daemons and wait until all nodes are idle."""
    munge = {
        "socket": "munge.sock",
        "key-file": "munge.key",
        "log-file": "munged.log",
        "pid-file": "munged.pid",
        "seed-file": "munge.seed",
    }
    daemons = {}

    def launch(name: str, *command: str) -> None:
        with open(folder / f"{name}.out", "w") as out:
            daemons[name] = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=folder)

    def until(condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while not condition():
            ended = [name for name, daemon in daemons.items() if daemon.poll() is not None]
            if ended or time.monotonic() > deadline:
                why = f"{' and '.join(ended)} ended" if ended else f"no {what} in {START_TIMEOUT} s"
                sys.exit(f"{why}\n{logs(folder)}")
            time.sleep(0.02)

    def all_idle() -> bool:
        sinfo = ["sinfo", "--noheader", "--Node", "--partition=main", "--format=%T"]
        return subprocess.run(sinfo, capture_output=True, text=True).stdout.split() == ["idle"] * nodes

    launch("munged", "munged", "--foreground", *(f"--{option}={folder / name}" for option, name in munge.items()))
    until((folder / "munge.sock").exists, "socket of munged")
    launch("slurmctld", "slurmctld", "-D")
    for i in range(1, nodes + 1):
        launch(f"n{i}", "slurmd", "-D", "-N", f"n{i}")
    until(all_idle, f"{nodes} idle nodes")


def logs(folder: Path) -> str:
    """The ends of what the daemons said."""
    files = sorted([*folder.glob("*.out"), *folder.glob("*.log")])
    return "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')[-2000:]}" for path in files)


def cancel_jobs() -> None:
    """Let the jobs end as jobs do."""
    user, deadline = getpass.getuser(), time.monotonic() + CANCEL_TIMEOUT
    with contextlib.suppress(subprocess.SubprocessError):
        subprocess.run(["scancel", f"--user={user}"], capture_output=True, check=True, timeout=CANCEL_TIMEOUT)
        while time.monotonic() < deadline and subprocess.check_output(["squeue", "--noheader"], timeout=CANCEL_TIMEOUT):
            time.sleep(0.1)


def kill_all_below() -> None:
    """End the daemons and what is left of the jobs; what they would save in a good end is deleted next."""
    while below := descendants(os.getpid()):
        for pid in below:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
        reap()


def reap() -> None:
    """Take note of children that ended, adopted ones too."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


if __name__ == "__main__":
    keep(*map(int, sys.argv[1:]))
