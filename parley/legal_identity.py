"""What a legal entity is known by: LEI, BIC, country, accounts; their form and check digits, not whose they are.

The registrar attests that they are the participant's; what is refused here could be nobody's.
"""

from __future__ import annotations

import re
from typing import Final

from stdnum import bic, lei

__all__ = ["is_account", "is_bic", "is_country", "is_lei"]

_LEI: Final = re.compile(r"[0-9A-Z]{18}[0-9]{2}", re.ASCII)
_ACCOUNT: Final = re.compile(r"[-a-z0-9]{3,8}:[-_a-zA-Z0-9]{1,32}:[-.%a-zA-Z0-9]{1,128}", re.ASCII)
_COUNTRIES: Final = frozenset(
    """
    AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ
    CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO
    FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE
    JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO
    MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW
    PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM
    TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW
    XK ZZ
    """.split()  # noqa: SIM905 - a table, to be read
)
"""ISO 3166-1 alpha-2 as assigned, and two of the codes that it leaves to its users: XK (Kosovo), ZZ (none)."""


def is_lei(text: str) -> bool:
    """Whether ``text`` is a legal entity identifier: 20 characters, check digits by ISO 7064 MOD 97-10 (ISO 17442)."""
    return _LEI.fullmatch(text) is not None and lei.is_valid(text)


def is_bic(text: str) -> bool:
    """Whether ``text`` has the form of a business identifier code: 8 or 11 characters, a country's among them (ISO 9362)."""
    return text.isalnum() and text == text.upper() and bic.is_valid(text)


def is_country(text: str) -> bool:
    """Whether ``text`` is a country: two capital letters (ISO 3166-1 alpha-2)."""
    return text in _COUNTRIES


def is_account(text: str) -> bool:
    """Whether ``text`` has the form of an account on a chain, such as ``eip155:1:0xab…`` (CAIP-10)."""
    return _ACCOUNT.fullmatch(text) is not None
