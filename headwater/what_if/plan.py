"""Whether a curated model is simple enough to run row by row over aligned columns, and how.

Most are a chain: one SELECT that left-joins stored tables to the base table by doc_id, then SELECTs over
it that compute rules. Such a chain needs no join once the stored columns stand in the order of the base
table; and rules that choose within a cluster need no sort for documents that have no twin. Anything else
runs as it is written, through the database.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from headwater.what_if.rules import Node, Statement, serialized, walk

if TYPE_CHECKING:
    import duckdb

ALIGNED = "_hw_aligned"
ROW = "_hw_row"
_BEST_OF = "_hw_best_of"
"""The function behind the macro ``headwater.best_of``: (cluster, is a candidate, place in its cluster)."""
_RULES = "keep__.*"
"""What ``COLUMNS`` selects in ``all_keep()``: rules, and no other column."""
_FIRST_OF_ONE = {"WINDOW_ROW_NUMBER", "WINDOW_RANK", "WINDOW_DENSE_RANK"}
"""Window functions that give 1 to a row that has its partition to itself."""


@dataclass
class Chain:
    """A statement over one aligned table."""

    statement: Statement
    base: str
    """``schema.table`` of the base table."""
    columns: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Column of the aligned table to (relation, stored column)."""
    partition: str | None = None
    """Aligned column that every window is partitioned by; ``None`` without windows."""
    alone: Statement | None = None
    """The same for documents whose partition they have to themselves: each window's place is 1."""

    @property
    def has_windows(self) -> bool:
        return self.partition is not None


def chain_of(statement: Statement, base: str, schemas: Mapping[str, list[str]]) -> Chain | None:
    """The statement as a chain, or ``None``. ``schemas``: relation to its columns, text left out."""
    selects = _selects_in_order(statement)
    if selects is None:
        return None
    first = selects[0]
    tables = _left_joined(first["from_table"])
    if tables is None or not tables or _relation(tables[0]) != base:
        return None
    aliases = {}
    for table in tables:
        name = _relation(table)
        alias = str(table["alias"] or table["qualified_name"]["path"][-1]).lower()
        if name not in schemas or alias in aliases or table["column_name_alias"]:
            return None
        aliases[alias] = name
    changed = Statement(statement.con, copy.deepcopy(statement.tree))
    selects = _selects_in_order(changed) or []
    if not _rename(selects[0], aliases, schemas):
        return None
    chain = Chain(changed, base)
    needed = _needed(selects)
    first = selects[0]
    first["select_list"] = [item for item in first["select_list"] if _wanted(item, needed)]
    for name in sorted(_named(first)):
        alias, dot, column = name.partition(".")
        if not dot:
            return None
        chain.columns[name] = (aliases[alias], column)
    template = serialized(statement.con, f'select * from "{ALIGNED}"')["statements"][0]["node"]
    first["from_table"] = template["from_table"]
    for select in selects:
        if not any(_is_plain_star(item) for item in select["select_list"]):
            select["select_list"].append(_column(ROW))
    return chain if _partitioned(chain, selects) else None


def _selects_in_order(statement: Statement) -> list[Node] | None:
    """The SELECTs from the innermost out, when each reads just the one before it and keeps every row."""
    root = statement.root
    bodies = {entry["key"]: entry["value"]["query_node"] for entry in root.get("cte_map", {}).get("map", [])}
    found: list[Node] = []
    node = root
    while True:
        if not _keeps_rows(node) or (node is not root and node.get("cte_map", {}).get("map")):
            return None
        found.append(node)
        source = node["from_table"]
        path = source.get("qualified_name", {}).get("path", [])
        if source["type"] != "BASE_TABLE" or len(path) != 1:
            break
        if (
            path[0] not in bodies
            or any(node is bodies[path[0]] for node in found)
            or source["column_name_alias"]
        ):
            return None
        node = bodies[path[0]]
    if len(found) != len(bodies) + 1:
        return None  # a common table expression off the chain
    return found[::-1]


def _keeps_rows(node: Node) -> bool:
    plain = (
        node.get("type") == "SELECT_NODE"
        and not node["modifiers"]
        and not node["group_expressions"]
        and not node["group_sets"]
        and node["where_clause"] is None
        and node["having"] is None
        and node["qualify"] is None
        and node["sample"] is None
    )
    stars = [item for item in (node["select_list"] if plain else []) if item.get("class") == "STAR"]
    return (
        plain
        and all(_is_plain_star(star) for star in stars)
        and not any(inner.get("class") == "SUBQUERY" for inner in walk(node["select_list"]))
    )


