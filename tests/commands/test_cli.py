"""The command line around the verbs: help, completion, speed of start-up, table and figure."""

import json
import re
import subprocess
import sys

import pytest

from nsr_cli.cli import VERBS, WITHOUT_HYDRA
from nsr_cli.commands.figure import FIGURES
from nsr_cli.folders import package_folder
from nsr_cli.report import experiments


def test_help_lists_every_verb(nsr):
    for line in ("", "--help", "help"):
        result = nsr(line)
        assert result.code == 0 and all(f"  {verb} " in result.out for verb in VERBS)


@pytest.mark.parametrize(
    ("verb", "names"), [("table", experiments.table_names(package_folder("experiments"))), ("figure", FIGURES)]
)
def test_a_verb_without_a_name_lists_what_there_is(nsr, tmp_path, verb, names):
    result = nsr(verb)
    listed = [line.split()[0] for line in result.out.splitlines() if line.startswith("  ")]
    assert result.code == 0 and listed == [name.removeprefix("table") if verb == "table" else name for name in names]
    for name in listed if verb == "table" else ():
        subject = (
            experiments.load_experiment(package_folder("experiments"), name).title.split(": ")[1].partition(" (")[0]
        )
        assert f"  {name:8}  {subject}" in result.out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb not in WITHOUT_HYDRA])
def test_each_verb_explains_itself(nsr, capfd, verb):
    with pytest.raises(SystemExit) as left:
        nsr(f"{verb} --help")
    assert left.value.code == 0
    out = capfd.readouterr().out
    assert ("-m" in out) == (verb in ("train", "eval", "ablate"))  # the others refuse it
    shown = re.findall(r"^(\w+): .*  # ", out, re.MULTILINE)
    assert len(shown) == len(set(shown)) and shown.count("results") == 1
    if verb in ("export", "restore"):  # what trained a run selects its network, and is explained by `nsr train`
        assert "(nsr train --help)" in out and not {"tau", "blocks", "steps"} & set(shown) and "ckpt" in shown
    if verb == "train":
        titles = re.findall(r"^([A-Z][a-z ]+)$", out, re.MULTILINE)
        assert titles == ["Degradation", "Network", "Gates", "Training", "Evaluation", "Machine", "Folders", "The run"]
        assert {"tau", "blocks", "steps"} <= set(shown)
        assert out.index("\nGates\n") < out.index("\ntau: 1.0") < out.index("\nTraining\n")


def test_verb_help_shows_groups_and_keys(nsr, capfd):
    with pytest.raises(SystemExit):
        nsr("ablate --help")
    out = capfd.readouterr().out
    assert out.startswith("nsr ablate: one cell of the ablation study")
    assert "sparsity: gumbel, none, se, sigmoid, softmax" in out and "protocol: narrow, paper, short, smoke" in out
    assert "tau: 1.0" in out and "Powered by Hydra" not in out


@pytest.mark.parametrize(("verb", "groups"), [("bench", []), ("table", ["protocol"]), ("figure", ["protocol"])])
def test_only_the_groups_that_a_verb_takes_are_shown(nsr, capfd, monkeypatch, verb, groups):
    with pytest.raises(SystemExit):
        nsr(f"{verb} --help")
    shown = re.findall(r"^(\w+): \w+, ", capfd.readouterr().out, re.MULTILINE)
    assert shown == groups
    for word, shell in (("", "bash"), ("", "fish"), ("model=", "bash")):
        monkeypatch.setenv("COMP_LINE", f"nsr {verb} {'x ' * (verb != 'bench')}{word}")
        proposed = nsr(f"-sc query={shell}").out.split()
        assert ("results=" in proposed) == (not word)
        assert [key for key in ("model=", "protocol=", "task=") if key in proposed] == [
            f"{g}=" for g in groups if not word
        ]
        assert not any("wdsr" in found for found in proposed)


@pytest.mark.parametrize("verb", ["train", "export", "restore", "table", "figure", "report", "bench"])
def test_the_schema_of_a_verb_admits_its_own_defaults(nsr, verb):
    keys = json.loads(nsr(f"--schema {verb}").out)["properties"]
    for name, key in keys.items():
        kinds = key.get("anyOf", [key])
        assert key["description"] and all({"type", "enum"} & kind.keys() for kind in kinds), name
    help = "the folder of all files that nsr writes (a folder)"
    assert keys["results"] == {"type": "string", "minLength": 1, "description": help}
    assert ("sparsity" in keys) == (verb in ("train", "export", "restore"))
    assert ("protocol" in keys) == (verb not in ("report", "bench"))
    if verb == "train":
        assert keys["scale"]["enum"] == [2, 3, 4] and keys["scale"]["default"] == 2


def test_a_schema_needs_a_verb(refused):
    refused(
        "--schema data",
        "nsr: --schema data: expected a verb, one of train, eval, ablate, export, table, figure, report, bench",
    )


