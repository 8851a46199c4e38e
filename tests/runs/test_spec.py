"""What a run is: what its signature covers, and what it leaves out."""

import json
import re
from dataclasses import replace

import pytest

from nsr_cli.engine.schedule import drop_steps
from nsr_cli.errors import UserError
from nsr_cli.runs.run import Run, run_of
from nsr_cli.runs.spec import spec_of


@pytest.mark.parametrize(
    "override", ["device=cpu", "threads=1", "checkpoint_minutes=1", "results=/elsewhere", "data=/elsewhere",
                 "wait=false", "dry_run=true", "benchmarks=[set5]", "metrics=[ssim8]", "sigma=15", "quality=40",
                 "validate_every=7", "rescore=true", "weights=true", "save_images=true", "task.usual.width=7"]
)  # fmt: skip
def test_what_affects_no_number_is_not_signed(asked, override):
    assert asked(f"ablate {override} width=4").name == asked("ablate width=4").name


@pytest.mark.parametrize(
    "override", ["shared_gate=true", "gate_hidden=8", "learn_tau=true", "form=exact",
                 "scale=3", "groups=2", "cardinality=2", "tau=2", "sparsity=sigmoid", "blocks=3", "units=8", "width=2",
                 "seed=1", "precision=bf16", "steps=7", "batch=4", "patch=24", "train=bsds500", "learning_rate=1e-4",
                 "protocol=short", "task=denoise", "lr_factor=0.5", "lr_drops=[0.5]", "patches_per_image=1000",
                 "model.network._target_=my.Net", "+model.network.depth=3", "model.name=mine", "task.channels=1",
                 "task._target_=my.Task", "model.reads=[luma]", "+task.more=1"]
)  # fmt: skip
def test_what_affects_a_number_is_signed(asked, override):
    assert asked(f"ablate {override}").name != asked("ablate").name


def test_a_classical_function_is_signed_with_its_arguments(asked):
    """Another function under the name of bicubic was once scored as bicubic, and bicubic as it."""
    bicubic = asked("eval model=bicubic")
    others = [asked(f"eval model=bicubic {own}") for own in ("model.network._target_=my.nearest", "+model.network.a=2")]
    assert len({run.name for run in [bicubic, *others]}) == 3
    assert len({run.record("set5") for run in [bicubic, *others]}) == 3


def test_knobs_that_the_sparsity_does_not_read_are_not_signed(asked):
    assert asked("ablate sparsity=none tau=0.1 groups=8").name == asked("ablate sparsity=none").name


def test_train_eval_and_ablate_agree_on_a_run(asked):
    lines = ("ablate", "train sparsity=softmax", "eval model=wdsr sparsity=softmax")
    assert len({asked(line).name for line in lines}) == 1


def test_the_order_of_overrides_and_the_way_to_write_a_number_do_not_matter(asked):
    assert asked("ablate tau=1 groups=2").name == asked("ablate groups=2 tau=1.0").name
    assert asked("ablate lr_drops=[0.5,0.75]").name == asked("ablate lr_drops=[1/2,3/4]").name


def test_the_drops_of_the_learning_rate_are_exact(asked):
    """Epochs 20 and 25 of 30 (Sec. 4.1); 0.6667 of 150,000 steps was step 100,005."""
    drops = asked("ablate protocol=paper").spec.training.lr_drops
    assert drops == ["2/3", "5/6"] and drop_steps(drops, 150_000) == (100_000, 125_000)


def test_a_classical_method_has_one_run_for_all_protocols_and_seeds(asked):
    assert asked("eval seed=1 protocol=paper").name == asked("eval").name
    assert asked("eval").spec.budget == "untrained" and asked("ablate").spec.budget == "smoke"


def test_read_weights_are_signed_by_their_content(asked, tmp_path):
    for name, content in (("a.pth", b"one"), ("b.pth", b"one"), ("c.pth", b"two")):
        (tmp_path / name).write_bytes(content)
    a, b, c = (asked(f"eval model=wdsr ckpt={tmp_path / f}") for f in ("a.pth", "b.pth", "c.pth"))
    assert a.name == b.name != c.name
    assert a.name == asked(f"eval model=wdsr ckpt={tmp_path}/a.pth seed=5").name


