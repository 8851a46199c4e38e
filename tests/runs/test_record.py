"""A record is believed only if it is whole: read as it was written, or refused with a reason."""

import json
import math
import random
from dataclasses import replace

import pytest

from nsr_cli.engine.conventions import Convention
from nsr_cli.runs.record import DIGEST, Damaged, Record, Score, _digest_line, is_whole, read_record, write_record
from nsr_cli.runs.stored import Store

RGB = Convention("rgb", "rgb", rounded=True, measured="rgb", border=8)


@pytest.fixture
def record() -> Record:
    images = {f"{i}.png": {"psnr": 30 + i / 7, "ssim": 0.9 + i / 700} for i in range(3)}
    means = {name: math.fsum(scores[name] for scores in images.values()) / 3 for name in ("psnr", "ssim")}
    return Record(
        run="wdsr-sr-01234567",
        signature="0123456789abcdef",
        spec={"task": {"name": "sr", "scale": 2}, "training": {"seed": 3, "batch": 2, "drops": ["2/3"]}},
        benchmark="set5",
        scores={"rgb": Score(RGB, means, images)},
        made={"date": "2026-01-02", "commit": None},
        cost={"macs": 1.5, "overhead": 0.5, "parameters": 10},
        gates={"body.0.conv1": {"largest": 0.25}},
        trained={"steps": 6, "patches": 12, "seconds": 0.5},
        seconds=0.25,
    )


@pytest.fixture
def path(tmp_path, record):
    write_record(tmp_path / "record.json", record)
    return tmp_path / "record.json"


def resealed(path, content: dict) -> None:
    """Write any content as if it were a record's, with a digest that fits."""
    text = json.dumps(content, indent=1).removesuffix("\n}")
    path.write_text(f"{text}{DIGEST}{_digest_line(text)}")


def test_what_is_written_is_read(path, record):
    assert read_record(path) == record and is_whole(path)
    assert record.seed == 3
    assert read_record(path.with_name("other.json")) is None and read_record(path / "below.json") is None


def test_infinite_scores_are_null_in_the_file(path, record):
    scores = {"a.png": {"psnr": math.inf, "ssim": 1.0}}
    flat = replace(record, scores={"rgb": Score(RGB, {"psnr": math.inf, "ssim": 1.0}, scores)})
    write_record(path, flat)
    assert read_record(path) == flat
    assert json.loads(path.read_text(), parse_constant=pytest.fail)["scores"]["rgb"]["psnr"] is None


def test_a_flipped_bit_is_refused_or_changes_nothing(path, record):
    """One in 270 once changed a PSNR unseen. Only whitespace may differ: the digest covers all but the last lines."""
    good, dice = path.read_bytes(), random.Random(0)
    for bit in dice.sample(range(8 * len(good)), 400):
        content = bytearray(good)
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        try:
            assert read_record(path) == record, bit
        except Damaged as damage:
            assert "\n" not in str(damage)


@pytest.mark.parametrize("cut", [0, 1, 10, 500, -1, -2, -70])
def test_a_torn_file_is_refused(path, cut):
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(Damaged):
        read_record(path)
    assert not is_whole(path)


def test_an_edited_score_is_refused_even_with_a_digest(path):
    edited = path.read_text().replace("30.0,", "39.0,", 1)
    path.write_text(edited)
    assert not is_whole(path)
    with pytest.raises(Damaged, match="it was changed since it was written"):
        read_record(path)
    content = json.loads(edited)
    del content["digest"]
    resealed(path, content)
    with pytest.raises(Damaged, match="the mean psnr of rgb is .*, that of its images "):
        read_record(path)


ODD = [None, True, 5, -1.5, "", "text", [], [1], {}, {"a": 1}]


def test_no_value_of_any_entry_ends_in_anything_but_a_record_or_a_reason(path, record):
    """Malformed ssim, psnr, config, cost once brought down the table."""
    good = json.loads(path.read_text())
    del good["digest"]

    def places(value, at=()):
        yield at
        if isinstance(value, (dict, list)):
            for key in value if isinstance(value, dict) else range(len(value)):
                yield from places(value[key], (*at, key))

    tried = 0
    for place in [p for p in places(good) if p]:
        for odd in ODD:
            content = json.loads(json.dumps(good))
            *before, last = place
            held = content
            for key in before:
                held = held[key]
            held[last] = odd
            resealed(path, content)
            tried += 1
            try:
                found = read_record(path)
            except Damaged:
                continue
            if found.covers([RGB]) and not found.diverged:  # it is shown then
                assert isinstance(found.scores_text(), str), (place, odd)
            assert found.seed is None or type(found.seed) is int, (place, odd)
    assert tried > 400


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400", "-1e400", "1e309"])
def test_no_number_that_is_none(path, number):
    content = json.loads(path.read_text())
    del content["digest"]
    text = json.dumps(content, indent=1).removesuffix("\n}").replace("30.0", number)
    assert number in text
    path.write_text(f"{text}{DIGEST}{_digest_line(text)}")
    with pytest.raises(Damaged):
        read_record(path)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"3", b"null", b'"x"', b"\xff\xfe", b'{"format": 1}', b"[" * 10**5]
)
def test_a_file_that_is_no_record(path, content):
    path.write_bytes(content)
    with pytest.raises(Damaged):
        read_record(path)
    assert not is_whole(path)


def test_a_folder_in_the_place_of_a_record(tmp_path):
    with pytest.raises(Damaged, match="it cannot be read: a folder, not a file"):
        read_record(tmp_path)


def test_another_format_is_named(path):
    content = json.loads(path.read_text()) | {"format": 3}
    path.write_text(json.dumps(content))
    with pytest.raises(Damaged, match="it has format 3; this version of nsr reads 2"):
        read_record(path)


def test_a_record_answers_for_its_own_conventions_and_metrics(record):
    assert record.covers([RGB]) and record.covers([]) and record.covers([replace(RGB, metrics=("psnr",))])
    for other in (
        replace(RGB, name="y"), replace(RGB, border=2), replace(RGB, measured="y"), replace(RGB, rounded=False),
        replace(RGB, metrics=("psnr", "ssim", "ssim8")), replace(RGB, output_rounded=False),
    ):  # fmt: skip
        assert not record.covers([other]), other
        assert not record.covers([RGB, other])


def test_its_scores_in_a_line(record):
    assert record.scores_text() == "rgb: 30.1429 dB  SSIM 0.90143"


def test_a_record_that_was_cut_short_is_named_where_seeds_are_listed(tmp_path):
    (tmp_path / "cut.json").write_text('{"signature": "a", "spec": {"training": {"seed": 1')
    (tmp_path / "whole.json").write_text('{"signature": "b", "spec": {"training": {"seed": 2}}}')
    (tmp_path / "other.json").write_text("[]")
    store = Store()
    assert store.seeds_in(tmp_path) == {"b": 2} and store.damaged == {tmp_path / "cut.json": "it is not whole"}