def test_cfg_prints_the_composed_config(nsr):
    result = nsr("ablate tau=3 --cfg job")
    assert result.code == 0 and "tau: 3" in result.out


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("nsr ", set(VERBS)),
        ("nsr abl", set(VERBS)),  # the shell filters by prefix
        ("nsr ablate spars", {"sparsity="}),
        ("nsr ablate sparsity=s", {"sparsity=se", "sparsity=sigmoid", "sparsity=softmax"}),
        ("nsr ablate ta", {"task=", "tau="}),
        ("nsr export spars", {"sparsity="}),
        ("nsr export model=wdsr ov", {"overwrite="}),
        ("nsr table ", {"1", "2", "3", "4", "5", "6", "run="}),
        ("nsr table 1 ru", {"run="}),
        ("nsr figure ", {"4", "5", "compare", "curves", "table2", "table3"}),
        ("nsr figure compare cro", {"crop="}),
        ("nsr restore photo.png folder/ over", {"overwrite="}),
        ("nsr restore photo.png task=d", {"task=dejpeg", "task=denoise"}),
        ("nsr restore photo.png ", {"out=", "compare=", "task="}),
        ("nsr report ", {"paper", "short", "smoke", "out="}),
        ("nsr report short ou", {"out="}),
        ("nsr data ", {"list", "get", "check"}),
        ("nsr data get set", {"set5", "set14"}),
        ("nsr status ", {"--all"}),
    ],
)
def test_tab_completion(nsr, monkeypatch, line, expected):
    monkeypatch.setenv("COMP_LINE", line)
    result = nsr("-sc query=bash")
    assert expected <= set(result.out.split())


def test_completion_installs_for_the_program_nsr(nsr):
    assert nsr("--shell-completion install=bash").out.rstrip().endswith("hydra_bash_completion nsr")


@pytest.mark.parametrize("given", ["", " install", " install=csh", " install=bash uninstall=bash", " bash"])
def test_a_shell_that_completion_does_not_know(refused, given):
    expected = "install=SHELL, or uninstall=SHELL, where SHELL is bash, fish or zsh\n"
    refused(f"--shell-completion{given}", f"nsr: --shell-completion{given}: expected --shell-completion {expected}")


@pytest.mark.parametrize("line", ["--help", "table 1", "figure 4", "ablate --help", "ablate tauu=1"])
def test_torch_is_not_imported_where_it_is_not_needed(tmp_path, line):
    code = (
        "import sys; from nsr_cli import cli\n"
        f"try: cli.run({line.split()!r})\n"
        "except SystemExit: pass\n"
        "print('torch' in sys.modules, 'pandas' in sys.modules, 'cv2' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "False False False", done.stderr


def test_figure_compare_draws_what_two_runs_restore(nsr, tmp_path):
    assert nsr("ablate -m sparsity=none,softmax protocol=smoke steps=5 threads=1").code == 0
    # the figure takes the protocol's own runs; these have fewer steps, so it says what is missing
    missing = nsr("figure compare")
    assert missing.code == 2 and "nsr ablate sparsity=none" in missing.err
    result = nsr("""figure compare "runs=['sparsity=none steps=5','sparsity=softmax steps=5']" """)
    assert result.code == 0, result.err
    (path,) = (tmp_path / "results/figures/smoke").glob(
        "compare-chelsea-wdsr-sr-*.png"
    )  # runs of one's own: their names
    assert str(path) in result.out and path.stat().st_size > 50_000


def test_csv_on_stdout_is_csv_alone(nsr):
    result = nsr("table 4 format=csv save=false")
    lines = result.out.strip().splitlines()
    assert result.code == 0 and all(line.startswith(("table,", "table4,")) for line in lines)
    assert "Missing; run=true runs these:" in result.err


def test_an_incomplete_benchmark_does_not_stop_the_others(nsr, tmp_path):
    folder = tmp_path / "data/LIVE1"
    folder.mkdir(parents=True)
    (folder / "one.png").write_bytes(b"")
    result = nsr("table 6 save=false")
    assert "benchmarks=[embedded_val]" in result.out and "live1 (nsr data get live1)" in result.out


def test_cells_that_are_all_equal_are_named(nsr):
    result = nsr("eval -m hydra/launcher=local dry_run=true model=bicubic scale=2,2")
    assert result.code == 0 and "model=bicubic scale=2\n" in result.out and result.out.count("scale=2") == 1


def test_a_group_of_ones_own_is_added_as_hydra_adds_it(nsr, tmp_path):
    (tmp_path / "own" / "experiment").mkdir(parents=True)
    head = "# @package _global_\ndefaults: [{override /sparsity: sigmoid}]\n"
    (tmp_path / "own" / "experiment" / "tiny.yaml").write_text(f"{head}tau: 0.3\n")
    result = nsr("ablate --config-dir own +experiment=tiny --cfg job --resolve --package sparsity")
    assert result.code == 0 and "gate: sigmoid" in result.out and "tau: 0.3" in result.out, result.err
    result = nsr("ablate -m --config-dir=own +experiment=tiny seed=1,2 dry_run=true hydra/launcher=local")
    assert result.code == 0 and result.out.count("would be submitted") == 2, result.err
    assert nsr("ablate +experiment=tiny").err.startswith("nsr ablate: no key 'experiment'")


def test_flags_may_stand_before_the_name_of_a_table_or_a_protocol(nsr, tmp_path):
    (tmp_path / "own").mkdir()
    assert nsr("table --config-dir own 1 --cfg job -p table").out.splitlines()[-1] == "1"
    assert nsr("report --config-dir own smoke --cfg job -p protocols").out.splitlines()[-1] == "- smoke"
