"""Bad input: one clear line, exit code 2, nothing left behind."""

import cv2
import numpy as np
import pytest
from terminal import finish, start

SPARSITIES = "gumbel, none, se, sigmoid, softmax"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "ablate sparsity=sofmax",
            f"nsr ablate: no sparsity 'sofmax' (did you mean softmax?); there are: {SPARSITIES}",
        ),
        ("ablate tauu=1", "nsr ablate: no key 'tauu' (did you mean tau?); there are: batch, "),
        (
            "table 2 protocol=narrow",
            "nsr table: protocol=narrow: table2 has no settings for it; expected one of paper, short",
        ),
        ("ablate protocol=", "nsr ablate: no protocol ''; there are: narrow, paper, short, smoke\n"),
        (
            "ablate --config-name nope",
            "nsr ablate: no config 'nope'; there are: ablate, bench, eval, export, figure, report, restore, table",
        ),
        ("ablate 'tau=${tauu}'", "nsr ablate: tau=${tauu}: no key 'tauu' (did you mean tau?); there are: batch, "),
        ("ablate 'tau=${oc.env:NO_SUCH}'", "nsr ablate: tau: \"Environment variable 'NO_SUCH' not found\"\n"),
        (
            "ablate -m seed=0,1 hydra/launcher=slurm hydra.launcher.timeout_min=4h",
            "nsr ablate: hydra.launcher.timeout_min=4h: expected a whole number\n",
        ),
        (
            "ablate -m seed=0,1 hydra/launcher=slurm hydra.launcher.stderr_to_stdout=4h",
            "nsr ablate: hydra.launcher.stderr_to_stdout=4h: expected true or false\n",
        ),
        ("ablate +tauu=1", "nsr ablate: no key 'tauu' (did you mean tau?); there are: batch, "),
        ("ablate ++task.scael=3", "nsr ablate: no key 'task.scael': 'task' has no such entry"),
        ("table 1 +task=sr", "nsr table: no key 'task'; there are: data, format, "),
        ("bench +model.network.extra=1", "nsr bench: no key 'model.network.extra'; there are: batch, "),
        (
            "figure curves \"runs=['+tauu=1']\"",
            "nsr figure: runs=[+tauu=1]: no key 'tauu' (did you mean tau?); there are",
        ),
        ("ablate ~tau", "nsr ablate: ~tau: no key can be taken away; expected tau=...\n"),
        ("ablate -m ~sparsity=softmax", "nsr ablate: ~sparsity=softmax: no key can be taken away; expected sparsity="),
        (
            "ablate -m seed=0,1 +hydra/launcher=local +hydra.launcher.job=2",
            "nsr ablate: no key 'hydra.launcher.job'; `nsr ablate hydra/launcher=... --cfg hydra -p hydra.launcher` ",
        ),
        ("ablate task.scael=3", "nsr ablate: no key 'task.scael': 'task' has no such entry"),
        ("ablate tau=-1", "nsr ablate: tau=-1: expected a number above 0"),
        ("ablate tau=warm", "nsr ablate: tau=warm: expected a number above 0"),
        ("ablate groups=0", "nsr ablate: groups=0: expected a whole number above 0"),
        ("ablate groups=2.5", "nsr ablate: groups=2.5: expected a whole number above 0"),
        ("ablate cardinality=999", "nsr ablate: cardinality=999: expected 1 to 64, the layer's output channels"),
        ("ablate scale=5", "nsr ablate: scale=5: expected 2, 3 or 4"),
        ("ablate seed=true", "nsr ablate: seed=true: expected a whole number from 0 to 2147483647"),
        ("ablate seed=2147483648", "nsr ablate: seed=2147483648: expected a whole number from 0 to 2147483647"),
        ("ablate precision=fp8", "nsr ablate: precision=fp8: expected fp32, bf16 or fp16"),
        ("ablate device=tpu", "nsr ablate: device=tpu: not on this machine; there are: auto, cpu"),
        ("ablate threads=9999", "nsr ablate: threads=9999: expected a whole number from 1 to 1024, or null"),
        ("restore a.png scale=2,3", "nsr restore: scale=2,3: several values; one restore at a time"),
        ("eval -m results=ra,rb", "nsr eval: results=ra, results=rb: one results for all runs of a sweep"),
        ("table 1 2", "nsr table: '2': expected KEY=VALUE; one table at a time"),
        ("eval benchmarks=[embedded_val,set5]", "nsr eval: Set5: no folder "),
        ("table 1 seeds=0,1", "nsr table: seeds=0,1: several values; one table at a time (a list is written as [a,b])"),
        ("ablate tau=0.1,1", "nsr ablate: tau=0.1,1: several values make a sweep, so add -m"),
        ("ablate tau", "nsr ablate: 'tau' cannot be read as KEY=VALUE"),
        ("ablate hydra/launcher=basic", "nsr ablate: hydra/launcher=basic: a launcher needs a sweep, so add -m"),
        ("ablate benchmarks=[set6]", "nsr ablate: no data set 'set6'"),
        ("ablate benchmarks=[set5]", "nsr ablate: "),
        ("ablate protocol=paper", "nsr ablate: "),
        ("ablate train=./nowhere", "nsr ablate: "),
        ("ablate patch=400", "nsr ablate: "),
        ("eval ckpt=no.safetensors", "nsr eval: ckpt=no.safetensors: cannot be read (No such file or directory)"),
        ("eval model=bicubic ckpt=/dev/null", "nsr eval: ckpt=/dev/null: model=bicubic has no weights to read"),
        ("eval model=wdsr ckpt=none.pth", "nsr eval: ckpt=none.pth: cannot be read (No such file or directory)"),
        ("eval model=wdsr", "nsr eval: no weights of this run in "),
        ("train \"steps='100'\"", "nsr train: steps='100': expected a whole number above 0, or null"),
        ("ablate train=set5", "nsr ablate: train=set5: a benchmark; training on it voids its scores; to train on"),
        ("ablate benchmarks=[5]", "nsr ablate: benchmarks=[5]: expected a list of data sets"),
        ("ablate train=null", "nsr ablate: train=null: expected a data set, a folder, or {hr: ..., lr: ...}"),
        ("ablate device=5", "nsr ablate: device=5: expected auto, cpu"),
        ("ablate task=null", "nsr ablate: Config group override must be a string"),
        ("ablate task.scale=5", "nsr ablate: task.scale=5: expected 2, 3 or 4"),
        ("ablate sparsity.gate=5", "nsr ablate: sparsity.gate=5: expected the name of a gate, or of a function"),
        ("ablate sparsity.gate=null", "nsr ablate: sparsity.gate=null: expected the name of a gate, or of a function"),
        ("ablate task._target_=5", "nsr ablate: _target_=5: expected a class or function that can be imported"),
        ("ablate model.network._target_=5", "nsr ablate: _target_=5: expected a class or function that can be"),
        ("ablate device=meta", "nsr ablate: device=meta: not on this machine; there are: auto, cpu"),
        ("ablate 'train=\"~nobody-here/x\"'", "nsr ablate: no folder "),
        ("ablate sparsity.tau=abc", "nsr ablate: sparsity.tau=abc: expected a number above 0"),
        ("ablate width=0.01", "nsr ablate: width=0.01: expected at least 1/16"),
        ("ablate units=100000000", "nsr ablate: units=100000000: expected a whole number from 1 to 16384"),
        (
            "train model.network.units=-3",
            "nsr train: model.network: nsr_cli.models.wdsr.WDSR(scale=2, channels=3, blocks=2, units=-3, width=4, "
            "gate=none): RuntimeError: Trying to create tensor with negative dimension -3",
        ),
        ("train model=edsr model.network.units=-2 dry_run=true", "nsr train: model.network: nsr_cli.models.edsr.EDSR("),
        ("train model.network.blocks=many", "nsr train: model.network: nsr_cli.models.wdsr.WDSR(scale=2, channels=3, "),
        ("ablate epochs=3", "nsr ablate: steps=2000 and epochs=3: expected one of them, and null for the other"),
        ("ablate steps=null epochs=1 patches_per_image=1 batch=100", "nsr ablate: batch=100: 7 patches in 1 epochs"),
        ("ablate lr_drops=[2]", "nsr ablate: lr_drops=[2]: expected a list of fractions"),
        ("ablate --multi tau=1,2", "nsr ablate: no flag '--multi' (did you mean --multirun?); there are: "),
        ("ablate --cfg bad", "nsr ablate: --cfg bad: expected one of job, hydra, all"),
        ("ablate -m tau=1,2 --cfg job", "nsr ablate: --cfg shows one config, -m makes many"),
        ("train model=bicubic", "nsr train: model=bicubic: nothing to train; `nsr eval` scores it"),
        ("train model=bicubic dry_run=true", "nsr train: model=bicubic: nothing to train"),
        ("eval model=bicubic task=denoise", "nsr eval: task=denoise: model=bicubic is not for it; it does: sr"),
        ("ablate patch=600 dry_run=true", "nsr ablate: astronaut.png is 256x256 once degraded: smaller than a patch"),
        ("train model=edsr sparsity=softmax cardinality=999", "nsr train: cardinality=999: expected 1 to 32"),
        (
            "train model=arcnn task=dejpeg sparsity=softmax",
            "nsr train: sparsity=softmax: model=arcnn has no convolution",
        ),
        ("train model=edsr width=3", "nsr train: width: not a knob of the chosen model"),
        ("train sigma=50", "nsr train: sigma=50: expected task=denoise beside it; this is task=sr"),
        ("eval blocks=3 ckpt=net.pth", "nsr eval: blocks: not a knob of the chosen model"),
        (
            "train model.network._target_=mine.Net",
            "nsr train: _target_=mine.Net: expected a class or function that can be imported; No module named 'mine'",
        ),
        ("train model.network._target_=os.getpid", "nsr train: model.network.scale: posix.getpid takes no such "),
        ("train model=edsr +model.network.depth=3", "nsr train: model.network.depth: nsr_cli.models.edsr.EDSR takes "),
        (
            "train -m hydra/launcher=slurm_ddp hydra.launcher.gpus_per_node=null",
            "nsr train: hydra.launcher.gpus_per_node=null: expected hydra.launcher.tasks_per_node=...",
        ),
        (
            "train -m hydra/launcher=slurm_ddp hydra.launcher.tasks_per_node=0",
            "nsr train: hydra.launcher.tasks_per_node=0: expected a whole number, 1 or above\n",
        ),
        (
            "ablate -m seed=0,1 hydra/launcher=slurm hydra.launcher.timeout_min=0",
            "nsr ablate: hydra.launcher.timeout_min=0: expected a whole number, 1 or above\n",
        ),
        (
            "table 1 run=true hydra/launcher=slurm hydra.launcher.mem_gb=-3",
            "nsr table: hydra.launcher.mem_gb=-3: expected a whole number, 0 or above\n",
        ),
        ("ablate -m seed=0,1 hydra/launcher=local data=null", "nsr ablate: data=null: expected a folder"),
        ("ablate -m seed=0,1 hydra/launcher=local results=null", "nsr ablate: results=null: expected a folder"),
        ("ablate -m seed=0,1 hydra/launcher=local wait=3", "nsr ablate: wait=3: expected true or false"),
        (
            "table 1 protocol=short run=true",
            "nsr table: table1: no cell can be made. Not on this machine, or not whole: b100 (nsr data get b100), ",
        ),
        ("table 9", "nsr table: no table '9'; there are: 1, 2, 3, 4, 5, 6"),
        ("table 1 seeds=x", "nsr table: seeds=x: expected a list of whole numbers"),
        ("table 1 seeds=[2147483648]", "nsr table: seeds=[2147483648]: expected a list of whole numbers from 0 to "),
        ("table 1 seeds=[null]", "nsr table: seeds=[null]: expected a list of whole numbers"),
        ("table 1 seeds=[true]", "nsr table: seeds=[true]: expected a list of whole numbers"),
        (
            "table 1 protocol.steps=6",
            "nsr table: protocol.steps=6: a table shows runs at an unchanged protocol; expected protocol=smoke, ",
        ),
        ("figure 4 +protocol.steps=6", "nsr figure: +protocol.steps=6: a figure shows runs at an unchanged protocol; "),
        ("table 1 run=no", "nsr table: run=no: expected true or false"),
        ("table 1 format=html", "nsr table: format=html: expected markdown, latex or csv"),
        ("table 1 -m", "nsr table: -m: one table at a time; several seeds are seeds=[0,1,2]"),
        ("table run=true", "nsr table: table is not given; expected table=...; `nsr table` lists them\n"),
        ("figure seeds=[1]", "nsr figure: figure is not given; expected figure=...; `nsr figure` lists them\n"),
        ("figure compare", "nsr figure: no weights in "),
        ("figure compare crop=0", "nsr figure: crop=0: expected a whole number, 8 or above"),
        ("figure compare runs=[]", "nsr figure: runs=[]: expected a list of overrides"),
        ("figure compare image=dog.png", "nsr figure: image=dog.png: not in embedded_val; there are: chelsea.png, "),
        ("ablate -m 'seed=range(3,0)'", "nsr ablate: seed=range(3,0): expected one value at least\n"),
        ("ablate -m 'sparsity=glob(x*)' hydra/launcher=local", "nsr ablate: sparsity=glob(x*): expected one value at"),
        ("ablate -m 'tau=interval(1,2)'", "nsr ablate: tau=interval(1,2): expected values as 1,2; "),
        ("data foo", "nsr data: "),
        ("data get set5 data=", "nsr data: data=: expected a folder\n"),
        ("data get set6", "nsr data: no data set 'set6'"),
        ("ablte", "nsr: no verb 'ablte' (did you mean ablate?); there are: train, eval, ablate, "),
    ],
)
def test_one_line_exit_code_2_nothing_left(refused, line, message):
    refused(line, message)


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("PROTOCOL", "", "no protocol ''; there are: narrow, paper, short, smoke\n"),
        (
            "SLURM_TIMEOUT_MIN",
            "4h",
            "hydra.launcher.timeout_min=4h, from NSR_SLURM_TIMEOUT_MIN: expected a whole number\n",
        ),
        ("SLURM_MEM_GB", "4x", "hydra.launcher.mem_gb=4x, from NSR_SLURM_MEM_GB: expected a whole number\n"),
    ],
)
def test_a_bad_value_in_the_environment(refused, monkeypatch, variable, value, message):
    monkeypatch.setenv(f"NSR_{variable}", value)
    refused("ablate -m seed=0,1 hydra/launcher=slurm", f"nsr ablate: {message}")


