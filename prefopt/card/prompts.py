"""Prompts as words: what near-duplicates share, and what groups of alike prompts are built from."""

import re
import unicodedata

_WORD = re.compile(r"\w+")


def words(prompt: str) -> list[str]:
    """The words of a prompt, free of case, width of characters and punctuation."""
    return _WORD.findall(unicodedata.normalize("NFKC", prompt).casefold())


def plain_prompt(prompt: str) -> str:
    """The words of a prompt alone; for one without words, what it is without spaces at its ends."""
    return " ".join(words(prompt)) or prompt.strip()
