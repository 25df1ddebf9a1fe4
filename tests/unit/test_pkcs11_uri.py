"""PKCS #11 URIs: RFC 7512's own examples, what its grammar refuses, and which key a URI names to us."""

from __future__ import annotations

from pathlib import Path

import pytest

from parley.errors import KeystoreError
from parley.pkcs11_uri import TokenKey, parse_pkcs11_uri, token_key

RFC_7512_EXAMPLES: dict[str, tuple[dict[str, bytes], dict[str, bytes]]] = {
    "pkcs11:": ({}, {}),
    "pkcs11:object=my-pubkey;type=public": ({"object": b"my-pubkey", "type": b"public"}, {}),
    "pkcs11:object=my-key;type=private?pin-source=file:/etc/token": (
        {"object": b"my-key", "type": b"private"},
        {"pin-source": b"file:/etc/token"},
    ),
    (
        "pkcs11:token=The%20Software%20PKCS%2311%20Softtoken;manufacturer=Snake%20Oil,%20Inc.;model=1.0;"
        "object=my-certificate;type=cert;id=%69%95%3E%5C%F4%BD%EC%91;serial=?pin-source=file:/etc/token_pin"
    ): (
        {
            "token": b"The Software PKCS#11 Softtoken",
            "manufacturer": b"Snake Oil, Inc.",
            "model": b"1.0",
            "object": b"my-certificate",
            "type": b"cert",
            "id": bytes.fromhex("69953e5cf4bdec91"),
            "serial": b"",
        },
        {"pin-source": b"file:/etc/token_pin"},
    ),
    "pkcs11:object=my-sign-key;type=private?module-name=mypkcs11": (
        {"object": b"my-sign-key", "type": b"private"},
        {"module-name": b"mypkcs11"},
    ),
    "pkcs11:object=my-sign-key;type=private?module-path=/mnt/libmypkcs11.so.1": (
        {"object": b"my-sign-key", "type": b"private"},
        {"module-path": b"/mnt/libmypkcs11.so.1"},
    ),
    "pkcs11:token=Software%20PKCS%2311%20softtoken;manufacturer=Snake%20Oil,%20Inc.?pin-value=the-pin": (
        {"token": b"Software PKCS#11 softtoken", "manufacturer": b"Snake Oil, Inc."},
        {"pin-value": b"the-pin"},
    ),
    "pkcs11:slot-description=Sun%20Metaslot": ({"slot-description": b"Sun Metaslot"}, {}),
    (
        "pkcs11:library-manufacturer=Snake%20Oil,%20Inc.;library-description=Soft%20Token%20Library;"
        "library-version=1.23"
    ): (
        {
            "library-manufacturer": b"Snake Oil, Inc.",
            "library-description": b"Soft Token Library",
            "library-version": b"1.23",
        },
        {},
    ),
    "pkcs11:token=My%20token%25%20created%20by%20Joe;library-version=3;id=%01%02%03%Ba%dd%Ca%fe%04%05%06": (
        {
            "token": b"My token% created by Joe",
            "library-version": b"3",
            "id": bytes.fromhex("010203baddcafe040506"),
        },
        {},
    ),
    "pkcs11:token=A%20name%20with%20a%20substring%20%25%3B;object=my-certificate;type=cert": (
        {"token": b"A name with a substring %;", "object": b"my-certificate", "type": b"cert"},
        {},
    ),
    "pkcs11:token=Name%20with%20a%20small%20A%20with%20acute:%20%C3%A1;object=my-certificate;type=cert": (
        {
            "token": "Name with a small A with acute: á".encode(),
            "object": b"my-certificate",
            "type": b"cert",
        },
        {},
    ),
    (
        "pkcs11:token=my-token;object=my-certificate;type=cert;vendor-aaa=value-a"
        "?pin-source=file:/etc/token_pin&vendor-bbb=value-b"
    ): (
        {"token": b"my-token", "object": b"my-certificate", "type": b"cert", "vendor-aaa": b"value-a"},
        {"pin-source": b"file:/etc/token_pin", "vendor-bbb": b"value-b"},
    ),
}
"""From section 3, without the line breaks that it has for the page."""

OURS = "pkcs11:token=parley;object=signing-1?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:pin"


@pytest.mark.parametrize("text", RFC_7512_EXAMPLES)
def test_the_examples_of_the_rfc_are_read_as_it_says(text: str) -> None:
    path, query = RFC_7512_EXAMPLES[text]
    uri = parse_pkcs11_uri(text)
    assert (dict(uri.path), dict(uri.query)) == (path, query)
    assert parse_pkcs11_uri(str(uri)) == uri


def test_the_scheme_may_be_in_capitals() -> None:
    assert parse_pkcs11_uri("PKCS11:token=a").text("token") == "a"


