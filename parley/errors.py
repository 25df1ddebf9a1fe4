"""The root of every error that Parley raises on purpose.

ParleyError
├── WireError             bytes are not what their contract says        (parley.schemas)
│   ├── UnknownSchemaError    no released schema has this fingerprint
│   ├── OversizedError        larger than the limit
│   └── MalformedError        truncated, trailing bytes, or out of range
├── SigningError          a key or signature cannot be used
│   └── BadSignatureError     the signature does not verify
├── EncryptionError       private content, or a key to it, cannot be used
│   ├── ChannelError          a channel cannot be used so
│   ├── GrantError            a key was granted for something else, or by somebody who may not
│   └── UnreadableError       no key to it was given to us
├── KeystoreError         the keystore file cannot be opened
│   └── HardwareError         a hardware module refused
│       ├── NoModuleError         its library cannot be loaded
│       ├── NoTokenError          the token is not there
│       ├── PinError              the PIN is missing or refused
│       └── NoTokenKeyError       the key is not there, or not one to sign with
├── UnsealingError        a sealed box does not open
├── ProofError            a proof, checkpoint or block does not verify
│   └── PurgedError           the body that is asked for was purged
├── ErasureError          a purge statement does not count, or names what may not be purged
├── RedriveError          a dead letter may not be put back, or was not
├── DirectoryError        an entry may not be admitted, or the directory's log is broken
│   └── ForkError             there are two different records of one version
├── FirehoseError         the firehose has a gap, or another history than the one followed
│   └── CursorError           a saved cursor cannot be used
├── RefusedError          the router refused a message
│   └── ConflictError         another party's message came first
├── ElsewhereError        the deal is in another process of the same consumer
├── VerificationError     what the backbone delivered does not verify
├── SettlementError       a settlement file or instruction cannot be used
│   ├── UnsafeXmlError        DTD, entities, or larger or deeper than the limit
│   ├── UnreadableXmlError    not well-formed, or in an encoding that does not count
│   ├── WrongDocumentError    well-formed, but another message or version
│   ├── ElementError          an element is missing, unknown, repeated or holds what it may not
│   │   └── AmountError           a number is negative, too precise or no number
│   ├── InstructionError      the instruction contradicts itself, its identifiers or the calendar
│   ├── TradeFileError        a row of a trade file cannot become instructions
│   └── JournalError          the journal of a run cannot be used
├── AgreementError        an agreement cannot be made so
├── OtcError              an OTC trade, or the form it is captured by, cannot be used so
├── LedgerError           a delivery to a chain cannot go on as it is
│   ├── AttachmentError       the ledger service finds fault with our chain transactions
│   └── LapsedError           the deal ended unfinished, so that nothing was broadcast
├── TransportError        the backbone cannot be reached
└── ProfileError          a profile file cannot be used

Operator packages add one base each (``streams.errors.StreamError``, …) under ``ParleyError``.
Each message says what happened and what the reader should do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from parley.heard import DealMessage
    from parley.schemas import Head, Message, Reason, Rejection


class ParleyError(Exception):
    """Base of every error raised on purpose by Parley."""


class WireError(ParleyError):
    """Bytes are not what their contract says; the sender must re-encode them."""


class UnknownSchemaError(WireError):
    """No released schema has this fingerprint; upgrade, or have the sender use a released schema."""


class OversizedError(WireError):
    """The bytes exceed the limit; send the payload by reference (its hash) instead."""


class MalformedError(WireError):
    """The bytes are truncated, carry trailing bytes, or hold a value out of range."""


class SigningError(ParleyError):
    """A key or a signature cannot be used."""


class BadSignatureError(SigningError):
    """A signature does not verify under the key it names."""


class EncryptionError(ParleyError):
    """Private content, or a key to it, cannot be used; never holds a key or what was said."""


class ChannelError(EncryptionError):
    """A channel cannot be used so: it has ended, its opener alone may, or somebody is no member."""


class GrantError(EncryptionError):
    """A key was granted for something else, twice, or by somebody who may not; do not use it."""


class UnreadableError(EncryptionError):
    """No key to the content was given to us; ask a party to disclose it."""


class KeystoreError(ParleyError):
    """A keystore file cannot be opened: wrong password, changed bytes, or unsafe permissions."""


class HardwareError(KeystoreError):
    """A hardware module refused; check it with its vendor's tool."""


class NoModuleError(HardwareError):
    """The library that reaches the hardware module cannot be loaded; install it or mend its path."""


class NoTokenError(HardwareError):
    """The token is not there, or not the only one that fits; put it in or name it better."""


class PinError(HardwareError):
    """The token's PIN is missing or refused; correct its file before another try."""


class NoTokenKeyError(HardwareError):
    """The key is not in the token, is another one now, or is not one to sign with."""


class UnsealingError(ParleyError):
    """A sealed box does not open with the key it names: damaged, or sealed to another key."""


class ProofError(ParleyError):
    """A proof, checkpoint or block does not verify; the message names the step that failed."""


