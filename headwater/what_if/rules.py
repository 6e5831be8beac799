"""Changing rules in a curated model's SQL: on DuckDB's own syntax tree, never by pasting text.

A predicate that a person wrote is one boolean expression over stored columns. It may call functions, but
it may not select, read a file, name a parameter or depend on the clock or on chance: a what-if is a
question about stored rows, and the same question has the same answer.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from headwater.decisions import PREFIX
from headwater.errors import UnknownName, UsageError
from headwater.sql import run

if TYPE_CHECKING:
    import duckdb

Node: TypeAlias = dict[str, Any]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FORBIDDEN = {
    "SUBQUERY": "a subquery",
    "PARAMETER": "a parameter",
    "DEFAULT": "DEFAULT",
}


@dataclass
class Statement:
    """One SELECT statement as a tree that can be changed and written out again."""

    con: duckdb.DuckDBPyConnection
    tree: Node

    @classmethod
    def parse(cls, con: duckdb.DuckDBPyConnection, sql: str, *, name: str) -> Statement:
        """Relations lose their catalog: the what-if has one database of its own."""
        tree = serialized(con, sql)
        if tree.get("error") or len(tree["statements"]) != 1:
            raise UsageError(
                f"the SQL of {name} cannot be taken apart: {tree.get('error_message', 'several statements')}"
            )
        for node in walk(tree):
            if node.get("type") == "BASE_TABLE" and len(node["qualified_name"]["path"]) == 3:
                node["qualified_name"]["path"] = node["qualified_name"]["path"][1:]
                node["catalog_name"] = ""
        return cls(con, tree)

    @property
    def root(self) -> Node:
        node: Node = self.tree["statements"][0]["node"]
        return node

    def sql(self) -> str:
        """The statement as text."""
        ((text,),) = run(self.con, "select json_deserialize_sql(?::json)", [json.dumps(self.tree)])
        return str(text)

    def selects(self) -> Iterator[Node]:
        """Every SELECT in it."""
        yield from (node for node in walk(self.tree) if node.get("type") == "SELECT_NODE")

    def relations(self) -> set[str]:
        """``schema.table`` of every table it reads."""
        paths = (n["qualified_name"]["path"] for n in walk(self.tree) if n.get("type") == "BASE_TABLE")
        return {".".join(path) for path in paths if len(path) == 2}

    def rules(self) -> dict[str, Node]:
        """Rule name to its expression, in the order of the statement."""
        found = {}
        for select in self.selects():
            for item in select["select_list"]:
                if str(item.get("alias", "")).startswith(PREFIX):
                    found[item["alias"].removeprefix(PREFIX)] = item
        return found

    def scope(self, select: Node) -> Statement:
        """``select *`` from what ``select`` reads: its columns are what a rule there may name."""
        template = serialized(self.con, "select *")
        node = template["statements"][0]["node"]
        node["from_table"] = copy.deepcopy(select["from_table"])
        entries = []
        for entry in self.root.get("cte_map", {}).get("map", []):
            if any(inner is select for inner in walk(entry)):
                break
            entries.append(copy.deepcopy(entry))
        node["cte_map"] = {"map": entries}
        return Statement(self.con, template)


@dataclass
class Changes:
    """What is asked: rules by name, ``None`` for one that is dropped."""

    predicates: dict[str, Node] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()

    @classmethod
    def of(cls, con: duckdb.DuckDBPyConnection, rules: Mapping[str, str], dropped: Iterable[str]) -> Changes:
        """Parse the predicates; raises ``UsageError`` for what is not one boolean expression."""
        names = tuple(dict.fromkeys(name.removeprefix(PREFIX) for name in dropped))
        predicates = {}
        for given, text in rules.items():
            name = given.removeprefix(PREFIX)
            if not _NAME.fullmatch(name):
                raise UsageError(
                    f"got {given!r} as the name of a rule",
                    hint="letters, digits and underscores: --rule long_enough='num_words >= 80'",
                )
            if name in names:
                raise UsageError(f"rule {name} is both changed and dropped")
            predicates[name] = parse_predicate(con, name, text)
        return cls(predicates, names)


def parse_predicate(con: duckdb.DuckDBPyConnection, name: str, text: str) -> Node:
    """The expression of ``name = text``; raises ``UsageError`` unless it is one plain expression."""
    hint = f"one condition over stored columns, e.g. {name}='num_words >= 80'"
    tree = serialized(con, f"select {text}\n")
    if tree.get("error"):
        raise UsageError(f"rule {name}: {tree['error_message']} in {text!r}", hint=hint)
    empty = serialized(con, "select 1")["statements"][0]["node"]
    node = tree["statements"][0]["node"] if len(tree["statements"]) == 1 else {}
    items = node.get("select_list", [])
    rest = {key: value for key, value in node.items() if key not in ("select_list", "from_table")}
    plain = {key: value for key, value in empty.items() if key not in ("select_list", "from_table")}
    if len(items) != 1 or rest != plain or node["from_table"]["type"] != "EMPTY" or items[0]["alias"]:
        raise UsageError(f"rule {name} is not one condition: {text!r}", hint=hint)
    expression: Node = items[0]
    if expression["class"] == "STAR":
        raise UsageError(f"rule {name} is not one condition: {text!r}", hint=hint)
    for inner in walk(expression):
        if inner.get("class") in _FORBIDDEN:
            raise UsageError(f"rule {name} holds {_FORBIDDEN[inner['class']]}: {text!r}", hint=hint)
    _check_functions(con, name, expression)
    return expression


def _check_functions(con: duckdb.DuckDBPyConnection, name: str, expression: Node) -> None:
    for node in walk(expression):
        if node.get("class") not in ("FUNCTION", "WINDOW") or not node.get("function_name"):
            continue
        function = str(node["function_name"]).lower()
        kinds = run(
            con,
            "select function_type, stability from duckdb_functions() where lower(function_name) = ?",
            [function],
        )
        if any(stability in ("VOLATILE", "CONSISTENT_WITHIN_QUERY") for _, stability in kinds):
            raise UsageError(
                f"rule {name} calls {function}(), whose answer depends on chance, the clock or settings",
                hint="a rule decides by stored columns alone",
            )
        if function == "unnest" or (kinds and all(kind in ("table", "pragma") for kind, _ in kinds)):
            raise UsageError(f"rule {name} calls {function}(), which makes rows and not one answer each")


def apply(statement: Statement, changes: Changes, home: Node) -> None:
    """Replace, add (in the SELECT ``home``) and drop rules. Unknown rules to drop raise ``UnknownName``."""
    known = statement.rules()
    for name in changes.dropped:
        if name not in known:
            raise UnknownName.of("rule", name, known, where="the model's SQL")
    for select in statement.selects():
        kept = []
        for item in select["select_list"]:
            rule = _rule_of(item)
            if rule in changes.dropped:
                continue
            if rule in changes.predicates and item.get("alias"):
                item = {**copy.deepcopy(changes.predicates[rule]), "alias": PREFIX + rule}
            kept.append(item)
        if not kept:
            raise UsageError("no column is left without the dropped rules")
        select["select_list"] = kept
    for name, expression in changes.predicates.items():
        if name not in known:
            home["select_list"].append({**copy.deepcopy(expression), "alias": PREFIX + name})


def home_of(statement: Statement) -> Node:
    """The SELECT in which most rules stand that look at one document only: where a new rule belongs."""
    best, most = statement.root, 0
    for select in statement.selects():
        rules = [item for item in select["select_list"] if str(item.get("alias", "")).startswith(PREFIX)]
        plain = [item for item in rules if not any(n.get("class") == "WINDOW" for n in walk(item))]
        if len(plain) > most:
            best, most = select, len(plain)
    if best.get("type") != "SELECT_NODE":
        raise UsageError("the model's SQL has no SELECT with rules to change")
    return best


def join_column(statement: Statement, home: Node, relation: str, columns: Iterable[str]) -> None:
    """Left-join stored ``columns`` of ``schema.table`` to what ``home`` reads, by doc_id."""
    listed = ", ".join('"' + column.replace('"', '""') + '"' for column in columns)
    schema, _, table = relation.partition(".")
    template = serialized(
        statement.con,
        f'select * from _hw_from left join (select doc_id, {listed} from "{schema}"."{table}") '
        f'"_hw_{table}" using (doc_id)',
    )
    joined = template["statements"][0]["node"]["from_table"]
    joined["left"] = home["from_table"]
    home["from_table"] = joined


def columns_of(expression: Node) -> dict[str, list[str]]:
    """First part of every column reference to the whole reference; lambda parameters are none."""
    found: dict[str, list[str]] = {}
    for node in walk(expression):
        if node.get("class") == "COLUMN_REF":
            found.setdefault(node["column_names"][0], node["column_names"])
    for node in walk(expression):
        if node.get("class") == "LAMBDA":
            for parameter in walk(node.get("lhs")):
                if parameter.get("class") == "COLUMN_REF":
                    found.pop(parameter["column_names"][-1], None)
    return found


def expression_text(con: duckdb.DuckDBPyConnection, expression: Node) -> str:
    """The expression as SQL text, as ``decisions`` writes rules down."""
    from headwater.decisions import _tidy

    template = serialized(con, "select 1")
    template["statements"][0]["node"]["select_list"] = [{**expression, "alias": ""}]
    ((text,),) = run(con, "select json_deserialize_sql(?::json)", [json.dumps(template)])
    return _tidy(str(text))


def serialized(con: duckdb.DuckDBPyConnection, sql: str) -> Node:
    """DuckDB's parse of ``sql``; ``error`` is true in it when it does not parse."""
    ((text,),) = run(con, "select json_serialize_sql(?)", [sql])
    tree: Node = _without_places(json.loads(text))
    return tree


def _without_places(node: Any) -> Any:
    """The tree without the positions in the text: equal expressions are then equal."""
    if isinstance(node, dict):
        return {k: (0 if k.startswith("query_location") else _without_places(v)) for k, v in node.items()}
    if isinstance(node, list):
        return [_without_places(value) for value in node]
    return node


def walk(node: Any) -> Iterator[Node]:
    """Every dictionary in a tree, parents first."""
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from walk(value)
    elif isinstance(node, list):
        for value in node:
            yield from walk(value)


def _rule_of(item: Node) -> str:
    """The rule that an entry of a select list makes or hands on; empty for other columns."""
    name = item.get("alias") or (item["column_names"][-1] if item.get("class") == "COLUMN_REF" else "")
    return str(name).removeprefix(PREFIX) if str(name).startswith(PREFIX) else ""
