"""Telephone numbers: checked, and shown so that they name nobody. The library's tables are read when they are needed."""

from collections.abc import Collection
from dataclasses import dataclass, field

from entobot.core.errors import Code, Problem

MAX_CHARACTERS = 32
SHOWN_DIGITS = 2


@dataclass(frozen=True, slots=True)
class Number:
    """`e164` is the number itself; `hint` is what people may see of it; `region` its country (ISO 3166-1)."""

    e164: str = field(repr=False)
    hint: str
    region: str


def parse_number(text: str, countries: Collection[str]) -> Number:
    """A number that SMS may go to. Reads files: not on the event loop. Raises Problem `number_refused`.

    Numbers that charge whoever calls them, and those that are no telephone, are refused: they are what fraud with SMS
    lives on. `countries` empty: all of them.
    """
    import phonenumbers
    from phonenumbers import PhoneNumberFormat, PhoneNumberType

    if len(text) > MAX_CHARACTERS or not text.isascii() or not text.startswith("+"):
        raise _refused("Write the number with + and its country in front, as in +14155550123.")
    try:
        number = phonenumbers.parse(text)
    except phonenumbers.NumberParseException:
        raise _refused("This is no telephone number. Write it as in +14155550123.") from None
    if number.extension or not phonenumbers.is_valid_number(number):
        raise _refused("There is no such telephone number. Look at its country and its digits.")
    takes_sms = (PhoneNumberType.MOBILE, PhoneNumberType.FIXED_LINE_OR_MOBILE)
    if phonenumbers.number_type(number) not in takes_sms:
        raise _refused("This is no mobile number, so that SMS to it would be lost or charged to somebody.")
    region = phonenumbers.region_code_for_number(number) or ""
    if countries and region not in countries:
        raise _refused(f"SMS goes to no numbers of {region or 'that country'}: sms.countries does not name it.")
    e164 = phonenumbers.format_number(number, PhoneNumberFormat.E164)
    return Number(e164, _hint(e164, number.country_code or 0), region)


def known_regions() -> frozenset[str]:
    """Every country that has telephone numbers."""
    import phonenumbers

    return frozenset(phonenumbers.SUPPORTED_REGIONS)


def _hint(e164: str, country_code: int) -> str:
    hidden = len(e164) - 1 - len(str(country_code)) - SHOWN_DIGITS
    return f"+{country_code} {'•' * hidden}{e164[-SHOWN_DIGITS:]}"


def _refused(detail: str) -> Problem:
    return Problem(Code.NUMBER_REFUSED, detail)
