"""What services are told of a training: the numbers of stats.jsonl, restored images, and how it ended."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from tiny import Killed, killed_at, lines_of, run
from torch import nn

from nsr_cli.engine.loggers import LOGGERS, Mlflow, TensorBoard, Wandb, flattened
from nsr_cli.errors import UserError

CONFIG = {"task": {"name": "sr", "scale": 2}, "seed": 0}


class FakeWandb:
    """Notes what it is told."""

    def __init__(self):
        self.calls = []

    def init(self, **given) -> "FakeWandb":
        self.calls.append(("init", given))
        return self

    def log(self, numbers: dict, step: int) -> None:
        self.calls.append(("log", step, numbers))

    def Image(self, pixels: np.ndarray) -> tuple:
        return pixels.shape

    def finish(self, exit_code: int) -> None:
        self.calls.append(("finish", exit_code))


class FakeMlflow:
    """Notes what it is told."""

    def __init__(self):
        self.calls = []

    def set_experiment(self, name: str) -> None:
        self.calls.append(("set_experiment", name))

    def start_run(self, run_id: str | None = None, run_name: str | None = None) -> SimpleNamespace:
        self.calls.append(("start_run", run_id, run_name))
        return SimpleNamespace(info=SimpleNamespace(run_id=run_id or "of the server"))

    def log_params(self, params: dict) -> None:
        self.calls.append(("log_params", params))

    def log_metrics(self, metrics: dict, step: int) -> None:
        self.calls.append(("log", step, metrics))

    def log_image(self, image: np.ndarray, key: str, step: int) -> None:
        self.calls.append(("image", step, key, image.shape))

    def end_run(self, status: str) -> None:
        self.calls.append(("end_run", status))


def validate(model: nn.Module) -> dict:
    return {
        "psnr": 30.0,
        "restored/a.png": np.full((4, 6, 3), 7, np.uint8),
        "restored/b.png": np.zeros((4, 6), np.uint8),
    }


def interrupted_and_resumed(kind: type, folder) -> None:
    """Lines after steps 5, 10 and 12, the last one with a validation; killed in step 9."""
    with pytest.raises(Killed):
        run(folder, killed_at(8), loggers=[kind(folder, CONFIG)])
    run(folder, loggers=[kind(folder, CONFIG)], validate=validate, validate_every=100)


def test_wandb_is_told_of_one_run_across_a_resume(tmp_path, monkeypatch):
    fake, folder = FakeWandb(), tmp_path / "wdsr-sr-12345678"
    monkeypatch.setitem(sys.modules, "wandb", fake)
    interrupted_and_resumed(Wandb, folder)
    (first, again) = [call[1] for call in fake.calls if call[0] == "init"]
    assert first == again and first["resume"] == "allow" and first["config"] == CONFIG
    assert (first["project"], first["name"], first["dir"]) == ("nsr", folder.name, str(folder))
    numbers = [call[1:] for call in fake.calls if call[0] == "log"]
    lines = [(line["step"], dict(flattened(line))) for line in lines_of(folder)]
    assert [(step, found) for step, found in numbers if "loss" in found] == lines
    assert numbers[-1] == (12, {"restored/a.png": (4, 6, 3), "restored/b.png": (4, 6)})
    assert [call[1] for call in fake.calls if call[0] == "finish"] == [1, 0]  # killed, then finished
    run(tmp_path / "another", loggers=[Wandb(tmp_path / "another", CONFIG)])
    assert [call[1]["id"] for call in fake.calls if call[0] == "init"][-1] != first["id"]


def test_mlflow_is_told_of_one_run_across_a_resume(tmp_path, monkeypatch):
    fake, folder = FakeMlflow(), tmp_path / "wdsr-sr-12345678"
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    interrupted_and_resumed(Mlflow, folder)
    assert fake.calls[:3] == [
        ("set_experiment", "nsr"),
        ("start_run", None, folder.name),
        ("log_params", {"task/name": "sr", "task/scale": 2, "seed": 0}),
    ]
    assert [call for call in fake.calls if call[0] == "start_run"][1:] == [("start_run", "of the server", None)]
    lines = [("log", line["step"], dict(flattened(line))) for line in lines_of(folder)]
    assert [call for call in fake.calls if call[0] == "log"] == lines
    images = [call[1:] for call in fake.calls if call[0] == "image"]
    assert images == [(12, "restored/a.png", (4, 6, 3)), (12, "restored/b.png", (4, 6))]
    assert [call for call in fake.calls if call[0] == "end_run"] == [("end_run", "KILLED"), ("end_run", "FINISHED")]


def test_tensorboard_has_the_numbers_the_images_and_the_config(tmp_path):
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    interrupted_and_resumed(TensorBoard, tmp_path)
    read = accumulators.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    lines = lines_of(tmp_path)
    assert [event.step for event in read.Scalars("loss")] == [line["step"] for line in lines] == [5, 10, 12]
    assert [event.value for event in read.Scalars("loss")] == pytest.approx([line["loss"] for line in lines])
    assert [event.value for event in read.Scalars("psnr")] == [30.0]
    assert "gates/0/chosen/3" in read.Tags()["scalars"]
    (image,) = read.Images("restored/a.png")
    assert (image.step, image.height, image.width) == (12, 4, 6)
    assert "task/scale/text_summary" in read.Tags()["tensors"]


def test_a_training_shows_the_images_that_it_is_validated_on(nsr, tmp_path):
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    line = "train sparsity=softmax blocks=1 units=4 width=1 batch=2 threads=1 device=cpu steps=4 tensorboard=true"
    assert nsr(line).code == 0
    (folder,) = tmp_path.glob("results/runs/*")
    read = accumulators.EventAccumulator(str(folder / "tensorboard")).Reload()
    images = [name for name in read.Tags()["images"] if name.startswith("restored/")]
    assert 1 <= len(images) <= 4
    for name in images:
        (image,) = read.Images(name)
        assert image.step == 4 and 0 < image.height <= 192 and 0 < image.width <= 192


def test_wandb_itself_takes_a_training_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    interrupted_and_resumed(Wandb, tmp_path)
    images = {path.name.rpartition("_")[0] for path in tmp_path.glob("wandb/offline-run-*/files/media/images/*/*.png")}
    assert images == {"a.png_12", "b.png_12"}
    assert len(list(tmp_path.glob("wandb/offline-run-*/run-*.wandb"))) == 2


def test_mlflow_itself_takes_a_training(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.chdir(tmp_path)
    mlflow.set_tracking_uri((tmp_path / "mlruns").as_uri())
    interrupted_and_resumed(Mlflow, tmp_path / "run")
    client, run_id = mlflow.MlflowClient(), (tmp_path / "run" / "mlflow-run.txt").read_text()
    losses = [(metric.step, metric.value) for metric in client.get_metric_history(run_id, "loss")]
    assert losses == [(line["step"], line["loss"]) for line in lines_of(tmp_path / "run")]
    found = client.get_run(run_id)
    assert found.info.status == "FINISHED" and found.data.params["task/scale"] == "2"
    assert any("restored~a.png" in file.path for file in client.list_artifacts(run_id, "images"))


class Broken:
    """Fails in one of its calls."""

    def __init__(self, call: str):
        self.call, self.told = call, []

    def answer(self, call: str) -> None:
        self.told.append(call)
        if call == self.call:
            raise ConnectionError(f"no server for {call}\nmore lines")

    def start(self, step: int) -> None:
        self.answer("start")

    def log(self, step: int, numbers: dict) -> None:
        self.answer("log")

    def images(self, step: int, images: dict) -> None:
        self.answer("images")

    def close(self, finished: bool) -> None:
        self.answer("close")


def test_a_logger_that_does_not_start_is_one_line(tmp_path):
    with pytest.raises(UserError, match="^Broken does not start: no server for start$"):
        run(tmp_path, loggers=[Broken("start")])


@pytest.mark.parametrize(
    ("call", "line", "told"),
    [
        ("log", "Broken fails at step 5 and gets no more of this run: no server for log", "start log close"),
        ("images", "Broken fails at step 12 and gets no more of this run: no server for images", None),
        ("close", "Broken does not end well: no server for close", None),
    ],
)
def test_a_logger_that_fails_later_does_not_stop_the_training(tmp_path, call, line, told):
    said, broken = [], Broken(call)
    run(tmp_path, say=said.append, loggers=[broken], validate=validate)
    assert (tmp_path / "weights.pt").exists() and line in said
    assert " ".join(broken.told) == (told or "start log log log images close")


@pytest.mark.parametrize("name", ["wandb", "mlflow", "tensorboard"])
def test_a_package_that_is_not_installed_is_one_line(tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, {"tensorboard": "torch.utils.tensorboard"}.get(name, name), None)
    with pytest.raises(UserError, match=rf"^logging to {name} needs it installed: pip install 'nsr\[{name}\]'"):
        LOGGERS[name](tmp_path, CONFIG)
