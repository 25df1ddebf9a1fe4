"""Settlement instructions from XML: what custodians write is read, and what harms or lies is refused by its path."""

from __future__ import annotations

import time
import tracemalloc
from datetime import date
from decimal import Decimal

import pytest

from parley.errors import (
    AmountError,
    ElementError,
    SettlementError,
    UnreadableXmlError,
    UnsafeXmlError,
    WrongDocumentError,
)
from parley.workflows.settlement.document import Limits
from parley.workflows.settlement.instruction import (
    Chain,
    Measure,
    Money,
    Movement,
    Party,
    ProprietaryId,
    Quantity,
    SettlementInstruction,
)
from parley.workflows.settlement.reading import read_instruction
from parley.workflows.settlement.writing import write_instruction
from tests.settlement import DELIVERY, EXAMPLES, TOP

WRITTEN = write_instruction(DELIVERY).decode()
BODY = "<SctiesSttlmTxInstr>"


def changed(old: str, new: str, of: str = WRITTEN) -> bytes:
    """The document with its first ``old`` replaced, which must be there."""
    assert old in of
    return of.replace(old, new, 1).encode()


class TestAnExample:
    def test_of_version_11_is_read_with_all_that_it_says_besides(self) -> None:
        data = (EXAMPLES / "sese.023.001.11-deliver.xml").read_bytes()
        assert read_instruction(data) == SettlementInstruction(
            transaction_id="SBOS-2026-0000417",
            trade_id="571474TGEMMWANRLN572261118000001",
            common_id="CMN-7781",
            movement=Movement.DELIVER,
            trade_date=date(2026, 11, 18),
            settlement_date=date(2026, 11, 20),
            isin="FR0000121014",
            quantity=Quantity(Measure.UNITS, Decimal(25)),
            amount=Money(Decimal("14243.00"), "EUR"),
            safekeeping_account="SBOSSAFE10541731",
            cash_account="FR7630006000011234567890189",
            transaction_type="TRAD",
            delivering=Chain(
                "SICVFRPPXXX", (Party("SBOSUS33XXX", "571474TGEMMWANRLN572", "SBOSSAFE10541731"),)
            ),
            receiving=Chain(
                "SICVFRPPXXX",
                (Party("BNPAFRPP", "R0MUWSFPU8MPRO8K5P83", "BNPASAFE34251196"), Party("DEUTDEFF")),
            ),
        )

    def test_of_version_10_is_read_with_prefixes_moments_face_amount_and_the_owner_as_own_chain(self) -> None:
        data = (EXAMPLES / "sese.023.001.10-receive.xml").read_bytes()
        instruction = read_instruction(data)
        assert instruction.movement is Movement.RECEIVE
        assert (instruction.trade_date, instruction.settlement_date) == (
            date(2026, 11, 18),
            date(2026, 11, 20),
        )
        assert instruction.quantity == Quantity(Measure.FACE_AMOUNT, Decimal(5_000_000))
        assert instruction.own == Chain(None, (Party("BNPAFRPP", "R0MUWSFPU8MPRO8K5P83"),))
        assert instruction.place_of_settlement == "DAKVDEFF"

    def test_of_version_09_is_read_with_its_encoding_and_a_depositorys_own_identifiers(self) -> None:
        instruction = read_instruction((EXAMPLES / "sese.023.001.09-deliver.xml").read_bytes())
        assert instruction.delivering == Chain(None, (Party(ProprietaryId("MIDLT", "CRST")),))
        assert instruction.counterparty.parties == (Party(ProprietaryId("BQ01", "CRST", "PARTICIPANT")),)
        assert instruction.amount == Money(Decimal("29880.00"), "GBP")

    @pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
    def test_in_another_encoding_reads_the_same(self, encoding: str) -> None:
        declared = WRITTEN.replace('encoding="UTF-8"', f'encoding="{encoding.removesuffix("-sig")}"')
        assert read_instruction(declared.encode(encoding)) == DELIVERY


