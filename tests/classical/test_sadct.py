"""SA-DCT against an implementation that treats one neighbourhood at a time, and its properties."""

import cv2
import numpy as np
import pytest
import torch
from plain_sadct import forward, neighbourhood, plain_deblock

from nsr_cli.classical import sadct as module
from nsr_cli.classical.sadct import SCALES, Supports, artifact_level, deblock, quantisation_table, sadct, triangles
from nsr_cli.data.degrade import jpeg
from nsr_cli.errors import UserError


def truth(height: int, width: int) -> np.ndarray:
    """A slanted edge between a slope and waves, uint8."""
    y, x = np.mgrid[:height, :width]
    return np.where(x + y / 3 > width * 0.6, 60 + 2.0 * x, 150 + 40 * np.sin(y / 2)).astype(np.uint8)


def decoded(height: int, width: int, quality: int) -> np.ndarray:
    return jpeg(truth(height, width), quality).astype(np.float64)


@pytest.mark.parametrize("quality", [10, 40])
def test_it_equals_one_neighbourhood_at_a_time(quality, monkeypatch):
    monkeypatch.setattr(module, "PIXELS", 100)  # several parts, which begin and end within lines
    image, sigma = decoded(13, 18, quality), artifact_level(quality)
    np.testing.assert_allclose(deblock(image, sigma), plain_deblock(image, sigma), rtol=0, atol=1e-9)


def shapes(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Scales of random neighbourhoods, (count, 8), and their masks, column by column."""
    chosen = np.random.default_rng(0).integers(0, len(SCALES), (count, 8))
    chosen[0], chosen[1] = 0, len(SCALES) - 1  # the centre alone, and the whole square
    masks = triangles(SCALES)[np.arange(8), chosen, np.roll(chosen, -1, axis=1)].any(axis=1)
    return chosen, masks


def test_neighbourhoods_are_the_triangles_between_directions():
    for chosen, mask in zip(*shapes(50), strict=True):
        column, row = np.nonzero(mask.reshape(17, 17))
        assert set(zip(row - 8, column - 8, strict=True)) == set(neighbourhood(tuple(SCALES[i] for i in chosen)))


def test_the_transform_is_orthonormal_whatever_the_shape():
    masks = shapes(50)[1]
    supports, values = Supports(masks), np.random.default_rng(1).standard_normal(masks.sum())
    coefficients = supports.forward(values)
    np.testing.assert_allclose(supports.totals(coefficients**2), supports.totals(values**2))
    np.testing.assert_allclose(supports.inverse(coefficients), values)
    assert supports.sizes[0] == 1 and supports.sizes[1] == 289
    square = values[supports.owner == 1].reshape(17, 17).T  # of the whole square it is the plain two-dimensional DCT
    np.testing.assert_allclose(coefficients[supports.owner == 1].reshape(17, 17)[:16, :16], dct2(square)[:16, :16])
    column, row = np.nonzero(masks[2].reshape(17, 17))
    alone = forward(dict(zip(zip(row, column, strict=True), values[supports.owner == 2], strict=True)))
    np.testing.assert_allclose(coefficients[supports.owner == 2], np.concatenate(alone), atol=1e-12)


def dct2(square: np.ndarray) -> np.ndarray:
    n = len(square)
    basis = np.sqrt(2 / n) * np.cos(np.pi * (np.arange(n) + 0.5) * np.arange(n)[:, None] / n)
    basis[0] /= np.sqrt(2)
    return basis @ square @ basis.T


@pytest.mark.parametrize("quality", [1, 10, 49, 50, 75, 100])
def test_the_table_is_the_one_that_the_file_holds(quality):
    # the first table of a JPEG file, 64 bytes in zigzag order, after the marker FFDB, its length and its number
    code = cv2.imencode(".jpg", truth(16, 16), [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
    start = code.index(b"\xff\xdb") + 5
    zigzag = sorted(np.ndindex(8, 8), key=lambda at: (sum(at), at[0] if sum(at) % 2 else at[1]))
    np.testing.assert_array_equal([quantisation_table(quality)[at] for at in zigzag], list(code[start : start + 64]))


def test_the_artifact_level_is_the_paper_s():
    # by hand, at quality 50: 16 11 10, 12 12 14, 14 13 16 have the mean 118 / 9; 0.69 * 13.111 ** 1.3 = 19.57
    assert artifact_level(50) ** 2 == pytest.approx(19.57, abs=0.01)


def test_artifacts_are_removed_and_flat_images_stay():
    clean, image = truth(48, 56), decoded(48, 56, 10)
    assert np.mean((deblock(image, artifact_level(10)) - clean) ** 2) < 0.75 * np.mean((image - clean) ** 2)
    for level in (0.0, 0.3, 1.0):
        flat = torch.full((1, 1, 9, 12), level, dtype=torch.float64)
        torch.testing.assert_close(sadct(flat, 10), flat)
    dot = torch.tensor([[[[0.4]]]])
    torch.testing.assert_close(sadct(dot, 10), dot)


def test_mirrored_images_give_the_mirrored_result():
    image, sigma = decoded(24, 30, 20), artifact_level(20)
    restored = deblock(image, sigma)
    for axis in (0, 1):
        np.testing.assert_allclose(np.flip(deblock(np.flip(image, axis), sigma), axis), restored, rtol=0, atol=1e-9)


def test_images_of_a_batch_are_restored_one_by_one():
    x = torch.rand(2, 1, 10, 14, generator=torch.Generator().manual_seed(0), requires_grad=True)
    restored = sadct(x, 30)
    assert restored.shape == x.shape and restored.dtype == x.dtype and not restored.requires_grad
    assert torch.equal(restored[1:], sadct(x[1:], 30))


def test_bad_input_is_refused():
    with pytest.raises(UserError, match=r"^SA-DCT restores grey images \(B, 1, H, W\); these are \(1, 3, 16, 16\)$"):
        sadct(torch.rand(1, 3, 16, 16), 10)
    for quality in (0, 101, 12.5):
        with pytest.raises(UserError, match=rf"^JPEG has no quality {quality}; expected a whole number from 1 to 100$"):
            sadct(torch.rand(1, 1, 16, 16), quality)