def _left_joined(source: Node) -> list[Node] | None:
    """The tables of left joins by doc_id, leftmost first."""
    if source["type"] == "BASE_TABLE":
        return [source] if source["sample"] is None and source["at_clause"] is None else None
    if (
        source["type"] != "JOIN"
        or source["join_type"] != "LEFT"
        or source["ref_type"] != "REGULAR"
        or source["condition"] is not None
        or source["using_columns"] != ["doc_id"]
        or source["right"]["type"] != "BASE_TABLE"
    ):
        return None
    left, right = _left_joined(source["left"]), _left_joined(source["right"])
    return None if left is None or right is None else left + right


def _relation(table: Node) -> str:
    path = table["qualified_name"]["path"]
    return ".".join(path) if len(path) == 2 else ""


def _rename(first: Node, aliases: Mapping[str, str], schemas: Mapping[str, list[str]]) -> bool:
    """Name every column of the joining SELECT ``alias.column``; False when one cannot be told."""
    base = next(iter(aliases))
    own_names = {str(item.get("alias", "")).lower() for item in first["select_list"]} - {""}
    for item in first["select_list"]:
        if any(inner.get("class") == "STAR" for inner in walk(item)):
            return False
        if any(inner.get("class") == "LAMBDA" for inner in walk(item)):
            return False  # its parameters look like columns
        shown = item["column_names"][-1] if item.get("class") == "COLUMN_REF" else ""
        for node in walk(item):
            if node.get("class") != "COLUMN_REF":
                continue
            names = node["column_names"]
            head = names[0].lower()
            if len(names) > 1 and head in aliases:
                alias, column, rest = head, names[1], names[2:]
            else:
                if head in own_names:
                    return False  # a column, or the alias beside it: let the database say
                holders = [alias for alias in aliases if _stored(names[0], schemas[aliases[alias]])]
                alias = base if head == "doc_id" else (holders[0] if len(holders) == 1 else "")
                column, rest = names[0], names[1:]
            stored = _stored(column, schemas[aliases[alias]]) if alias else None
            if stored is None:
                return False
            node["column_names"] = [f"{alias}.{stored}", *rest]
        if shown and not item["alias"]:
            item["alias"] = shown
    return True


def _stored(column: str, names: list[str]) -> str | None:
    return next((name for name in names if name.lower() == column.lower()), None)


def _needed(selects: list[Node]) -> set[str]:
    """Names, in lower case, that the rules need of the joining SELECT, themselves or through others."""
    needed: set[str] = set()
    for node in walk([select["select_list"] for select in selects]):
        if (
            node.get("class") == "STAR"
            and node["columns"]
            and node["expr"].get("literal", {}).get("text") != _RULES
        ):
            return {_shown(item) for item in selects[0]["select_list"]}
    items = [item for select in selects[1:] for item in select["select_list"]]
    while True:
        before = len(needed)
        for item in items:
            shown = _shown(item)
            if shown.startswith("keep__") or shown in needed or not shown:
                needed |= {
                    name.lower()
                    for node in walk(item)
                    if node.get("class") == "COLUMN_REF"
                    for name in node["column_names"]
                }
        if len(needed) == before:
            return needed


def _wanted(item: Node, needed: set[str]) -> bool:
    shown = _shown(item)
    return shown.startswith("keep__") or shown in needed


def _shown(item: Node) -> str:
    name = item.get("alias") or (item["column_names"][-1] if item.get("class") == "COLUMN_REF" else "")
    return str(name).lower()


def _named(select: Node) -> set[str]:
    return {n["column_names"][0] for n in walk(select["select_list"]) if n.get("class") == "COLUMN_REF"}


def _is_plain_star(item: Node) -> bool:
    return (
        item.get("class") == "STAR"
        and not item["columns"]
        and item["expr"] is None
        and not item["relation_name"]
        and not item["replace_list"]
        and not item["exclude_list"]
        and not item["qualified_exclude_list"]
        and not item["rename_list"]
    )


def _column(name: str) -> Node:
    return {
        "class": "COLUMN_REF",
        "type": "COLUMN_REF",
        "alias": "",
        "query_location": 0,
        "query_location_length": 0,
        "column_names": [name],
    }


def _windows(selects: list[Node]) -> Iterator[Node]:
    for select in selects:
        for item in select["select_list"]:
            yield from (node for node in walk(item) if node.get("class") == "WINDOW")


