"""What Hydra must know of nsr before it composes: our plugins, the knobs of each verb, resolvers of our configs."""

import functools
import sys
import tempfile

from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from omegaconf import DictConfig, OmegaConf

from nsr_cli.commands import knobs
from nsr_cli.folders import PLUGINS

NOT_OF_RUNS = ("table", "figure", "report", "bench", "restore", "export")  # verbs whose knobs are not those of a run

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
    of a config for its help, and ``${nsr_keys:}`` its knobs.
    """
    if PLUGINS.is_dir() and str(PLUGINS) not in sys.path:
        sys.path.append(str(PLUGINS))
    stored = {"run": knobs.RUN, **{verb: knobs.VERB_KNOBS[verb] for verb in NOT_OF_RUNS}}
    for name, own in stored.items():
        ConfigStore.instance().store(f"knobs_of_{name}", knobs.defaults(own), package="_global_", provider="nsr")
    Plugins.instance()  # loads the plugins, which store their configs
    ConfigStore.instance().store("optuna", SEARCH, group="hydra/sweeper", provider="nsr")
    OmegaConf.register_new_resolver("nsr_scratch", lambda: _scratch_folder().name, replace=True)
    OmegaConf.register_new_resolver("nsr_groups", lambda _root_: _groups_help(_root_), replace=True)
    OmegaConf.register_new_resolver("nsr_keys", lambda _root_: _keys_help(_root_), replace=True)


def groups_of(config: DictConfig) -> dict[str, list[str]]:
    """{group: options} of the config groups in a config."""
    loader = GlobalHydra.instance().config_loader()
    taken = [group for group in loader.list_groups("") if group in config and group != "hydra"]
    return {group: sorted(loader.get_group_options(group)) for group in sorted(taken)}


def _groups_help(config: DictConfig) -> str:
    lines = [f"{group}: {', '.join(options)}\n" for group, options in groups_of(config).items()]
    return "".join(["Groups (GROUP=OPTION)\n\n", *lines, "\n"]) if lines else ""


def _keys_help(config: DictConfig) -> str:
    plain = {key: config[key] for key in config if key != "hydra" and not OmegaConf.is_missing(config, key)}
    values = {key: OmegaConf.to_object(v) if OmegaConf.is_config(v) else v for key, v in plain.items()}
    own = knobs.VERB_KNOBS.get(config.hydra.job.config_name, knobs.RUN)
    return knobs.keys_help(values, knobs.with_network(own).items())


@functools.cache
def _scratch_folder() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory(prefix="nsr-")
