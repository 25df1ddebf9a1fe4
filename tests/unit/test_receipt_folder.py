"""Every receipt of ours is kept, once, before its message counts as accepted; and it is what a claim takes."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

import parley
from parley.client import Participant
from parley.errors import ParleyError, TransportError
from parley.receipts import prove_promise, read_receipt
from parley.schemas import MessageId
from tests.memory_backbone import MemoryBackbone
from tests.synthetic_ledger import signing_key

MINUTES = timedelta(minutes=5)


@pytest.fixture
def backbone() -> MemoryBackbone:
    return MemoryBackbone("alpha", "beta")


@pytest.fixture
def folder(tmp_path: Path) -> parley.ReceiptFolder:
    return parley.ReceiptFolder(tmp_path / "receipts" / "alpha")


def connected(
    backbone: MemoryBackbone,
    keep: Callable[[MessageId, bytes], None],
    answer_within: float = 60.0,
    resend_after: float = 60.0,
) -> Participant:
    return parley.connect(
        backbone.transport(),
        participant="alpha",
        key=signing_key("alpha"),
        registrar=backbone.registrar.public,
        clock=lambda: backbone.now,
        answer_within=answer_within,
        resend_after=resend_after,
        keep=keep,
    )


async def test_every_message_of_ours_leaves_a_receipt_that_verifies(
    backbone: MemoryBackbone, folder: parley.ReceiptFolder
) -> None:
    async with connected(backbone, folder) as alpha:
        deal = await alpha.open(["beta"], kind="negotiation", deadline=MINUTES, content="shall we?")
        accepted = await deal.send("well?")
        await deal.finish("never mind")
    for number, message in enumerate(deal.messages):
        path = folder.path(message.message_id)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        promise = prove_promise(read_receipt(path.read_bytes()), backbone.directory)
        assert promise.spoken.message.sequence == number
        assert promise.signer.operator.participant == "operator"
    assert folder.path(accepted.message.message_id).read_bytes() == accepted.receipt
    assert len(list(path.parent.iterdir())) == 3


async def test_a_receipt_that_comes_again_after_a_restart_changes_nothing(
    backbone: MemoryBackbone, folder: parley.ReceiptFolder
) -> None:
    async with connected(backbone, folder) as alpha:
        deal = await alpha.open(["beta"], kind="negotiation", deadline=MINUTES, content="shall we?")
    path = folder.path(deal.messages[0].message_id)
    before = path.stat()
    async with connected(backbone, folder):
        pass
    assert path.stat() == before


async def test_one_that_was_never_kept_is_kept_after_a_restart(
    backbone: MemoryBackbone, folder: parley.ReceiptFolder
) -> None:
    async with connected(backbone, folder) as alpha:
        deal = await alpha.open(["beta"], kind="negotiation", deadline=MINUTES, content="shall we?")
    path = folder.path(deal.messages[0].message_id)
    kept = path.read_bytes()
    path.unlink()
    async with connected(backbone, folder):
        assert path.read_bytes() == kept


async def test_a_receipt_that_comes_after_we_gave_up_is_kept(
    backbone: MemoryBackbone, folder: parley.ReceiptFolder
) -> None:
    kept: asyncio.Future[MessageId] = asyncio.get_running_loop().create_future()

    def keep(message_id: MessageId, receipt: bytes) -> None:
        folder(message_id, receipt)
        kept.set_result(message_id)

    async with connected(backbone, keep, answer_within=0.01, resend_after=0.01) as alpha:
        backbone.hold = True
        with pytest.raises(TransportError, match="no answer"):
            await alpha.open(["beta"], kind="negotiation", deadline=MINUTES, content="shall we?")
        backbone.hold = False
        backbone.held = backbone.held[:1]
        backbone.judge()
        async with asyncio.timeout(5):
            assert folder.path(await kept).exists()


async def test_what_cannot_be_kept_ends_the_connection_and_says_why(
    backbone: MemoryBackbone, folder: parley.ReceiptFolder, tmp_path: Path
) -> None:
    async with connected(backbone, folder) as alpha:
        (tmp_path / "receipts" / "alpha").rmdir()
        with pytest.raises(ParleyError, match="cannot be written"):
            await alpha.open(["beta"], kind="negotiation", deadline=MINUTES, content="shall we?")


def test_a_folder_that_cannot_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ParleyError, match="cannot be a folder of receipts"):
        parley.ReceiptFolder(tmp_path / "file" / "below")


def test_a_file_is_named_by_its_message(folder: parley.ReceiptFolder, tmp_path: Path) -> None:
    path = folder.path(MessageId(bytes(32)))
    assert path == tmp_path / "receipts" / "alpha" / f"{'00' * 32}.receipt"
