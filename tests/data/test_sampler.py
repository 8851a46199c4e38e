"""Training patches: aligned, augmented, and a pure function of (seed, step)."""

import numpy as np
import pytest
import torch

from nsr_cli.data.sampler import Example, PatchSampler
from nsr_cli.errors import UserError


def coordinates(height: int, width: int, scale: int, number: int) -> Example:
    """An image whose pixels tell where they are: truth = its degraded pixel repeated, colour = (row, column, image)."""
    rows, columns = np.mgrid[:height, :width]
    degraded = np.stack([rows, columns, np.full_like(rows, number)], axis=2).astype(np.uint8)
    return Example(f"{number}.png", degraded, degraded.repeat(scale, 0).repeat(scale, 1))


def sampler(scale=2, seed=0, patches_per_image=4, sigma=0, images=3):
    examples = [coordinates(40 + 3 * i, 50, scale, i) for i in range(images)]
    return PatchSampler(examples, scale, patch=20, batch=4, patches_per_image=patches_per_image, seed=seed, sigma=sigma)


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_patches_are_aligned_under_every_symmetry(scale):
    draw = sampler(scale)
    for step in range(20):
        batch = draw(step)
        assert batch.degraded.shape == (4, 3, 20, 20) and batch.truth.shape == (4, 3, 20 * scale, 20 * scale)
        repeated = batch.degraded.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
        assert torch.equal(batch.truth, repeated)


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
        for patch in (draw(step).degraded * 255).round().int():
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
    difference = torch.cat([noisy(s).degraded - clean(s).degraded for s in range(50)])
    assert difference.std() * 255 == pytest.approx(25, rel=0.01)
    assert torch.equal(noisy(3).truth, clean(3).truth)
    assert torch.equal(noisy(3).degraded, sampler(scale=1, sigma=25, images=2)(3).degraded)


def test_grey_images_make_one_channel():
    grey = np.arange(30 * 30, dtype=np.uint16).reshape(30, 30).astype(np.uint8)
    batch = PatchSampler([Example("g", grey, grey)], 1, patch=20, batch=2, patches_per_image=1, seed=0)(0)
    assert batch.truth.shape == (2, 1, 20, 20) and batch.truth.dtype == torch.float32 and batch.truth.max() <= 1


def test_an_image_smaller_than_a_patch_is_named():
    with pytest.raises(UserError, match=r"^0.png is 50x15 once degraded: smaller than a patch of 20x20 \(patch=20\)$"):
        PatchSampler([coordinates(15, 50, 2, 0)], 2, patch=20, batch=1, patches_per_image=1, seed=0)
