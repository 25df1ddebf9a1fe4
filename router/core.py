"""What the router decides of each ingest record: accepted, duplicate or refused; pure, without Kafka, clock or keys.

A record passes two gates. :func:`read_submission` needs only the directory: it decodes and names the signers. Between the
gates the caller verifies all signatures of a batch side by side. :func:`decide` then judges one record against its
transaction and gives everything that follows from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from parley import lifecycle
from parley.directory import Directory
from parley.envelope import MESSAGE_TYPE, message_id, pre_authentication_encoding
from parley.errors import OversizedError, UnknownSchemaError, VerificationError, WireError
from parley.firehose import chain_hash, event_digest
from parley.keys import SignatureClaim, verify
from parley.lifecycle import Refusal
from parley.schemas import (
    ZERO_HASH,
    Ending,
    Envelope,
    FirehoseEvent,
    Hash,
    KeyId,
    Message,
    MessageId,
    PipelineState,
    Reason,
    Rejection,
    TransactionId,
    TransactionState,
    decode,
    encode,
)
from parley.sealed_address import speaker_of
from parley.steps import STEP_RULES, step_fault
from router.quotas import Quotas, Standing, over_quota, paid
from router.sealed_addresses import SealedAddresses

__all__ = [
    "NEW_PIPELINE",
    "Accepted",
    "Duplicate",
    "Limits",
    "Refused",
    "Submission",
    "decide",
    "follow",
    "read_submission",
    "replay",
    "time_out",
    "unproven",
]

NEW_PIPELINE = PipelineState(sequence=0, chain=ZERO_HASH, ingest_offset=-1, time=0, replay_from=0)
MAXIMUM_SIGNATURES = 8


class Limits(NamedTuple):
    """What the operator allows; times in ms, sizes in bytes."""

    record_bytes: int = 1_114_112
    """Of one ingest record: 1 MiB of content and room for the rest."""
    duration: int = 92 * 86_400_000
    """From the opening's append to its deadline, and to its open_until."""
    messages: int = 1_024
    """Of one transaction."""
    remembered: int = 600_000
    """From a transaction's end to the moment it is forgotten: so long, a repeated message gets its receipt again."""
    block_grace: int = 60_000
    """From the deadline to the moment by which the transaction stands in a block."""
    delivered_bytes: int = 4_194_304
    """Of one message's copies to its recipients: a large message to many would hold up everybody's pipeline."""
    required_readers: Mapping[str, frozenset[str]] = MappingProxyType({})
    """By kind of transaction, who must be granted its key, such as a regulator. Only that a grant is there can be seen."""
    free_kinds: frozenset[str] = frozenset()
    """Kinds of transaction whose steps (`parley.steps`) are not enforced."""
    quotas: Quotas = Quotas()
    """What each sender may take."""


class Submission(NamedTuple):
    """An ingest record that could be read, and the signatures that remain to be verified."""

    record: bytes
    message: Message
    message_id: MessageId
    claims: tuple[SignatureClaim, ...]
    speaker: str
    """Who sends it: the sender, or whose the sealed address is by which it speaks."""


class Refused(NamedTuple):
    """A record that does not count; ``sender`` only where a signature proves it."""

    refusal: Refusal
    message_id: MessageId
    transaction_id: TransactionId | None
    sender: str | None
    address: str | None
    """Where the sender is told."""

    def rejection(self, pipeline: int, offset: int, at: int, directory_version: int) -> Rejection:
        """The record of this refusal for the ingest record at ``offset``, appended at ``at`` (ms)."""
        reason, detail, retriable, head, retry_at = self.refusal
        return Rejection(
            pipeline,
            offset,
            at,
            directory_version,
            self.message_id,
            self.transaction_id,
            self.sender,
            reason,
            retriable,
            detail,
            head,
            retry_at,
        )


class Accepted(NamedTuple):
    """A message, or a timeout, that goes on the firehose."""

    event: bytes
    digest: Hash
    pipeline: PipelineState
    transaction: TransactionState
    recipients: tuple[str, ...]
    """Addresses that the event goes to, sealed ones as they are."""
    receipt_to: str | None
    """The sender's address; ``None`` for a timeout."""
    standing: Standing | None = None
    """How the speaker stands with its quotas after this, where rates are kept."""


class Duplicate(NamedTuple):
    """A message accepted before: the same receipt is due again."""

    original: lifecycle.AcceptedMessage
    receipt_to: str


def _refused(
    reason: Reason, detail: str, of: MessageId, transaction_id: TransactionId | None = None
) -> Refused:
    return Refused(Refusal(reason, detail), of, transaction_id, None, None)