@pytest.mark.parametrize("line", ["ablate", "eval dry_run=true"])
def test_a_number_of_processes_that_is_none(refused, monkeypatch, line):
    monkeypatch.setenv("WORLD_SIZE", "two")
    refused(line, f"nsr {line.split()[0]}: WORLD_SIZE=two: expected a whole number, as torchrun or srun sets it\n")


def test_sizes_that_no_machine_holds_are_one_line(nsr):
    for size in ("batch=9223372036854775807", f"batch={10**20}"):
        result = nsr(f"ablate {size} dry_run=true blocks=1 units=4")
        assert (result.code, result.err.count("\n")) == (1, 1)
        assert result.err.startswith("nsr ablate: not enough memory; ")


def test_all_missing_data_sets_are_named(nsr, tmp_path):
    data = tmp_path / "data"
    (data / "Set5").mkdir(parents=True)
    for line in ("ablate", "train -m seed=0"):
        said = nsr(f"{line} benchmarks=[set5,embedded_val,manga109] train=bsds500").err
        expected = [
            f"Set5: no images in {data}/Set5; `nsr data get set5` fetches it",
            f"Manga109: no folder {data}/Manga109; ask its authors at http://www.manga109.org",
            f"BSDS500 training images: no folder {data}/BSDS500/train; `nsr data get bsds500_train` fetches it",
            "BSDS500 test images ",
        ]
        assert f": {'; '.join(expected)}" in said and said.count("BSDS500 t") == 2, said
    assert "BSDS500" not in nsr("eval benchmarks=[set5,manga109]").err
    typo = nsr("eval benchmarks=[set5,set6]").err
    assert typo.startswith("nsr eval: no data set 'set6' (did you mean 'set5'?); there are: ") and "Set5:" not in typo