class TestHostileXml:
    @pytest.mark.parametrize(
        "declarations",
        [
            '<!DOCTYPE Document [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>',
            '<!DOCTYPE Document [<!ENTITY secret SYSTEM "file:///etc/passwd">]>',
            '<!DOCTYPE Document [<!ENTITY % remote SYSTEM "http://127.0.0.1:9/x.dtd"> %remote;]>',
            '<!DOCTYPE Document SYSTEM "http://127.0.0.1:9/x.dtd">',
            "<!DOCTYPE Document>",
        ],
        ids=["expansion", "external entity", "parameter entity", "external DTD", "empty DTD"],
    )
    def test_with_a_document_type_is_refused_before_anything_in_it_counts(self, declarations: str) -> None:
        data = changed("<Document ", declarations + "<Document ").replace(b"D-1", b"&secret;&b;")
        with pytest.raises(UnsafeXmlError, match="document type"):
            read_instruction(data)

    def test_billion_laughs_cost_neither_time_nor_memory(self) -> None:
        entities = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
        laughs = f'<!DOCTYPE Document [<!ENTITY l0 "lol">{entities}]><Document>&l9;</Document>'
        with pytest.raises(UnsafeXmlError):
            read_instruction(laughs.encode())

    def test_an_entity_that_nobody_declared_is_unreadable(self) -> None:
        with pytest.raises(UnreadableXmlError, match=r"line 4.*TxId"):
            read_instruction(changed("D-1", "&x;"))

    def test_larger_than_the_limit_is_refused_unparsed(self) -> None:
        with pytest.raises(UnsafeXmlError, match="1,048,577 bytes"):
            read_instruction(b" " * ((1 << 20) + 1))

    def test_deeper_than_the_limit_is_refused(self) -> None:
        envelope = f"{BODY}<SplmtryData><Envlp>{'<a>' * 100_000}"
        with pytest.raises(UnsafeXmlError, match="32 elements deep"):
            read_instruction(changed(BODY, envelope))

    def test_of_more_elements_than_the_limit_is_refused(self) -> None:
        with pytest.raises(UnsafeXmlError, match="5,000 elements"):
            read_instruction(changed(BODY, f"{BODY}<SplmtryData><Envlp>{'<a/>' * 6_000}"))

    def test_limits_are_the_callers_to_set(self) -> None:
        with pytest.raises(UnsafeXmlError):
            read_instruction(WRITTEN.encode(), Limits(elements=20))

    @pytest.mark.parametrize(
        "filling",
        [
            lambda n: f"<SplmtryData><Envlp>{'<a>' * 20}{'x' * n}",
            lambda n: "<SplmtryData><Envlp><a " + " ".join(f"b{k}='1'" for k in range(n // 12)) + "/>",
            lambda n: f"<!--{'x' * n}-->",
            lambda n: f"<TxId>{'9' * n}</TxId>",
            lambda n: "<Lnkgs>" + "<Ref/>" * (n // 6),
            lambda n: f"<SttlmAmt><Amt Ccy='EUR'>{'9' * n}</Amt></SttlmAmt>",
        ],
        ids=["text", "attributes", "comment", "long value", "repetition", "digits"],
    )
    def test_of_the_largest_size_is_judged_within_two_seconds_and_forty_megabytes(
        self, filling: object
    ) -> None:
        assert callable(filling)
        data = changed(BODY, BODY + filling(1_000_000))
        tracemalloc.start()
        began = time.process_time()
        with pytest.raises(SettlementError):
            read_instruction(data[:-9])
        took = time.process_time() - began
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert took < 2  # while memory is traced, which takes most of it
        assert peak < 40_000_000

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"no xml",
            b"<Document",
            WRITTEN.encode()[:-5],
            WRITTEN.encode() + b"<more/>",
            WRITTEN.encode().replace(b"D-1", b"D-\xff"),
            WRITTEN.encode().replace(b"D-1", b"D-\x00"),
            WRITTEN.encode().replace(b"UTF-8", b"utf-16"),
            WRITTEN.encode().replace(b"UTF-8", b"UTF-7"),
            WRITTEN.encode().replace(b"UTF-8", b"EBCDIC-CP-US"),
            WRITTEN.encode().replace(b"UTF-8", b"no-such"),
            WRITTEN.encode("utf-16-le")[3:],
        ],
    )
    def test_that_is_not_well_formed_or_of_a_doubtful_encoding_is_unreadable(self, data: bytes) -> None:
        with pytest.raises(UnreadableXmlError):
            read_instruction(data)


class TestAnotherDocument:
    def test_in_an_envelope_is_refused_saying_to_take_it_out(self) -> None:
        with pytest.raises(WrongDocumentError, match="take the message out of its envelope"):
            read_instruction(b"<BizMsg>" + WRITTEN.partition("\n")[2].encode() + b"</BizMsg>")

    @pytest.mark.parametrize(
        "version", ["sese.023.001.08", "sese.023.001.12", "sese.023.002.11", "sese.024.001.12"]
    )
    def test_of_another_namespace_is_refused_naming_those_that_are_read(self, version: str) -> None:
        with pytest.raises(WrongDocumentError, match=rf"{version}.*sese\.023\.001\.09"):
            read_instruction(changed("sese.023.001.11", version))

    def test_of_no_namespace_is_refused(self) -> None:
        with pytest.raises(WrongDocumentError):
            read_instruction(changed(' xmlns="urn:iso:std:iso:20022:tech:xsd:sese.023.001.11"', ""))

    def test_that_mixes_two_versions_is_refused_at_the_stranger(self) -> None:
        stranger = '<TxId xmlns="urn:iso:std:iso:20022:tech:xsd:sese.023.001.10">'
        with pytest.raises(ElementError, match="another namespace") as refused:
            read_instruction(changed("<TxId>", stranger))
        assert refused.value.path == f"{TOP}/TxId"


ELEMENTS = {
    "a reference too long": ("D-1", "D" * 36, "TxId"),
    "a missing reference": ("<TxId>D-1</TxId>", "", "TxId"),
    "an empty reference": ("<TxId>D-1</TxId>", "<TxId/>", "TxId"),
    "a reference given twice": ("</TxId>", "</TxId><TxId>D-2</TxId>", "TxId"),
    "a code that does not exist": ("DELI", "DELIVER", "SttlmTpAndAddtlParams/SctiesMvmntTp"),
    "a delivery free of payment": ("APMT", "FREE", "SttlmTpAndAddtlParams/Pmt"),
    "no payment": ("<Pmt>APMT</Pmt>", "", "SttlmTpAndAddtlParams/Pmt"),
    "an unknown element": ("<TradDtls>", "<TradDtls><Colour>red</Colour>", "TradDtls/Colour"),
    "an element in a value": ("<TxId>D-1", "<TxId><b/>D-1", "TxId/b"),
    "text between elements": ("<TradDtls>", "<TradDtls>soon", "TradDtls"),
    "text after the last element": ("</TradDtls>", "soon</TradDtls>", "TradDtls"),
    "a settlement date that is text": (
        "<Dt>2026-11-20</Dt>",
        "<Dt>20.11.2026</Dt>",
        "TradDtls/SttlmDt/Dt/Dt",
    ),
    "a day that does not exist": ("2026-11-20", "2026-02-30", "TradDtls/SttlmDt/Dt/Dt"),
    "a year before our calendar": ("2026-11-20", "-0044-03-15", "TradDtls/SttlmDt/Dt/Dt"),
    "an open settlement date": (
        "<Dt>\n          <Dt>2026-11-20</Dt>\n        </Dt>",
        "<DtCd><Cd>WISS</Cd></DtCd>",
        "TradDtls/SttlmDt/Dt",
    ),
    "two dates where one belongs": (
        "<Dt>2026-11-20</Dt>",
        "<Dt>2026-11-20</Dt><DtTm>2026-11-20T00:00:00</DtTm>",
        "TradDtls/SttlmDt/Dt",
    ),
    "a date without its element": ("<Dt>2026-11-20</Dt>", "2026-11-20", "TradDtls/SttlmDt/Dt"),
    "an ISIN of another form": ("FR0000121014", "FR 000012101", "FinInstrmId/ISIN"),
    "no ISIN": ("<ISIN>FR0000121014</ISIN>", "<Desc>LVMH</Desc>", "FinInstrmId/ISIN"),
    "a token's quantity": (
        "<Unit>25</Unit>",
        "<DgtlTknUnit>25</DgtlTknUnit>",
        "QtyAndAcctDtls/SttlmQty/Qty/DgtlTknUnit",
    ),
    "a BIC in lower case": ("SBOSUS33", "sbosus33", "DlvrgSttlmPties/Pty1/Id/AnyBIC"),
    "an LEI too short": ("R0MUWSFPU8MPRO8K5P83", "R0MUWSFPU8MPRO8K5P", "RcvgSttlmPties/Pty1/LEI"),
    "a payment the wrong way": ("CRDT", "DBIT", "SttlmAmt/CdtDbtInd"),
    "no currency": (' Ccy="EUR"', "", "SttlmAmt/Amt/@Ccy"),
    "an attribute too many": (' Ccy="EUR"', ' Ccy="EUR" Note="x"', "SttlmAmt/Amt"),
    "a type put over an element's own": (
        "<SttlmAmt>",
        '<SttlmAmt xmlns:i="http://www.w3.org/2001/XMLSchema-instance" i:type="Other">',
        "SttlmAmt",
    ),
    "an element said to be nil": (
        "<SttlmAmt>",
        '<SttlmAmt xmlns:i="http://www.w3.org/2001/XMLSchema-instance" i:nil="true">',
        "SttlmAmt",
    ),
    "no safekeeping account": (
        "<SfkpgAcct>\n        <Id>SBOSSAFE10541731</Id>\n      </SfkpgAcct>",
        "",
        "QtyAndAcctDtls/SfkpgAcct/Id",
    ),
}

AMOUNTS = {
    "negative": "-14243.00",
    "finer than a cent": "14243.001",
    "finer than the standard": "14243.000001",
    "longer than the standard": "12345678901234567890",
    "grouped": "14,243.00",
    "spaced": "14 243.00",
    "underscored": "14_243",
    "scientific": "1.4243E4",
    "not a number": "NaN",
    "infinite": "INF",
    "in other digits": "\uff11\uff14\uff12\uff14\uff13",
    "empty": "",
}


class TestAnElement:
    @pytest.mark.parametrize("what", ELEMENTS)
    def test_that_is_wrong_is_named_by_its_path(self, what: str) -> None:
        old, new, path = ELEMENTS[what]
        with pytest.raises(ElementError) as refused:
            read_instruction(changed(old, new))
        assert refused.value.path == f"{TOP}/{path}"
        assert str(refused.value).startswith(f"{TOP}/{path}: ")

    @pytest.mark.parametrize("what", AMOUNTS)
    def test_that_holds_no_amount_is_named_by_its_path(self, what: str) -> None:
        with pytest.raises(AmountError) as refused:
            read_instruction(changed("14243.00", AMOUNTS[what]))
        assert refused.value.path == f"{TOP}/SttlmAmt/Amt"

    @pytest.mark.parametrize(("currency", "amount", "holds"), [("JPY", "1.5", False), ("KWD", "1.125", True)])
    def test_has_the_decimals_of_its_currency(self, currency: str, amount: str, holds: bool) -> None:
        data = changed('Ccy="EUR">14243.00', f'Ccy="{currency}">{amount}')
        if holds:
            assert read_instruction(data).amount == Money(Decimal(amount), currency)
        else:
            with pytest.raises(AmountError, match="0 decimals"):
                read_instruction(data)

    @pytest.mark.parametrize("currency", ["XXX", "XTS", "ABC", "DEM"])
    def test_of_no_currency_in_use_is_refused(self, currency: str) -> None:
        with pytest.raises(AmountError, match="no currency"):
            read_instruction(changed("EUR", currency))

    def test_that_stands_twice_is_told_from_one_that_is_unknown(self) -> None:
        with pytest.raises(ElementError, match="stands here twice; leave one"):
            read_instruction(changed("</TxId>", "</TxId><TxId>D-2</TxId>"))
        with pytest.raises(ElementError, match=r"is no element of .* in this place"):
            read_instruction(changed("</TxId>", "</TxId><Colour>red</Colour>"))

    def test_that_may_stand_several_times_does(self) -> None:
        link = "<Lnkgs><Ref><SctiesSttlmTxId>{}</SctiesSttlmTxId></Ref></Lnkgs>"
        links = link.format("A") + link.format("B")
        assert read_instruction(changed("<TradDtls>", f"{links}<TradDtls>")) == DELIVERY
        with pytest.raises(ElementError) as refused:
            read_instruction(changed("<TradDtls>", f"{link.format('A')}{link.format('B' * 36)}<TradDtls>"))
        assert refused.value.path == f"{TOP}/Lnkgs[2]/Ref/SctiesSttlmTxId"

    def test_that_is_skipped_in_a_chain_is_named_by_its_path(self) -> None:
        with pytest.raises(ElementError) as refused:
            read_instruction(WRITTEN.replace("Pty2", "Pty3").encode())
        assert refused.value.path == f"{TOP}/RcvgSttlmPties/Pty2"

    def test_that_is_needed_is_asked_for_where_both_sides_leave_it_out(self) -> None:
        depository = (
            "<Dpstry>\n        <Id>\n          <AnyBIC>SICVFRPP</AnyBIC>\n        </Id>\n      </Dpstry>"
        )
        with pytest.raises(ElementError, match="place of settlement") as refused:
            read_instruction(WRITTEN.replace(depository, "").encode())
        assert refused.value.path == f"{TOP}/RcvgSttlmPties/Dpstry"
