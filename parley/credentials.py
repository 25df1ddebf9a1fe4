"""The password of a participant's Kafka user on its way to admission: sealed to it, and signed by the entry's keys; pure.

Sealed with libsodium's sealed box (X25519, XSalsa20-Poly1305) to admission's key; the signed payload names the entry that it
came with, so that it counts with no other.
"""

from __future__ import annotations

from nacl.bindings import crypto_box_seal, crypto_box_seal_open
from nacl.exceptions import CryptoError

from parley.custody import Signatory
from parley.envelope import KAFKA_CREDENTIALS_TYPE, message_id, seal, signature_claim
from parley.errors import BadSignatureError, SigningError
from parley.keys import EncryptionKey, verify
from parley.schemas import DirectoryEntry, Envelope, Hash, KafkaCredentials, PublicKey, decode

__all__ = ["open_credentials", "seal_credentials"]

SHORTEST = 16
LONGEST = 256


def seal_credentials(password: str, entry: Envelope, to: PublicKey, *keys: Signatory) -> Envelope:
    """The password for whoever has the X25519 key ``to``, for the user of the entry in this envelope, signed by its keys.

    Raises:
        SigningError: nothing can be sealed to the key, or the password is too weak for a Kafka user.

    """
    _check(password)
    try:
        sealed = crypto_box_seal(password.encode(), to.public_key)
    except (CryptoError, ValueError, TypeError):
        raise SigningError(
            f"nothing can be sealed to key {to.key_id.hex()}; ask the operator for admission's key"
        ) from None
    payload = KafkaCredentials(Hash(message_id(entry.payload)), to.key_id, sealed)
    return seal(KAFKA_CREDENTIALS_TYPE, payload, *keys)


def open_credentials(credentials: Envelope, entry: Envelope, key: EncryptionKey) -> str:
    """The password, if it was sealed to the key and signed, for this entry, by as many of its keys as it demands.

    Raises:
        BadSignatureError: a signature is missing or does not verify.
        SigningError: it is for another entry or key, was changed, or is too weak.
        WireError: it is not what its type says.

    """
    if credentials.payload_type != KAFKA_CREDENTIALS_TYPE:
        raise SigningError(
            f"the credentials are of type {credentials.payload_type!r}; make the request again"
        )
    payload = decode(credentials.payload, KafkaCredentials)
    if payload.entry != Hash(message_id(entry.payload)):
        raise SigningError("the credentials came with another entry; make the request again")
    said = decode(entry.payload, DirectoryEntry)
    publics = dict(said.signing_keys)
    for signature in credentials.signatures:
        public = publics.get(signature.key_id)
        if public is None or not verify(*signature_claim(credentials, signature, public)):
            raise BadSignatureError(
                f"the signature by key {signature.key_id.hex()} on the credentials is not one of the entry's; make them again"
            )
    if len({signature.key_id for signature in credentials.signatures}) < said.threshold:
        raise BadSignatureError(
            f"the credentials need {said.threshold} of the entry's keys; have the others sign them"
        )
    if payload.key_id != key.id:
        raise SigningError(
            f"the credentials are sealed to key {payload.key_id.hex()}; seal them to admission's, {key.id.hex()}"
        )
    try:
        password = crypto_box_seal_open(payload.sealed_password, key.public, key.private).decode("ascii")
    except (CryptoError, ValueError, TypeError):
        raise SigningError("the sealed password was changed on its way; make the request again") from None
    _check(password)
    return password


def _check(password: str) -> None:
    if not SHORTEST <= len(password) <= LONGEST or not password.isascii() or not password.isprintable():
        raise SigningError(
            f"a Kafka password has {SHORTEST} to {LONGEST} printable ASCII characters; choose another"
        )