@pytest.fixture
def photographs(tmp_path):
    folder = tmp_path / "photographs"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        cv2.imwrite(str(folder / f"{name}.png"), rng.integers(0, 256, (90, 80, 3), dtype=np.uint8))
    return folder


def test_an_empty_folder(nsr, tmp_path):
    (tmp_path / "empty").mkdir()
    result = nsr("ablate train=./empty")
    assert (result.code, result.err.count("\n")) == (2, 1) and "empty" in result.err
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_an_unreadable_image(nsr, photographs, tmp_path):
    (photographs / "b.png").write_bytes((photographs / "b.png").read_bytes()[:5000])
    result = nsr("ablate train=./photographs")
    assert (result.code, result.err.count("\n")) == (2, 1) and "b.png" in result.err
    assert [path.name for path in tmp_path.iterdir()] == ["photographs"]


def test_an_image_smaller_than_a_patch(nsr, photographs, tmp_path):
    result = nsr("ablate train=./photographs patch=48")
    assert result.code == 2
    assert result.err == ("nsr ablate: a.png is 40x45 once degraded: smaller than a patch of 48x48 (patch=48)\n")
    assert [path.name for path in tmp_path.iterdir()] == ["photographs"]


def test_a_network_of_the_users_own_that_fails_shows_where(nsr, tmp_path, monkeypatch):
    (tmp_path / "unlucky.py").write_text("def Net(**options):\n    return options['depth']\n")
    monkeypatch.syspath_prepend(tmp_path)
    result = nsr("train model.network._target_=unlucky.Net")
    assert result.code == 1 and result.err.endswith("\nnsr train: KeyError: 'depth'\n")
    assert "unlucky.py" in result.err and "Traceback" in result.err
    assert not (tmp_path / "results").exists()


