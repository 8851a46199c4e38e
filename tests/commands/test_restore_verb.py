"""nsr restore: the command line, folders that are shared or were left, and what is shipped."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image
from terminal import finish, start, wait_until

from nsr_cli import cli
from nsr_cli.commands.restore import split_paths
from nsr_cli.data import origins
from nsr_cli.data.images import read_image, write_png
from nsr_cli.data.pictures import read_picture
from nsr_cli.engine.checkpoint import load
from nsr_cli.ops.color import quantize
from nsr_cli.ops.metrics import psnr
from nsr_cli.ops.resize import imresize
from nsr_cli.runs.build import fresh_method
from nsr_cli.runs.portable import save_portable
from nsr_cli.runs.sources import SHIPPED
from nsr_cli.runs.spec import spec_of
from nsr_cli.tasks.dejpeg import JpegArtifacts
from nsr_cli.tasks.denoise import Denoising
from nsr_cli.tasks.sr import SuperResolution

BICUBIC = "model=bicubic threads=1"  # the shortest way to a restored picture


def picture(seed: int = 0, height: int = 40, width: int = 50) -> np.ndarray:
    """(H, W, 3) uint8: smooth shapes."""
    small = np.random.default_rng(seed).integers(0, 256, (-(-height // 8), -(-width // 8), 3), dtype=np.uint8)
    return imresize(small, 8.0)[:height, :width]


def restored(folder: Path) -> list[str]:
    """What lies in the folder of outputs, hidden files too, but for the origins of pictures."""
    files = (path for path in (folder / "restored").rglob("*") if path.is_file() and path.name != origins.FILE)
    return sorted(str(path.relative_to(folder / "restored")) for path in files)


@pytest.fixture
def photo(tmp_path) -> Path:
    write_png(tmp_path / "photo.png", picture())
    return tmp_path / "photo.png"


def test_a_picture_by_a_runs_overrides_is_what_scoring_restores(nsr, tmp_path, trained, tiny):
    truth = picture(3, 80, 100)
    write_png(tmp_path / "mine/a.png", truth)
    low = SuperResolution(scale=2).degraded(tmp_path / "mine/a.png", truth)
    write_png(tmp_path / "low.png", low)
    line = f"{tiny} sparsity=softmax model=wdsr"
    assert nsr(f"eval {line} benchmarks=[./mine] save_images=true").code == 0
    (scored,) = tmp_path.glob("results/runs/*/images/*/a.png")
    result = nsr(f"restore low.png {line}")
    assert result.code == 0, result.err
    np.testing.assert_array_equal(read_image(tmp_path / "restored/low-x2.png"), read_image(scored))
    assert "low.png: restored/low-x2.png" in result.out and "1 restored" in result.out
    result = nsr(f"restore low.png {line}")
    assert result.code == 0 and "1 there already, and skipped (overwrite=true restores anew)" in result.out
    assert nsr(f"restore low.png {line} tile=20 overwrite=true").code == 0
    assert (read_image(tmp_path / "restored/low-x2.png") != read_image(scored)).any()


def test_a_network_of_a_file_that_says_what_it_is(nsr, tmp_path, photo, trained):
    spec, (weights,) = spec_of(trained.spec), tmp_path.glob("results/runs/*/weights.pt")
    network = fresh_method(spec)
    network.load_state_dict(load(weights)["model"])
    save_portable(tmp_path / "my net.safetensors", network, spec)
    result = nsr("restore photo.png 'ckpt=my net.safetensors' compare=true")
    assert result.code == 0, result.err
    assert restored(tmp_path) == ["photo-x2-compare.png", "photo-x2.png"]
    save_portable(tmp_path / "hard.safetensors", network, replace(spec, inference="hard", tile=24))
    for key, line in {
        "said": "ckpt=hard.safetensors",
        "asked": "'ckpt=my net.safetensors' inference=hard tile=24",
    }.items():
        assert nsr(f"restore photo.png {line} out={key}").code == 0
    same = read_image(tmp_path / "asked/photo-x2.png")
    np.testing.assert_array_equal(read_image(tmp_path / "said/photo-x2.png"), same)
    assert (read_image(tmp_path / "restored/photo-x2.png") != same).any()
    result = nsr("restore photo.png 'ckpt=my net.safetensors' scale=3")
    assert result.code == 2 and "scale=3: my net.safetensors holds scale=2; leave out what the file says" in result.err


def test_what_a_file_says_of_its_network_holds_beside_overrides_too(nsr, tmp_path, photo, trained):
    spec, (weights,) = spec_of(trained.spec), tmp_path.glob("results/runs/*/weights.pt")
    cold = replace(spec, sparsity={**spec.sparsity, "tau": 0.01})
    network = fresh_method(cold)
    network.load_state_dict(load(weights)["model"])
    save_portable(tmp_path / "cold.safetensors", network, cold)
    for out, line in {"a": "", "b": "sparsity=softmax", "c": "sparsity=softmax scale=2 tau=0.01"}.items():
        result = nsr(f"restore photo.png ckpt=cold.safetensors {line} out={out}")
        assert result.code == 0, result.err
    first, *others = (read_image(tmp_path / out / "photo-x2.png") for out in "abc")
    assert all(np.array_equal(first, other) for other in others)
    refused = nsr("restore photo.png ckpt=cold.safetensors tau=1")
    assert refused.code == 2 and "tau=1: cold.safetensors holds tau=0.01" in refused.err
    result = nsr(f"restore photo.png ckpt={weights.relative_to(tmp_path)} out=d")  # the weights of a run say it too
    assert result.code == 0, result.err
    assert not np.array_equal(first, read_image(tmp_path / "d/photo-x2.png"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("restore", "nsr restore: no picture is named; expected files, folders or patterns, as in"),
        ("restore nope.png 'no*' out=x", "nsr restore: nope.png: no such file or folder; no*: no pictures there"),
        ("restore photo.png task=dejpeg quality=30", "nsr restore: task=dejpeg: no network for q30 is shipped"),
        ("restore photo.png task=denoise sigma=31", "nsr restore: task=denoise: no network for sigma31 is shipped"),
        ("restore photo.png sigma=25", "nsr restore: sigma=25: expected task=denoise beside it; this is task=sr"),
        ("restore photo.png sparsity=sigmoid", "nsr restore: no weights of this run in "),
        ("restore photo.png colour=red", "nsr restore: colour=red: expected channels or luma, or null"),
        (f"restore photo.png {BICUBIC} colour=luma", "nsr restore: colour=luma: bicubic-sr-"),
        ("restore photo.png ckpt=nope.pt", "nsr restore: ckpt=nope.pt: cannot be read"),
        ("restore photo.png outt=x", "nsr restore: no key 'outt' (did you mean out?)"),
        ("restore photo.png -m tau=1,2", "nsr restore: -m: one restore at a time\n"),
        ("restore photo.png out=photo.png", "nsr restore: out=photo.png: cannot be written to (Not a directory"),
    ],
)
def test_refusals(nsr, tmp_path, photo, line, message):
    result = nsr(line)
    assert (result.code, result.err.count("\n")) == (2, 1) and result.err.startswith(message), result.err
    assert list(tmp_path.iterdir()) == [photo]


NAMES = ["a b.png", "a,b=c.png", "[x]{y}.png", "$HOME ${x}.png", "'quoted\".png", "größe 写真.png", "scale=2.png"]


def test_names_of_every_kind(nsr, tmp_path, capfd):
    raw = os.fsdecode(b"\xff\xfe.png")
    for name in [*NAMES, raw]:
        write_png(tmp_path / name, picture(height=4, width=5))
    words = [*NAMES[:-1], raw, "./scale=2.png"]
    out = "o'ut \\${x}, [1]=\\"
    assert cli.run(["restore", *words, f"out={out}", *BICUBIC.split()]) == 0, capfd.readouterr()
    assert sorted({*os.listdir(out)} - {origins.FILE}) == sorted(f"{Path(name).stem}-x2.png" for name in [*NAMES, raw])
    assert "8 restored" in capfd.readouterr().out


def test_what_is_a_path_and_what_an_override(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("my=file.png").touch()
    Path("out=x").touch()
    words = ["a.png", "scale=3", "my=file.png", "other=file.png", "x y=1", "+scale=2", "task.sigma=3", "--cfg", "job",
             "-x", "out=x", "hydra.verbose=true", "--", "--cfg", "scale=2"]  # fmt: skip
    paths, others = split_paths(words)
    assert paths == ["a.png", "my=file.png", "x y=1", "--cfg", "scale=2"]
    assert others == ["scale=3", "other=file.png", "+scale=2", "task.sigma=3", "--cfg", "job", "-x", "out='x'",
                      "hydra.verbose=true"]  # fmt: skip


def test_what_cannot_be_read_is_named_and_the_others_are_done(nsr, tmp_path, photo, monkeypatch):
    (tmp_path / "broken.png").write_bytes(photo.read_bytes()[:-20])
    (tmp_path / "text.jpg").write_text("no picture")
    write_png(tmp_path / "large.png", picture(height=200, width=200))
    Image.fromarray(picture()).save(tmp_path / "alpha.jpg", "PNG")
    with Image.open(tmp_path / "alpha.jpg") as image:
        image.convert("RGBA").save(tmp_path / "alpha.jpg", "PNG")
    monkeypatch.setenv("NSR_MAX_MEGAPIXELS", "0.02")
    result = nsr(f"restore . {BICUBIC}")
    assert result.code == 1 and restored(tmp_path) == ["photo-x2.png"]
    assert result.err.startswith("nsr restore: 4 of 5 pictures not restored: ") and result.err.count("\n") == 1
    for words in ("broken.png", "large.png is 200x200", "JPEG holds no alpha", "text.jpg: not a PNG"):
        assert words in result.err
    assert "1 restored" in result.out


def test_outputs_that_the_system_refuses_leave_the_others(nsr, tmp_path, photo):
    """Names that are too long with what is added, and a file where a folder would be."""
    (tmp_path / "in/sub").mkdir(parents=True)
    long, longer = "l" * 240, "l" * 250  # the second one's output has no name; the first one's has, its lock has not
    for name in ("a", long, longer, "sub/b", "z"):
        os.link(photo, tmp_path / f"in/{name}.png")
    (tmp_path / "restored").mkdir()
    (tmp_path / "restored/sub").write_text("mine")
    result = nsr(f"restore in {BICUBIC}")
    assert result.code == 1 and "Traceback" not in result.err and result.err.count("\n") == 1
    assert restored(tmp_path) == ["a-x2.png", "sub", "z-x2.png"]
    assert "3 of 5 pictures not restored: " in result.err and result.err.count("(File name too long)") == 2
    assert "in/sub/b.png: restored/sub" in result.err and "2 restored" in result.out


def test_formats_and_folders(nsr, tmp_path):
    for name in ("in/a.jpg", "in/deep/b.webp", "in/deep/er/c.tif", "in/d.bmp"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture()).save(tmp_path / name)
    result = nsr(f"restore in {BICUBIC}")
    assert result.code == 0, result.err
    assert restored(tmp_path) == ["a-x2.jpg", "d-x2.bmp", "deep/b-x2.webp", "deep/er/c-x2.tif"]
    assert nsr(f"restore 'in/**/*.[jw]*' {BICUBIC} format=png out=restored/more").code == 0
    assert restored(tmp_path / "restored").__len__() == 0 and (tmp_path / "restored/more/deep/b-x2.png").exists()
    np.testing.assert_array_equal(
        read_picture(tmp_path / "restored/d-x2.bmp").colour, imresize(read_image(tmp_path / "in/d.bmp"), 2)
    )


def many(folder: Path, count: int) -> None:
    for i in range(count):
        write_png(folder / f"in/{i:02}.png", picture(i, 300, 300))


def test_a_killed_process_leaves_what_is_finished_and_no_block(tmp_path):
    many(tmp_path, 16)
    process = start(tmp_path, f"restore in {BICUBIC}", OMP_NUM_THREADS="1")
    wait_until(lambda: len(list((tmp_path / "restored").glob("[0-9]*.png"))) > 2)
    process.send_signal(signal.SIGKILL)
    finish(process)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "restored").glob("[0-9]*.png")}
    assert len(before) < 16
    for path in before:
        read_image(path)  # whole
    (tmp_path / "restored/.15-x2.png.host-1.tmp").write_text("half written")
    (tmp_path / "restored/.15-x2.png.lock").touch()
    (tmp_path / "restored/.00-x2.png.lock").touch()
    code, out = finish(start(tmp_path, f"restore in {BICUBIC}", OMP_NUM_THREADS="1"))
    assert code == 0 and f"{16 - len(before)} restored, {len(before)} there already, and skipped" in out
    assert restored(tmp_path) == [f"{i:02}-x2.png" for i in range(16)]
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_two_processes_share_a_folder_and_one_finishes_the_other_ones_work(tmp_path):
    many(tmp_path, 12)
    first = start(tmp_path, f"restore in {BICUBIC}", OMP_NUM_THREADS="1")
    wait_until(lambda: list((tmp_path / "restored").glob("[0-9]*.png")))
    first.send_signal(signal.SIGSTOP)
    done = len(list((tmp_path / "restored").glob("[0-9]*.png")))
    assert done < 12
    second = start(tmp_path, f"restore in {BICUBIC}", OMP_NUM_THREADS="1")
    wait_until(lambda: len(list((tmp_path / "restored").glob("[0-9]*.png"))) >= 11)
    first.send_signal(signal.SIGCONT)
    (first_code, said), (second_code, out) = finish(first), finish(second)
    assert (first_code, second_code) == (0, 0), said + out
    assert said.count(": restored/") + out.count(": restored/") == 12 and f"{done} there already" in out
    assert "restored by another process" in said
    assert restored(tmp_path) == [f"{i:02}-x2.png" for i in range(12)]


def test_overwrite_restores_anew(nsr, tmp_path, photo):
    assert nsr(f"restore photo.png {BICUBIC}").code == 0
    output = tmp_path / "restored/photo-x2.png"
    output.write_text("edited")
    repeated = nsr(f"restore photo.png {BICUBIC}")
    assert repeated.code == 0 and output.read_text() == "edited"
    assert "photo-x2.png: changed or damaged since it was restored; overwrite=true restores anew" in repeated.out
    result = nsr(f"restore photo.png {BICUBIC} overwrite=true compare=true")
    assert result.code == 0 and read_image(output).shape == (80, 100, 3)
    assert restored(tmp_path) == ["photo-x2-compare.png", "photo-x2.png"]
    assert "changed" not in nsr(f"restore photo.png {BICUBIC}").out


def test_overwrite_restores_anew_whatever_the_clock_says(nsr, tmp_path, photo):
    output = tmp_path / "restored/photo-x2.png"
    write_png(output, picture(5))
    os.utime(output, (2e9, 2e9))  # the clock was ahead, or is that of another machine
    result = nsr(f"restore photo.png {BICUBIC} overwrite=true")
    assert result.code == 0 and "1 restored" in result.out and read_image(output).shape == (80, 100, 3)


def test_a_folder_in_the_place_of_an_output_is_no_restored_picture(nsr, tmp_path, photo):
    (tmp_path / "restored/photo-x2.png").mkdir(parents=True)
    result = nsr(f"restore photo.png {BICUBIC}")
    assert result.code == 1 and "restored/photo-x2.png: cannot be written (Is a directory)" in result.err


@pytest.mark.parametrize("instant", ["before", "after"])
def test_a_kill_around_a_write_leaves_no_wrong_origin(nsr, photo, monkeypatch, instant):
    from nsr_cli.runs import restore

    write = restore.restore_picture

    def killed(*given):
        if instant == "after":
            write(*given)
        raise RuntimeError("killed")

    assert nsr(f"restore photo.png {BICUBIC}").code == 0
    with monkeypatch.context() as patch:
        patch.setattr(restore, "restore_picture", killed)
        assert "killed" in nsr("restore photo.png threads=1 overwrite=true").err  # by the shipped network
    own, other = (BICUBIC, "threads=1") if instant == "before" else ("threads=1", BICUBIC)
    assert "1 there already, and skipped" in nsr(f"restore photo.png {own}").out
    assert "photo-x2.png is there, made by " in nsr(f"restore photo.png {other}").err


def test_a_picture_of_the_same_name_is_no_repetition(nsr, tmp_path):
    for i, folder in enumerate("ab"):
        write_png(tmp_path / folder / "photo.png", picture(i))
    output = tmp_path / "restored/photo-x2.png"
    assert nsr(f"restore a/photo.png {BICUBIC}").code == 0
    first = output.read_bytes()
    for line in (
        f"b/photo.png {BICUBIC}",
        f"b/photo.png {BICUBIC} compare=true",
    ):
        result = nsr(f"restore {line}")
        assert result.code == 1 and output.read_bytes() == first and restored(tmp_path) == ["photo-x2.png"]
        assert f"restored/photo-x2.png is there, made of {tmp_path / 'a/photo.png'}; " in result.err
        assert "overwrite=true replaces it, out=FOLDER keeps both" in result.err
    other = nsr("restore a/photo.png threads=1")  # by the shipped network
    assert (
        other.code == 1 and "photo-x2.png is there, made by bicubic-sr-" in other.err and ", not wdsr-sr-" in other.err
    )
    (tmp_path / "moved").mkdir()
    (tmp_path / "a/photo.png").rename(tmp_path / "moved/photo.png")
    assert "1 there already, and skipped" in nsr(f"restore moved {BICUBIC}").out
    assert nsr(f"restore b/photo.png {BICUBIC} overwrite=true").code == 0 and output.read_bytes() != first
    assert "1 there already, and skipped" in nsr(f"restore b {BICUBIC}").out
    assert nsr(f"restore moved {BICUBIC}").code == 1
    write_png(tmp_path / "b/photo.png", picture(7))
    assert "is there, made of this picture before it changed; " in nsr(f"restore b {BICUBIC}").err


def test_what_was_restored_into_the_folder_of_pictures_is_no_picture_to_restore(nsr, tmp_path, photo):
    for task in ("", "task=denoise "):
        for said in ("1 restored", "1 there already, and skipped"):
            result = nsr(f"restore . out=. {task}compare=true threads=1")
            assert result.code == 0 and said in result.out, result.out + result.err
    written = {"photo-x2.png", "photo-x2-compare.png", "photo-sigma25.png", "photo-sigma25-compare.png"}
    assert {path.name for path in tmp_path.glob("*.png")} == {"photo.png", *written}
    assert nsr(f"restore photo-x2.png out=. {BICUBIC}").code == 0  # named, it is
    assert (tmp_path / "photo-x2-x2.png").exists()


def test_origins_survive_a_kill_and_damage(tmp_path):
    for name in "ab":
        (tmp_path / name).write_text(name)
    output = tmp_path / "out/a.png"
    output.parent.mkdir()
    seen = origins.Origins("bicubic")
    assert seen.other(tmp_path / "a", output) is None  # nothing is known
    with open(output.parent / origins.FILE, "w") as file:
        file.write('{"output": "a.png", "by"')  # a process was killed here
    origins.Origins("bicubic").note(tmp_path / "a", output)
    with open(output.parent / origins.FILE, "ab") as file:
        file.write(b'[]\n\xff\n{"output": "a.png"}\n' + b"[" * 10**5 + b"\n")
    assert seen.other(tmp_path / "a", output) is None
    assert seen.other(tmp_path / "b", output) == f"of {tmp_path / 'a'}"
    origins.Origins("wdsr").note(tmp_path / "b", output)  # by another process
    assert seen.other(tmp_path / "b", output) == "by wdsr, not bicubic"


def test_a_comparison_is_of_the_picture_beside_it(nsr, tmp_path, photo):
    assert nsr("restore photo.png compare=true threads=1").code == 0
    comparison = tmp_path / "restored/photo-x2-compare.png"
    before = comparison.read_bytes()
    (tmp_path / "restored/photo-x2.png").unlink()
    (tmp_path / f"restored/.{comparison.name}.host-1.tmp").write_text("half written")  # by a killed process
    assert nsr(f"restore photo.png compare=true {BICUBIC}").code == 0
    assert comparison.read_bytes() != before and restored(tmp_path) == ["photo-x2-compare.png", "photo-x2.png"]


def test_progress_is_shown_without_a_terminal(nsr, photo, monkeypatch):
    from nsr_cli.runs import restore

    monkeypatch.setattr(restore, "SAY_EVERY", -1)
    result = nsr(f"restore photo.png {BICUBIC}")
    assert "tile 1/1  0:00 left" in result.out and result.err == ""


SHIPPED_TASKS = {
    "x2": (SuperResolution(scale=2), "scale=2", 0.5),
    "x3": (SuperResolution(scale=3), "scale=3", 0.5),
    "x4": (SuperResolution(scale=4), "scale=4", 0.4),
    "sigma15": (Denoising(sigma=15), "task=denoise sigma=15", 4),
    "sigma25": (Denoising(sigma=25), "task=denoise", 6),
    "sigma50": (Denoising(sigma=50), "task=denoise sigma=50", 8),
    "q10": (JpegArtifacts(quality=10), "task=dejpeg", 0.5),
}  # task, command line, least gain in dB


@pytest.mark.parametrize("label", [path.stem.removeprefix("wdsr-") for path in sorted(SHIPPED.glob("*.safetensors"))])
def test_what_is_shipped_restores(nsr, tmp_path, label):
    task, line, least = SHIPPED_TASKS[label]
    truth = skimage.data.coffee()[100:260, 150:354]
    truth = truth[: 160 // task.scale * task.scale]
    if task.name == "sr":
        given = task.degraded(tmp_path / "a.png", truth)
        naive = imresize(given, task.scale)
        Image.fromarray(given).save(tmp_path / "a.png")
    elif task.name == "dejpeg":
        Image.fromarray(truth).save(tmp_path / "a.jpg", quality=task.quality)
        naive = read_image(tmp_path / "a.jpg")
    else:
        naive = quantize(truth + np.random.default_rng(0).normal(0, task.sigma, truth.shape))
        Image.fromarray(naive).save(tmp_path / "a.png")
    result = nsr(f"restore 'a.*' {line} format=png")
    assert result.code == 0, result.err
    assert psnr(read_image(tmp_path / f"restored/a-{label}.png"), truth) - psnr(naive, truth) > least


def test_many_refusals_are_a_line_each_and_few_at_the_end(tmp_path):
    (tmp_path / "in").mkdir()
    for i in range(12):
        (tmp_path / f"in/{i:02}.png").write_text("no picture")
    code, out = finish(start(tmp_path, f"restore in {BICUBIC}", OMP_NUM_THREADS="1"))
    assert code == 1 and all(f"not restored: cannot read in/{i:02}.png: " in out for i in range(12))
    last = out.rstrip().splitlines()[-1]
    assert last.startswith("nsr restore: 12 of 12 pictures not restored: cannot read in/00.png: ")
    assert "in/09.png" in last and "in/10.png" not in last and last.endswith("; the lines above name the others")
