"""What Hydra must know of nsr before it composes: our plugins, the knobs of each verb, resolvers of our configs."""

import functools
import sys
import tempfile

from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from omegaconf import DictConfig, OmegaConf

from nsr_cli.commands import knobs
from nsr_cli.commands.flags import NEVER_SWEPT
from nsr_cli.folders import PLUGINS

SEARCH = {  # replaces the plugin's hydra/sweeper=optuna, to maximise the PSNR that a run returns
    "defaults": [{"sampler": "tpe"}, "_self_"],
    "_target_": "hydra_plugins.hydra_optuna_sweeper.optuna_sweeper.OptunaSweeper",
    "sampler": {"seed": 0},  # the same command asks for the same runs: it goes on where it was stopped
    "direction": "maximize",
    "n_trials": 20,
    "n_jobs": 1,  # trials that are chosen together, which a launcher may run at once
    "max_failure_rate": 1,  # a run that diverges ends no search
    **dict.fromkeys(("storage", "study_name", "search_space", "custom_search_space", "params")),
}


def register_with_hydra() -> None:
    """Register plugins, knobs and resolvers. It may be called again.

    ``${nsr_scratch:}`` is a temporary folder for files of Hydra that nobody reads; ``${nsr_groups:}`` lists the groups
    of a config for its help, ``${nsr_keys:}`` its knobs, and ``${nsr_sweeps:}`` how to sweep, if the verb does.
    """
    if PLUGINS.is_dir() and str(PLUGINS) not in sys.path:
        sys.path.append(str(PLUGINS))
    stored = {"run": knobs.RUN, **{verb: knobs.VERB_KNOBS[verb] for verb in NEVER_SWEPT}}
    for name, own in stored.items():
        ConfigStore.instance().store(f"knobs_of_{name}", knobs.defaults(own), package="_global_", provider="nsr")
    Plugins.instance()  # loads the plugins, which store their configs
    ConfigStore.instance().store("optuna", SEARCH, group="hydra/sweeper", provider="nsr")
    OmegaConf.register_new_resolver("nsr_scratch", lambda: _scratch_folder().name, replace=True)
    OmegaConf.register_new_resolver("nsr_groups", _groups_help, replace=True)
    OmegaConf.register_new_resolver("nsr_keys", _keys_help, replace=True)
    OmegaConf.register_new_resolver("nsr_sweeps", _sweeps_help, replace=True)


def _groups_help(_root_: DictConfig) -> str:  # OmegaConf passes the whole config to a parameter of this name
    loader = GlobalHydra.instance().config_loader()
    groups = sorted(group for group in loader.list_groups("") if group in _root_ and group != "hydra")
    lines = [f"{group}: {', '.join(sorted(loader.get_group_options(group)))}\n" for group in groups]
    return "".join(["Groups (GROUP=OPTION)\n\n", *lines, "\n"]) if lines else ""


def _keys_help(_root_: DictConfig) -> str:
    plain = {key: _root_[key] for key in _root_ if key != "hydra" and not OmegaConf.is_missing(_root_, key)}
    values = {key: OmegaConf.to_object(v) if OmegaConf.is_config(v) else v for key, v in plain.items()}
    own = knobs.VERB_KNOBS.get(_root_.hydra.job.config_name, knobs.RUN)
    return knobs.keys_help(values, own)


def _sweeps_help(_root_: DictConfig) -> str:
    return "" if _root_.hydra.job.config_name in NEVER_SWEPT else "Sweep with -m and commas. "


@functools.cache
def _scratch_folder() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory(prefix="nsr-")