def _partitioned(chain: Chain, selects: list[Node]) -> bool:
    """Find the column that every window is partitioned by, and make the statement for lone documents."""
    windows = list(_windows(selects))
    if not windows:
        return True
    if any(node.get("class") == "WINDOW" for node in walk(selects[0]["select_list"])):
        return False
    shared: set[str] | None = None
    for window in windows:
        if window["type"] not in _FIRST_OF_ONE or window["arguments"] or window["filter_expr"] is not None:
            return False
        names = {
            part["column_names"][0].lower()
            for part in window.get("partitions", [])
            if part.get("class") == "COLUMN_REF" and len(part["column_names"]) == 1
        }
        shared = names if shared is None else shared & names
    for name in sorted(shared or ()):
        makers = [item for select in selects for item in select["select_list"] if _shown(item) == name]
        own = [item for item in makers if not _passes_on(item, name)]
        stored = own[0].get("column_names", []) if len(own) == 1 else []
        if len(stored) == 1 and stored[0] in chain.columns:
            chain.partition = stored[0]
            chain.alone = _alone(chain.statement)
            return True
    return False


def _passes_on(item: Node, name: str) -> bool:
    return item.get("class") == "COLUMN_REF" and item["column_names"][-1].lower() == name


def _alone(statement: Statement) -> Statement:
    """The statement with 1 for each window: the place of a document that has its partition to itself.

    ``best_of`` keeps a lone document whatever the other rules say, so they are not asked.
    """
    con = statement.con
    one = _expression(con, "1")

    def replaced(node: object) -> object:
        if isinstance(node, dict):
            if node.get("class") == "WINDOW":
                return {**copy.deepcopy(one), "alias": node.get("alias", "")}
            if node.get("function_name") == _BEST_OF and len(node["arguments"]) == 3:
                cluster, _, place = (argument["expression"] for argument in node["arguments"])
                if place.get("class") == "WINDOW":
                    kept = _expression(con, "case when _hw_cluster is null then null else true end")
                    kept = _with(kept, "_hw_cluster", cluster)
                    return {**kept, "alias": node["alias"]}
            return {key: replaced(value) for key, value in node.items()}
        if isinstance(node, list):
            return [replaced(value) for value in node]
        return node

    tree = replaced(statement.tree)
    assert isinstance(tree, dict)
    return Statement(con, tree)


def _expression(con: duckdb.DuckDBPyConnection, text: str) -> Node:
    """One expression of our own as a tree."""
    found: Node = serialized(con, f"select {text}")["statements"][0]["node"]["select_list"][0]
    return found


def _with(node: Any, name: str, value: Node) -> Any:
    """The tree with ``value`` for the column ``name``."""
    if isinstance(node, dict):
        if node.get("class") == "COLUMN_REF" and node["column_names"] == [name]:
            return {**copy.deepcopy(value), "alias": ""}
        return {key: _with(inner, name, value) for key, inner in node.items()}
    if isinstance(node, list):
        return [_with(inner, name, value) for inner in node]
    return node


def hand_down(statement: Statement, select: Node, relation: str, column: str) -> bool:
    """Let ``select`` see a stored column by adding it where stored tables are joined; False if it cannot."""
    bodies = {
        entry["key"]: entry["value"]["query_node"]
        for entry in statement.root.get("cte_map", {}).get("map", [])
    }

    def reach(node: Node) -> bool:
        source = node["from_table"]
        path = source.get("qualified_name", {}).get("path", [])
        if source["type"] == "BASE_TABLE" and len(path) == 1 and path[0] in bodies:
            inner = bodies[path[0]]
            if not _keeps_rows(inner) or source["column_name_alias"] or not reach(inner):
                return False
            if _joins_stored(inner):
                inner["select_list"].append(
                    {**_column(column), "column_names": [_alias_of(inner, relation), column]}
                )
            elif not any(_is_plain_star(item) for item in inner["select_list"]):
                inner["select_list"].append(_column(column))
            return True
        if not _joins_stored(node):
            return False
        if not _alias_of(node, relation):
            schema, _, table = relation.partition(".")
            template = serialized(
                statement.con, f'select * from a left join "{schema}"."{table}" "_hw_{table}" using (doc_id)'
            )
            joined = template["statements"][0]["node"]["from_table"]
            joined["left"] = node["from_table"]
            node["from_table"] = joined
        return True

    return reach(select)


def _joins_stored(node: Node) -> bool:
    tables = _left_joined(node["from_table"])
    return tables is not None and all(_relation(table) for table in tables)


def _alias_of(node: Node, relation: str) -> str:
    for table in _left_joined(node["from_table"]) or ():
        if _relation(table) == relation:
            return str(table["alias"] or table["qualified_name"]["path"][-1])
    return ""
