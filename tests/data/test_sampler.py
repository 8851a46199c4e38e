"""Training patches: aligned, augmented, and a pure function of (seed, step)."""

import numpy as np
import pytest
import torch
from plain_sampler import plain_batch

from nsr_cli.data.resident import ResidentSampler, SendingSampler, sampler_on_device
from nsr_cli.data.sampler import Example, PatchSampler
from nsr_cli.errors import UserError

CPU = torch.device("cpu")


def coordinates(height: int, width: int, scale: int, number: int) -> Example:
    """An image whose pixels tell where they are: truth = its degraded pixel repeated, colour = (row, column, image)."""
    rows, columns = np.mgrid[:height, :width]
    degraded = np.stack([rows, columns, np.full_like(rows, number)], axis=2).astype(np.uint8)
    return Example(f"{number}.png", degraded, degraded.repeat(scale, 0).repeat(scale, 1))


def sampler(scale=2, seed=0, patches_per_image=4, sigma=0, images=3):
    examples = [coordinates(40 + 3 * i, 50, scale, i) for i in range(images)]
    return PatchSampler(examples, scale, patch=20, batch=4, patches_per_image=patches_per_image, seed=seed, sigma=sigma)


def noise_images(scale: int, colour: bool) -> list[Example]:
    """Images of several sizes in which no two places are alike; truths are views into larger images, read-only, as
    those from the cache are."""
    rng, examples = np.random.default_rng(0), []
    for number, (height, width) in enumerate([(20, 33), (41, 20), (52, 37)]):
        shape = (height, width, 3)[: 2 + colour]
        degraded = rng.integers(0, 256, shape, np.uint8)
        wider = rng.integers(0, 256, (height * scale + 1, width * scale + 1, *shape[2:]), np.uint8)
        truth = wider[: height * scale, : width * scale]
        truth.setflags(write=False)
        examples.append(Example(f"{number}.png", degraded, truth))
    return examples


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_patches_are_aligned_under_every_symmetry(scale):
    draw = sampler(scale)
    for step in range(20):
        batch = draw(step)
        assert batch.degraded.shape == (4, 3, 20, 20) and batch.truth.shape == (4, 3, 20 * scale, 20 * scale)
        repeated = batch.degraded.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
        assert torch.equal(batch.truth, repeated)


SETTINGS = [
    dict(scale=2, patch=20, batch=5, patches_per_image=7, seed=3),
    dict(scale=3, patch=18, batch=16, patches_per_image=1, seed=0),  # a batch of several epochs
    dict(scale=1, patch=20, batch=4, patches_per_image=100, seed=2**31 - 1, sigma=25),
    dict(scale=1, patch=20, batch=3, patches_per_image=2, seed=1, sigma=15.5),
]


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("settings", SETTINGS)
def test_every_number_is_the_reference_s(settings, colour):
    examples = noise_images(settings["scale"], colour)
    draw = PatchSampler(examples, **settings)
    for step in [*range(12), 10**6]:
        batch, expected = draw(step), plain_batch(examples, **settings, step=step)
        degraded = batch.degraded if "sigma" in settings else batch.degraded.float().div(255)
        assert batch.names == expected.names
        assert torch.equal(degraded, expected.degraded)
        assert torch.equal(batch.truth.float().div(255), expected.truth)


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("way", [ResidentSampler, SendingSampler])
def test_batches_on_a_device_are_the_same_bits(way, settings, colour):
    draw = PatchSampler(noise_images(settings["scale"], colour), **settings)
    there = way(draw, CPU)
    for step in [*range(12), 10**6]:
        batch, expected = there(step), draw(step)
        assert batch.names == expected.names
        assert batch.degraded.dtype == expected.degraded.dtype and torch.equal(batch.degraded, expected.degraded)
        assert batch.truth.dtype == torch.uint8 and torch.equal(batch.truth, expected.truth)


