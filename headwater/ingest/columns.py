"""Which of their columns is our ``text``, ``id``, ``license``: the column map and the known layouts.

Without a known layout, columns that have our names are taken for what they say.

A map is written canonical = theirs: ``{"id": "doc_id", "text": "content"}``. A dot reaches into a nested
field (``license=metadata.license``), unless a column has exactly that name.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from headwater.errors import BadInput, UnknownName
from headwater.lake.synthetic import REQUIRED, SYNTHETIC_FIELDS

_OWN = ("id", "text", "source", "path", "url", "license", "date", "origin")

CANONICAL = (*_OWN, *SYNTHETIC_FIELDS.names)
"""What a map may name. ``id`` becomes the row's key; ``license`` becomes ``license_declared``; what made a
synthetic row is named as the lake names it."""


_OWN_NAMES = {name: name for name in _OWN}


@dataclass(frozen=True)
class Layout:
    """A data set's published column names. ``signature``: columns that together give it away."""

    name: str
    signature: frozenset[str]
    columns: Mapping[str, str]


LAYOUTS = (
    Layout(
        "fineweb",  # https://huggingface.co/datasets/HuggingFaceFW/fineweb, data fields
        frozenset({"text", "id", "dump", "url"}),
        {"text": "text", "id": "id", "url": "url", "date": "date"},
    ),
    Layout(
        "the_stack_v2",  # https://huggingface.co/datasets/bigcode/the-stack-v2-dedup, with content joined in
        frozenset({"content", "blob_id", "path"}),
        {"text": "content", "id": "blob_id", "path": "path", "license": "detected_licenses"},
    ),
    Layout(
        "the_stack",  # https://huggingface.co/datasets/bigcode/the-stack, data fields
        frozenset({"content", "hexsha"}),
        {
            "text": "content",
            "id": "hexsha",
            "path": "max_stars_repo_path",
            "license": "max_stars_repo_licenses",
        },
    ),
    Layout(
        "dolma",  # https://github.com/allenai/dolma/blob/main/docs/data-format.md
        frozenset({"text", "id", "source"}),
        {
            "text": "text",
            "id": "id",
            "source": "source",
            "date": "created",
            "url": "metadata.url",
            "license": "metadata.license",
        },
    ),
    Layout(
        "datatrove",  # the Document of datatrove's readers and writers: text, id, metadata
        frozenset({"text", "id", "metadata"}),
        {"text": "text", "id": "id", "url": "metadata.url", "date": "metadata.date"},
    ),
    Layout(
        "huggingface",  # the usual plain data set: text, and perhaps columns with our names
        frozenset({"text"}),
        _OWN_NAMES,
    ),
)
"""In order of detection, the most telling first."""

_TEXT_FALLBACKS = ("content", "contents", "body")


@dataclass(frozen=True, kw_only=True)
class ColumnMap:
    """Canonical name -> their column. ``given`` were asked for by name and must exist."""

    columns: Mapping[str, str]
    given: frozenset[str]
    layout: str | None

    @property
    def text(self) -> str:
        return self.columns["text"]


def check_map(columns: Mapping[str, str] | None, layout: str | None) -> None:
    """Refuse unknown canonical names and layouts before any file is opened."""
    for name in columns or {}:
        if name not in CANONICAL:
            raise UnknownName.of("canonical column", name, CANONICAL, where="the column map")
        theirs = (columns or {})[name]
        if not theirs or '"' in theirs:
            raise BadInput(
                f"got {theirs!r} as the column for {name!r}", hint="a column name without double quotes"
            )
    if layout is not None and layout not in {known.name for known in LAYOUTS}:
        raise UnknownName.of("layout", layout, [known.name for known in LAYOUTS])


def choose(
    available: Collection[str], *, columns: Mapping[str, str] | None, layout: str | None, where: str
) -> ColumnMap:
    """The map for input that has the top-level columns ``available``.

    ``columns`` wins over ``layout``, which wins over what the column names give away.

    Raises
    ------
    BadInput
        No column holds the text: the message names the file, the column, and what there is.
    """
    check_map(columns, layout)
    given = dict(columns or {})
    known = next((one for one in LAYOUTS if one.name == layout), None)
    if known is None:
        known = next((one for one in LAYOUTS if one.signature <= set(available)), None)
    usual = known.columns if known else _OWN_NAMES
    if usual is _OWN_NAMES:
        usual = {name: name for name in _OWN if name in available or name == "text"}
    # Alone, a column called "generation" or "parameters" may mean anything; together they are ours.
    if set(REQUIRED) <= set(available):
        ours = ("origin", *SYNTHETIC_FIELDS.names)
        usual = {**{name: name for name in ours if name in available}, **usual}
    chosen = {**usual, **given}
    if known is None and "text" not in given:
        chosen["text"] = next((name for name in _TEXT_FALLBACKS if name in available), "text")
    require(available, chosen["text"], where=where)
    for name in given:
        require(available, given[name], where=where)
    return ColumnMap(columns=chosen, given=frozenset(given), layout=known.name if known else None)


def require(available: Collection[str], wanted: str, *, where: str) -> None:
    """Raise BadInput unless ``wanted`` (or the column that a dotted name begins with) is there."""
    if wanted in available or wanted.partition(".")[0] in available:
        return
    error = UnknownName.of("column", wanted, available, where=where)
    names = ", ".join(sorted(available)[:30])
    near = f"{error.hint} " if error.hint and error.hint.startswith("did you mean") else ""
    raise BadInput(
        f"{where} has no column {wanted!r}; it has: {names or 'none'}",
        hint=f"{near}name theirs with a column map, e.g. text=content",
    )


def segments(column: str) -> list[str]:
    """The nested names of a dotted column."""
    return column.split(".")
