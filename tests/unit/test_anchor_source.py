"""Where the anchor service reads the log's checkpoint, and what it believes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from anchor.core import TreeHead
from anchor.errors import CheckpointError
from anchor.source import CheckpointSource
from parley.checkpoint import Checkpoint, sign_checkpoint
from parley.keys import SigningKey
from parley.merkle import EMPTY_ROOT
from parley.note import NoteSigner
from parley.schemas import Hash

ORIGIN = "parley.example/log"
SIGNER = NoteSigner(ORIGIN, SigningKey(bytes(32)))
ROOT = Hash(b"\x07" * 32)


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class's name
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(tmp_path))) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


@pytest.fixture(params=["path", "address"])
def source(request: pytest.FixtureRequest, tmp_path: Path, server: str) -> CheckpointSource:
    location = str(tmp_path / "checkpoint") if request.param == "path" else f"{server}/checkpoint"
    return CheckpointSource(location, SIGNER.verifier_key, timeout=5)


def write(tmp_path: Path, checkpoint: Checkpoint, signer: NoteSigner = SIGNER) -> bytes:
    note = sign_checkpoint(checkpoint, signer)
    (tmp_path / "checkpoint").write_bytes(note)
    return note


def test_the_newest_checkpoint_is_read(source: CheckpointSource, tmp_path: Path) -> None:
    write(tmp_path, Checkpoint(ORIGIN, 5, ROOT))
    assert source.newest() == TreeHead(5, ROOT)


def test_a_log_that_is_not_there_yet_is_empty(source: CheckpointSource) -> None:
    assert source.newest() is None


def test_so_is_one_of_size_zero(source: CheckpointSource, tmp_path: Path) -> None:
    write(tmp_path, Checkpoint(ORIGIN, 0, EMPTY_ROOT))
    assert source.newest() is None


def test_another_key_s_signature_is_refused(source: CheckpointSource, tmp_path: Path) -> None:
    write(tmp_path, Checkpoint(ORIGIN, 5, ROOT), NoteSigner(ORIGIN, SigningKey(b"\x01" * 32)))
    with pytest.raises(CheckpointError, match="is not anchored"):
        source.newest()


def test_a_changed_size_is_refused(source: CheckpointSource, tmp_path: Path) -> None:
    note = write(tmp_path, Checkpoint(ORIGIN, 5, ROOT))
    (tmp_path / "checkpoint").write_bytes(note.replace(b"\n5\n", b"\n6\n"))
    with pytest.raises(CheckpointError, match="is not anchored"):
        source.newest()


def test_a_folder_in_its_place_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read"):
        CheckpointSource(str(tmp_path), SIGNER.verifier_key).newest()


def test_a_web_server_that_is_away_is_said_to_be() -> None:
    with pytest.raises(CheckpointError, match="cannot be fetched"):
        CheckpointSource("http://127.0.0.1:1/checkpoint", SIGNER.verifier_key, timeout=1).newest()
