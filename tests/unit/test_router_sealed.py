"""The router and sealed addresses: it delivers to whom they hide and tells nobody; what is wrong with one has its reason."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any, NamedTuple

import pytest

from parley.envelope import DIRECTORY_ENTRY_TYPE, message_id, seal
from parley.firehose import event_digest
from parley.keys import public_key
from parley.schemas import (
    Envelope,
    FirehoseEvent,
    Party,
    Receipt,
    Rejection,
    SealedDelivery,
    Signature,
    decode,
    decode_any,
    encode,
)
from parley.sealed_address import Seal, seal_address, showing
from router.errors import RecoveryError
from router.sealed_addresses import MAXIMUM_SEALED, SealedAddresses
from tests.dialogue import Dialogue, sealed, transaction_id
from tests.hiding import NEW, OLD, hidden_dialogue, hiding_ledger, list_keys, sealed_to, shown
from tests.memory_router import Fact, MemoryRouter, facts
from tests.synthetic_ledger import Ledger, signing_key

START = 1_800_000_000_000
SEAL = sealed_to("bob")


@pytest.fixture
def ledger() -> Ledger:
    return hiding_ledger("alice", "bob", "carol")


@pytest.fixture
def router(ledger: Ledger) -> MemoryRouter:
    return MemoryRouter(ledger.directory, sealed=SealedAddresses([OLD]))


@pytest.fixture
def dialogue() -> Dialogue:
    return hidden_dialogue(SEAL.text, opened_at=START)


def answer(dialogue: Dialogue, seal: Seal = SEAL, by: str = "bob", **changes: Any) -> bytes:
    """The record of a hidden party's next message, which is the head from here on."""
    message = shown(dialogue, seal, changes.pop("action", "CONTINUE"))._replace(**changes)
    dialogue.send(message)
    return sealed(message, signing_key(by))


def to_bob(router: MemoryRouter, seal: Seal = SEAL) -> list[NamedTuple]:
    """What came to bob by a sealed address, unwrapped."""
    items = []
    for value in router.delivered_to("bob"):
        assert isinstance(value, SealedDelivery)
        assert (value.address, value.secret) == seal
        items.append(decode_any(value.item))
    return items


def refusal(router: MemoryRouter) -> Rejection:
    """The only rejection."""
    (rejection,) = router.rejections()
    return rejection


