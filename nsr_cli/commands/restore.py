"""nsr restore: pictures of a user's own, by a shipped network, a run's, or a file's."""

import itertools
import os
import re
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from nsr_cli.commands.composing import resolved
from nsr_cli.commands.config import GROUPS, check_groups, run_of, signed_task
from nsr_cli.commands.flags import VALUE_FLAGS
from nsr_cli.commands.knobs import BUDGET, DEGRADATION, NETWORK, RESTORE, SPARSITY, check_knobs
from nsr_cli.data.inputs import outputs_of, pictures_of
from nsr_cli.errors import UserError
from nsr_cli.files import check_writable
from nsr_cli.tasks import task_of

if TYPE_CHECKING:
    from nsr_cli.runs.sources import Source

SUFFIXES = {"png": ".png", "jpeg": ".jpg", "webp": ".webp", "tiff": ".tif", "bmp": ".bmp"}
OF_TASK = {"task", *DEGRADATION}
OF_NETWORK = {"model", "sparsity", "protocol", *SPARSITY, *NETWORK, *BUDGET}
PLACES = ("out", "ckpt", "data", "results", "train")  # keys whose values may be any file name


def take_paths(words: Iterable[str]) -> tuple[list[str], list[str]]:
    """The paths of a command line, which Hydra would not let through, and its flags and overrides.

    A word is an override if it begins with a key and ``=``; but a file of that name is a path, where the key
    is none of ours, as is all that comes behind ``--``.
    """
    paths, others, words = [], [], iter(words)
    for word in words:
        if word == "--":
            paths += words
        elif word.startswith("-"):
            others += [word, *(itertools.islice(words, 1) if word in VALUE_FLAGS else ())]
        elif _is_override(word):
            others.append(_quoted(word))
        else:
            paths.append(word)
    return paths, others


def _is_override(word: str) -> bool:
    found = re.match(r"[+~]*([A-Za-z_]\w*)[\w./@:-]*=", word)
    known = {*RESTORE, *NETWORK, *GROUPS, "hydra"}
    return bool(found) and (found[1] in known or not os.path.lexists(word))


def _quoted(word: str) -> str:
    """An override that Hydra reads as it was typed, where its value is the name of a file or a folder."""
    key, _, value = word.partition("=")
    if key.lstrip("+") not in PLACES or value in ("", "null") or value[0] in "'\"":
        return word
    value = re.sub(r"(\\*)\$\{", lambda found: 2 * found[1] + r"\${", value)  # no interpolation of OmegaConf's
    value = re.sub(r"(\\*)('|$)", lambda found: 2 * found[1] + (found[2] and r"\'"), value)
    return f"{key}='{value}'"


def main(cfg: DictConfig, paths: list[str]) -> None:
    """Restore the pictures that paths name; the config says how."""
    values = resolved(cfg)
    if not paths:
        raise UserError("no picture is named; expected files, folders or patterns, as in `nsr restore photo.png`")
    check_groups(values)
    check_knobs(values, RESTORE)
    found = pictures_of(paths, out := Path(values["out"]))
    check_writable("out", values["out"])
    from nsr_cli.runs.restore import RestoreOptions, restore_all  # imports torch

    given = {re.split(r"[./=@]", word.lstrip("+~"))[0] for word in HydraConfig.get().overrides.task}
    source = source_of(values, given)
    outputs = outputs_of(found, out, f"-{source.task.label}", SUFFIXES.get(values["format"]))
    restore_all(outputs, source, RestoreOptions(**{field.name: values[field.name] for field in fields(RestoreOptions)}))


def source_of(values: dict, given: set[str]) -> "Source":
    """Where the network comes from: a file that says which one it holds, a run, or what is shipped.

    Args:
        values: of the config.
        given: the keys that were given.
    """
    from nsr_cli.runs.sources import file_source, run_source, shipped_source  # imports torch

    task = task_of(signed_task(values["task"]))
    if values["ckpt"] and not OF_NETWORK & given and (source := file_source(Path(values["ckpt"]))):
        if OF_TASK & given and source.task != task:
            raise UserError(f"ckpt={values['ckpt']}: a network for {source.task.label}, not for {task.label}")
        return source
    return run_source(run_of(values, "restore")) if values["ckpt"] or OF_NETWORK & given else shipped_source(task)
