"""Sealed addresses as the router meets them: opens them with its keys, judges them, and finds the inbox behind each.

What is inside never leaves it but as the key of a record on `deliveries`: refusals say what is wrong with a sealed address,
and nothing of whose it is. Its sender learns no more than it put in: whoever did not seal an address is not told that it
equals another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from parley.directory import Directory
from parley.errors import MalformedError, UnsealingError
from parley.keys import EncryptionKey
from parley.lifecycle import Refusal
from parley.schemas import KeyId, Message, SealedDelivery, TransactionState, encode
from parley.sealed_address import Opened, key_of, open_with_key, sealer_of
from router.errors import RecoveryError

__all__ = ["MAXIMUM_SEALED", "SealedAddresses"]

MAXIMUM_SEALED: Final = 8
"""Sealed addresses that one message may bring in: each costs somewhat more than verifying a signature."""
_REMEMBERED: Final = 16_384


class SealedAddresses:
    """The router's encryption keys, old ones included, and what they have opened."""

    def __init__(self, keys: Iterable[EncryptionKey] = ()) -> None:
        """``keys`` are those that addresses may be sealed to, the one to seal to now first."""
        self._keys: dict[KeyId, EncryptionKey] = {key.id: key for key in keys}
        self._opened: dict[str, Opened] = {}

    def refusal(
        self, message: Message, state: TransactionState | None, directory: Directory
    ) -> Refusal | None:
        """Why the sealed addresses of a message that has some do not count; ``None`` if they do.

        Those that the transaction's terms name were judged when it was opened, and stay good.
        """
        terms = message.terms
        known = frozenset[str]() if state is None else {party.address for party in state.terms.parties}
        named = (
            message.recipients if terms is None else (*message.recipients, *(at for _, at in terms.parties))
        )
        fresh = [text for text in dict.fromkeys(named) if ":" in text and text not in known]
        if len(fresh) > MAXIMUM_SEALED:
            return Refusal("MALFORMED", f"a message brings in at most {MAXIMUM_SEALED} sealed addresses")
        for text in fresh:
            if (refusal := self._refusal_of(text, message, directory)) is not None:
                return refusal
        if _repeated(self._told(message.recipients, message)):
            return Refusal("MALFORMED", "each recipient is named once, sealed or not")
        if terms is not None and _repeated(
            directory.owner(at) for at in self._told([at for _, at in terms.parties], message)
        ):
            return Refusal("MALFORMED", "the parties of a transaction are different, sealed or not")
        return None

    def _refusal_of(self, text: str, message: Message, directory: Directory) -> Refusal | None:
        try:
            key = key_of(text)
        except MalformedError as error:
            return Refusal("MALFORMED", str(error))
        if key not in self._keys or not _in_force(key, directory):
            return Refusal("UNKNOWN_ADDRESS", self._advice(key, directory), retriable=True)
        try:
            opened = self._open(text)
        except UnsealingError:
            return Refusal(
                "UNKNOWN_ADDRESS", f"a sealed address does not open with key {key.hex()}; seal it again"
            )
        if opened.transaction_id != message.transaction_id or opened.sealer != sealer_of(message.sender):
            return Refusal(
                "UNKNOWN_ADDRESS",
                "a sealed address was sealed for another transaction, or by another sender; seal it for this one",
            )
        if directory.owner(opened.address) is None:
            return Refusal(
                "UNKNOWN_ADDRESS", "nobody receives at a sealed address; look the party up in the directory"
            )
        return None

    def _advice(self, key: KeyId, directory: Directory) -> str:
        current = next((known for known in self._keys if _in_force(known, directory)), None)
        if current is None:
            return "this router takes no sealed addresses: it has no key for them; ask the operator"
        return f"{key.hex()} is no key that addresses are sealed to now; seal it to {current.hex()}"

    def _told(self, addresses: Sequence[str], message: Message) -> list[str]:
        """The addresses that the sender knows: clear ones, and those that it sealed itself."""
        known = []
        for address in addresses:
            if ":" not in address:
                known.append(address)
            elif (opened := self._behind(address)).sealer == sealer_of(message.sender):
                known.append(opened.address)
        return known

    def delivery(self, text: str, items: Iterable[bytes]) -> tuple[str, list[bytes]]:
        """The address behind a sealed one that was accepted, and what goes there: each item with the means to tell why.

        Raises:
            RecoveryError: the key that it is sealed to is gone.

        """
        opened = self._behind(text)
        return opened.address, [encode(SealedDelivery(item, text, opened.secret)) for item in items]

    def _behind(self, text: str) -> Opened:
        """What an address holds that was accepted before."""
        try:
            return self._open(text)
        except (KeyError, UnsealingError):
            raise RecoveryError(
                f"an open transaction has a party sealed to key {key_of(text).hex()}, which is not among the router's keys;"
                " put its file back: a key is needed for as long as transactions may last after it was replaced"
            ) from None

    def _open(self, text: str) -> Opened:
        opened = self._opened.get(text)
        if opened is None:
            opened = self._opened[text] = open_with_key(text, self._keys[key_of(text)])
            if len(self._opened) > _REMEMBERED:
                del self._opened[next(iter(self._opened))]
        return opened


def _in_force(key: KeyId, directory: Directory) -> bool:
    """Whether an operator's entry lists the encryption key now."""
    held = directory.holder(key)
    if held is None or held.signs or not held.valid_at(directory.version):
        return False
    entry = directory.entry(held.participant)
    return entry is not None and entry.role == "OPERATOR"


def _repeated(values: Iterable[object]) -> bool:
    return max(Counter(values).values(), default=0) > 1
