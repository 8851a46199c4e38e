"""The command line: takes the verb, hands the rest to Hydra, and prints errors as one line."""

import contextlib
import functools
import importlib
import io
import os
import re
import sys
from collections.abc import Callable

from nsr_cli.errors import describe, did_you_mean, report_error
from nsr_cli.words import flush_output

VERBS = {
    "train": "train one model, score it, write its records",
    "eval": "score any method on the benchmarks of its task",
    "ablate": "one cell of the ablation study (Sec. 4.2): train and score it",
    "export": "a trained network as .safetensors, .pt2 or ONNX, checked",
    "table": "a table of the paper in Markdown, measured beside printed",
    "figure": "a figure: cardinality, cost, gates, training curves, restored images",
    "restore": "your own pictures, enlarged, denoised, or freed of JPEG artifacts",
    "report": "everything in the results as one HTML page",
    "bench": "the rebuttal's timing table, measured on this machine",
    "data": "the data sets: list, get, check",
    "status": "the status of sweeps on a cluster, or on several GPUs",
}

TAKE_NAMES = ("table", "figure", "report")  # verbs that a name may follow
WITHOUT_HYDRA = ("data", "status")  # verbs without a config

HELP = """nsr: the experiments of Neural Sparse Representation for Image Restoration (NeurIPS 2020)

  nsr VERB [KEY=VALUE ...] [-m]

{verbs}

  nsr VERB --help                    the groups and keys of a verb
  nsr train ... dry_run=true         what would be done, and what it would cost (eval, ablate: the same)
  nsr VERB ... --cfg job             the composed config
  nsr --schema VERB                  its keys as JSON schema, for editors
  nsr ablate -m tau=0.1,1,10         a sweep, over every combination of the values

Examples
  nsr ablate sparsity=softmax tau=1
  nsr train model=wdsr sparsity=softmax scale=2 protocol=short
  nsr eval -m model=bicubic scale=2,3,4
  nsr eval model=dncnn task=denoise sigma=25 ckpt=published
  nsr export model=wdsr sparsity=softmax scale=2 protocol=short to=net.onnx
  nsr table 1 run=true
  nsr restore photo.png folder/ task=denoise sigma=25
  nsr report                         results/report.html, to read and to hand on
  nsr ablate -m tau=0.1,1,10 seed=0,1,2 hydra/launcher=slurm   (local: several at once on this machine)

Data is read from NSR_DATA (default ./data), results go to NSR_RESULTS (default ./results), and NSR_PROTOCOL chooses
the budget (default smoke: seconds, on images that need no download).
Tab completion: eval "$(nsr --shell-completion install=bash)"   (or zsh, fish)
"""

GROUPS = ("task", "model", "sparsity", "protocol")
COMPLETION, SHELLS = ("-sc", "--shell-completion"), ("bash", "fish", "zsh")


def main() -> None:
    """Entry point of ``nsr``; its exit code is 0 only if everything asked for succeeded."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # a daemon, or 2>&-
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        else:
            stream.reconfigure(errors="backslashreplace")  # file names may hold any bytes
    try:
        if os.getcwd() not in sys.path:
            sys.path.append(os.getcwd())  # the user's own networks, gates and tasks lie there
    except FileNotFoundError:
        sys.exit(print_error("nsr", "the current folder was removed; change to another one"))
    try:
        sys.exit(run(sys.argv[1:]))
    finally:
        flush_output(ending=True)


def run(arguments: list[str]) -> int:
    """Run a command line, given without the program's name. Returns the exit code."""
    verb = arguments[0] if arguments else "--help"
    name = f"nsr {verb}" if verb in VERBS else "nsr"
    try:
        code = run_verb(verb, arguments[1:]) if verb in VERBS else answer(verb, arguments)
        flush_output()
        return code
    except BrokenPipeError:  # as in `nsr table 1 | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        print_error(name, "interrupted; repeat the command to go on")
        return 130
    except Exception as error:
        from nsr_cli.commands.explain import in_one_line

        return report_error(name, in_one_line(error, verb if verb in VERBS else "train"))


