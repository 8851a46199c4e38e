"""Many configs of one verb, composed fast."""

import copy
import functools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from nsr_cli.commands.config import GROUPS
from nsr_cli.commands.knobs import NETWORK, VERB_KNOBS
from nsr_cli.errors import UserError, did_you_mean
from nsr_cli.folders import package_folder

PROTOCOL_KEYS = (
    "name", "blocks", "units", "wide_units", "epochs", "patches_per_image", "steps", "batch", "patch", "precision",
    "data", "ablation",
)  # fmt: skip
KEYS = {"help", "table", "figure", *GROUPS, *NETWORK}.union(*VERB_KNOBS.values())  # of the primary configs


def checked_overrides(verb: str, overrides: Iterable[str], groups: Iterable[str] = ()) -> list[str]:
    """Overrides that neither add nor remove a key: ``+key=...`` becomes ``key=...``, which must exist.

    Keys that nsr does not list may be added: Hydra's, sbatch's parameters, arguments of a user's own network, and
    groups of the user's own, folders in that of --config-dir.

    Args:
        verb: of the command.
        overrides: as typed.
        groups: of the user's own.

    Raises:
        UserError: an override removes a key.
    """
    own = r"|model\.network\." if verb in ("train", "eval", "ablate", "export", "restore") else ""
    own += "".join(rf"|{re.escape(group)}=" for group in groups)
    unknown = re.compile(rf"[+~]+(hydra\.(?!launcher\.)|hydra\.launcher\.additional_parameters\.{own})")
    words = [word if unknown.match(word) else word.lstrip("+") for word in overrides]
    for word in words:
        if word.startswith("~") and not unknown.match(word):
            raise UserError(f"{word}: no key can be taken away; expected {word[1:].partition('=')[0]}=...")
    return words


def with_protocols(words: list[str]) -> list[str]:
    """The words after `nsr report`, with those that name protocols joined into one override."""
    names = [word for word in words if re.fullmatch(r"\w[\w.-]*", word)]
    others = [word for word in words if word not in names]
    return [f"protocols=[{','.join(names)}]", *others] if names else others


class Composer:
    """Composes configs to plain values. Configs that differ only in plain keys share one slow composition of Hydra.

    Those that differ only in keys to which nothing refers, such as the seed, share their resolved values too.

    Args:
        compose: a function from a list of overrides to a config.
    """

    def __init__(self, compose: Callable[[list[str]], DictConfig]):
        self.compose = compose
        self.groups = {path.name for path in package_folder("conf").iterdir() if path.is_dir()}
        self.composed: dict[tuple[str, ...], tuple[DictConfig, set[str]]] = {}
        self._resolved = functools.lru_cache(2**10)(self._resolve)

    def __call__(self, overrides: Iterable[str]) -> dict:
        read = {text: parse_override(text) for text in overrides}
        chosen = tuple(text for text, override in read.items() if not self.is_plain(override))
        if chosen not in self.composed:
            base = self.compose(list(chosen))
            with open_dict(base):
                base.pop("hydra", None)
            raw = _unresolved(base)
            check_keys(raw)
            self.composed[chosen] = base, _keys_without_reference(raw)
        counts = Counter(override.key_or_group for override in read.values())
        free = {key for key in self.composed[chosen][1] if counts[key] == 1}
        last = {o.key_or_group: o.value() for o in read.values() if o.key_or_group in free and _is_literal(o.value())}
        others = tuple(text for text, override in read.items() if override.key_or_group not in last)
        return copy.deepcopy(self._resolved(chosen, others)) | last

    def _resolve(self, chosen: tuple[str, ...], others: tuple[str, ...]) -> dict:
        """The resolved values by the overrides ``others``, of which ``chosen`` are not plain."""
        config = copy.deepcopy(self.composed[chosen][0])
        try:
            for override in (parse_override(text) for text in others if text not in chosen):
                OmegaConf.update(config, override.key_or_group, override.value(), merge=True)
        except OmegaConfBaseException:
            self.compose(list(others))  # raises Hydra's own error
            raise
        return _to_container(config)

    def is_plain(self, override: Override) -> bool:
        """Whether an override only sets a value, and chooses no option of a group."""
        group = override.key_or_group in self.groups or override.key_or_group.startswith("hydra")
        return override.type is OverrideType.CHANGE and override.package is None and not group


def resolved_values(config: DictConfig) -> dict:
    """The resolved values of a config as dicts and lists, without the key ``hydra``."""
    own = copy.copy(config)
    with open_dict(own):
        own.pop("hydra", None)
    check_keys(_unresolved(own))
    return _to_container(own)


def check_keys(raw: dict) -> None:
    """Raise UserError for a key that nothing reads: a misspelt one in a YAML of the user's, which Hydra accepts.

    A key that an interpolation mentions is read.

    Args:
        raw: an unresolved config.
    """
    mentioned, protocol = _mentioned(raw), raw.get("protocol")
    for prefix, held, known in (("", raw, KEYS), ("protocol.", protocol, PROTOCOL_KEYS)):
        for key in held if isinstance(held, dict) else ():
            if key not in known and key not in mentioned:
                expected = f"expected a key of nsr, or one that another refers to, as ${{{prefix}{key}}}"
                if isinstance(held[key], dict):
                    expected += "; a YAML of such keys begins with `# @package _global_`"
                raise UserError(f"{prefix}{key}: nothing reads it; {expected}{did_you_mean(key, known)}")


def _to_container(config: DictConfig) -> dict:
    return OmegaConf.to_container(config, resolve=True, throw_on_missing=True)


def _unresolved(config: DictConfig) -> dict:
    return OmegaConf.to_container(config, resolve=False)


def _keys_without_reference(raw: dict) -> set[str]:
    """The keys of single values that are set, and that no interpolation in an unresolved config mentions."""
    single = {key for key, value in raw.items() if not isinstance(value, (dict, list)) and value != "???"}
    return single - _mentioned(raw)


def _mentioned(raw: dict) -> set[str]:
    """The words in the interpolations of an unresolved config."""
    return {word for text in _interpolations(raw) for word in re.findall(r"\w+", text)}


def _interpolations(value: Any) -> Iterator[str]:
    """Yield every text with an interpolation in an unresolved config."""
    if isinstance(value, (dict, list)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _interpolations(part)
    elif isinstance(value, str) and "${" in value:
        yield value


def _is_literal(value: Any) -> bool:
    """Whether a value stands for itself: no list, no interpolation, not the mark of a missing value."""
    return not isinstance(value, (dict, list)) and not re.search(r"\$\{|^\?\?\?$", str(value))


@functools.lru_cache(maxsize=2**16)
def parse_override(text: str) -> Override:
    return OverridesParser.create().parse_override(text)
