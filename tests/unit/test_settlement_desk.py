"""A settlement desk over the client: trades settled, refused and resumed, against the router's own decisions in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import date, timedelta

import pytest

import parley
from parley.errors import InstructionError
from parley.schemas import Party as PartyOfTerms
from parley.schemas import Terms
from parley.workflows.settlement.advice import Status, read_advice
from parley.workflows.settlement.desk import Desk, read_opening
from parley.workflows.settlement.instruction import Chain, Party, SettlementInstruction
from parley.workflows.settlement.negotiation import Phase, decline
from parley.workflows.settlement.office import Ending, Office, Practice, Settlement
from parley.workflows.settlement.steps import ADVICE_STEP, INSTRUCTION_STEP, KIND, Word
from parley.workflows.settlement.writing import write_instruction
from tests.memory_backbone import MemoryBackbone
from tests.settlement import DELIVERY, RECEIPT, TODAY
from tests.two_parties import connected, soon, spoken, until

ON_THE_DAY = Practice(day=lambda _: TODAY, refuse_unknown=True, deadline=timedelta(minutes=5))
TERMS = Terms(
    KIND,
    (PartyOfTerms("bnpa", "bnpa"), PartyOfTerms("sbos", "sbos")),
    Practice().longest // timedelta(milliseconds=1),
    1,
    "ANY",
)
MORE_THAN_THE_DEADLINE = 300_001
WITHIN = timedelta(seconds=0.2)


@pytest.fixture
def backbone() -> MemoryBackbone:
    backbone = MemoryBackbone("mallory", "ecb")
    backbone.admit("sbos", lei="571474TGEMMWANRLN572", bic="SBOSUS33XXX")
    backbone.admit("bnpa", lei="R0MUWSFPU8MPRO8K5P83", bic="BNPAFRPP")
    return backbone


@asynccontextmanager
async def desk_of(
    backbone: MemoryBackbone,
    name: str,
    *instructions: SettlementInstruction,
    practice: Practice = ON_THE_DAY,
    office: Office | None = None,
) -> AsyncIterator[Desk]:
    """A desk that works until the block is left, however far it is then."""
    async with connected(backbone, name) as me, asyncio.TaskGroup() as work:
        desk = Desk(me, work, practice, office)
        for instruction in instructions:
            desk.instruct(instruction)
        tasks = [work.create_task(desk.listen())]
        desk.start()
        yield desk
        for task in tasks:
            task.cancel()


def trades(count: int) -> tuple[list[SettlementInstruction], list[SettlementInstruction]]:
    """So many trades: the deliverer's instructions and the receiver's."""
    delivering = [replace(DELIVERY, transaction_id=f"D-{n}", trade_id=f"T-{n}") for n in range(count)]
    receiving = [replace(RECEIPT, transaction_id=f"R-{n}", trade_id=f"T-{n}") for n in range(count)]
    return delivering, receiving


def endings(*desks: Desk) -> list[Ending | None]:
    return [settlement.ending for desk in desks for settlement in desk.settlements]


class Silent(Office):
    """Says nothing once a phase is reached."""

    def __init__(self, phase: Phase) -> None:
        self._phase = phase

    async def approve(self, settlement: Settlement, word: Word) -> Word | None:
        return None if settlement.negotiation.phase is self._phase else word


class Declining(Office):
    async def approve(self, settlement: Settlement, word: Word) -> Word | None:
        if settlement.negotiation.phase is Phase.COMMITTED:
            return decline(settlement.negotiation, "our client has withdrawn the purchase")
        return word


async def test_two_desks_settle_their_trades(backbone: MemoryBackbone) -> None:
    delivering, receiving = trades(5)
    async with (
        desk_of(backbone, "sbos", *delivering) as deliverer,
        desk_of(backbone, "bnpa", *receiving, practice=ON_THE_DAY._replace(at_once=2)) as receiver,
    ):
        await soon(deliverer.over())
        await soon(receiver.over())
        assert endings(deliverer, receiver) == [Ending.SETTLED] * 10
        said = [message.content_type for message in deal_of(receiver).messages]
        assert said == [INSTRUCTION_STEP, INSTRUCTION_STEP, ADVICE_STEP, said[3]]
        assert deal_of(receiver).kind == KIND


def deal_of(desk: Desk) -> parley.Deal:
    deal = desk.settlements[0].deal
    assert deal is not None
    return deal


async def test_all_that_is_said_is_private_and_the_regulator_is_granted_the_key(
    backbone: MemoryBackbone,
) -> None:
    practice = ON_THE_DAY._replace(readers=("ecb",))
    async with (
        desk_of(backbone, "sbos", DELIVERY) as deliverer,
        desk_of(backbone, "bnpa", RECEIPT, practice=practice) as receiver,
    ):
        await soon(receiver.over())
        await soon(deliverer.over())
    events = b"".join(backbone.pipelines[0].firehose)
    assert KIND.encode() in events
    assert DELIVERY.isin.encode() not in events
    assert b"ecb" in events


async def test_a_deliverer_whose_books_differ_names_the_fields_to_both(backbone: MemoryBackbone) -> None:
    async with (
        desk_of(backbone, "sbos", replace(DELIVERY, isin="DE0007236101")) as deliverer,
        desk_of(backbone, "bnpa", RECEIPT) as receiver,
    ):
        await soon(receiver.over())
        await soon(deliverer.over())
        assert endings(deliverer, receiver) == [Ending.UNMATCHED] * 2
        (reason,) = receiver.settlements[0].negotiation.reasons
        assert reason.code == "DSEC"


async def test_an_office_may_decline(backbone: MemoryBackbone) -> None:
    async with (
        desk_of(backbone, "sbos", DELIVERY) as deliverer,
        desk_of(backbone, "bnpa", RECEIPT, office=Declining()) as receiver,
    ):
        await soon(receiver.over())
        await soon(deliverer.over())
        assert endings(deliverer, receiver) == [Ending.REJECTED] * 2
        assert deliverer.settlements[0].negotiation.reasons[0].text == "our client has withdrawn the purchase"


@pytest.mark.parametrize(
    ("side", "phase", "due"), [("sbos", Phase.INSTRUCTED, "sbos"), ("bnpa", Phase.COMMITTED, "bnpa")]
)
async def test_who_stays_silent_is_named_by_the_timeout(
    backbone: MemoryBackbone, side: str, phase: Phase, due: str
) -> None:
    offices = {side: Silent(phase)}
    async with (
        desk_of(backbone, "sbos", DELIVERY, office=offices.get("sbos")) as deliverer,
        desk_of(backbone, "bnpa", RECEIPT, office=offices.get("bnpa")) as receiver,
    ):
        messages = 1 if phase is Phase.INSTRUCTED else 2
        await until(lambda: all(desk.settlements[0].messages == messages for desk in (deliverer, receiver)))
        backbone.pass_time(MORE_THAN_THE_DEADLINE)
        await soon(receiver.over())
        await soon(deliverer.over())
        for desk in (deliverer, receiver):
            assert desk.settlements[0].ending is Ending.TIMED_OUT
            assert desk.settlements[0].due == (due,)


async def test_what_comes_too_late_is_refused_and_noted(backbone: MemoryBackbone) -> None:
    late = asyncio.Event()

    class Late(Office):
        async def approve(self, settlement: Settlement, word: Word) -> Word | None:
            if settlement.negotiation.phase is Phase.CASH_CONFIRMED:
                await late.wait()
            return word

    async with (
        desk_of(backbone, "sbos", DELIVERY, office=Late()) as deliverer,
        desk_of(backbone, "bnpa", RECEIPT) as receiver,
    ):
        await until(lambda: deliverer.settlements[0].messages == 3)
        backbone.pass_time(MORE_THAN_THE_DEADLINE)
        await soon(receiver.over())
        assert not deliverer.settlements[0].over
        late.set()
        await soon(deliverer.over())
        assert endings(deliverer, receiver) == [Ending.TIMED_OUT] * 2
        assert [error.reason for error in deliverer.settlements[0].refused] == ["DEADLINE_PASSED"]


async def test_an_opening_that_no_instruction_belongs_to_is_refused(backbone: MemoryBackbone) -> None:
    async with (
        desk_of(backbone, "sbos") as _,
        desk_of(backbone, "bnpa", RECEIPT) as receiver,
    ):
        await soon(receiver.over())
        assert endings(receiver) == [Ending.UNMATCHED]
        assert [reason.code for reason in receiver.settlements[0].negotiation.reasons] == ["CMIS"]


async def test_or_waits_for_the_instruction_where_the_desk_does_not_refuse(backbone: MemoryBackbone) -> None:
    patient = ON_THE_DAY._replace(refuse_unknown=False)
    async with desk_of(backbone, "bnpa", RECEIPT) as receiver:
        async with desk_of(backbone, "sbos", practice=patient):
            await until(lambda: receiver.settlements[0].deal is not None)
        async with desk_of(backbone, "sbos", DELIVERY, practice=patient) as deliverer:
            await soon(deliverer.over())
        await soon(receiver.over())
        assert endings(deliverer, receiver) == [Ending.SETTLED] * 2


async def test_trades_without_a_reference_are_found_by_all_that_they_say(backbone: MemoryBackbone) -> None:
    delivering, receiving = (
        [
            replace(
                each, transaction_id=f"{each.transaction_id}-{n}", trade_id=None, common_id=None, isin=isin
            )
            for n, isin in enumerate(("FR0000121014", "DE0007236101"))
        ]
        for each in (DELIVERY, RECEIPT)
    )
    async with (
        desk_of(backbone, "sbos", *delivering) as deliverer,
        desk_of(backbone, "bnpa", *reversed(receiving)) as receiver,
    ):
        await soon(receiver.over())
        await soon(deliverer.over())
        assert endings(deliverer, receiver) == [Ending.SETTLED] * 4


async def test_a_desk_that_starts_again_goes_on_where_it_was_due(backbone: MemoryBackbone) -> None:
    async with desk_of(backbone, "sbos", DELIVERY, office=Silent(Phase.CASH_CONFIRMED)) as deliverer:
        async with desk_of(backbone, "bnpa", RECEIPT, office=Silent(Phase.COMMITTED)) as receiver:
            await until(lambda: receiver.settlements[0].negotiation.phase is Phase.COMMITTED)
        async with desk_of(backbone, "bnpa", RECEIPT) as receiver:
            await until(lambda: deliverer.settlements[0].negotiation.phase is Phase.CASH_CONFIRMED)
    patient = ON_THE_DAY._replace(longest=timedelta(seconds=1))  # its own opening binds it all the same
    async with (
        desk_of(backbone, "bnpa", RECEIPT, practice=patient) as receiver,
        desk_of(backbone, "sbos", DELIVERY) as again,
    ):
        await soon(again.over())
        await soon(receiver.over())
        assert endings(again, receiver) == [Ending.SETTLED] * 2
    assert len(backbone.pipelines[0].firehose) == 4


async def test_a_delivery_that_nobody_opens_is_given_up(backbone: MemoryBackbone) -> None:
    async with desk_of(backbone, "sbos", DELIVERY) as deliverer:
        await soon(deliverer.over(WITHIN))
        assert endings(deliverer) == [Ending.NOT_INSTRUCTED]


async def test_a_receipt_whose_counterparty_nobody_is_cannot_be_opened(backbone: MemoryBackbone) -> None:
    stranger = replace(RECEIPT, delivering=Chain("SICVFRPP", (Party("DEUTDEFF"),)))
    async with desk_of(backbone, "bnpa", stranger) as receiver:
        await soon(receiver.over())
        assert endings(receiver) == [Ending.REFUSED]
        assert "nobody in the directory is DEUTDEFF" in receiver.settlements[0].note


async def test_an_instruction_of_somebody_else_is_not_taken(backbone: MemoryBackbone) -> None:
    async with desk_of(backbone, "mallory") as desk:
        with pytest.raises(InstructionError, match="mallory is no party"):
            desk.instruct(DELIVERY)


async def test_nor_one_that_is_wrong_by_itself(backbone: MemoryBackbone) -> None:
    async with desk_of(backbone, "sbos") as desk:
        with pytest.raises(InstructionError, match="SttlmDt"):
            desk.instruct(replace(DELIVERY, settlement_date=date(2026, 11, 17)))


class TestAnOpeningThatIsNotWhatItShouldBe:
    """Each is refused on the record, with the reason, and the trade waits for the true one."""

    async def refused(self, backbone: MemoryBackbone, sender: str, **changes: object) -> str:
        opening = {
            "kind": KIND,
            "deadline": timedelta(minutes=5),
            "content": write_instruction(RECEIPT),
            "content_type": INSTRUCTION_STEP,
        }
        async with desk_of(backbone, "sbos", DELIVERY) as desk, connected(backbone, sender) as me:
            deal = await me.open(["sbos"], **{**opening, **changes})  # type: ignore[arg-type]
            said = await soon(anext(aiter(deal)))
            assert said.action == "FINISH"
            assert desk.settlements[0].deal is None
            advice = read_advice(said.content)
            assert advice.status is Status.REJECTED
            return str(advice.reasons[0].text)

    async def test_such_as_one_by_a_stranger(self, backbone: MemoryBackbone) -> None:
        assert "mallory is none of the parties" in await self.refused(backbone, "mallory")

    @pytest.mark.parametrize(
        ("change", "step", "told"),
        [
            ({"parties": (*TERMS.parties, PartyOfTerms("ecb", "ecb"))}, INSTRUCTION_STEP, "between two"),
            ({"finish_rule": "ALL"}, INSTRUCTION_STEP, "either of whom ends it"),
            ({}, "application/xml", "by application/vnd.iso20022.sese.023"),
            ({"deadline": TERMS.deadline + 1}, INSTRUCTION_STEP, "further off than the 7 days"),
        ],
    )
    def test_such_as_one_on_terms_that_nobody_settles_on(
        self, backbone: MemoryBackbone, change: dict[str, object], step: str, told: str
    ) -> None:
        opening = spoken(0, "bnpa", step, write_instruction(RECEIPT), "OPEN")
        longest = Practice().longest
        good = opening._replace(content_type=INSTRUCTION_STEP)
        assert read_opening(good, TERMS, backbone.directory, longest) == RECEIPT
        with pytest.raises(InstructionError, match=told):
            read_opening(opening, TERMS._replace(**change), backbone.directory, longest)  # type: ignore[arg-type]

    async def test_such_as_one_that_expands_entities(self, backbone: MemoryBackbone) -> None:
        hostile = b'<!DOCTYPE a [<!ENTITY b "c">]><Document>&b;</Document>'
        assert "DTD" in await self.refused(backbone, "bnpa", content=hostile)


async def test_what_is_no_settlement_is_left_to_others(backbone: MemoryBackbone) -> None:
    async with connected(backbone, "sbos") as me, connected(backbone, "bnpa") as other:
        await other.open(["sbos"], kind="chat", deadline=timedelta(minutes=1), content="hello")
        async with asyncio.TaskGroup() as work:
            event = await soon(anext(aiter(me.inbox())))
            assert not Desk(me, work).take(event)
