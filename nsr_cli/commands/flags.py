"""Hydra's flags in a command line: separated from overrides, and checked."""

import itertools
import re
from pathlib import Path

from nsr_cli.engine.processes import world_size
from nsr_cli.errors import did_you_mean
from nsr_cli.folders import package_folder

SWEEP = ("-m", "--multirun")
NEVER_SWEPT = ("table", "figure", "report", "bench", "restore", "export")  # verbs that make no runs
PLAIN_FLAGS = (*SWEEP, "-h", "--help", "--hydra-help", "--resolve", "-r", "--run")
VALUE_FLAGS = {  # flags of Hydra that take a value; () allows any value
    **dict.fromkeys(("--cfg", "-c"), ("job", "hydra", "all")),
    **dict.fromkeys(("--info", "-i"), ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")),
    **dict.fromkeys(("--package", "-p", "--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd"), ()),
}


def split_flags(arguments: list[str]) -> tuple[list[str], list[str]]:
    """(flags with their values, overrides) of a command line: argparse refuses overrides on both sides of a flag."""
    flags, overrides, words = [], [], iter(arguments)
    for word in words:
        (flags if word.startswith("-") else overrides).append(word)
        if word in VALUE_FLAGS:
            flags += itertools.islice(words, 1)
    return flags, overrides


def own_groups(flags: list[str]) -> list[str]:
    """The config groups that only the user has: the folders in that of --config-dir, without those of nsr."""
    words = [part for flag in flags for part in flag.split("=", 1)]
    folders = [Path(value) for word, value in itertools.pairwise(words) if word in ("--config-dir", "-cd")]
    found = {path.name for folder in folders if folder.is_dir() for path in folder.iterdir() if path.is_dir()}
    return sorted(found - {path.name for path in package_folder("conf").iterdir()})


def problem_of_flags(verb: str, arguments: list[str]) -> str | None:
    """One line on what is wrong with the flags, or None. Hydra's parser would print its whole usage."""
    words = iter(arguments)
    for word in words:
        flag, _, value = word.partition("=")
        if not word.startswith("-") or flag in PLAIN_FLAGS:
            continue
        if flag not in VALUE_FLAGS:
            known = [*PLAIN_FLAGS, *VALUE_FLAGS]
            return f"no flag '{flag}'{did_you_mean(flag, known)}; there are: {', '.join(known)}"
        value, expected = value or next(words, ""), VALUE_FLAGS[flag]
        if expected and value not in expected:
            return f"{flag} {value}: expected one of {', '.join(expected)}"
    sweeps = any(word in SWEEP for word in arguments)
    shows = [word for word in arguments if word.partition("=")[0] in ("--cfg", "-c", "--info", "-i")]
    if sweeps and world_size() > 1:
        return "-m: the processes of torchrun or srun make one run at a time"
    if sweeps and shows:
        return f"{shows[0]} shows one config, -m makes many: give one of them"
    if sweeps and verb in NEVER_SWEPT:
        seeds = "; several seeds are seeds=[0,1,2]" if verb in ("table", "figure") else ""
        return f"-m: one {verb} at a time{seeds}"
    budgets = [word for word in arguments if re.match(r"[+~]*protocol\.", word)]
    if budgets and verb in ("table", "figure"):
        expected = "protocol=smoke, short, narrow or paper"
        return f"{budgets[0]}: a {verb} shows runs at an unchanged protocol; expected {expected}"
    launchers = [word for word in arguments if re.match(r"\+*hydra/launcher=", word)]
    if launchers and not sweeps and not shows and verb not in ("table", "figure"):
        return f"{launchers[0]}: a launcher needs a sweep, so add -m; without it, it would be ignored"
    return None
