"""DSSE envelopes: signing, and what a signature covers. Whether a signer may speak is the directory's and router's affair.

Follows the DSSE protocol: the signature is Ed25519 over the pre-authentication encoding (PAE) of payload type and payload,
over the bytes as received; nothing is ever serialised again to be verified.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import NamedTuple

from parley.custody import Signatory
from parley.errors import BadSignatureError
from parley.keys import SignatureClaim, verify
from parley.schemas import Envelope, MessageId, PublicKey, Signature, encode

__all__ = [
    "DIRECTORY_ENTRY_TYPE",
    "DIRECTORY_REVOCATION_TYPE",
    "KAFKA_CREDENTIALS_TYPE",
    "MESSAGE_TYPE",
    "RECEIPTS_TYPE",
    "countersign",
    "message_id",
    "pre_authentication_encoding",
    "seal",
    "signature_claim",
    "verify_signatures",
]

MESSAGE_TYPE = "application/vnd.parley.message+avro"
DIRECTORY_ENTRY_TYPE = "application/vnd.parley.directory-entry+avro"
DIRECTORY_REVOCATION_TYPE = "application/vnd.parley.directory-revocation+avro"
KAFKA_CREDENTIALS_TYPE = "application/vnd.parley.kafka-credentials+avro"
RECEIPTS_TYPE = "application/vnd.parley.receipts"


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """DSSE's PAE: ``"DSSEv1" SP len(type) SP type SP len(payload) SP payload``, lengths in bytes as ASCII decimals."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def message_id(payload: bytes) -> MessageId:
    """SHA-256 of an envelope's payload: idempotency key and hash link."""
    return MessageId(sha256(payload).digest())


def seal(payload_type: str, payload: NamedTuple, *keys: Signatory) -> Envelope:
    """An envelope around the encoded payload, signed by each key in turn."""
    return countersign(Envelope(payload_type, encode(payload), ()), *keys)


def countersign(envelope: Envelope, *keys: Signatory) -> Envelope:
    """The same envelope with these keys' signatures added."""
    covered = pre_authentication_encoding(envelope.payload_type, envelope.payload)
    added = tuple(Signature(key.id, key.sign(covered)) for key in keys)
    return envelope._replace(signatures=envelope.signatures + added)


def signature_claim(envelope: Envelope, signature: Signature, public: bytes) -> SignatureClaim:
    """What must verify for this signature on the envelope to be by the holder of ``public``."""
    return SignatureClaim(
        public, pre_authentication_encoding(envelope.payload_type, envelope.payload), signature.signature
    )


def verify_signatures(envelope: Envelope, keys: Iterable[PublicKey]) -> None:
    """Demand a valid signature of each of the given keys; what others signed is neither looked at nor in the way.

    Raises:
        BadSignatureError: a key has no signature on the envelope, or one of its signatures does not verify.

    """
    for key in keys:
        found = [signature for signature in envelope.signatures if signature.key_id == key.key_id]
        if not found:
            raise BadSignatureError(f"no signature by key {key.key_id.hex()}; have its holder sign")
        if not all(verify(*signature_claim(envelope, one, key.public_key)) for one in found):
            raise BadSignatureError(
                f"the signature by key {key.key_id.hex()} does not verify; the bytes or the key are not the signer's"
            )
