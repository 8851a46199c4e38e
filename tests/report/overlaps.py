"""Whether the words of a figure lie apart from each other, and on the page."""

from itertools import combinations


def words(figure) -> list:
    """Every text that is drawn: headings, labels, legends, notes, and the numbers at ticks within view."""
    found = [*figure.texts, *(text for legend in figure.legends for text in legend.get_texts())]
    for axes in (axes for axes in figure.axes if axes.axison):
        found += [axes.title, axes.xaxis.label, axes.yaxis.label, *axes.texts]
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            found += [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    return [text for text in found if text.get_visible() and text.get_text().strip()]


def assert_apart(figure) -> None:
    figure.draw_without_rendering()
    boxes = [(text.get_text(), text.get_window_extent()) for text in words(figure)]
    for text, box in boxes:
        assert box.x0 >= 0 and box.y0 >= 0, f"{text} leaves the page"
        assert box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1, f"{text} leaves the page"
    for (one, box), (other, another) in combinations(boxes, 2):
        assert not box.overlaps(another), f"{one} covers {other}"
