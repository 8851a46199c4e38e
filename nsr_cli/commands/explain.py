"""Errors in one line: the value, what was expected, what exists."""

import re
import traceback

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from nsr_cli.commands.flags import NEVER_SWEPT
from nsr_cli.commands.hydra_setup import register_with_hydra
from nsr_cli.commands.knobs import NETWORK
from nsr_cli.errors import UserError, did_you_mean, reported_cause
from nsr_cli.folders import package_folder


def in_one_line(error: BaseException, verb: str) -> BaseException:
    """The error to show: for errors of Hydra and OmegaConf a UserError of one line, else the error itself."""
    if isinstance(error, (HydraException, OmegaConfBaseException)):
        return reported_cause(error) or UserError(explain(error, verb))
    if isinstance(error, YAMLError):
        mark = getattr(error, "problem_mark", None)
        where = f"{mark.name} is no YAML, line {mark.line + 1}" if mark else "a config is no YAML"
        return UserError(f"{where}: {getattr(error, 'problem', None) or error}")
    if isinstance(error, (ValueError, TypeError)) and (source := raised_by(error)).startswith(THEIRS):
        searches = "" if source.startswith("hydra.") else "hydra/sweeper=optuna: "
        return UserError(searches + str(error).splitlines()[0])
    if isinstance(error, AssertionError) and raised_by(error) == THEIRS[2] + "_impl":  # has no text
        return UserError("hydra/sweeper=optuna: expected choice(...), range(...) or interval(...) for what is searched")
    return error


THEIRS = ("hydra.", "optuna.", "hydra_plugins.hydra_optuna_sweeper.")  # modules that refuse a user's values


def raised_by(error: BaseException) -> str:
    """The name of the module whose code raised an error; Hydra's own does for group=null."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return frame.f_globals.get("__name__", "")


def explain(error: Exception, verb: str) -> str:
    """One line for an error of Hydra or OmegaConf: the value, what was expected, and what exists."""
    text = str(error)
    if isinstance(error, OverrideParseException):
        if "=" not in error.override and verb in ("table", "figure"):
            return f"'{error.override}': expected KEY=VALUE; one {verb} at a time"
        return f"'{error.override}' cannot be read as KEY=VALUE; quote a value that holds spaces or brackets"
    if found := re.search(r"Could not find '([^'/]+(?:/[^'/]+)*)/([^'/]*)'", text):
        group, option = found.groups()
        if option == "submitit_slurm":
            return "hydra/launcher=slurm needs submitit: pip install 'nsr[cluster]'"
        options = re.findall(r"^\t(\S+)$", text, re.MULTILINE)
        if group == "hydra/sweeper/sampler" and not options:
            return "hydra/sweeper=optuna needs its package: pip install 'nsr[optuna]'"
        return f"no {group} '{option}'{did_you_mean(option, options)}; there are: {', '.join(options)}"
    if found := re.search(r"Could not override '([^']+)'", text):
        key, keys = found.group(1), top_level_keys(verb)
        if key.startswith("hydra.launcher."):
            return f"no key '{key}'; `nsr {verb} hydra/launcher=... --cfg hydra -p hydra.launcher` lists the keys"
        known = key.split(".")[0]
        if known in keys and "." in key:
            return f"no key '{key}': '{known}' has no such entry; `nsr {verb} --cfg job` shows the config"
        if key in keys or (key in NETWORK and "model" in keys):
            return f"{key}: not a knob of the chosen model; `nsr {verb} model=... --cfg job` shows its knobs"
        return no_key_message(key, keys)
    if found := re.search(r"Cannot find primary config '([^']+)'", text):
        configs = sorted(path.stem for path in package_folder("conf").glob("[!_]*.yaml"))
        return f"no config '{found[1]}'{did_you_mean(found[1], configs)}; there are: {', '.join(configs)}"
    if text.startswith("Error merging override ") and error.__cause__:
        return explain(error.__cause__, verb)
    if found := re.search(r"Ambiguous value for argument '([^']+)'", text):
        if verb in NEVER_SWEPT:
            return f"{found[1]}: several values; one {verb} at a time (a list is written as [a,b])"
        return f"{found[1]}: several values make a sweep, so add -m (or write a list as [a,b])"
    if "full_key: hydra.launcher.tasks_per_node" in text:
        return "hydra.launcher.gpus_per_node=null: expected hydra.launcher.tasks_per_node=..., processes per node"
    if found := re.search(r"Missing mandatory value: (\S+)", text):
        return f"{found[1]} is not given; expected {found[1]}=...; `nsr {verb}` lists them"
    if isinstance(error, OmegaConfBaseException) and error.full_key:
        return explain_value(error, verb)
    return " ".join(line.strip() for line in text.splitlines() if line.strip())


def explain_value(error: OmegaConfBaseException, verb: str) -> str:
    """One line for an invalid value of a key, or of the environment variable that sets it."""
    text, key = str(error), error.full_key
    if found := re.search(r"Interpolation key '([^']+)' not found", text):
        return f"{key}=${{{found[1]}}}: {no_key_message(found[1], top_level_keys(verb))}"
    if found := re.search(r"Value '(.*?)' .*(?:converted to|not a valid) (Integer|Float|bool)", text):
        kind = {"Integer": "a whole number", "Float": "a number", "bool": "true or false"}[found[2]]
        variable = re.search(r"\{oc\.env:(\w+)", text)
        return f"{key}={found[1]}{f', from {variable[1]}' if variable else ''}: expected {kind}"
    return f"{key}: {re.sub('^.* raised while resolving interpolation: ', '', text.splitlines()[0])}"


def no_key_message(key: str, keys: list[str]) -> str:
    return f"no key '{key}'{did_you_mean(key, keys)}; there are: {', '.join(keys)}"


def top_level_keys(verb: str) -> list[str]:
    """The sorted keys of a verb's config, without ``help`` and ``hydra``."""
    register_with_hydra()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(package_folder("conf")), version_base="1.3"):
        config = compose(config_name=verb)
    return sorted(str(key) for key in config if key not in ("help", "hydra"))
