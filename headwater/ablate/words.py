"""What an ablation says in words: what was the same, what differed, and what the figures do not show."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headwater.report.words import count

if TYPE_CHECKING:
    from headwater.ablate.results import Outcome

BETTER = {"bits_per_byte": "lower is better", "accuracy": "higher is better, 50 % is chance"}


def same_and_different(found: Outcome) -> list[str]:
    """Lines on what the comparison holds fixed, what it does not, and how far it goes."""
    facts = found.facts
    clusters = facts["clusters"]
    alike = "near-duplicate clusters" if clusters else "single documents (the lake has no duplicate_clusters)"
    lines = [
        f"The same in every arm: recipe {facts['recipe']} ({count(facts['parameters'])} parameters), "
        f"{count(facts['tokens'])} tokens in {count(facts['steps'])} steps of sequences of "
        f"{facts['sequence_length']}, tokenizer {facts['tokenizer_id'][:12]} "
        f"(from {facts['tokenizer_from']}), seeds "
        f"{', '.join(str(s) for s in found.seeds)} (first weights, order of documents), held-out documents.",
        f"Different: which documents an arm holds. {alike[0].upper()}{alike[1:]} of "
        f"{facts['base'].split()[0]} were held out of all arms alike ({facts['held_out'].split()[0]}).",
    ]
    repeated = [arm for arm in found.arms if arm.repeated]
    if repeated:
        said = ", ".join(f"{arm.arm} {arm.epochs:.2g} times" for arm in repeated if arm.epochs)
        lines.append(f"Equal tokens repeat a small arm: {said}. The others saw each document at most once.")
    elif any(arm.epochs is not None for arm in found.arms):
        most = max(arm.epochs for arm in found.arms if arm.epochs is not None)
        lines.append(
            f"No arm was repeated (at most {most:.2g} epochs): what curation costs, fewer distinct tokens, "
            "does not show here."
        )
    n = len(found.seeds)
    lines.append(
        f"± is half of a 95 % t interval over {n} seeds; differences are paired by seed. * marks one that "
        "excludes zero, without correction for the number of comparisons."
        if n > 1
        else "One seed gives no interval: run more before believing a difference."
    )
    if found.missing:
        lines.append(f"{found.missing} runs are not measured yet.")
    return lines
