"""Every config composes, passes its own checks, and makes the method and the task that it names."""

from itertools import product

import pytest

from nsr_cli.commands import knobs, ranges
from nsr_cli.folders import package_folder
from nsr_cli.runs.build import fresh_method
from nsr_cli.tasks import task_of


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (package_folder("conf") / group).glob("*.yaml"))


@pytest.mark.parametrize(("verb", "task"), [*product(["train", "eval", "ablate"], options("task"))])
def test_every_config_composes_and_passes_its_own_checks(asked, verb, task):
    model = {"sr": "bicubic", "denoise": "bm3d", "dejpeg": "identity"}[task] if verb == "eval" else "wdsr"
    for protocol in options("protocol"):
        run = asked(f"{verb} task={task} protocol={protocol} model={model}")
        assert run.spec.budget == (protocol if verb != "eval" else "untrained")
        assert run.task.name == task and task_of(run.spec.task) == run.task


def test_every_method_is_made_for_the_tasks_that_it_is_for(asked, composed):
    for model, task in product(options("model"), options("task")):
        group = composed(f"eval model={model} task={task}")["model"]
        if not group.get("tasks") or task in group["tasks"]:
            assert callable(fresh_method(asked(f"eval model={model} task={task}").spec)), (model, task)


@pytest.mark.parametrize("sparsity", options("sparsity"))
def test_every_sparsity_makes_a_network(asked, sparsity):
    network = fresh_method(asked(f"train sparsity={sparsity} blocks=1 units=4").spec)
    layer = network.body[0].conv1
    assert layer.sparsity.gate == sparsity and layer.is_gated == (sparsity not in ("none", "uniform", "static"))


@pytest.mark.parametrize("word", ["sparsity=none", "sparsity=uniform", "sparsity=static", "model=vdsr", "sparsity=se"])
def test_tiles_decide_nothing_where_no_gate_chooses(asked, word):
    """A second record of the same numbers was made."""
    usual, small = asked(f"train {word}"), asked(f"train {word} tile=24")
    assert (usual.spec.name == small.spec.name) == (word != "sparsity=se")


def test_the_protocol_comes_from_the_environment(nsr, monkeypatch):
    monkeypatch.setenv("NSR_PROTOCOL", "short")
    assert "\nprotocol:\n  name: short\n" in nsr("train --cfg job").out
    assert "\nprotocol:\n  name: paper\n" in nsr("train protocol=paper --cfg job").out


def test_the_papers_settings_to_the_letter(asked):
    """Sec. 4.1 and 4.2 (DESIGN.md, section 5)."""
    run = asked("ablate protocol=paper")
    body, sparsity, training = run.spec.model.arguments, run.spec.sparsity, run.spec.training
    assert (body["blocks"], body["units"], body["width"]) == (16, 32, 4)
    assert (sparsity["gate"], sparsity["groups"], sparsity["cardinality"]) == ("softmax", 4, 1)
    assert (training.batch, training.patch, training.epochs, training.patches_per_image) == (16, 48, 30, 100)
    assert (training.data, training.precision, run.request.benchmarks) == ("div2k_train", "fp32", ["div2k_val"])
    assert (training.learning_rate, training.lr_factor) == (1e-3, 0.2)


@pytest.mark.parametrize("verb", knobs.VERB_KNOBS)
def test_every_knob_admits_its_default_and_says_what_it_is(composed, verb):
    values = composed(f"{verb} {verb}=1" if verb in ("table", "figure") else verb)
    for name, knob in knobs.VERB_KNOBS[verb].items():
        assert knob.accepts_value(values[name]), name
        assert knob.help and knob.expected and not knob.accepts_value(object()), name
        assert knob.accepts_value(None) == knob.nullable, name


@pytest.mark.parametrize(
    ("knob", "good", "bad"),
    [
        (ranges.integer(1, "", least=0, most=9), [0, 9], [-1, 10, 1.0, True, "1", None]),
        (ranges.number(1, ""), [1, 0.1], [0, -1, float("inf"), float("nan"), True, "1"]),
        (ranges.number(1, "", most=2, zero=True), [0, 2], [2.1, -0.1]),
        (ranges.choice(2, "", 2, 3), [2, 3], [4, "2", True]),
        (ranges.choice("a", "", "a", "b").or_null(), ["a", None], ["c", ""]),
        (ranges.flag(True, ""), [True, False], [0, 1, "true", None]),
        (ranges.text("a", "", "a folder"), ["a"], ["", None, 5, ["a"]]),
        (ranges.integer(1, "").list_of("a list"), [[1], (1, 2)], [[], [0], 1, [True], None, [[1]]]),
    ],
)
def test_what_a_knob_admits(knob, good, bad):
    assert [knob.accepts_value(value) for value in good] == [True] * len(good)
    assert [knob.accepts_value(value) for value in bad] == [False] * len(bad)


@pytest.mark.parametrize("verb", knobs.VERB_KNOBS)
def test_the_json_schema_admits_the_defaults_and_refuses_what_the_knobs_refuse(composed, verb):
    schema = knobs.schema_of(verb, {"protocol": ["paper", "short"]})
    known = knobs.VERB_KNOBS[verb]
    assert set(known) | {"protocol"} <= set(schema["properties"]) and schema["additionalProperties"] is False
    for name, knob in known.items():
        entry = schema["properties"][name]
        assert knob.help in entry["description"]
        if "default" in entry:
            assert entry["default"] == knob.default
    if verb == "ablate":
        assert schema["properties"]["scale"]["enum"] == [2, 3, 4]
        seed = schema["properties"]["seed"]
        assert (seed["type"], seed["minimum"], seed["maximum"], seed["default"]) == ("integer", 0, 2**31 - 1, 0)
