"""The fast way to many configs gives what Hydra's own way gives."""

from functools import partial

import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import OmegaConf

from nsr_cli.commands import composing
from nsr_cli.commands.composing import Composer, checked_overrides, resolved_values
from nsr_cli.commands.hydra_setup import register_with_hydra
from nsr_cli.errors import UserError
from nsr_cli.folders import package_folder


@pytest.fixture
def ablate(monkeypatch):
    for name in ("NSR_PROTOCOL", "NSR_RESULTS", "NSR_DATA"):
        monkeypatch.delenv(name, raising=False)
    register_with_hydra()
    with initialize_config_dir(str(package_folder("conf")), version_base="1.3"):
        yield partial(compose, "ablate")


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["tau=0.1", "seed=3"],
        ["sparsity=sigmoid", "groups=8", "benchmarks=[set5,b100]"],
        ["protocol=paper", "model=edsr", "task.scale=3", "data='a folder, with = signs'"],
        ["+model.extra=1", "ckpt=null", "lr_drops=[0.5]"],
        ["seed=${groups}", "groups=8", "batch='1'", "steps=null", "epochs=3"],
        ["tau=1", "seed=1", "tau=2", "seed=2", "learning_rate=1e-2"],
    ],
)
def test_the_same_config_as_hydra_composes(ablate, overrides):
    composer = Composer(ablate)
    composer(["tau=7", "seed=9"])  # leaves no trace in what comes after
    assert composer(overrides) == resolved_values(ablate(overrides))


def test_plain_keys_share_one_composition(ablate):
    composed = []
    composer = Composer(lambda overrides: composed.append(overrides) or ablate(overrides))
    seeds = [composer(["sparsity=softmax", f"tau={tau}", f"seed={tau}"])["seed"] for tau in range(1, 20)]
    assert seeds == list(range(1, 20)) and composed == [["sparsity=softmax"]]


def test_keys_to_which_nothing_refers_share_the_resolved_values(ablate, monkeypatch):
    resolved, own = [], composing._to_container
    monkeypatch.setattr(composing, "_to_container", lambda config: resolved.append(config) or own(config))
    composer = Composer(ablate)
    found = [composer([f"tau={tau}", f"seed={seed}", "batch=8"]) for tau in (1, 2) for seed in range(9)]
    assert len(resolved) == 2  # `sparsity.tau` refers to tau
    taus = [values["sparsity"]["tau"] for values in found]
    assert taus == [1] * 9 + [2] * 9 and [values["seed"] for values in found] == [*range(9)] * 2
    assert {values["batch"] for values in found} == {8}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"tua": 0.3}, r"^tua: nothing reads it; expected a key of nsr, .* \$\{tua\} \(did you mean tau\?\)$"),
        ({"protocol": {"stepz": 3}}, r"^protocol\.stepz: nothing reads it; .* \(did you mean steps\?\)$"),
        ({"experiment": {"tau": 3}}, r"^experiment: .* \$\{experiment\}; a YAML .* `# @package _global_`"),
    ],
)
def test_keys_that_nothing_reads_are_refused(ablate, values, message):
    """Hydra accepts them in a YAML of the user's: once a misspelt knob was left out of an ablation without a word."""
    config = OmegaConf.merge(OmegaConf.create(OmegaConf.to_container(ablate([]), resolve=False)), values)
    for use in (resolved_values, lambda config: Composer(lambda overrides: config)([])):
        with pytest.raises(UserError, match=message):
            use(config)


def test_a_key_that_another_refers_to_is_read(ablate):
    own = {"mine": {"low": 0.3}, "tau": "${mine.low}", "protocol": {"long": 7}, "epochs": "${protocol.long}"}
    config = OmegaConf.merge(OmegaConf.create(OmegaConf.to_container(ablate([]), resolve=False)), own)
    values = resolved_values(config)
    assert values["sparsity"]["tau"] == 0.3 and values["epochs"] == 7


def test_the_keys_of_protocols_are_those_of_the_shipped_ones(ablate):
    for path in (package_folder("conf") / "protocol").glob("*.yaml"):
        assert set(OmegaConf.load(path)) == set(composing.PROTOCOL_KEYS)


def test_an_unknown_key_is_refused_as_hydra_refuses_it(ablate):
    with pytest.raises(HydraException, match="Could not override 'taau'"):
        Composer(ablate)(["taau=1"])


@pytest.mark.parametrize(
    ("verb", "given", "kept"),
    [
        ("ablate", "+tau=3", "tau=3"),
        ("ablate", "tau=3", "tau=3"),
        ("train", "+model.network.depth=3", "+model.network.depth=3"),
        ("eval", "~model.network.scale", "~model.network.scale"),
        ("table", "+model.network.depth=3", "model.network.depth=3"),
        ("ablate", "+hydra.launcher.additional_parameters.hold=1", "+hydra.launcher.additional_parameters.hold=1"),
        ("table", "++hydra.job.env_set.A=1", "++hydra.job.env_set.A=1"),
        ("ablate", "+hydra.launcher.partiton=gpu", "hydra.launcher.partiton=gpu"),
        ("ablate", "+hydra/launcher=local", "hydra/launcher=local"),
    ],
)
def test_a_plus_adds_only_what_is_not_known_here(verb, given, kept):
    assert checked_overrides(verb, [given]) == [kept]
