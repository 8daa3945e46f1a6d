"""Text: one way to write each character, so that a name from another system is the same name."""

import unicodedata


def nfc(name: str) -> str:
    """A name in Unicode's composed form (NFC)."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)