def test_a_sweep_tells_what_cannot_be_before_the_first_job_and_does_the_others(tmp_path, tiny):
    code, out = finish(start(tmp_path, f"ablate -m {tiny} device=cpu tau=-1,1 benchmarks=[embedded_val],[set5]"))
    assert code == 2, out
    before, _, after = out.partition("3 of 4: ")  # cells 1, 2 and 4 cannot be
    told = before.splitlines()
    assert [line.partition(": ")[0] for line in told] == [
        "nsr ablate tau=-1 benchmarks=[embedded_val]",
        "nsr ablate tau=-1 benchmarks=[set5]",
        "nsr ablate tau=1 benchmarks=[set5]",
    ]
    assert [": tau=-1: expected a number above 0" in line for line in told] == [True, True, False]
    assert "Set5: no folder " in told[2]
    assert after.endswith("nsr ablate: 3 of 4 jobs failed; the others are done\n")
    assert len(list((tmp_path / "results/records/smoke").glob("*.json"))) == 1
    assert not list(tmp_path.rglob("multirun.yaml"))


@pytest.mark.parametrize(
    "line", ["ablate -m tau=-1,-2", "ablate -m sparsity=none,sofmax", "eval -m ckpt=/nope,/no model=wdsr"]
)
def test_a_sweep_of_bad_input_leaves_nothing(nsr, tmp_path, line):
    result = nsr(line)
    assert result.code == 2 and "Traceback" not in result.err
    assert list(tmp_path.iterdir()) == []


