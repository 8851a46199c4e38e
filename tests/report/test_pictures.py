"""Pictures from made-up images and gates."""

import numpy as np
import pytest
from overlaps import assert_apart

from nsr_cli.report.figures import save
from nsr_cli.report.pictures import Gated, Panel, busiest, gates, side_by_side, span

HEADING = "Figure 5: mixing weights of the second convolution of each block\nnsr ablate groups=2; protocol short"


def photograph(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def gated(name: str = "a.png", blocks: int = 4, groups: int = 1, size: tuple[int, int] = (62, 90)) -> Gated:
    rows, columns = (-(-side // 4) for side in size)
    maps = np.random.default_rng(1).random((blocks, groups, rows, columns), dtype=np.float32)
    return Gated(name, photograph(*size), maps, stride=4)


def titles(figure) -> list[str]:
    return [axes.get_title() for axes in figure.axes if axes.get_title()]


def test_an_image_beside_the_gates_of_every_block():
    images = [gated("126007.png"), gated("253027.png")]
    figure = gates(images, ["group 1"], HEADING)
    assert titles(figure) == ["input", "block 1", "block 2", "block 3", "block 4", "mean"]
    pictures = [axes for axes in figure.axes if axes.get_images()]
    assert len(pictures) == 2 * (1 + 2 * 5) and pictures[11].get_ylabel() == "253027.png"
    np.testing.assert_array_equal(pictures[11].get_images()[0].get_array(), images[1].picture)
    for first in (12, 17):  # in a range of their own, and from 0 to 1
        drawn = [axes.get_images()[0] for axes in pictures[first : first + 5]]
        for block in range(4):
            np.testing.assert_array_equal(drawn[block].get_array(), images[1].maps[block, 0])
        np.testing.assert_allclose(drawn[4].get_array(), images[1].maps[:, 0].mean(axis=0))
        assert {image.get_cmap().name for image in drawn} == {"cividis"}  # blue to yellow
        assert ({image.get_clim() for image in drawn} == {(0.0, 1.0)}) == (first == 17)
    assert "mixing weight of sparsity group 1, twice" in figure.get_supxlabel()


def test_the_head_of_a_column_says_what_its_gates_do():
    use = [{"groups": 1.5 + block / 10, "adaptivity": block / 100} for block in range(4)]
    figure = gates([gated()], ["group 1"], HEADING, use)
    assert titles(figure)[:2] == ["input", "block 1\n1.50 groups\n0.000 bits"]
    assert titles(figure)[-1] == "mean\n1.65 groups\n0.015 bits"
    assert_apart(figure)


def test_a_value_lies_over_the_pixels_that_it_stands_for():
    figure = gates([gated(size=(62, 90))], ["group 1"], HEADING)
    axes = figure.axes[1]
    assert list(axes.get_images()[0].get_extent()) == [-0.5, 23 * 4 - 0.5, 16 * 4 - 0.5, -0.5]
    assert axes.get_xlim() == (-0.5, 89.5) and axes.get_ylim() == (61.5, -0.5)  # the image's, to the pixel


def test_a_column_has_one_range_and_says_it():
    first, second = gated(), gated()
    second.maps[0] = 0.4 + 0.1 * second.maps[0]
    first.maps[0] = 0.7
    figure = gates([first, second], ["group 1"], HEADING)
    pictures = [axes for axes in figure.axes if axes.get_images()]
    expected = (pytest.approx(second.maps[0].min()), pytest.approx(0.7))
    assert [pictures[i].get_images()[0].get_clim() for i in (1, 12)] == [expected, expected]
    bar = next(axes for axes in figure.axes if "0.70" in [label.get_text() for label in axes.get_xticklabels()])
    assert [label.get_text() for label in bar.get_xticklabels()] == ["0.40", "0.70"]


def test_differences_that_are_none_are_not_spread_over_the_colours():
    assert span([np.full((2, 2), 0.5), np.full((2, 2), 0.5001)]) == pytest.approx((0.49905, 0.50105))
    assert span([np.full((2, 2), 0.2), np.full((2, 2), 0.5)]) == (0.2, 0.5)


@pytest.mark.parametrize(
    ("blocks", "groups", "size"), [(4, 1, (160, 240)), (1, 1, (60, 80)), (2, 4, (120, 80)), (16, 2, (80, 122))]
)
def test_no_word_covers_another(blocks, groups, size):
    names = [f"group {number + 1}" for number in range(groups)]
    use = [{"groups": 1.98, "adaptivity": 0.003}] * blocks
    assert_apart(gates([gated(f"{n}26007.png", blocks, groups, size) for n in range(2)], names, HEADING, use))


def test_each_group_has_a_row():
    figure = gates([gated(groups=4)], [f"group {number}" for number in (1, 2, 3, 4)], HEADING)
    labels = [axes.get_ylabel() for axes in figure.axes if axes.get_ylabel()]
    rows = [f"group {number}\n{span}" for number in (1, 2, 3, 4) for span in ("own range", "0 to 1")]
    assert labels == ["a.png", *rows]


def test_many_groups_are_columns_and_blocks_are_rows():
    use = [{"groups": 5.0, "adaptivity": 0.1}, {"groups": 7.0, "adaptivity": 0.3}]
    image = gated(blocks=2, groups=8)
    figure = gates([image], [f"group {group}" for group in range(1, 9)], HEADING, use)
    assert titles(figure) == ["a.png", *(f"group {group}" for group in range(1, 9))]
    axes = np.array(figure.axes).reshape(6, 9)
    labels = [axis.get_ylabel() for axis in axes[:, 1]]
    low, high = image.maps[1].min(), image.maps[1].max()
    assert labels[2:4] == [f"block 2, 7.00 groups\n0.300 bits\n{low:.2f} to {high:.2f}", "0 to 1"]
    assert labels[4].startswith("mean, 6.00 groups\n0.200 bits\n")
    for group in range(8):
        (drawn,), (whole,) = axes[2, 1 + group].get_images(), axes[3, 1 + group].get_images()
        np.testing.assert_array_equal(drawn.get_array(), image.maps[1, group])
        assert drawn.get_clim() == pytest.approx((low, high)) and whole.get_clim() == (0.0, 1.0)
    assert_apart(figure)


def test_panels_side_by_side_with_their_busiest_part(tmp_path):
    truth = np.full((80, 100, 3), 128, np.uint8)
    truth[40:56, 20:36] = photograph(16, 16)
    assert busiest(truth, 20)[0] in range(36, 41) and busiest(truth, 20)[1] in range(16, 21)
    panels = [Panel("bicubic", truth, "30.00 dB"), Panel("ground truth", truth, "PSNR")]
    figure = side_by_side(panels, 20, "a.png, x2: short protocol, PSNR in RGB, border 8")
    assert titles(figure) == ["bicubic", "ground truth"]
    assert [axes.get_xlabel() for axes in figure.axes][2:] == ["30.00 dB", "PSNR"]
    assert_apart(figure)
    assert [path.suffix for path in save(figure, tmp_path / "compare")] == [".png", ".pdf"]


def test_the_same_maps_are_the_same_bytes(tmp_path):
    saved = [save(gates([gated()], ["group 1"], HEADING), tmp_path / turn) for turn in ("first", "second")]
    assert [path.read_bytes() for path in saved[0]] == [path.read_bytes() for path in saved[1]]
