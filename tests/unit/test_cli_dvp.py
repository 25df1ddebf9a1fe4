"""``parley dvp`` and ``parley otc`` without a backbone: files that cannot be used are told by file and element, and nothing is sent."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from parley.cli import main
from parley.cli.telling import Teller
from parley.schemas import FirehoseEvent, decode
from parley.workflows.settlement.steps import INSTRUCTION_STEP
from parley.workflows.settlement.writing import write_instruction
from tests.settlement import DELIVERY, EXAMPLES
from tests.synthetic_ledger import Ledger

DAY = ("--day", "2026-11-18")
GOOD = sorted(map(str, EXAMPLES.glob("*.xml")))
TRADES = Path(__file__).parents[2] / "deploy" / "data" / "settlements.csv"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a profile whose backbone cannot be reached."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PARLEY_PROFILE", raising=False)
    return tmp_path


@pytest.fixture(params=["iso4217", "python_iso20022", "xsdata"])
def without_the_extra(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if this package were not installed, and nothing that needs it imported yet."""
    monkeypatch.setitem(sys.modules, request.param, None)
    for name in list(sys.modules):
        if name.startswith("parley.workflows.settlement"):
            monkeypatch.delitem(sys.modules, name)


def changed(folder: Path, old: str, new: str) -> str:
    text = Path(GOOD[-1]).read_text()
    assert old in text
    path = folder / "changed.xml"
    path.write_text(text.replace(old, new))
    return str(path)


def test_instructions_of_three_versions_are_good(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dvp", "check", *GOOD, *DAY, "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["file"] for row in rows] == GOOD
    assert rows[-1]["isin"] == "FR0000121014"


def test_without_json_they_are_told_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dvp", "check", GOOD[-1], *DAY]) == 0
    assert "deliver 25 FR0000121014 against EUR 14,243.00 on 2026-11-20" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["check", "submit"])
@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("sese.023.001.11", "sese.023.001.08", "is of namespace"),
        ("<SttlmAmt>", "<SttlmAmt><x>", "/SctiesSttlmTxInstr/SttlmAmt/x: is no element"),
        ("</Document>", "", "changed.xml: line"),
        ('Ccy="EUR"', 'Ccy="EEE"', ": 'EEE' is no currency"),
        ("<ISIN>FR0000121014<", "<ISIN>FR0000121015<", "/FinInstrmId/ISIN: 'FR0000121015' is no ISIN"),
        ("<?xml", '<!DOCTYPE a [<!ENTITY b "c">]><?xml', "changed.xml: "),
        (">2026-11-20<", ">2026-11-16<", "/TradDtls/SttlmDt: 2026-11-16 is"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_the_element(
    elsewhere: Path, capsys: pytest.CaptureFixture[str], command: str, old: str, new: str, told: str
) -> None:
    assert main(["dvp", command, GOOD[0], changed(elsewhere, old, new), *DAY]) == 1
    complaint = capsys.readouterr().err
    assert "changed.xml: " in complaint
    assert told in complaint
    assert "1 of 2 files cannot be used; nothing was sent" in complaint


@pytest.mark.parametrize(
    "options",
    [
        ("--tolerance", "EUR"),
        ("--tolerance", "EUR=x"),
        ("--tolerance", "EUR=-1"),
        ("--tolerance", "EUR=1%"),
        ("--tolerance", "5"),
        ("--within", "soon"),
        ("--deadline", "1y"),
        ("--day", "18.11.2026"),
    ],
)
def test_an_option_that_is_wrong_is_told_before_anything_is_read(options: tuple[str, str]) -> None:
    assert main(["dvp", "run", str(TRADES), *options]) == 2


def test_a_journal_that_is_none_is_left_alone(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    letter = elsewhere / "letter"
    letter.write_text("Dear all,\nhello\n")
    assert main(["dvp", "run", str(TRADES), "--journal", str(letter)]) == 1
    assert "is none of a journal" in capsys.readouterr().err
    assert letter.read_text() == "Dear all,\nhello\n"


def test_a_form_is_not_read_where_an_option_is_wrong() -> None:
    assert main(["otc", "capture", "call.txt", "--deadline", "soon"]) == 2


class TestADocumentOnTheRecord:
    @pytest.fixture
    def event(self) -> FirehoseEvent:
        ledger = Ledger()
        ledger.content_type = INSTRUCTION_STEP
        ledger.open(content=write_instruction(DELIVERY))
        return decode(ledger.firehose[0][0], FirehoseEvent)

    def test_is_told_to_people_in_a_sentence(self, event: FirehoseEvent) -> None:
        told = Teller(None).line(event)
        assert "opens: We commit to deliver 25 FR0000121014 against EUR 14,243.00, on 2026-11-20" in told
        assert str(Teller(None).row(event)["content"]).startswith("<?xml")

    def test_is_shown_as_it_is_where_the_extra_for_it_is_not_installed(
        self, event: FirehoseEvent, without_the_extra: None
    ) -> None:
        assert "opens: <?xml" in Teller(None).line(event)


@pytest.mark.parametrize("command", [["check"], ["submit"], ["run"]])
def test_without_the_extra_the_error_says_what_to_install(
    command: list[str], without_the_extra: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["dvp", *command, GOOD[0]]) == 1
    told = capsys.readouterr().err
    assert "pip install 'parley-ledger[settlement]'" in told
    assert "Traceback" not in told
