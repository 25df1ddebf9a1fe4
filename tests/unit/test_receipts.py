"""Receipts: one signature for a commit, a path for each; whatever is changed, they are refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.errors import ProofError
from parley.firehose import event_digest
from parley.receipts import PendingReceipt, ReceiptVerifier, issue_receipts, verify_receipt
from parley.schemas import Hash, MessageId, Receipt
from tests.synthetic_ledger import Ledger, signing_key

ROUTER = signing_key("router")


def receipts(count: int) -> list[Receipt]:
    pending = []
    for number in range(count):
        event = f"event {number}".encode()
        identity = MessageId(number.to_bytes(32, "big"))
        pending.append(PendingReceipt(identity, event_digest(event), event, 1_800_000_000_000 + number))
    return issue_receipts(pending, ROUTER)


@pytest.fixture
def verifier() -> ReceiptVerifier:
    ledger = Ledger(banks=1)
    ledger.admit("operator", "OPERATOR", (ROUTER,))
    return ReceiptVerifier(ledger.directory)


@given(count=st.integers(1, 40))
def test_every_receipt_of_a_commit_verifies(count: int) -> None:
    made = receipts(count)
    assert len({receipt.signature for receipt in made}) == 1
    for receipt in made:
        verify_receipt(receipt, ROUTER.public)


@given(count=st.integers(1, 12), data=st.data())
def test_a_receipt_with_anything_changed_is_refused(count: int, data: st.DataObject) -> None:
    receipt = data.draw(st.sampled_from(receipts(count)))
    changed = data.draw(
        st.sampled_from(
            [
                receipt._replace(message_id=MessageId(bytes(31) + b"\xff")),
                receipt._replace(event_digest=Hash(bytes(32))),
                receipt._replace(event=b"another event"),
                receipt._replace(block_by=receipt.block_by + 1),
                receipt._replace(leaf_index=receipt.leaf_index + 1),
                receipt._replace(leaf_index=-1),
                receipt._replace(tree_size=receipt.tree_size + 1),
                receipt._replace(tree_size=0),
                receipt._replace(path=receipt.path + bytes(32)),
                receipt._replace(path=receipt.path + b"x"),
                receipt._replace(signature=bytes(64)),
                receipt._replace(signature=b""),
            ]
        )
    )
    with pytest.raises(ProofError):
        verify_receipt(changed, ROUTER.public)


def test_a_receipt_by_another_key_is_refused() -> None:
    with pytest.raises(ProofError, match="not the router's"):
        verify_receipt(receipts(3)[0], signing_key("bank-0").public)


def test_the_operators_key_is_found_in_the_directory(verifier: ReceiptVerifier) -> None:
    for receipt in receipts(5):
        verifier.verify(receipt)


def test_the_directorys_verifier_refuses_what_is_changed(verifier: ReceiptVerifier) -> None:
    first, second, *_ = receipts(5)
    verifier.verify(first)
    with pytest.raises(ProofError):
        verifier.verify(second._replace(block_by=0))
    with pytest.raises(ProofError):
        verifier.verify(first._replace(event=b"another event"))


@pytest.mark.parametrize("name", ["bank-0", "stranger"])
def test_a_key_that_is_no_operators_gives_no_receipts(verifier: ReceiptVerifier, name: str) -> None:
    pending = PendingReceipt(MessageId(bytes(32)), event_digest(b"event"), b"event", 0)
    (receipt,) = issue_receipts([pending], signing_key(name))
    with pytest.raises(ProofError, match="no operator's"):
        verifier.verify(receipt)
