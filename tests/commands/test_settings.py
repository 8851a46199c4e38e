"""Run identity: what is signed, and what is not; and that every config composes and instantiates."""

import re
from itertools import product

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from nsr_cli.commands.settings import check, introduce_to_hydra, run_of
from omegaconf import OmegaConf

from nsr_cli.folders import package_folder

CONF = package_folder("conf")


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def composed(verb: str, *overrides: str):
    introduce_to_hydra()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(verb, list(overrides), return_hydra_config=True)


def name(*overrides: str, verb: str = "ablate") -> str:
    return run_of(composed(verb, *overrides)).weights.name


@pytest.mark.parametrize(
    "override", ["device=cpu", "threads=1", "checkpoint_minutes=1", "results=/elsewhere", "data=/elsewhere",
                 "wait=false", "dry_run=true", "benchmarks=[set5]", "sigma=15", "quality=40"]
)  # fmt: skip
def test_what_does_not_affect_a_result_is_not_signed(override):
    assert name(override) == name()


@pytest.mark.parametrize(
    "override", ["shared_gate=true", "gate_hidden=8", "learn_tau=true", "form=exact",
                 "scale=3", "groups=2", "cardinality=2", "tau=2", "sparsity=sigmoid", "blocks=3", "units=8", "width=2",
                 "seed=1", "precision=bf16", "steps=7", "batch=4", "patch=24", "train=bsds500", "learning_rate=1e-4",
                 "protocol=short", "task=denoise", "lr_factor=0.5", "lr_drops=[0.5]", "patches_per_image=1000"]
)  # fmt: skip
def test_what_affects_a_result_is_signed(override):
    assert name(override) != name()


def test_knobs_that_the_sparsity_does_not_read_are_not_signed():
    assert name("sparsity=none", "tau=0.1", "groups=8") == name("sparsity=none")


def test_train_eval_and_ablate_agree_on_a_run():
    assert name() == name("sparsity=softmax", verb="train") == name("model=wdsr", "sparsity=softmax", verb="eval")


def test_the_order_of_overrides_and_the_way_to_write_a_number_do_not_matter():
    assert name("tau=1", "groups=2") == name("groups=2", "tau=1.0")


def test_a_classical_method_has_one_run_for_all_protocols_and_seeds():
    assert name("seed=1", "protocol=paper", verb="eval") == name(verb="eval")
    assert run_of(composed("eval")).budget == "untrained" and run_of(composed("ablate")).budget == "smoke"


def test_published_weights_are_signed_by_their_content(tmp_path):
    (tmp_path / "a.pth").write_bytes(b"one")
    (tmp_path / "b.pth").write_bytes(b"one")
    (tmp_path / "c.pth").write_bytes(b"two")
    a, b, c = (name("model=wdsr", f"ckpt={tmp_path / f}", verb="eval") for f in ("a.pth", "b.pth", "c.pth"))
    assert a == b != c
    assert a == name("model=wdsr", f"ckpt={tmp_path}/a.pth", "seed=5", verb="eval")


def test_a_run_is_called_by_its_method_its_task_and_eight_digits():
    run = run_of(composed("ablate", "tau=3"))
    assert re.fullmatch("wdsr-sr-[0-9a-f]{8}", run.weights.name) and run.folder.name == run.weights.name


def test_no_path_of_this_machine_is_signed(tmp_path):
    identity = run_of(composed("ablate", f"train={tmp_path}/mine", f"data={tmp_path}")).weights.signed
    assert str(tmp_path) not in str(identity) and identity["training"]["train"].startswith("mine-")


def test_folders_of_the_same_name_and_other_images_are_other_runs(tmp_path):
    for side in ("a", "b"):
        (tmp_path / side / "HR").mkdir(parents=True)
        (tmp_path / side / "HR/1.png").write_bytes(side.encode() * (3 if side == "a" else 4))
    a, b = (name(f"train={tmp_path}/{side}/HR") for side in "ab")
    assert a != b
    runs = [run_of(composed("ablate")).record(f"{tmp_path}/{side}/HR").name for side in "ab"]
    assert runs[0] != runs[1] and "--HR-" in runs[0]
    (tmp_path / "a/HR/2.png").write_bytes(b"new")
    assert name(f"train={tmp_path}/a/HR") != a


@pytest.mark.parametrize("verb", ["train", "eval", "ablate"])
@pytest.mark.parametrize("task", options("task"))
@pytest.mark.parametrize("protocol", options("protocol"))
def test_every_config_composes_and_passes_its_own_checks(verb, task, protocol):
    model = {"sr": "bicubic", "denoise": "bm3d", "dejpeg": "identity"}[task] if verb == "eval" else "wdsr"
    config = composed(verb, f"task={task}", f"protocol={protocol}", f"model={model}")
    check(config, trains=verb != "eval")
    OmegaConf.to_container(config, resolve=False)
    assert config.protocol.name == protocol


@pytest.mark.parametrize(("model", "task"), [*product(options("model"), options("task"))])
def test_every_method_instantiates(model, task):
    instantiate(composed("train", f"model={model}", f"task={task}").model.network)


@pytest.mark.parametrize("sparsity", options("sparsity"))
def test_every_sparsity_makes_a_network(sparsity):
    network = instantiate(composed("train", f"sparsity={sparsity}", "blocks=1", "units=4").model.network)
    gate = network.body[0].conv1.gate
    assert (gate.activation if gate else "none") == sparsity


def test_the_protocol_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("NSR_PROTOCOL", "short")
    assert composed("train").protocol.name == "short"
    assert composed("train", "protocol=paper").protocol.name == "paper"


def test_the_papers_settings_to_the_letter():
    """Sec. 4.1 and 4.2 (DESIGN.md, section 5)."""
    config = composed("ablate", "protocol=paper")
    assert (config.blocks, config.units, config.width, config.groups, config.cardinality) == (16, 32, 4, 4, 1)
    assert (config.batch, config.patch, config.epochs, config.patches_per_image) == (16, 48, 30, 100)
    assert (config.train, list(config.benchmarks)) == ("div2k_train", ["div2k_val"])
    assert (config.learning_rate, config.lr_factor, config.precision) == (1e-3, 0.2, "fp32")


def test_hard_inference_scores_the_same_weights_under_another_name():
    soft, hard = (run_of(composed("ablate", f"inference={way}")) for way in ("soft", "hard"))
    assert hard.weights == soft.weights and hard.folder == soft.folder
    assert hard.scores != hard.weights == soft.scores
    assert hard.record("set5") != soft.record("set5")