def answer(word: str, arguments: list[str]) -> int:
    """Answer a command line that begins with another word than a verb. Returns the exit code."""
    if word in ("-h", "--help", "help"):
        print(HELP.format(verbs="\n".join(f"  {verb:8} {what}" for verb, what in VERBS.items())), end="")
        return 0
    if word == "--version":
        from nsr_cli import __version__

        print(f"nsr {__version__}")
        return 0
    if word in COMPLETION:
        return complete(arguments)
    if word == "--schema":
        return print_schema(arguments[1:])
    return print_error("nsr", f"no verb '{word}'{did_you_mean(word, VERBS)}; there are: {', '.join(VERBS)}")


def run_verb(verb: str, rest: list[str]) -> int:
    """Run a verb, with the words after it. Returns the exit code."""
    if verb in WITHOUT_HYDRA:
        return importlib.import_module(f"nsr_cli.commands.{verb}").run(rest)
    if verb in ("table", "figure") and not rest:
        print(verb_help(verb))
        return 0
    from nsr_cli.commands.composing import checked_overrides, with_protocols
    from nsr_cli.commands.flags import own_groups, problem_of_flags, split_flags

    if verb == "restore":
        from nsr_cli.commands.restore import split_paths

        paths, rest = split_paths(rest)
    if problem := problem_of_flags(verb, rest):
        return print_error(f"nsr {verb}", problem)
    flags, rest = split_flags(rest)
    if verb in ("table", "figure") and rest and re.fullmatch(r"[\w./~][\w./~-]*", rest[0]):
        rest[0] = f"{verb}={rest[0]}"
    elif verb == "table" and rest and re.fullmatch(r"[^=]+\.yaml", rest[0]):
        rest[0] = f'table="{rest[0]}"'
    rest = with_protocols(rest) if verb == "report" else rest
    sys.argv = [f"nsr {verb}", *flags, *checked_overrides(verb, rest, own_groups(flags))]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors are raised to here; Hydra would print long messages
    return run_with_hydra(verb, *([paths] if verb == "restore" else []))


def print_schema(verbs: list[str]) -> int:
    """Print the JSON schema of a verb's keys, for editors. Returns the exit code."""
    import json

    from nsr_cli.commands.knobs import VERB_KNOBS, schema_of
    from nsr_cli.folders import package_folder

    if len(verbs) != 1 or verbs[0] not in VERB_KNOBS:
        return print_error("nsr", f"--schema {' '.join(verbs)}: expected a verb, one of {', '.join(VERB_KNOBS)}")
    conf = package_folder("conf")
    taken = {"report": (), "bench": (), "table": ("protocol",), "figure": ("protocol",)}.get(verbs[0], GROUPS)
    groups = {group: sorted(path.stem for path in (conf / group).glob("*.yaml")) for group in taken}
    print(json.dumps(schema_of(verbs[0], groups), indent=1))
    return 0


def task_function(verb: str) -> Callable:
    """The function that runs a verb on its config."""
    if verb in ("train", "eval", "ablate"):
        from nsr_cli.commands import run

        return functools.partial(run.main, verb=verb)
    return importlib.import_module(f"nsr_cli.commands.{verb}").main


def run_with_hydra(verb: str, *more: list[str]) -> int:
    """Run a verb's task function as a Hydra app on its primary config. Returns the exit code.

    Args:
        verb: one of VERBS.
        more: further arguments of the task function, after the config.

    Raises:
        Exception: the failure of a single run, which the caller prints.
    """
    import hydra

    from nsr_cli.commands.hydra_setup import register_with_hydra
    from nsr_cli.commands.jobs import Job
    from nsr_cli.folders import package_folder

    register_with_hydra()
    job = Job(verb, lambda cfg: task_function(verb)(cfg, *more))
    hydra.main(version_base="1.3", config_path=str(package_folder("conf")), config_name=verb)(job)()
    if job.failure:
        raise job.failure
    codes = [describe(failure)[1] for failure in job.ends if failure]
    if not codes:
        return 0
    others = "; the others are done" if len(codes) < len(job.ends) else ""
    print(f"nsr {verb}: {len(codes)} of {len(job.ends)} jobs failed{others}", file=sys.stderr)
    return codes[0] if len(set(codes)) == 1 else 1


