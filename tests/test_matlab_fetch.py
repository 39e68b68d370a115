"""Tests of fetching networks, from a server on this machine."""

import hashlib
import http.server
import io
import re
import socket
import threading
import zipfile
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import scipy.io

from dagnet import FolderInUseError, lock_folder
from mat_networks import small_network
from mat_writers import write_mat5
from matlab_import import load_network
from matlab_import.__main__ import main
from matlab_import.fetch import SOURCES, FetchError, Source, fetch


def mat_file(values):
    """The bytes of a ``.mat`` file."""
    stream = io.BytesIO()
    scipy.io.savemat(stream, {"values": values})
    return stream.getvalue()


# The header and the names take 192 bytes.
CONTENT = mat_file(np.random.default_rng(5).integers(0, 256, 700_000 - 192, dtype=np.uint8))


class Server(http.server.ThreadingHTTPServer):
    """Serves ``files``; knows ranges unless told not to, and breaks connections when asked."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {"/net.mat": CONTENT}
        self.ranges = True
        self.break_after = None
        self.requests = []

    def url(self, name="net.mat"):
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        server = self.server
        asked = self.headers.get("Range")
        server.requests.append(asked)
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", server.url())
            self.end_headers()
            return
        content = server.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        first = int(re.match(r"bytes=(\d+)-", asked)[1]) if asked and server.ranges else 0
        if first >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.end_headers()
            return
        self.send_response(206 if asked and server.ranges else 200)
        if asked and server.ranges:
            last = len(content) - 1
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - first))
        self.end_headers()
        self.wfile.write(content[first : server.break_after])


@pytest.fixture
def server():
    with Server() as found:
        thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield found
        found.shutdown()
        thread.join()


@pytest.fixture
def source(server):
    return Source("net.mat", server.url(), "a network", "http://example.org")


class Bar:
    """Counts what a progress bar is told."""

    made: ClassVar[list] = []

    def __init__(self, there, total):
        self.start, self.total, self.count = there, total, there
        Bar.made.append(self)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def update(self, count):
        self.count += count


@pytest.fixture(autouse=True)
def bars():
    Bar.made = []
    return Bar.made


def test_a_file_arrives_whole_with_its_sum_and_progress(source, tmp_path, bars):
    path, digest = fetch(source, tmp_path / "new" / "folder", Bar)
    assert path == tmp_path / "new" / "folder" / "net.mat" and path.read_bytes() == CONTENT
    assert digest == hashlib.sha256(CONTENT).hexdigest()
    assert [(b.start, b.total, b.count) for b in bars] == [(0, len(CONTENT), len(CONTENT))]
    assert [p.name for p in path.parent.iterdir()] == ["net.mat"]


def test_a_file_that_is_there_is_not_fetched_again(source, server, tmp_path):
    fetch(source, tmp_path, Bar)
    fetch(source, tmp_path, Bar)
    assert len(server.requests) == 1


def test_a_broken_download_goes_on_where_it_stopped(source, server, tmp_path, bars):
    server.break_after = 300_000
    with pytest.raises(FetchError, match=r"broke after 300,000 of 700,000 bytes.*again to go on"):
        fetch(source, tmp_path, Bar)
    assert not (tmp_path / "net.mat").exists()
    assert (tmp_path / "net.mat.part").read_bytes() == CONTENT[:300_000]
    server.break_after = None
    path, _ = fetch(source, tmp_path, Bar)
    assert path.read_bytes() == CONTENT
    assert server.requests == [None, "bytes=300000-"] and bars[-1].start == 300_000


def test_a_server_without_ranges_sends_all_again(source, server, tmp_path):
    (tmp_path / "net.mat.part").write_bytes(b"x" * 1000)
    server.ranges = False
    assert fetch(source, tmp_path, Bar)[0].read_bytes() == CONTENT


def test_a_download_that_was_whole_is_taken(source, server, tmp_path):
    (tmp_path / "net.mat.part").write_bytes(CONTENT)
    assert fetch(source, tmp_path, Bar)[0].read_bytes() == CONTENT


def test_a_part_of_a_longer_file_is_thrown_away(source, tmp_path):
    (tmp_path / "net.mat.part").write_bytes(CONTENT + b"more")
    assert fetch(source, tmp_path, Bar)[0].read_bytes() == CONTENT


def test_another_address_is_followed(source, server, tmp_path):
    moved = replace(source, url=server.url("moved"))
    assert fetch(moved, tmp_path, Bar)[0].read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("known", "words"),
    (
        ({"size": 699_999}, "expected 699,999 bytes, the server offers 700,000"),
        ({"md5": "0" * 32}, "expected MD5 0000"),
    ),
)
def test_another_size_or_sum_is_refused(source, tmp_path, known, words):
    with pytest.raises(FetchError, match=words):
        fetch(replace(source, **known), tmp_path, Bar)
    assert not (tmp_path / "net.mat").exists()


def test_the_right_size_and_sum_are_taken(source, tmp_path):
    known = replace(source, size=len(CONTENT), md5=hashlib.md5(CONTENT).hexdigest())
    assert fetch(known, tmp_path, Bar)[0].is_file()


def test_a_file_that_is_gone_is_said_with_the_authors_page(source, server, tmp_path):
    with pytest.raises(FetchError, match=r"answered 404.*by hand \(see http://example\.org\)"):
        fetch(replace(source, url=server.url("other")), tmp_path, Bar)


def test_without_a_network_the_message_says_what_to_do(source, tmp_path):
    with socket.socket() as free:  # a port where nobody listens
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/net.mat"
    with pytest.raises(FetchError, match=r"no connection \(.*refused.*check that 127\.0\.0\.1"):
        fetch(replace(source, url=url), tmp_path, Bar)
    assert list(tmp_path.iterdir()) == []


def archive(**members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as content:
        for name, data in members.items():
            content.writestr(f"networks/{name}.mat", data)
    return stream.getvalue()


def test_a_file_is_taken_out_of_its_archive(source, server, tmp_path):
    right = mat_file(np.ones(3))
    server.files["/all.zip"] = archive(net=right, other=b"wrong")
    zipped = replace(source, url=server.url("all.zip"), member="net.mat")
    path, digest = fetch(zipped, tmp_path, Bar)
    assert path.read_bytes() == right and digest == hashlib.sha256(right).hexdigest()
    assert [p.name for p in tmp_path.iterdir()] == ["net.mat"]


@pytest.mark.parametrize(
    ("content", "words"),
    ((archive(other=b"x"), "found networks/other.mat"), (b"<html>", "expected a zip archive")),
)
def test_an_archive_without_the_file_is_refused(source, server, tmp_path, content, words):
    server.files["/all.zip"] = content
    zipped = replace(source, url=server.url("all.zip"), member="net.mat")
    with pytest.raises(FetchError, match=words):
        fetch(zipped, tmp_path, Bar)
    assert not (tmp_path / "net.mat").exists()


def test_the_command_fetches_a_network_that_loads(server, tmp_path, rng, capsys):
    write_mat5(tmp_path / "original.mat", {"net": small_network(rng)})
    server.files["/net.mat"] = (tmp_path / "original.mat").read_bytes()
    arguments = ["fetch", "siamfc-color", "--to", str(tmp_path), "--url", server.url()]
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    digest = hashlib.sha256(server.files["/net.mat"]).hexdigest()
    assert f"SHA-256 {digest}" in out and "100%" in err
    assert len(load_network(tmp_path / "2016-08-17.net.mat").layers) == 5


def test_the_command_tells_a_failure_in_one_line(server, tmp_path, capsys):
    arguments = ["fetch", "vgg19", "--to", str(tmp_path), "--url", server.url("none")]
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("python -m matlab_import: error:") and "answered 404" in line


def test_the_addresses_are_those_of_the_authors():
    assert set(SOURCES) == {"siamfc-color", "siamfc-gray", "vgg19", "cfnet-conv5"}
    for source in SOURCES.values():
        assert re.match(r"https?://(www\.robots\.ox\.ac\.uk|www\.vlfeat\.org|bit\.ly)/", source.url)
        assert source.file.endswith(".mat") and source.page.startswith("http")


def test_what_is_no_whole_mat_file_is_refused_and_put_away(source, server, tmp_path):
    page = b"<!DOCTYPE html><html>Please sign in to the network of this hotel</html>"
    for content in (page, CONTENT[: len(CONTENT) // 2]):
        server.files["/net.mat"] = content
        with pytest.raises(FetchError, match=r"expected a MATLAB \.mat file.*download net\.mat by"):
            fetch(source, tmp_path, Bar)
        assert not list(tmp_path.iterdir())
    server.files["/net.mat"] = CONTENT
    assert fetch(source, tmp_path, Bar)[0].read_bytes() == CONTENT


def test_more_than_any_network_has_is_refused(source, server, tmp_path, monkeypatch):
    monkeypatch.setattr("matlab_import.fetch._MOST", 1000)
    with pytest.raises(FetchError, match="the server offers 700,"):
        fetch(source, tmp_path, Bar)
    monkeypatch.setattr("matlab_import.fetch._place", lambda answer, there: (0, None))
    with pytest.raises(FetchError, match="the server sends more than 1,000 bytes"):
        fetch(source, tmp_path, Bar)


def test_a_second_download_into_a_folder_is_refused(source, tmp_path):
    with lock_folder(tmp_path), pytest.raises(FolderInUseError, match="is in use by process"):
        fetch(source, tmp_path, Bar)


def packed(members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as content:
        for name, data in members.items():
            content.writestr(name, data)
    return stream.getvalue()


def test_an_archive_writes_nothing_outside_the_folder_and_has_an_end(source, server, tmp_path):
    name = "../../../net.mat"
    server.files["/net.zip"] = packed({name: CONTENT, "/etc/x": b"1", "../y": b"2"})
    inside = replace(source, url=server.url("net.zip"), member="net.mat")
    folder = tmp_path / "a" / "b"
    assert fetch(inside, folder, Bar)[0] == folder / "net.mat"
    assert [p for p in sorted(tmp_path.rglob("*")) if p.is_file()] == [folder / "net.mat"]
    (folder / "net.mat").unlink()
    server.files["/net.zip"] = packed({"net.mat": bytes(100_000_000)})
    with pytest.raises(FetchError, match=r"net\.mat would unpack to 100,000,000 bytes"):
        fetch(inside, folder, Bar)
    assert not (folder / "net.mat").exists()
