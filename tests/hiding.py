"""Transactions with a hidden party, and a directory whose operator lists keys that addresses are sealed to."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from parley.envelope import DIRECTORY_ENTRY_TYPE, seal
from parley.keys import EncryptionKey, SigningKey, public_key
from parley.schemas import Action, FinishRule, Message, Party, Terms
from parley.sealed_address import Seal, seal_address, showing
from tests.dialogue import Dialogue, transaction_id
from tests.memory_router import ROUTER_KEY
from tests.synthetic_ledger import Ledger

__all__ = ["NEW", "OLD", "hidden_dialogue", "hiding_ledger", "list_keys", "sealed_to", "shown"]

OLD = EncryptionKey(sha256(b"addresses are sealed to this").digest())
NEW = EncryptionKey(sha256(b"and then to this").digest())


def hiding_ledger(*banks: str) -> Ledger:
    """A directory of these banks and an operator whose router takes addresses sealed to the old key."""
    ledger = Ledger(banks=0)
    ledger.admit("operator", "OPERATOR", (ROUTER_KEY,))
    for bank in banks:
        ledger.admit(bank)
    list_keys(ledger, OLD)
    return ledger


def list_keys(ledger: Ledger, *keys: EncryptionKey, by: SigningKey = ROUTER_KEY) -> None:
    """Replace the encryption keys of the operator's entry."""
    before = ledger.directory.entry("operator")
    assert before is not None
    entry = before._replace(
        encryption_keys=tuple(public_key(key.public) for key in keys),
        previous=ledger.directory.version_of("operator"),
    )
    ledger.change(seal(DIRECTORY_ENTRY_TYPE, entry, by, ledger.registrar))


def sealed_to(
    address: str, dialogue_seed: str = "hidden", sender: str = "alice", key: EncryptionKey = OLD
) -> Seal:
    """The sealed address of a dialogue's party; always the same for the same arguments."""
    secret = sha256(f"{address}{dialogue_seed}{sender}{key.id.hex()}".encode()).digest()
    return seal_address(address, public_key(key.public), transaction_id(dialogue_seed), sender, secret)


def hidden_dialogue(
    *parties: str, opened_at: int, lasting: int = 60_000, rule: FinishRule = "ANY", seed: str = "hidden"
) -> Dialogue:
    """A dialogue of alice with these parties, each a name or a sealed address."""
    terms = Terms(
        "dvp",
        (Party("alice", "alice"), *(Party(party, party) for party in parties)),
        opened_at + lasting,
        opened_at + 30_000,
        rule,
    )
    return Dialogue(transaction_id(seed), terms)


def shown(
    dialogue: Dialogue,
    seal: Seal,
    action: Action = "CONTINUE",
    content: bytes = b"",
    recipients: Sequence[str] | None = None,
) -> Message:
    """What the hidden party would say next, with what shows that the sealed address is its own."""
    message = dialogue.message(seal.text, action, content, recipients)
    return message._replace(references=(showing(seal),))