class TestAHiddenParty:
    def test_gets_what_is_addressed_to_it_and_the_means_to_know_why(
        self, router: MemoryRouter, dialogue: Dialogue
    ) -> None:
        router.append(dialogue.say("alice", content=b"an offer"), START)
        router.step()
        assert to_bob(router) == router.events()
        assert router.events()[0].envelope is not None
        (state,) = router.transactions().values()
        assert state.terms.parties[1] == Party(SEAL.text, SEAL.text)
        assert state.due == (SEAL.text,)

    def test_answers_by_its_sealed_address_and_gets_receipts(
        self, router: MemoryRouter, dialogue: Dialogue
    ) -> None:
        router.append(dialogue.say("alice"), START)
        router.append(answer(dialogue), START + 1)
        router.append(dialogue.say("alice"), START + 2)
        router.append(answer(dialogue, action="FINISH"), START + 3)
        router.step()
        assert not router.rejections()
        first, second, third, fourth = router.events()
        assert fourth.ended is not None
        assert fourth.ended.outcome == "FINISHED"
        assert [facts(item) for item in to_bob(router)] == [
            first,
            Fact(*receipt_of(second, router)),
            third,
            Fact(*receipt_of(fourth, router)),
        ]
        assert [value for value in router.delivered_to("alice") if isinstance(value, FirehoseEvent)] == [
            second,
            fourth,
        ]

    def test_gets_the_same_receipt_again(self, router: MemoryRouter, dialogue: Dialogue) -> None:
        router.append(dialogue.say("alice"), START)
        record = answer(dialogue)
        router.append(record, START + 1)
        router.append(record, START + 2)
        router.step()
        _, _, again = to_bob(router)
        assert isinstance(again, Receipt)
        assert again.event is None

    def test_times_out_by_its_sealed_address(self, router: MemoryRouter, dialogue: Dialogue) -> None:
        router.append(dialogue.say("alice"), START)
        router.append(None, START + 60_001)
        router.step()
        _, timeout = router.events()
        assert timeout.ended is not None
        assert timeout.ended.waiting_on == (SEAL.text,)
        assert to_bob(router)[1] == timeout

    def test_counts_under_the_rule_all(self, router: MemoryRouter) -> None:
        other = sealed_to("carol")
        dialogue = hidden_dialogue(SEAL.text, other.text, opened_at=START, rule="ALL")
        router.append(dialogue.say("alice"), START)
        router.append(answer(dialogue, action="FINISH"), START + 1)
        router.append(answer(dialogue, other, "carol", action="FINISH"), START + 2)
        router.append(dialogue.say("alice", "FINISH"), START + 3)
        router.step()
        (state,) = router.transactions().values()
        assert state.finished == (SEAL.text, other.text, "alice")
        assert state.outcome == "FINISHED"

    def test_is_reached_after_a_restart(self, router: MemoryRouter, dialogue: Dialogue) -> None:
        router.append(dialogue.say("alice"), START)
        router.step()
        router.restart()
        router.append(dialogue.say("alice"), START + 1)
        router.step()
        assert to_bob(router) == router.events()

    def test_is_told_by_its_sealed_address_what_of_its_words_is_refused(
        self, router: MemoryRouter, dialogue: Dialogue
    ) -> None:
        router.append(dialogue.say("alice"), START)
        message = shown(dialogue, SEAL)._replace(sequence=5)
        router.append(sealed(message, signing_key("bob")), START + 1)
        router.step()
        assert (refusal(router).reason, refusal(router).sender) == ("SEQUENCE_CONFLICT", SEAL.text)
        assert to_bob(router)[1] == refusal(router)

    def test_is_told_at_its_default_address_where_there_is_no_transaction(
        self, router: MemoryRouter, dialogue: Dialogue
    ) -> None:
        dialogue.say("alice")
        router.append(answer(dialogue), START)
        router.step()
        assert (refusal(router).reason, refusal(router).sender) == ("UNKNOWN_TRANSACTION", SEAL.text)
        assert router.deliveries() == [("bob", refusal(router))]


def receipt_of(event: FirehoseEvent, router: MemoryRouter) -> tuple[bytes, bytes, bytes, int]:
    assert event.envelope is not None
    data = encode(event)
    (state,) = router.transactions().values()
    payload = decode(event.envelope, Envelope).payload
    return message_id(payload), event_digest(data), data, state.terms.deadline + 60_000


class TestNobodyElseSpeaks:
    """By a sealed address that is another's."""

    @pytest.mark.parametrize("by", ["alice", "carol"])
    def test_with_the_secret_but_another_key(self, router: MemoryRouter, dialogue: Dialogue, by: str) -> None:
        router.append(dialogue.say("alice"), START)
        router.append(answer(dialogue, by=by), START + 1)
        router.step()
        assert refusal(router).reason == "KEY_NOT_VALID"
        assert refusal(router).sender is None
        assert "bob" not in refusal(router).detail
        assert signing_key(by).id.hex() not in refusal(router).detail
        assert len(router.events()) == 1

    def test_without_the_secret(self, router: MemoryRouter, dialogue: Dialogue) -> None:
        router.append(dialogue.say("alice"), START)
        router.append(answer(dialogue, references=()), START + 1)
        router.step()
        assert refusal(router).reason == "UNKNOWN_SENDER"
        assert "without showing" in refusal(router).detail

    def test_with_its_own_address_sealed_by_itself(self, router: MemoryRouter, dialogue: Dialogue) -> None:
        router.append(dialogue.say("alice"), START)
        router.append(answer(dialogue, sealed_to("carol"), "carol"), START + 1)
        router.step()
        assert refusal(router).reason == "NOT_A_PARTY"

    def test_with_an_old_key_of_the_party_who_alone_is_told(
        self, ledger: Ledger, router: MemoryRouter, dialogue: Dialogue
    ) -> None:
        router.append(dialogue.say("alice"), START)
        router.step()
        ledger.rotate("bob", [signing_key("bob's next")], signing_key("bob"))
        router.append(answer(dialogue), START + 1)
        router.step()
        assert refusal(router).reason == "KEY_NOT_VALID"
        assert signing_key("bob").id.hex() not in refusal(router).detail
        assert [value for value in router.delivered_to("bob") if isinstance(value, Rejection)] == [
            refusal(router)
        ]
        assert not any(isinstance(value, Rejection) for value in router.delivered_to("alice"))

    def test_with_a_signature_that_does_not_verify(self, router: MemoryRouter, dialogue: Dialogue) -> None:

        router.append(dialogue.say("alice"), START)
        envelope = decode(answer(dialogue), Envelope)
        forged = envelope._replace(signatures=(Signature(signing_key("bob").id, bytes(64)),))
        router.append(encode(forged), START + 1)
        router.step()
        assert (refusal(router).reason, refusal(router).sender) == ("BAD_SIGNATURE", None)


