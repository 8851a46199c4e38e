"""The command line: takes the verb, hands the rest to Hydra, and turns what goes wrong into one line."""

import functools
import importlib
import os
import re
import sys
import traceback

VERBS = {
    "train": "train one model, score it, write its records",
    "eval": "score any method on the benchmarks of its task",
    "ablate": "one cell of the ablation study (Sec. 4.2): train and score it",
    "table": "a table of the paper in Markdown, measured beside printed",
    "figure": "a picture: restored images side by side",
    "data": "the data sets: list, get, check",
}

HELP = """nsr: the experiments of Neural Sparse Representation for Image Restoration (NeurIPS 2020)

  nsr VERB [KEY=VALUE ...] [-m]

{verbs}

  nsr VERB --help                    the groups and keys of a verb
  nsr VERB ... dry_run=true          what would be done, and what it would cost
  nsr VERB ... --cfg job             the config, composed
  nsr ablate -m tau=0.1,1,10         a sweep, over every combination of the values

Examples
  nsr ablate sparsity=softmax tau=1
  nsr train model=wdsr sparsity=softmax scale=2 protocol=short
  nsr eval -m model=bicubic scale=2,3,4
  nsr table 1 run=true

Data is read from NSR_DATA (default ./data), results go to NSR_RESULTS (default ./results), and NSR_PROTOCOL chooses
the budget (default smoke: seconds, on images that need no download).
Tab completion: eval "$(nsr --shell-completion install=bash)"   (or zsh, fish)
"""

COMPLETION = ("-sc", "--shell-completion")


def main() -> None:
    """Entry point of ``nsr``; its exit code is 0 only when all that was asked for succeeded."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(HELP.format(verbs="\n".join(f"  {verb:8} {what}" for verb, what in VERBS.items())), end="")
        return 0
    if arguments[0] == "--version":
        from nsr_cli import __version__

        print(f"nsr {__version__}")
        return 0
    if arguments[0] in COMPLETION:
        return complete(arguments)
    verb, *rest = arguments
    if verb not in VERBS:
        from difflib import get_close_matches

        close = get_close_matches(verb, VERBS, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        return complain("nsr", f"no verb '{verb}'{hint}; there are: {', '.join(VERBS)}")
    if verb in ("table", "figure") and rest and re.fullmatch(r"\w+", rest[0]):
        rest[0] = f"{verb}={rest[0]}"
    name = f"nsr {verb}"
    launchers = [a for a in rest if re.match(r"\+?hydra/launcher=", a)]
    if launchers and not {"-m", "--multirun"} & set(rest) and verb not in ("table",):
        return complain(name, f"{launchers[0]}: a launcher needs a sweep, so add -m; without it, it would be ignored")
    sys.argv = [name, *rest]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come here, instead of Hydra's long messages
    try:
        if verb == "data":  # nothing to compose or sweep
            return importlib.import_module("nsr_cli.commands.data").run(rest)
        call(verb)
    except BrokenPipeError:  # as in `nsr table 1 | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        complain(name, "interrupted; repeat the command to go on")
        return 130
    except Exception as error:
        return report(name, verb, error)
    return 0


def call(verb: str) -> None:
    """Run a verb's task function as a Hydra app on its primary config."""
    import hydra

    from nsr_cli.commands.settings import register_resolvers
    from nsr_cli.folders import package_folder

    register_resolvers()
    task = importlib.import_module(f"nsr_cli.commands.{verb}").main
    failures = []

    @functools.wraps(task)
    def catching(cfg):  # a lone job fails here, before Hydra adds lines of its own
        try:
            task(cfg)
        except Exception as error:
            failures.append(error)

    app = hydra.main(version_base="1.3", config_path=str(package_folder("conf")), config_name=verb)
    app(task if is_sweep() else catching)()
    if failures:
        raise failures[0]


def complete(arguments: list[str]) -> int:
    """Shell completion: of the verb here, of everything behind it by Hydra."""
    line = os.environ.get("COMP_LINE", "")
    words = line.split()[1:]
    sys.argv = ["nsr", *arguments]
    if "query=" in " ".join(arguments) and len(words) < 1 + (not line.endswith(" ")):
        print("\n".join(VERBS))
        return 0
    verb = words[0] if words and words[0] in VERBS else "train"
    os.environ["COMP_LINE"] = re.sub(rf"^(\S+)\s+{verb}", r"\1", line)
    call(verb)
    return 0


def complain(name: str, message: str) -> int:
    print(f"{name}: {message}", file=sys.stderr)
    return 2


def report(name: str, verb: str, error: Exception) -> int:
    """One line for bad input (exit code 2), a traceback for what nobody foresaw (1); every failed job of a sweep."""
    from nsr_cli.commands.jobs import ENDED

    failed = [(overrides, failure) for overrides, failure in ENDED if failure] if is_sweep() else []
    if not failed:
        return report_one(name, verb, error)
    codes = {report_one(f"{name} {overrides}", verb, failure) for overrides, failure in failed}
    print(f"{name}: {len(failed)} of {len(ENDED)} jobs failed; repeating the command runs these alone", file=sys.stderr)
    return codes.pop() if len(codes) == 1 else 1


def is_sweep() -> bool:
    return bool({"-m", "--multirun"} & set(sys.argv))


def report_one(name: str, verb: str, error: BaseException) -> int:
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from nsr_cli.errors import Reported

    cause: BaseException | None = error
    while cause is not None:  # a resolver's error arrives inside of OmegaConf's
        if isinstance(cause, Reported):
            complain(name, str(cause))
            return cause.exit_code
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, (HydraException, OmegaConfBaseException)):
        from nsr_cli.commands.explain import explain

        return complain(name, explain(error, verb))
    if isinstance(error, OSError) and error.errno is not None:
        where = f": {error.filename}" if error.filename else ""
        complain(name, f"{error.strerror}{where}; nothing that was finished is lost: repeat the command to go on")
        return 1
    traceback.print_exception(error)
    complain(name, f"{type(error).__name__}: {error}")
    return 1
