"""How many parts a text becomes as SMS, which is what is paid for (3GPP TS 23.038). Pure."""

_BASIC = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENDED = "^{}\\[~]|€\f"
"""Take the place of two characters."""


def is_gsm7(text: str) -> bool:
    """Whether the short alphabet holds all of it; else each part holds less than half."""
    return all(character in _BASIC or character in _EXTENDED for character in text)


def segments(text: str) -> int:
    """Parts that a network sends, and a provider charges. At least one."""
    if is_gsm7(text):
        length, alone, joined = sum(1 + (character in _EXTENDED) for character in text), 160, 153
    else:
        length, alone, joined = len(text.encode("utf-16-le")) // 2, 70, 67
    return 1 if length <= alone else -(-length // joined)