def damaged(text: str) -> str:
    head, _, box = text.rpartition(":")
    data = bytearray(urlsafe_b64decode(box))
    data[-1] ^= 1
    return f"{head}:{urlsafe_b64encode(bytes(data)).decode()}"


class Bad(NamedTuple):
    text: str
    reason: str
    detail: str
    retriable: bool = False


BAD = {
    "sealed to an unknown key": Bad(
        sealed_to("bob", key=NEW).text, "UNKNOWN_ADDRESS", f"seal it to {OLD.id.hex()}", retriable=True
    ),
    "sealed to a signing key": Bad(
        SEAL.text.replace(OLD.id.hex(), signing_key("bob").id.hex()),
        "UNKNOWN_ADDRESS",
        f"seal it to {OLD.id.hex()}",
        retriable=True,
    ),
    "a garbage box": Bad(damaged(SEAL.text), "UNKNOWN_ADDRESS", "does not open"),
    "for nobody": Bad(sealed_to("zoe").text, "UNKNOWN_ADDRESS", "nobody receives at a sealed address"),
    "replayed from another transaction": Bad(
        sealed_to("bob", "another").text, "UNKNOWN_ADDRESS", "for another transaction, or by another sender"
    ),
    "sealed by somebody else": Bad(
        sealed_to("bob", sender="carol").text,
        "UNKNOWN_ADDRESS",
        "for another transaction, or by another sender",
    ),
}
BAD_TEXTS = {
    "too short": SEAL.text[:-1],
    "too long": SEAL.text + "A",
    "no base64": SEAL.text[:-1] + "=",
    "no key": "sealed::" + SEAL.text[40:],
}


