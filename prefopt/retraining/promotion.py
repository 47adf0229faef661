"""A named person accepts what a gate has proposed."""

from prefopt.errors import InputError
from prefopt.registry import Record, Registry, check_champion
from prefopt.registry.records import CHAMPION_ACTIONS


def promote_proposal(registry: Registry, number: int | None, *, by: str, reason: str) -> Record:
    """Make the model of record `number`, by default of the last proposal, the champion.

    Raises InputError if there is no such proposal, if the champion has changed since it was made, or if the model's
    files are gone or differ; ConflictError if another decision is written meanwhile.
    """
    history = registry.history()
    proposals = [record for record in history if record.action == "propose"]
    chosen = [record for record in proposals if number in (None, record.number)]
    if not chosen:
        which = f"record {number} is no proposal" if number else "there is no proposal"
        raise InputError(f"{registry.uri}: {which}. prefopt registry list shows the history.")
    proposal = chosen[-1]
    after = [record for record in history[proposal.number :] if record.action in CHAMPION_ACTIONS]
    if after:
        raise InputError(
            f"{registry.uri}: the champion has changed since record {proposal.number} was proposed, by the"
            f" {after[-1].action} of record {after[-1].number}: what was better than the former champion need not be"
            " better than this one. Run prefopt retrain, which compares anew, or promote the run by name: prefopt"
            " registry promote."
        )
    assert proposal.model is not None
    check_champion(proposal.model)
    return registry.add(history, "promote", proposal.model, by=by, reason=reason, decision=proposal.decision)