def complete(arguments: list[str]) -> int:
    """Print shell completions: the verb and its name by this function, overrides by Hydra. Returns the exit code."""
    if not re.fullmatch(f"(install|uninstall|query)=({'|'.join(SHELLS)})", " ".join(arguments[1:])):
        expected = f"install=SHELL, or uninstall=SHELL, where SHELL is {', '.join(SHELLS[:-1])} or {SHELLS[-1]}"
        return print_error("nsr", f"{' '.join(arguments)}: expected {arguments[0]} {expected}")
    sys.argv = ["nsr", *arguments]
    if not arguments[1].startswith("query="):
        run_with_hydra("train")  # any verb will do
        return 0
    line = os.environ.get("COMP_LINE", "")
    words = line.split()[1:]
    at = len(words) + line.endswith(" ")  # the number of the word to complete; the verb is word 1
    if at <= 1:
        print("\n".join(VERBS))
        return 0
    verb = words[0] if words[0] in VERBS else "train"
    if verb in WITHOUT_HYDRA:
        from nsr_cli.data.catalog import DATASETS

        actions = {2: ("list", "get", "check")}
        print("\n".join(actions.get(at, ("weights", *DATASETS)) if verb == "data" else ("--all",)))
        return 0
    if at == 2 and verb in TAKE_NAMES:
        print("\n".join(names_behind(verb)))
    if verb == "restore":  # the shell completes paths, where no key matches
        overrides, last = [word for word in words[1 : at - 1] if "=" in word], "" if line.endswith(" ") else words[-1]
        line = " ".join(["nsr", verb, *overrides, last])
    taken = 2 if at > 2 and verb in TAKE_NAMES and "=" not in words[1] else 1
    os.environ["COMP_LINE"] = re.sub(rf"^(\S+)(\s+\S+){{{taken}}}", r"\1", line)
    with contextlib.redirect_stdout(io.StringIO()) as proposed:
        run_with_hydra(verb)
    print(without_other_groups(verb, proposed.getvalue()), end="")
    return 0


def without_other_groups(verb: str, proposed: str) -> str:
    """Hydra's proposals, without the config groups that only other verbs have."""
    from nsr_cli.commands.explain import top_level_keys
    from nsr_cli.folders import package_folder

    groups = {path.name for path in package_folder("conf").iterdir() if path.is_dir()}
    others = "|".join(groups.difference(["hydra", *top_level_keys(verb)]))
    return re.sub(rf"(?<!\S)[+~]?({others})=\S*\s?", "", proposed) if others else proposed


def verb_help(verb: str) -> str:
    """The head of a verb's help, which lists its tables or figures."""
    import yaml

    from nsr_cli.folders import package_folder

    return yaml.safe_load((package_folder("conf") / f"{verb}.yaml").read_text(encoding="utf-8"))["help"]


def names_behind(verb: str) -> list[str]:
    """The names that may follow `nsr table`, `nsr figure` or `nsr report`."""
    from nsr_cli.commands.figure import FIGURES
    from nsr_cli.folders import package_folder
    from nsr_cli.report.experiments import table_names

    if verb == "report":
        return [path.stem for path in (package_folder("conf") / "protocol").glob("*.yaml")]
    return (
        FIGURES if verb == "figure" else [n.removeprefix("table") for n in table_names(package_folder("experiments"))]
    )


def print_error(name: str, message: str) -> int:
    """Print an error of bad input. Returns its exit code, 2."""
    print(f"{name}: {message}", file=sys.stderr)
    return 2
