"""The root of every error that Parley raises on purpose.

ParleyError
├── WireError             bytes are not what their contract says        (parley.schemas)
│   ├── UnknownSchemaError    no released schema has this fingerprint
│   ├── OversizedError        larger than the limit
│   └── MalformedError        truncated, trailing bytes, or out of range
├── SigningError          a key or signature cannot be used
│   └── BadSignatureError     the signature does not verify
├── KeystoreError         the keystore file cannot be opened
├── ProofError            a proof, checkpoint or block does not verify
├── DirectoryError        an entry may not be admitted, or the directory's log is broken
├── FirehoseError         the firehose has a gap, or another history than the one followed
│   └── CursorError           a saved cursor cannot be used
├── RefusedError          the router refused a message
└── TransportError        the backbone cannot be reached

Operator packages add one base each (``streams.errors.StreamError``, …) under ``ParleyError``.
Each message says what happened and what the reader should do.
"""

from __future__ import annotations


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


class KeystoreError(ParleyError):
    """A keystore file cannot be opened: wrong password, changed bytes, or unsafe permissions."""


class ProofError(ParleyError):
    """A proof, checkpoint or block does not verify; the message names the step that failed."""


class DirectoryError(ParleyError):
    """A directory entry may not be admitted, or the directory's log is broken."""


class FirehoseError(ParleyError):
    """The firehose has a gap, or tells another history than the one followed."""


class CursorError(FirehoseError):
    """A saved cursor cannot be used."""


class TransportError(ParleyError):
    """The backbone cannot be reached or refused the connection."""