@pytest.mark.parametrize("free, way", [(290_251, "ResidentSampler"), (290_250, "SendingSampler")])
def test_images_move_to_a_gpu_with_room_for_them(monkeypatch, free, way):
    # (40 + 43 + 46) rows of 50 pixels of 3 bytes, and four times that: 96,750 bytes, a third of 290,250
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 10**12))
    monkeypatch.setattr(f"nsr_cli.data.resident.{way}", lambda sampler, device: (sampler, device))
    draw, gpu = sampler(), torch.device("cuda:1")
    assert sampler_on_device(draw, gpu) == (draw, gpu)
    assert sampler_on_device(draw, CPU) is draw


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("way", [ResidentSampler, SendingSampler])
def test_batches_on_a_gpu(way, settings):
    draw, gpu = PatchSampler(noise_images(settings["scale"], True), **settings), torch.device("cuda")
    assert isinstance(sampler_on_device(draw, gpu), ResidentSampler)
    there = way(draw, gpu)
    for step in range(12):
        batch, expected = there(step), draw(step)
        assert batch.truth.device.type == "cuda" and torch.equal(batch.truth.cpu(), expected.truth)
        torch.testing.assert_close(batch.degraded.cpu(), expected.degraded, rtol=1e-6, atol=1e-6)


def test_a_step_is_the_same_in_any_order_and_any_process():
    one, other = sampler(), sampler()
    there = [one(step) for step in (0, 1, 2, 7)]
    back = [other(step) for step in (7, 2, 1, 0)][::-1]
    for a, b in zip(there, back, strict=True):
        assert torch.equal(a.degraded, b.degraded) and torch.equal(a.truth, b.truth) and a.names == b.names


def test_steps_and_seeds_differ():
    assert not torch.equal(sampler()(0).degraded, sampler()(1).degraded)
    assert not torch.equal(sampler(seed=0)(0).degraded, sampler(seed=1)(0).degraded)


def test_every_image_is_drawn_equally_often_in_an_epoch_and_orders_differ_between_epochs():
    draw = sampler()  # 3 images of 4 patches: an epoch is 3 steps
    epochs = [[name for step in range(3 * e, 3 * e + 3) for name in draw(step).names] for e in range(3)]
    for names in epochs:
        assert sorted(names) == sorted(["0.png", "1.png", "2.png"] * 4)
    assert epochs[0] != epochs[1] or epochs[1] != epochs[2]


def test_all_eight_symmetries_and_all_corners_occur():
    draw, seen, tops = sampler(images=1), set(), set()
    for step in range(200):
        for patch in draw(step).degraded.int():
            rows, columns = patch[0], patch[1]
            transposed = bool(rows[0, 0] == rows[1, 0])
            down = rows[0, 0] < rows[-1, -1]
            right = columns[0, 0] < columns[-1, -1]
            seen.add((transposed, bool(down), bool(right)))
            tops.add(int(rows.min()))
    assert len(seen) == 8
    assert tops == set(range(40 - 20 + 1))


def test_noise_is_added_to_the_degraded_patch_alone_and_repeats():
    noisy, clean = sampler(scale=1, sigma=25, images=2), sampler(scale=1, images=2)
    difference = torch.cat([noisy(s).degraded - clean(s).degraded / 255 for s in range(50)])
    assert difference.std() * 255 == pytest.approx(25, rel=0.01)
    assert torch.equal(noisy(3).truth, clean(3).truth)
    assert torch.equal(noisy(3).degraded, sampler(scale=1, sigma=25, images=2)(3).degraded)


def test_grey_images_make_one_channel():
    grey = np.arange(30 * 30, dtype=np.uint16).reshape(30, 30).astype(np.uint8)
    batch = PatchSampler([Example("g", grey, grey)], 1, patch=20, batch=2, patches_per_image=1, seed=0)(0)
    assert batch.truth.shape == (2, 1, 20, 20) and batch.truth.dtype == torch.uint8


def test_an_image_smaller_than_a_patch_is_named():
    with pytest.raises(UserError, match=r"^0.png is 50x15 once degraded: smaller than a patch of 20x20 \(patch=20\)$"):
        PatchSampler([coordinates(15, 50, 2, 0)], 2, patch=20, batch=1, patches_per_image=1, seed=0)
