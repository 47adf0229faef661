"""Prompt sets: which prompts are drawn, from files, published sets and a run's held-out pairs."""

from prefopt.prompts.base import Prompt, PromptList, PromptRow, PromptSet
from prefopt.prompts.read import SKIPPED, drawn_prompts, open_prompt_set, read_prompts
from prefopt.prompts.readers import STYLES, Heldout

__all__ = [
    "SKIPPED",
    "STYLES",
    "Heldout",
    "Prompt",
    "PromptList",
    "PromptRow",
    "PromptSet",
    "drawn_prompts",
    "open_prompt_set",
    "read_prompts",
]
