"""The sentences of a report: what a figure means, in plain words."""

from collections.abc import Sequence

from prefopt.config import RunConfig
from prefopt.config.evaluate import TUNED, EvaluateConfig
from prefopt.config.protocols import PROTOCOLS, departures
from prefopt.evaluation.lineage import display_name
from prefopt.evaluation.ranking import Rank
from prefopt.evaluation.results import Comparison, Results
from prefopt.evaluation.statistics import Estimate
from prefopt.models.identity import EMBEDDED
from prefopt.objectives.titles import TITLES
from prefopt.page.formats import ends, percent
from prefopt.prompts import PromptList

OUTCOMES = {"better": "better", "worse": "worse", "undecided": "no difference shown"}
GROUP_OUTCOMES = {"gains": "gains", "loses": "loses", "undecided": "no change shown"}
METHODS = {"full": "full fine-tuning", "lora": "LoRA"}


def called(model: str) -> str:
    """A compared model as sentences call it."""
    return "the tuned model" if model == TUNED else model


def model_name(config: RunConfig) -> str:
    """The base model as it is called in print."""
    return "the embedded world" if config.model.path == EMBEDDED else display_name(config.model.path)


def title(config: RunConfig, results: Results, *, tuned_here: bool) -> str:
    """What a report is about."""
    if tuned_here:
        return f"{TITLES[config.train.objective.name][0]} on {model_name(config)}"
    return f"{_list(list(results.models))} against {model_name(config)}"


def interval(estimate: Estimate, level: float) -> str:
    """The interval of a share, in words."""
    if estimate.low is None or estimate.high is None:
        return "one prompt is too few for an interval"
    return f"{100.0 * level:g}% interval {ends(estimate)}"


def headline(results: Results, prompts: int, level: float, what: str = "held-out prompt") -> str:
    """The verdict in one sentence; `what` the prompts are, as a noun."""
    found = results.comparisons[0]
    outcome = next((rank.outcome(level) for rank in results.ranking if rank.model == found.model), found.outcome)
    name = called(found.model)
    base = "its base" if found.model == TUNED else "the base"
    meaning = {
        "better": f"so {name} is better than {base} on this reward",
        "worse": f"so {name} is worse than {base} on this reward",
        "undecided": "so a difference between the two models cannot be told on this reward",
    }[outcome]
    return (
        f"On {prompts:,} {what}{'s' if prompts != 1 else ''}, {name} wins {percent(found.wins.value)}"
        f" of comparisons with {base} on {found.reward} ({interval(found.wins, level)}), {meaning}."
    )


def ranking_sentence(ranking: Sequence[Rank], level: float) -> str:
    """Which of several models are better than the base; empty for one model."""
    if not ranking:
        return ""
    parts = []
    for outcome, words in (("better", "better"), ("worse", "worse"), ("undecided", "not told apart from it")):
        names = [f"{one.model} ({percent(one.win_rate)})" for one in ranking if one.outcome(level) == outcome]
        if names:
            parts.append(f"{words}: {_list(names)}")
    return f"Of {len(ranking)} models that are compared with the base, corrected for their number, {'; '.join(parts)}."


def short_verdict(found: Comparison) -> str:
    """The verdict in a word or two."""
    return OUTCOMES[found.outcome]


def side_effects(comparisons: Sequence[Comparison]) -> str:
    """What the other rewards say about it; empty if the headline stands alone."""
    others = comparisons[1:]
    if not others:
        return ""
    parts = []
    for outcome, words in (("better", "It is also better on"), ("worse", "It is worse on")):
        names = [f"{found.reward} ({percent(found.wins.value)})" for found in others if found.outcome == outcome]
        if names:
            parts.append(f"{words} {_list(names)}.")
    if not parts:
        return "On no other reward is a difference shown."
    return " ".join(parts)


def set_note(prompts: PromptList, in_training: int | None) -> str:
    """What a reader must know about the prompts of a set; empty if nothing."""
    words = {"empty_prompt": "empty", "prompt_too_long": "too long", "duplicate_prompt": "repeated"}
    parts = [f"{count:,} {words[reason]}" for reason, count in sorted(prompts.skipped.items())]
    notes = [f"left out of {prompts.name}: {_list(parts)}"] if parts else []
    if prompts.repeated and prompts.kind != "heldout":
        notes.append(f"repeated in {prompts.name} and kept, as published: {prompts.repeated:,}")
    if in_training:
        notes.append(f"also in the training split: {in_training:,} of {prompts.name}, where a gain may be memory")
    return f"Prompts {'; '.join(notes)}." if notes else ""


def origins(sets: Sequence[PromptList], split: str) -> str:
    """Where the drawn prompts come from."""
    names = [
        f"of the {split} split, which training never reads" if found.kind == "heldout" else f"of {found.name}"
        for found in sets
    ]
    return _list(names) if names else ""


def drawing(evaluate: EvaluateConfig) -> str:
    """How images were drawn, in a sentence."""
    sampler, samples = evaluate.sampler, evaluate.samples_per_prompt
    return (
        f"Drawn with {sampler.scheduler}, {sampler.steps:,} steps, guidance {sampler.guidance:g}, {sampler.resolution}"
        f" pixels, {samples:,} image{'s' if samples != 1 else ''} per prompt, seed {evaluate.seed}."
    )


def protocol_sentence(evaluate: EvaluateConfig) -> str:
    """Which published protocol was followed, and how far; empty without one."""
    if evaluate.protocol is None:
        return ""
    protocol = PROTOCOLS[evaluate.protocol]
    changed = [
        f"{key} {value} in place of {stated}"
        for key, value, stated in departures(evaluate.protocol, evaluate.model_dump())
    ]
    but = f", but with {_list(changed)}" if changed else ""
    open_ = f" It does not state {_list(protocol.unstated)}." if protocol.unstated else ""
    remark = f" {protocol.remark}" if protocol.remark else ""
    return f"By the protocol {evaluate.protocol}{but}. Its source is {protocol.source}.{open_}{remark}"


def caution(config: RunConfig) -> str:
    """What weakens the verdict; empty if nothing does."""
    judge = config.evaluate.rewards[0]
    if judge in training_rewards(config):
        return (
            f"{judge} also labelled or scored the training pairs: a gain on it may be reward hacking, and says little"
            " about quality."
        )
    return ""


def training_rewards(config: RunConfig) -> set[str]:
    """Rewards that labelled or scored the training pairs."""
    return {*config.score.reward_names(), *(flips.reward for flips in config.inject.flips if flips.kind == "gap")}


def accuracy_sentence(results: Results, config: RunConfig) -> str:
    """Implicit accuracy in a sentence."""
    found, settings = results.accuracy, config.evaluate
    if found is None:
        return "The implicit accuracy was not measured (evaluate.accuracy.pairs is 0 or no test pair has a majority)."
    low = found.low if found.low is not None else found.value
    high = found.high if found.high is not None else found.value
    verdict = (
        "above chance: preferences carry over to pairs it never saw"
        if low > 0.5
        else "below chance"
        if high < 0.5
        else "not told apart from chance"
    )
    return (
        f"On {results.accuracy_pairs:,} held-out pairs the tuned model prefers the winner in {percent(found.value)} of"
        f" {found.n:,} draws ({interval(found, settings.bootstrap.level)}), which is {verdict}."
    )


def _list(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
