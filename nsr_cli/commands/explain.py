"""Hydra's and OmegaConf's errors in one line: the value, what was expected, what exists."""

import re

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import OverrideParseException

from nsr_cli.errors import did_you_mean
from nsr_cli.folders import package_folder


def explain(error: Exception, verb: str) -> str:
    text = str(error)
    if isinstance(error, OverrideParseException):
        return f"'{error.override}' cannot be read as KEY=VALUE; quote what has spaces or brackets of its own"
    if found := re.search(r"Could not find '([^'/]+(?:/[^'/]+)*)/([^'/]+)'", text):
        group, option = found.groups()
        options = re.findall(r"^\t(\S+)$", text, re.MULTILINE)
        return f"no {group} '{option}'{did_you_mean(option, options)}; there are: {', '.join(options)}"
    if found := re.search(r"Could not override '([^']+)'", text):
        key, keys = found.group(1), top_level_keys(verb)
        known = key.split(".")[0]
        if known in keys and "." in key:
            return f"no key '{key}': '{known}' has no such entry; `nsr {verb} --cfg job` shows the config"
        if key in keys:
            return f"{key}: not a knob of the chosen model; `nsr {verb} --cfg job` with it shows those"
        return f"no key '{key}'{did_you_mean(key, keys)}; there are: {', '.join(keys)}"
    if found := re.search(r"Ambiguous value for argument '([^']+)'", text):
        return f"{found.group(1)}: several values make a sweep, so add -m (or write a list as [a,b])"
    if found := re.search(r"Missing mandatory value: (\S+)", text):
        return f"{found.group(1)} is not given; expected {found.group(1)}=..."
    return " ".join(line.strip() for line in text.splitlines() if line.strip())


def top_level_keys(verb: str) -> list[str]:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(package_folder("conf")), version_base="1.3"):
        config = compose(config_name=verb)
    return sorted(str(key) for key in config if key not in ("help", "hydra"))