def test_a_run_is_called_by_its_method_its_task_and_eight_digits(asked):
    run = asked("ablate tau=3")
    assert re.fullmatch("wdsr-sr-[0-9a-f]{8}", run.name) and run.folder.name == run.name


def test_no_path_of_this_machine_is_signed(asked, tmp_path):
    signed = asked(f"ablate train={tmp_path}/mine data={tmp_path}").spec.signed
    assert str(tmp_path) not in str(signed) and signed["training"]["data"].startswith("mine-")


def test_folders_of_the_same_name_and_other_images_are_other_runs(asked, tmp_path):
    for side in ("a", "b"):
        (tmp_path / side / "HR").mkdir(parents=True)
        (tmp_path / side / "HR/1.png").write_bytes(side.encode() * (3 if side == "a" else 4))
    a, b = (asked(f"ablate train={tmp_path}/{side}/HR").name for side in "ab")
    assert a != b
    records = [asked("ablate").record(f"{tmp_path}/{side}/HR").name for side in "ab"]
    assert records[0] != records[1] and "--HR-" in records[0]
    (tmp_path / "a/HR/2.png").write_bytes(b"new")
    assert asked(f"ablate train={tmp_path}/a/HR").name != a


@pytest.mark.parametrize("how", ["inference=hard", "tile=64", "tiling=authors"])
def test_another_way_to_score_has_the_same_weights_and_other_records(asked, how):
    usual, other = asked("ablate"), asked(f"ablate {how}")
    assert other.name == usual.name and other.weights == usual.weights
    assert other.spec.name != usual.spec.name and other.record("set5") != usual.record("set5")
    assert other.images_folder("set5") != usual.images_folder("set5")
    assert other.spec.weights_spec == usual.spec and usual.spec.weights_spec is usual.spec


def test_another_seed_is_the_run_of_another_seed(asked):
    run = asked("ablate inference=hard")
    assert run.with_seed(5).spec == asked("ablate inference=hard seed=5").spec != run.spec


@pytest.mark.parametrize(
    "line", ["ablate tau=0.5 inference=hard seed=3", "eval", "train task=denoise metrics=[ssim8]", "eval model=edsr"]
)
def test_a_run_goes_through_json_and_back(asked, line):
    run = asked(line)
    again = run_of(run.to_json())
    assert again.spec.signature == run.spec.signature and again.request == run.request
    assert again.to_json() == run.to_json()
    assert spec_of(run.spec.signed).name == run.spec.name


def test_a_float_of_ones_own_network_stays_one(asked):
    """In jobs and files 1.0 was 1, of which torch makes no parameter; the signature is that of 1."""
    run, same = (asked(f"ablate +model.network.gain={gain}") for gain in ("1.0", "1"))
    again = run_of(json.loads(json.dumps(run.to_json()))).spec
    assert type(again.model.arguments["gain"]) is float and again.signature == same.spec.signature


def test_every_field_of_what_is_signed_changes_the_signature(asked):
    """However deep: what decides a number cannot be left out by its name, as keys that began with _ once were."""
    signed = asked("ablate").spec.signed

    def changed(value):  # every copy of a value in which one leaf differs
        if isinstance(value, dict):
            for key, item in value.items():
                yield from ({**value, key: other} for other in changed(item))
        elif isinstance(value, list):
            for i, item in enumerate(value):
                yield from ([*value[:i], other, *value[i + 1 :]] for other in changed(item))
        elif isinstance(value, str):
            yield f"{value}x"
        else:
            yield not value if isinstance(value, bool) else (value or 0) + 1

    variants = [spec_of(variant) for variant in changed(signed)]
    assert len(variants) > 30
    assert len({spec.signature for spec in [spec_of(signed), *variants]}) == len(variants) + 1


def test_an_unknown_task_is_an_error(asked):
    spec = asked("ablate").spec
    for task, words in (
        ({**spec.task, "target": "nsr_cli.tasks.sr.Nothing"}, "_target_=nsr_cli.tasks.sr.Nothing: expected a class"),
        ({**spec.task, "target": "nsr_cli.tasks.denoise.Denoising"}, "does not take its arguments"),
        ({**spec.task, "name": "denoise"}, "is no task of that name"),
    ):
        with pytest.raises(UserError, match=words):
            Run(replace(spec, task=task), asked("ablate").request).conventions("embedded_val")