def read_submission(record: bytes, directory: Directory, limits: Limits) -> Submission | Refused:
    """Read one ingest record as far as the directory allows: everything but the signatures and the transaction."""
    if not record:
        return _refused("MALFORMED", "the record is empty; send an encoded Envelope", message_id(b""))
    if len(record) > limits.record_bytes:
        return _refused(
            "TOO_LARGE",
            f"{len(record):,} bytes exceed the limit of {limits.record_bytes:,}; send the payload by its hash instead",
            message_id(record),
        )
    identity = None
    try:
        envelope = decode(record, Envelope)
        identity = message_id(envelope.payload)
        if envelope.payload_type != MESSAGE_TYPE:
            return _refused("MALFORMED", f"the payload type must be {MESSAGE_TYPE}", identity)
        message = decode(envelope.payload, Message)
    except UnknownSchemaError as error:
        return _refused("UNKNOWN_SCHEMA", str(error), identity or message_id(record))
    except OversizedError as error:
        return _refused("TOO_LARGE", str(error), identity or message_id(record))
    except WireError as error:
        return _refused("MALFORMED", str(error), identity or message_id(record))
    fault = lifecycle.well_formed(message)
    if fault is not None:
        return Refused(fault, identity, message.transaction_id, None, None)
    return _identify(record, envelope, message, identity, directory)


def _identify(
    record: bytes, envelope: Envelope, message: Message, identity: MessageId, directory: Directory
) -> Submission | Refused:
    """Find each signature's key in the directory and hold it against the claimed sender."""
    sender, speaker, transaction_id = message.sender, message.sender, message.transaction_id
    entry = directory.entry(sender)
    if entry is None and ":" in sender:
        try:
            speaker = speaker_of(message, directory)
        except VerificationError as error:
            return _refused("UNKNOWN_SENDER", str(error), identity, transaction_id)
        entry = directory.entry(speaker)
    if entry is None:
        return _refused(
            "UNKNOWN_SENDER", f"{sender} is not in the directory; join first", identity, transaction_id
        )
    signatures = envelope.signatures
    if not 1 <= len(signatures) <= MAXIMUM_SIGNATURES:
        return _refused(
            "BAD_SIGNATURE", f"an envelope has 1 to {MAXIMUM_SIGNATURES} signatures", identity, transaction_id
        )
    covered = pre_authentication_encoding(envelope.payload_type, envelope.payload)
    claims = []
    for key, signature in signatures:
        held = directory.speaker(key)
        if held is None or held.participant != speaker:
            return _by_stranger(speaker, key, covered, signature, message, identity, directory)
        claims.append(SignatureClaim(held.public_key, covered, signature))
    if entry.threshold > 1 and (signed := len({key for key, _ in signatures})) < entry.threshold:
        refusal = Refusal(
            "SIGNATURES_MISSING",
            f"{signed} of the {entry.threshold} keys that {sender}'s messages need have signed; have the others sign it too",
        )
        if all(verify(*claim) for claim in claims):
            return Refused(refusal, identity, transaction_id, sender, entry.addresses[0])
        return Refused(refusal, identity, transaction_id, None, None)
    return Submission(record, message, identity, tuple(claims), speaker)


def _by_stranger(
    speaker: str,
    key: KeyId,
    covered: bytes,
    signature: bytes,
    message: Message,
    identity: MessageId,
    directory: Directory,
) -> Refused:
    """The refusal of a message signed by a key that does not speak for its sender now.

    Whoever holds a key that did once proves nothing by it, so no sender is named; but the participant is told, for it waits
    for an answer, or somebody has its old key. Of a sender who is hidden no key is named either.
    """
    sender, held = message.sender, directory.holder(key)
    address = None
    if speaker != sender:
        refusal = Refusal(
            "KEY_NOT_VALID", "a key does not speak for the hidden party now; sign with one that does"
        )
        if held is not None and held.participant == speaker and verify(held.public_key, covered, signature):
            address = _default_address(speaker, directory)
    elif held is None or not held.signs:
        refusal = Refusal(
            "UNKNOWN_KEY", f"no signing key {key.hex()} in the directory; sign with a key of yours"
        )
    elif held.participant != sender:
        refusal = Refusal("KEY_NOT_VALID", f"key {key.hex()} is not {sender}'s; sign with a key of yours")
    else:
        refusal = Refusal(
            "KEY_NOT_VALID", f"key {key.hex()} was {held.ending}; sign with a key that is valid now"
        )
        if verify(held.public_key, covered, signature):
            address = _default_address(sender, directory)
    return Refused(refusal, identity, message.transaction_id, None, address)


