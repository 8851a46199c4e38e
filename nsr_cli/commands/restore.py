"""nsr restore: a user's own pictures, by a shipped network, a trained run, or a file of weights."""

import itertools
import os
import re
from collections.abc import Iterable
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from nsr_cli.commands.composing import Composer, resolved_values
from nsr_cli.commands.config import GROUPS, check_groups, check_level, path_of, run_of, signed_task
from nsr_cli.commands.flags import VALUE_FLAGS
from nsr_cli.commands.from_file import keys_of, with_network_of_file
from nsr_cli.commands.knobs import BUDGET, NETWORK, RESTORE, SPARSITY, check_knobs
from nsr_cli.data.inputs import outputs_of, pictures_of
from nsr_cli.errors import UserError
from nsr_cli.files import check_writable
from nsr_cli.tasks import task_of

if TYPE_CHECKING:
    from nsr_cli.runs.sources import Source

SUFFIXES = {"png": ".png", "jpeg": ".jpg", "webp": ".webp", "tiff": ".tif", "bmp": ".bmp"}
NETWORK_KEYS = {"model", "sparsity", "protocol", *SPARSITY, *NETWORK, *BUDGET}
PATH_KEYS = ("out", "ckpt", "data", "results", "train")  # keys whose values may be any file name


def split_paths(words: Iterable[str]) -> tuple[list[str], list[str]]:
    """Split a command line into paths, which Hydra would refuse, and flags and overrides.

    A word that begins with a key and ``=`` is an override, unless the key is unknown and a file has that name. All
    words after ``--`` are paths.
    """
    paths, others, words = [], [], iter(words)
    for word in words:
        if word == "--":
            paths += words
        elif word.startswith("-"):
            others += [word, *(itertools.islice(words, 1) if word in VALUE_FLAGS else ())]
        elif _is_override(word):
            others.append(_quote_path(word))
        else:
            paths.append(word)
    return paths, others


def _is_override(word: str) -> bool:
    found = re.match(r"[+~]*([A-Za-z_]\w*)[\w./@:-]*=", word)
    known = {*RESTORE, *NETWORK, *GROUPS, "hydra"}
    return bool(found) and (found[1] in known or not os.path.lexists(word))


def _quote_path(word: str) -> str:
    """The override, quoted so that Hydra reads a file's or folder's name as it was typed."""
    key, _, value = word.partition("=")
    if key.lstrip("+") not in PATH_KEYS or value in ("", "null") or value[0] in "'\"":
        return word
    value = re.sub(r"(\\*)\$\{", lambda found: 2 * found[1] + r"\${", value)  # is not an interpolation
    value = re.sub(r"(\\*)('|$)", lambda found: 2 * found[1] + (found[2] and r"\'"), value)
    return f"{key}='{value}'"


def main(cfg: DictConfig, paths: list[str]) -> None:
    """Restore the pictures that paths name; the config says how."""
    values = resolved_values(cfg)
    if not paths:
        raise UserError("no picture is named; expected files, folders or patterns, as in `nsr restore photo.png`")
    check_groups(values)
    check_knobs(values, RESTORE)
    found = pictures_of(paths, out := Path(values["out"]))
    check_writable("out", values["out"])
    from nsr_cli.runs.restore import RestoreOptions, restore_all  # imports torch

    source = source_of(values, HydraConfig.get().overrides.task)
    outputs = outputs_of(found, out, f"-{source.task.label}", SUFFIXES.get(values["format"]))
    restore_all(outputs, source, RestoreOptions(**{field.name: values[field.name] for field in fields(RestoreOptions)}))


def source_of(values: dict, words: list[str]) -> "Source":
    """The source of the network: a file that describes its network, a run, or the network shipped for the task.

    Args:
        values: the resolved config.
        words: the overrides on the command line.

    Raises:
        UserError: an override contradicts the file.
    """
    from nsr_cli.runs.sources import file_source, run_source, shipped_source  # imports torch

    values = with_network_of_file(values, words, Composer(partial(compose, "restore")))
    check_level(values, given := keys_of(words))
    if values["ckpt"] and (source := file_source(path_of("ckpt", values))):
        return source
    is_named = values["ckpt"] or NETWORK_KEYS & {key.partition(".")[0] for key in given}
    return run_source(run_of(values, "restore")) if is_named else shipped_source(task_of(signed_task(values["task"])))