class PurgedError(ProofError):
    """The body that is asked for was purged; the message says when, by whom and why. Supply a copy of your own."""


class ErasureError(ParleyError):
    """A purge statement does not count, or names what may not be purged; the message says what to state instead."""


class RedriveError(ParleyError):
    """A dead letter may not be put back, or was not; the message says why, and what became of it."""


class DirectoryError(ParleyError):
    """A directory entry may not be admitted, or the directory's log is broken."""


class ForkError(DirectoryError):
    """Two different records claim the same version: somebody shows two directories. Both digests are evidence; keep the records."""

    def __init__(self, version: int, read: bytes, other: bytes) -> None:
        super().__init__(
            f"there are two records of directory version {version}, with SHA-256 {read.hex()} and {other.hex()};"
            " believe neither, keep both as evidence and ask the operator"
        )
        self.version = version
        self.digests = (read, other)
        """SHA-256 of the record that was read first, and of the other."""


class FirehoseError(ParleyError):
    """The firehose has a gap, or tells another history than the one followed."""


class CursorError(FirehoseError):
    """A saved cursor cannot be used."""


class RefusedError(ParleyError):
    """The router refused a message; nothing of it counts. Where ``retriable``, mend it as ``detail`` says and send again."""

    def __init__(self, rejection: Rejection) -> None:
        super().__init__(f"refused, {rejection.reason}: {rejection.detail}")
        self.rejection = rejection
        self.reason: Reason = rejection.reason
        self.retriable: bool = rejection.retriable
        """Whether the same intent may succeed if sent again, changed as the detail says."""
        self.detail: str = rejection.detail
        self.head: Head | None = rejection.head
        """The transaction's last accepted message, where the router told it."""
        self.retry_at: int | None = rejection.retry_at
        """From when on the same message may be sent again, ms since the Unix epoch by the broker's clock; of RATE_LIMITED."""


class ConflictError(RefusedError):
    """Another message came first, so this one does not count; read ``came_first``, then decide whether it is still meant."""

    def __init__(
        self, rejection: Rejection, message: Message, came_first: tuple[DealMessage, ...], *, is_whole: bool
    ) -> None:
        super().__init__(rejection)
        self.message = message
        """What was to be said, in clear and with its content; the deal's next send links it anew."""
        self.came_first = came_first
        """What was said instead, as far as it is for us; our own words of another process may be among it."""
        self.is_whole = is_whole
        """Whether ``came_first`` leads up to the head that the router told: where not, a message between others came first."""


class ElsewhereError(ParleyError):
    """The deal belongs to another process of the same consumer, which has all of it; leave it, and speak there."""


class VerificationError(ParleyError):
    """What the backbone delivered does not verify; do not act on it, keep it as evidence and ask the operator."""


class TransportError(ParleyError):
    """The backbone cannot be reached or refused the connection."""


class ProfileError(ParleyError):
    """A profile file cannot be used; the message names the file and the key to mend."""


class SettlementError(ParleyError):
    """A settlement file or instruction cannot be used; nothing was sent."""


class UnsafeXmlError(SettlementError):
    """The XML holds a DTD or entities, or exceeds a limit; have the sender write a plain ISO 20022 document."""


class UnreadableXmlError(SettlementError):
    """The bytes are no well-formed XML, or in another encoding than they say; have the sender write them anew."""


class WrongDocumentError(SettlementError):
    """The XML is another message, or another version of it, than what is read here."""


class ElementError(SettlementError):
    """An element is missing, unknown, repeated or holds what it may not; mend it at ``path`` in the file."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path = path
        """Where, as in ``/Document/SctiesSttlmTxInstr/TradDtls/SttlmDt``."""


class AmountError(ElementError):
    """A number is negative, finer than its currency or the standard admits, or no number."""


class InstructionError(SettlementError):
    """The instruction contradicts itself, its identifiers or the calendar; the message names every finding."""


class TradeFileError(SettlementError):
    """A row of a trade file cannot become instructions; the message names the row and the column."""


class JournalError(SettlementError):
    """The journal of a run cannot be read or written, or is none; the message names the file."""


class AgreementError(ParleyError):
    """An agreement cannot be made so: nothing is on offer, it is our own or another one, or what was said is no agreement."""


class OtcError(ParleyError):
    """An OTC trade cannot be captured, affirmed or changed so; the message names the line, the field or the step."""


class LedgerError(ParleyError):
    """A delivery to a chain cannot go on as it is: the service objects to the deal, or a step does not fit."""


class AttachmentError(LedgerError):
    """The ledger service finds fault with our chain transactions; the message names each fault. Sign others and attach them."""

    def __init__(self, problems: Sequence[tuple[str, str]]) -> None:
        """``problems`` are pairs of a reason's name and what to do about it."""
        super().__init__("; ".join(f"{reason}: {detail}" for reason, detail in problems))
        self.problems = tuple(problems)


class LapsedError(LedgerError):
    """The deal ended before all had consented, so that nothing was broadcast; open another."""
