"""``headwater why``: the story of one document."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from headwater.cli.session import Session, json_option, pass_session, plain, session_options
from headwater.report.words import count, share, size

if TYPE_CHECKING:
    from headwater.report.clusters import Cluster, Member
    from headwater.why import RuleOutcome, Story, Verdict

_STYLES = {"kept": "bold green", "rejected": "bold red", "unknown": "bold yellow", "not a candidate": "bold"}
_SHOWN_MEMBERS = 5
_SHOWN_ANCESTORS = 40


@click.command("why", short_help="Say why a document is in or out.")
@click.argument("document")
@json_option
@session_options
@pass_session
def command(session: Session, document: str) -> int:
    """Say why DOCUMENT is in or out: its rules, their values, its near-copies, approvals and training.

    DOCUMENT is an id, the first 6 or more hex digits of one, or a path (source/path, or its end).
    """
    from headwater.why import why

    story = why(session.lake, document)
    if session.as_json:
        session.emit_json(story)
    else:
        _Writer(session).story(story)
    return 0


class _Writer:
    """Prints a story from the outcome down to the evidence."""

    def __init__(self, session: Session) -> None:
        self._out = session.out

    def story(self, story: Story) -> None:
        own = story.document
        name = "/".join(str(own[k]) for k in ("source", "path") if own.get(k))
        self._line(name or story.doc_id, style="bold")
        facts = [story.doc_id, story.document_table]
        facts += [size(own["text_bytes"])] if own.get("text_bytes") is not None else []
        facts += [str(own[k]) for k in ("origin", "license_declared") if own.get(k)]
        self._line("  " + " · ".join(facts), style="dim")
        if story.ancestry:
            self._ancestry(story.ancestry)
        if story.descendants:
            self._descendants(story.descendants)
        for verdict in story.verdicts:
            self._verdict(verdict)
        if not story.verdicts:
            self._line("\n  no curated table has judged it yet: headwater build")
        if story.license:
            self._values("license", story.license)
        for table, values in story.signals.items():
            self._values(table, values)
        if story.cluster and story.cluster.size > 1:
            self._cluster(story.cluster)
        self._training(story.training)

    def _ancestry(self, own: Mapping[str, Any]) -> None:
        self._line(f"\n  made by {_generator(own)}", style="bold")
        self._line(f"    prompt {own['prompt_id']}, generation {own['generation']}")
        if own["prompt"]:
            text = " ".join(str(own["prompt"]["prompt"]).split())
            self._line(f"      {text}  ({own['prompt']['table']})", style="dim")
        self._line(f"    parameters {json.dumps(own['parameters'], ensure_ascii=False)}")
        if own["reward"] is not None or own["verifier"]:
            self._line(f"    reward {_value(own['reward'])} by {own['verifier'] or 'no verifier'}")
        ancestors = {one["doc_id"]: one for one in own["ancestors"]}
        if not own["parents"]:
            self._line("    from no document: its prompt quotes none")
            return
        steps = "1 step" if own["depth"] == 1 else f"{own['depth']} steps"
        self._line(f"\n  made from {count(len(ancestors))} documents, {steps} back", style="bold")
        self._parents(own, ancestors, set(), "    ", _SHOWN_ANCESTORS)
        if own["licenses_of_real_ancestors"]:
            told = ", ".join(f"{name} {count(n)}" for name, n in own["licenses_of_real_ancestors"].items())
            self._line(f"    licenses of the real ones: {told}")
        if own["left_out"]:
            self._line(f"    {count(own['left_out'])} more are not followed", style="yellow")
        if own["cycle"]:
            self._line(
                "    a document is among its own ancestors: this provenance is wrong", style="bold red"
            )

    def _parents(
        self, one: Mapping[str, Any], known: Mapping[str, Any], above: set[str], indent: str, room: int
    ) -> int:
        """Prints the parents below ``one``; returns how many more lines may be printed."""
        for doc_id in one["parents"]:
            if doc_id == one["doc_id"]:
                continue
            if room <= 0:
                break
            parent = known.get(doc_id)
            again = doc_id in above
            self._line(
                indent + (f"{doc_id[:12]}  (not followed)" if parent is None else _relative(parent, again))
            )
            room -= 1
            if parent is not None and not again:
                above.add(doc_id)
                room = self._parents(parent, known, above, indent + "  ", room)
        if room <= 0 and len(above) < len(known) and indent == "    ":
            self._line(f"{indent}and {count(len(known) - len(above))} more (--json)", style="dim")
        return room

    def _descendants(self, found: Mapping[str, Any]) -> None:
        noun = "synthetic document was" if found["count"] == 1 else "synthetic documents were"
        self._line(f"\n  {count(found['count'])} {noun} made from it", style="bold")
        if len(found["by_depth"]) > 1:
            steps = ", ".join(f"{count(n)} after {d} steps" for d, n in found["by_depth"].items())
            self._line(f"    {steps}")
        for row in found["listed"][:_SHOWN_MEMBERS]:
            self._line(f"    {row['doc_id'][:12]}  {row['table']} by {row['generator']}")
        if found["count"] > _SHOWN_MEMBERS:
            self._line(f"    and {count(found['count'] - _SHOWN_MEMBERS)} more", style="dim")

    def _verdict(self, verdict: Verdict) -> None:
        from rich.text import Text

        word = Text(verdict.outcome, _STYLES.get(verdict.outcome, "bold"))
        where = f" {verdict.table}@{verdict.version}"
        self._out.print()
        self._out.print(Text.assemble("  ", word, where, (f"  {plain(verdict.note)}", "dim")))
        for rule in verdict.rules:
            self._rule(rule)
        # What stands for the table says nothing of a document that the table does not hold.
        for approval in verdict.approvals if verdict.outcome == "kept" else ():
            at, who = str(approval["at"])[:10], approval["who"]
            self._line(
                f"    approved as {approval['table']}@{approval['version']} on {at} by {who}", style="green"
            )

    def _rule(self, rule: RuleOutcome) -> None:
        from rich.text import Text

        style = "red" if rule.outcome == "failed" else "yellow"
        self._out.print(
            Text.assemble(
                "    ", (rule.outcome, style), " ", (plain(rule.rule), "bold"), "  ", plain(rule.expression)
            )
        )
        if rule.description:
            self._line(f"      {rule.description}", style="dim")
        for column, value in rule.values.items():
            self._line(f"      {column} = {_value(value)}")
        for column in rule.missing:
            self._line(f"      {column} is not stored in any input", style="dim")
        if rule.match:
            self._line(f"      kept instead: {_member(rule.match)}")

    def _values(self, title: str, values: Mapping[str, Any]) -> None:
        self._line(f"\n  {title}", style="bold")
        width = max((len(name) for name in values), default=0)
        for name, value in values.items():
            self._line(f"    {name:<{width}}  {_value(value)}")

    def _cluster(self, cluster: Cluster) -> None:
        self._line(f"\n  near-duplicates: one of {count(cluster.size)} alike", style="bold")
        for member in cluster.members[:_SHOWN_MEMBERS]:
            self._line(f"    {_member(member)}")
        if cluster.size - 1 > _SHOWN_MEMBERS:
            self._line(f"    and {count(cluster.size - 1 - _SHOWN_MEMBERS)} more", style="dim")

    def _training(self, training: Mapping[str, Any] | None) -> None:
        if not training:
            return
        self._line("\n  training", style="bold")
        if training["table"]:
            self._line(f"    in {count(len(training['sequences']))} of the sequences of {training['table']}")
        for run in training["runs"]:
            steps = run["steps"]
            seen = f"steps {steps[0]} to {steps[-1]} ({len(steps)})" if steps else "no step"
            clean = run["last_clean_checkpoint"]
            saw = len(run["checkpoints_that_saw_it"])
            without = f"last without it at step {clean[0]}" if clean else "none without it"
            self._line(f"    {run['run_id']}: {seen}; {saw} checkpoints saw it, {without}")

    def _line(self, text: str, *, style: str | None = None) -> None:
        self._out.print(plain(text, lines=True), style=style, soft_wrap=True)


def _generator(one: Mapping[str, Any]) -> str:
    return f"{one['generator']} {one['generator_version']}"


def _relative(one: Mapping[str, Any], again: bool) -> str:
    doc_id = one["doc_id"][:12]
    if one["table"] is None:
        return f"{doc_id}  no table of the lake holds it (any more)"
    name = "/".join(str(one[key]) for key in ("source", "path") if one[key]) or one["table"]
    facts = [str(one["origin"] or "unknown")]
    if one["generation"]:
        facts += [f"generation {one['generation']}", f"by {_generator(one)}"]
    facts += [f"license {one['license'] or 'unknown'}"] if not one["generation"] else []
    return f"{doc_id}  {name}  ({', '.join(facts)}){'  stands above' if again else ''}"


def _member(member: Member) -> str:
    name = f"{member.source}/{member.path}" if member.path else member.doc_id
    alike = "linked through others" if member.similarity is None else f"{share(member.similarity, 1)} alike"
    kept = f", kept in {', '.join(member.kept_in)}" if member.kept_in else ""
    return f"{name}  ({alike}{kept})  {member.doc_id[:12]}"


def _value(value: Any) -> str:
    if value is None:
        return "unknown (NULL)"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return ", ".join(_value(each) for each in value[:8]) + (
            f", … ({len(value)})" if len(value) > 8 else ""
        )
    return str(value)