def _default_address(participant: str, directory: Directory) -> str:
    entry = directory.entry(participant)
    assert entry is not None
    return entry.addresses[0]


def unproven(submission: Submission) -> Refused:
    """The refusal of a submission one of whose signatures did not verify."""
    return _refused(
        "BAD_SIGNATURE",
        "a signature does not verify over the bytes received; sign the payload that you send",
        submission.message_id,
        submission.message.transaction_id,
    )


def decide(
    pipeline: int,
    before: PipelineState,
    state: TransactionState | None,
    submission: Submission,
    offset: int,
    directory: Directory,
    limits: Limits,
    sealed: SealedAddresses,
    standing: Standing | None = None,
) -> Accepted | Duplicate | Refused:
    """Judge a submission whose signatures all verify, appended at ``before.time`` (ms) as ingest record ``offset``.

    ``standing`` is how its speaker stands with its quotas, ``None`` where these do not matter. Whoever sends too much is told so
    only of what else would count.
    """
    record, message, identity = submission.record, submission.message, submission.message_id
    at = before.time
    if message.pipeline != pipeline:
        wrong = Refusal(
            "WRONG_PIPELINE",
            f"this is pipeline {pipeline} and the message is signed for {message.pipeline}; send it there",
            retriable=True,
        )
        return _tell(wrong, state, submission, directory)
    if state is not None:
        original = lifecycle.duplicate_of(state, message, identity)
        if original is not None:
            sender_address = lifecycle.address_of(state.terms, message.sender)
            assert sender_address is not None
            return Duplicate(original, sender_address)
    refusal = lifecycle.judge(state, message, at) or _beyond(state, submission, at, directory, limits, sealed)
    if standing is not None and refusal is None:
        quotas = limits.quotas
        refusal = over_quota(quotas, standing, at, opens=state is None)
        standing = paid(quotas, standing, len(record), at) if quotas.are_rates else None
    if refusal is not None:
        return _tell(refusal, state, submission, directory)
    change = lifecycle.step(state, message)
    ended = None
    if change.outcome is not None:
        assert state is not None
        ended = Ending(change.outcome, state.terms.kind, state.opened_at, (), lifecycle.events_of(state))
    event, digest, after = _append(
        pipeline, before, directory.version, offset, message.transaction_id, record, ended
    )
    new = lifecycle.recorded(state, message, change, identity, before.sequence, digest, at)
    return Accepted(
        event,
        digest,
        after,
        new,
        message.recipients,
        lifecycle.address_of(new.terms, message.sender),
        standing,
    )


def _append(
    pipeline: int,
    before: PipelineState,
    version: int,
    offset: int,
    transaction_id: TransactionId,
    envelope: bytes | None,
    ended: Ending | None,
) -> tuple[bytes, Hash, PipelineState]:
    """The next event of the pipeline, its digest, and where the pipeline then stands."""
    sequence, chain, _, at, replay_from = before
    event = encode(
        FirehoseEvent(pipeline, sequence, chain, offset, at, version, transaction_id, envelope, ended)
    )
    digest = event_digest(event)
    return event, digest, PipelineState(sequence + 1, chain_hash(chain, digest), offset, at, replay_from)


def _beyond(
    state: TransactionState | None,
    submission: Submission,
    at: int,
    directory: Directory,
    limits: Limits,
    sealed: SealedAddresses,
) -> Refusal | None:
    """What the lifecycle allows but the directory or the operator's limits do not."""
    message = submission.message
    terms = message.terms if state is None else state.terms
    assert terms is not None
    kind = terms.kind
    if kind in STEP_RULES and kind not in limits.free_kinds and (fault := step_fault(state, message)):
        return Refusal("STEP_NOT_ALLOWED", fault)
    if len(submission.record) * len(message.recipients) > limits.delivered_bytes:
        return Refusal(
            "TOO_LARGE",
            f"its copies exceed the limit of {limits.delivered_bytes:,} bytes; send the payload by its hash, or to fewer",
        )
    refusal = _unreachable(state, message, directory, sealed)
    if refusal is not None:
        return refusal
    if limits.required_readers and (refusal := _ungranted(state, message, limits.required_readers)):
        return refusal
    if state is not None:
        # Every party may still finish what is full, so that nobody is talked into a timeout.
        room = limits.messages + (len(state.terms.parties) if message.action == "FINISH" else 0)
        if lifecycle.message_count(state) >= room:
            return Refusal(
                "TOO_LARGE",
                f"the transaction has {limits.messages} messages already; go on in another that refers to it",
            )
        return None
    if max(terms.deadline, terms.open_until) > at + limits.duration:
        return Refusal(
            "MALFORMED", f"deadline and open_until are at most {limits.duration} ms away; choose earlier ones"
        )
    return None