class TestABadSealedAddress:
    @pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
    def test_of_a_party_has_its_reason_and_opens_nothing(self, router: MemoryRouter, bad: Bad) -> None:
        router.append(hidden_dialogue(bad.text, opened_at=START).say("alice"), START)
        router.step()
        self.check(router, bad)
        assert not router.events()
        assert not router.transactions()

    @pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
    def test_of_a_recipient_has_its_reason_and_changes_nothing(
        self, router: MemoryRouter, dialogue: Dialogue, bad: Bad
    ) -> None:
        router.append(dialogue.say("alice"), START)
        router.step()
        before = router.transactions(), router.firehose()
        router.append(dialogue.say("alice", recipients=[bad.text]), START + 1)
        router.step()
        self.check(router, bad)
        assert (router.transactions(), router.firehose()) == before

    def check(self, router: MemoryRouter, bad: Bad) -> None:
        rejection = refusal(router)
        assert (rejection.reason, rejection.retriable) == (bad.reason, bad.retriable)
        assert bad.detail in rejection.detail
        assert len(rejection.detail) < 400
        assert rejection in router.delivered_to("alice")
        for name in ("bob", "carol", "zoe"):
            assert name not in rejection.detail

    @pytest.mark.parametrize("text", BAD_TEXTS.values(), ids=BAD_TEXTS.keys())
    def test_without_the_form_is_malformed(self, router: MemoryRouter, dialogue: Dialogue, text: str) -> None:
        router.append(hidden_dialogue(text, opened_at=START).say("alice"), START)
        router.append(dialogue.say("alice"), START)
        router.append(dialogue.say("alice", recipients=[text]), START + 1)
        router.step()
        assert [rejection.reason for rejection in router.rejections()] == ["MALFORMED"] * 2
        assert len(router.events()) == 1

    def test_names_one_party_only(self, router: MemoryRouter, dialogue: Dialogue) -> None:
        message = dialogue.message("alice")
        assert message.terms is not None
        terms = message.terms._replace(parties=(Party("alice", "alice"), Party("bob", SEAL.text)))
        router.append(sealed(message._replace(terms=terms)), START)
        router.step()
        assert refusal(router).reason == "MALFORMED"

    def test_hides_no_opener(self, router: MemoryRouter, dialogue: Dialogue) -> None:
        message = dialogue.message("alice")._replace(sender=SEAL.text, references=(showing(SEAL),))
        router.append(sealed(message, signing_key("bob")), START)
        router.step()
        assert (refusal(router).reason, refusal(router).detail) == (
            "MALFORMED",
            "the sender is not a participant's name",
        )

    def test_is_one_of_too_many(self, router: MemoryRouter) -> None:
        texts = [sealed_to(f"bank-{number}").text for number in range(MAXIMUM_SEALED + 1)]
        router.append(hidden_dialogue(*texts, opened_at=START).say("alice"), START)
        router.step()
        assert (refusal(router).reason, "at most 8" in refusal(router).detail) == ("MALFORMED", True)


class TestTwiceTheSame:
    """One receiver, sealed or not: told only to whoever knows it anyway."""

    def again(self, sender: str = "alice") -> Seal:
        """Another sealed address of bob's for the same transaction."""
        return seal_address("bob", public_key(OLD.public), transaction_id("hidden"), sender)

    def test_party_is_refused(self, router: MemoryRouter) -> None:
        for others in (("bob", SEAL.text), (SEAL.text, self.again().text)):
            message = hidden_dialogue(*others, opened_at=START).message("alice", recipients=["carol"])
            router.append(sealed(message), START)
        router.step()
        for rejection in router.rejections():
            assert (rejection.reason, "parties" in rejection.detail) == ("MALFORMED", True)
        assert len(router.rejections()) == 2

    def test_party_is_refused_where_the_opener_hides_itself_too(self, router: MemoryRouter) -> None:
        router.append(hidden_dialogue(sealed_to("alice").text, opened_at=START).say("alice"), START)
        router.step()
        assert refusal(router).reason == "MALFORMED"

    def test_recipient_is_refused(self, router: MemoryRouter, dialogue: Dialogue) -> None:
        router.append(dialogue.say("alice"), START)
        for recipients in (["bob", SEAL.text], [SEAL.text, self.again().text], [SEAL.text, SEAL.text]):
            router.append(sealed(dialogue.message("alice", recipients=recipients)), START + 1)
        router.step()
        assert [rejection.reason for rejection in router.rejections()] == ["MALFORMED"] * 3
        assert len(router.events()) == 1

    def test_recipient_is_not_told_to_a_party_that_did_not_seal_it(self, router: MemoryRouter) -> None:
        dialogue = hidden_dialogue("carol", SEAL.text, opened_at=START)
        router.append(dialogue.say("alice"), START)
        router.append(dialogue.say("carol", recipients=["bob", SEAL.text]), START + 1)
        mine = self.again("carol").text
        router.append(dialogue.say("carol", recipients=[mine, SEAL.text]), START + 2)
        router.step()
        assert not router.rejections(), "an answer would tell carol whom alice hid"
        assert len(router.events()) == 3

    def test_recipient_is_not_told_by_another_transaction_with_the_same_id(self, ledger: Ledger) -> None:
        router = MemoryRouter(ledger.directory, pipelines=2, sealed=SealedAddresses([OLD]))
        router.append(hidden_dialogue(SEAL.text, opened_at=START).say("alice"), START)
        for guess in ("bob", "alice"):
            probe = hidden_dialogue(SEAL.text, opened_at=START).message("alice")
            assert probe.terms is not None
            terms = probe.terms._replace(
                parties=(Party("carol", "carol"), Party(guess, guess), Party(SEAL.text, SEAL.text))
            )
            router.append(sealed(probe._replace(sender="carol", pipeline=1, terms=terms)), START, 1)
        router.step()
        first, second = router.rejections()
        assert first.detail == second.detail
        assert "by another sender" in first.detail


