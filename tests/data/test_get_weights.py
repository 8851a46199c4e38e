"""Published weights: the list of conf/model, and fetching them from a server on this machine."""

import hashlib
import re

import pytest

from nsr_cli.data import published as module
from nsr_cli.data.published import Weights, get_weights, published
from nsr_cli.errors import UserError


def test_every_file_of_conf_model_is_listed_with_an_address_or_where_to_ask():
    found = published()
    assert {weights.model for weights in found} == {"arcnn", "dncnn", "vdsr"} and len(found) == 9
    for weights in found:
        assert re.fullmatch(r"weights/\w+/\w+\.mat", weights.file) and re.fullmatch("[0-9a-f]{64}", weights.sha256)
        assert "http" in weights.ask
        # an address that names a commit is of the same bytes for ever
        assert not weights.url or re.match(r"https://raw\.githubusercontent\.com/\w+/[\w-]+/[0-9a-f]{40}/", weights.url)


@pytest.fixture
def offered(server, monkeypatch):
    """Two files on the server and one that has to be asked for."""
    server.files |= {"a.mat": b"weights of a" * 100, "b.mat": b"weights of b" * 100}
    listed = [
        Weights("net", f"weights/net/{name}", hashlib.sha256(body).hexdigest(), server.url(name), "ask http://net")
        for name, body in server.files.items()
    ]
    other = Weights("other", "weights/other/c.mat", "0" * 64, "", "its authors publish it at http://other")
    monkeypatch.setattr(module, "published", lambda: (*listed, other))
    return listed


def test_what_has_an_address_is_fetched_and_of_the_rest_is_said_where_to_ask(server, offered, root):
    server.drops, server.cut = 1, 500  # and resumed
    with pytest.raises(UserError) as error:
        get_weights(root)
    assert str(error.value) == (
        f"2 of 3 published weights are in {root}; weights/other/c.mat: its authors publish it at http://other"
    )
    for weights in offered:
        assert hashlib.sha256((root / weights.file).read_bytes()).hexdigest() == weights.sha256
    assert sorted(path.name for path in root.iterdir()) == ["weights"]
    asked = len(server.requests)
    with pytest.raises(UserError, match="^2 of 3"):
        get_weights(root)
    assert len(server.requests) == asked == 3


def test_when_all_are_there_their_paths_are_returned(server, offered, root, monkeypatch):
    monkeypatch.setattr(module, "published", lambda: tuple(offered))
    assert get_weights(root) == [root / weights.file for weights in offered]


def test_other_content_is_refused_from_the_server_and_kept_on_the_disk(server, offered, root):
    server.files["a.mat"] = b"something else"
    mine = root / "weights/net/b.mat"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    with pytest.raises(UserError) as error:
        get_weights(root)
    said = str(error.value)
    assert said.startswith(f"0 of 3 published weights are in {root}; weights/net/a.mat: {server.url('a.mat')}: wrong ")
    assert "; ask http://net; weights/net/b.mat: another file than the published one lies there" in said
    assert mine.read_bytes() == b"mine" and not (root / "weights/net/a.mat").exists()