def _ungranted(
    state: TransactionState | None, message: Message, required_readers: Mapping[str, frozenset[str]]
) -> Refusal | None:
    """Whether a grant lacks that the transaction's kind demands: of its opening, and of whatever is encrypted by itself."""
    terms = message.terms if state is None else state.terms
    assert terms is not None
    required = required_readers.get(terms.kind)
    if required is None:
        return None
    encryption = message.encryption
    if message.terms is None and (
        encryption is None or (encryption.channel is not None and not encryption.grants)
    ):
        return None
    granted = () if encryption is None else encryption.grants
    lacking = required.difference(grant.reader for grant in granted)
    if not lacking:
        return None
    return Refusal(
        "GRANT_REQUIRED",
        f"a message like this in a transaction of this kind grants its key to {', '.join(sorted(lacking))}; "
        "name them as readers and send it again",
        retriable=True,
    )


def _unreachable(
    state: TransactionState | None, message: Message, directory: Directory, sealed: SealedAddresses
) -> Refusal | None:
    """Why a recipient, or a party of an opening, cannot be reached; only what no directory knows can be a sealed address."""
    hidden = False
    for address in message.recipients:
        if directory.owner(address) is None:
            if ":" not in address:
                return Refusal(
                    "UNKNOWN_ADDRESS",
                    f"nobody receives at {address[:128]}; look the recipient up in the directory",
                )
            hidden = True
    for participant, address in () if message.terms is None else message.terms.parties:
        if directory.owner(address) != participant:
            if ":" not in address:
                return Refusal(
                    "UNKNOWN_ADDRESS",
                    f"{address} is not an address of {participant}; look the party up in the directory",
                )
            hidden = True
    return sealed.refusal(message, state, directory) if hidden else None


def _tell(
    refusal: Refusal, state: TransactionState | None, submission: Submission, directory: Directory
) -> Refused:
    """A refusal told to its proven sender: where it receives for this transaction, or at its default address."""
    message = submission.message
    address = None if state is None else lifecycle.address_of(state.terms, message.sender)
    if address is None:
        address = _default_address(submission.speaker, directory)
    return Refused(refusal, submission.message_id, message.transaction_id, message.sender, address)


def time_out(
    pipeline: int,
    before: PipelineState,
    transaction_id: TransactionId,
    state: TransactionState,
    directory_version: int,
) -> Accepted:
    """End a transaction whose deadline has passed, at ``before.time`` (ms); every party is told."""
    ended = Ending("TIMED_OUT", state.terms.kind, state.opened_at, state.due, lifecycle.events_of(state))
    event, digest, after = _append(
        pipeline, before, directory_version, before.ingest_offset, transaction_id, None, ended
    )
    parties = tuple(party.address for party in state.terms.parties)
    return Accepted(event, digest, after, lifecycle.expired(state, before.time), parties, None)


def follow(before: PipelineState, event: FirehoseEvent, record: bytes) -> PipelineState:
    """Where the pipeline stands after an event that is already on the firehose; ``record`` is the encoded event."""
    return PipelineState(
        event.sequence + 1,
        chain_hash(event.chain, event_digest(record)),
        max(before.ingest_offset, event.ingest_offset),
        max(before.time, event.at),
        before.replay_from,
    )


def replay(state: TransactionState | None, event: FirehoseEvent, record: bytes) -> TransactionState | None:
    """The transaction after an event that is already on the firehose; nothing is judged again, and twice changes nothing.

    ``None`` where the transaction is unknown: it ended and was forgotten.
    """
    if state is not None and lifecycle.last_sequence(state) >= event.sequence:
        return state
    if event.envelope is None:
        return None if state is None else lifecycle.expired(state, event.at)
    envelope = decode(event.envelope, Envelope)
    message = decode(envelope.payload, Message)
    if message.terms is not None:
        state = None  # what had this id before has ended and was forgotten
    elif state is None:
        return None
    identity = message_id(envelope.payload)
    return lifecycle.recorded(
        state,
        message,
        lifecycle.step(state, message),
        identity,
        event.sequence,
        event_digest(record),
        event.at,
    )