def test_an_attribute_of_a_vendor_may_be_repeated_in_the_query_only() -> None:
    assert len(parse_pkcs11_uri("pkcs11:?x-a=1&x-a=2").query) == 2
    with pytest.raises(KeystoreError, match="x-a stands there twice"):
        parse_pkcs11_uri("pkcs11:x-a=1;x-a=2")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "begins with pkcs11:"),
        ("http://example", "begins with pkcs11:"),
        ("pkcs11:token", "name=value"),
        ("pkcs11:=a", "name=value"),
        ("pkcs11:token=a;", "name=value"),
        ("pkcs11:to ken=a", "name=value"),
        ("pkcs11:token=a?", "question mark"),
        ("pkcs11:token=a?pin-source=b&", "name=value"),
        ("pkcs11:token=a;token=b", "token stands there twice"),
        ("pkcs11:?pin-source=a&pin-source=b", "pin-source stands there twice"),
        ("pkcs11:token=a b", "token has a character"),
        ("pkcs11:token=a/b", "token has a character"),
        ("pkcs11:token=a%2", "token has a character"),
        ("pkcs11:token=%zz", "token has a character"),
        ("pkcs11:token=é", "token has a character"),
        ("pkcs11:token=a#b", "token has a character"),
        ("pkcs11:?pin-source=a;b", "pin-source has a character"),
        ("pkcs11:token=%FF", "token is not UTF-8"),
        ("pkcs11:token=a%00", "token holds a zero byte"),
        ("pkcs11:type=key", "type is none of"),
        ("pkcs11:slot-id=-1", "slot-id is none of"),
        ("pkcs11:library-version=1.2.3", "library-version is none of"),
        ("pkcs11:pin-source=a", "pin-source belongs after"),
        ("pkcs11:?token=a", "token belongs before"),
        ("pkcs11:?pin-source=a&pin-value=b", "exclude each other"),
    ],
)
def test_what_the_grammar_does_not_allow_is_refused_by_name(text: str, says: str) -> None:
    with pytest.raises(KeystoreError, match=says):
        parse_pkcs11_uri(text)


def test_a_key_is_named_by_token_and_label() -> None:
    assert token_key(parse_pkcs11_uri(OURS), Path("/etc/parley")) == TokenKey(
        module=Path("/usr/lib/softhsm/libsofthsm2.so"),
        token="parley",
        serial=None,
        manufacturer=None,
        model=None,
        label="signing-1",
        id=None,
        pin_file=Path("/etc/parley/pin"),
    )


@pytest.mark.parametrize(
    ("source", "file"),
    [
        ("file:/etc/pin", "/etc/pin"),
        ("file:///etc/pin", "/etc/pin"),
        ("/etc/pin", "/etc/pin"),
        ("pin", "/home/pin"),
        ("file:pin", "/home/pin"),
        ("file:my%20pin", "/home/my pin"),
    ],
)
def test_the_file_of_the_pin_is_relative_to_the_profile(source: str, file: str) -> None:
    uri = parse_pkcs11_uri(f"pkcs11:serial=1?module-path=m.so&pin-source={source}")
    assert token_key(uri, Path("/home")).pin_file == Path(file)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("pkcs11:object=a?module-path=/m.so", "token or serial is missing"),
        ("pkcs11:token=a", "module-path is missing"),
        ("pkcs11:token=a?module-path=", "module-path is missing"),
        ("pkcs11:token=a?module-path=/m.so&pin-value=1234", "pin-value would show the PIN"),
        ("pkcs11:token=a?module-path=/m.so&pin-source=|cat%20pin", "commands are not run"),
        ("pkcs11:token=a?module-path=/m.so&pin-source=file:", "must name a file"),
        ("pkcs11:token=a;type=public?module-path=/m.so", "type must be private"),
        ("pkcs11:token=a;slot-id=1?module-path=/m.so", "slot-id is not looked at"),
        ("pkcs11:token=a?module-name=softhsm", "module-name is not looked at"),
        ("pkcs11:token=a;x-vendor=1?module-path=/m.so", "x-vendor is not looked at"),
    ],
)
def test_what_we_could_not_honour_is_refused_by_name(text: str, says: str) -> None:
    with pytest.raises(KeystoreError, match=says):
        token_key(parse_pkcs11_uri(text))


@pytest.mark.parametrize(
    "text",
    [
        "pkcs11:token=a?module-path=/m.so&pin-value=secret",
        "pkcs11:token=a?pin-value=secret&pin-source=b",
        "pkcs11:token=a?pin-value=secret secret",
    ],
)
def test_no_error_repeats_a_pin(text: str) -> None:
    with pytest.raises(KeystoreError) as caught:
        token_key(parse_pkcs11_uri(text))
    assert "secret" not in str(caught.value)