class TestRotation:
    """Of the router's key for sealed addresses."""

    def test_takes_both_keys_while_the_entry_lists_both(self, ledger: Ledger) -> None:
        list_keys(ledger, OLD, NEW)
        router = MemoryRouter(ledger.directory, sealed=SealedAddresses([NEW, OLD]))
        for seed, key in (("one", OLD), ("two", NEW)):
            text = sealed_to("bob", seed, key=key).text
            router.append(hidden_dialogue(text, opened_at=START, seed=seed).say("alice"), START)
        router.step()
        assert len(router.events()) == 2
        assert len(router.delivered_to("bob")) == 2

    def test_names_the_new_key_to_whoever_uses_the_old_one(self, ledger: Ledger, dialogue: Dialogue) -> None:
        list_keys(ledger, NEW)
        router = MemoryRouter(ledger.directory, sealed=SealedAddresses([NEW, OLD]))
        router.append(dialogue.say("alice"), START)
        router.step()
        assert (refusal(router).reason, refusal(router).retriable) == ("UNKNOWN_ADDRESS", True)
        assert f"seal it to {NEW.id.hex()}" in refusal(router).detail

    def test_leaves_open_transactions_as_they_are(self, ledger: Ledger, dialogue: Dialogue) -> None:
        router = MemoryRouter(ledger.directory, sealed=SealedAddresses([OLD]))
        router.append(dialogue.say("alice"), START)
        router.step()
        list_keys(ledger, NEW)
        router.sealed = SealedAddresses([NEW, OLD])
        router.restart()
        router.append(dialogue.say("alice"), START + 1)
        router.append(answer(dialogue), START + 2)
        router.append(None, START + 60_001)
        router.step()
        assert not router.rejections()
        assert len(to_bob(router)) == 4

    def test_that_drops_the_old_key_too_soon_stops_the_router(
        self, ledger: Ledger, router: MemoryRouter, dialogue: Dialogue
    ) -> None:
        router.append(dialogue.say("alice"), START)
        router.step()
        list_keys(ledger, NEW)
        router.sealed = SealedAddresses([NEW])
        router.restart()
        router.append(None, START + 60_001)
        with pytest.raises(RecoveryError, match=f"{OLD.id.hex()}.*put its file back"):
            router.step()

    def test_of_a_router_without_keys_is_the_operators_to_make(
        self, ledger: Ledger, dialogue: Dialogue
    ) -> None:
        router = MemoryRouter(ledger.directory)
        router.append(dialogue.say("alice"), START)
        router.step()
        assert "takes no sealed addresses" in refusal(router).detail


def test_a_key_that_no_operator_lists_is_taken_for_no_routers(ledger: Ledger) -> None:
    before = ledger.directory.entry("carol")
    assert before is not None
    entry = before._replace(
        encryption_keys=(public_key(NEW.public),), previous=ledger.directory.version_of("carol")
    )
    ledger.change(seal(DIRECTORY_ENTRY_TYPE, entry, signing_key("carol"), ledger.registrar))
    router = MemoryRouter(ledger.directory, sealed=SealedAddresses([NEW, OLD]))
    router.append(
        hidden_dialogue(sealed_to("bob", key=NEW).text, opened_at=START).say("alice", recipients=["carol"]),
        START,
    )
    router.step()
    assert f"seal it to {OLD.id.hex()}" in refusal(router).detail


def test_what_was_opened_is_remembered_and_forgotten_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.sealed_addresses._REMEMBERED", 2)
    addresses = SealedAddresses([OLD])
    texts = [sealed_to(name).text for name in ("a", "b", "c", "a")]
    assert [addresses.delivery(text, [b""])[0] for text in texts] == ["a", "b", "c", "a"]
    assert len(addresses._opened) == 2