def test_a_results_folder_of_the_users_own_stays(nsr, tmp_path):
    (tmp_path / "mine").mkdir()
    assert nsr("ablate tau=-1 results=mine").code == 2
    assert nsr("eval dry_run=true results=mine").code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize(
    "line",
    [
        "bench",
        "eval",
        "ablate",
        "ablate -m seed=0,1",
        "ablate -m seed=0,1 hydra/launcher=local",
        "table 1 run=true save=false",
        "figure curves",
    ],
)
def test_a_results_folder_that_cannot_be_is_refused_before_anything_is_computed(nsr, tmp_path, line):
    (tmp_path / "file").touch()
    result = nsr(f"{line} results=file/x")
    verb = line.split()[0]
    said = f"nsr {verb}: results=file/x: cannot be written to (Not a directory: {tmp_path / 'file'})\n"
    assert (result.code, result.out, result.err) == (2, "", said)
    assert nsr("table 1 save=false results=file/x").code == 0  # nothing is to be written
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_paths_that_hydra_would_have_to_quote(nsr, tmp_path, monkeypatch):
    monkeypatch.setenv("NSR_RESULTS", str(tmp_path / "my results (1), a=b"))
    assert nsr("eval").code == 0
    assert nsr("table 4").code == 0
    assert len(list(tmp_path.rglob("*.json"))) == 1 and len(list(tmp_path.rglob("table4.md"))) == 1


def test_missing_benchmarks_are_named_beside_those_that_are_here(nsr):
    result = nsr("eval benchmarks=[set5,embedded_val,b100] data=none")
    assert result.code == 2 and result.err.count("\n") == 1
    assert result.err.startswith("nsr eval: Set5: no folder ") and "; B100 (the validation images of" in result.err
    assert result.err.endswith("; benchmarks=[embedded_val] scores what is here\n")
