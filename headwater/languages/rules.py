"""What the content of a file says about its language: for names that several languages share, and for files
whose name says nothing.

Patterns are RE2 (linear time) over the first bytes of a file, ``^`` and ``$`` at lines. They were written for
Headwater from the languages' own grammars; which extensions are shared is Linguist's table.
"""

from __future__ import annotations

from importlib import resources

Rule = tuple[str, str]

_XML = r"\A\s*<(?:\?xml|!DOCTYPE|[A-Za-z])"

SHARED: dict[str, tuple[tuple[Rule, ...], str | None]] = {
    ".h": (
        (
            ("Objective-C", r"^\s*(?:@(?:interface|protocol|class|property|end)\b|#\s*import\s)"),
            (
                "C++",
                r"^\s*(?:class\s+\w[\w:]*(?:\s+final)?\s*(?:[:{;]|$)|namespace\s+\w*|template\s*<|using\s+\w"
                r"|(?:public|private|protected)\s*:|#\s*include\s*<(?:c(?:std\w+|math|assert|ctype|errno)|string"
                r"|vector|map|memory|iostream|utility|algorithm|functional|array|tuple|set|type_traits)>)"
                r"|\bstd::|\bvirtual\s+[\w~]|\bconstexpr\b|\bnullptr\b|\bstatic_cast<|\bnoexcept\b|\w::\w",
            ),
        ),
        "C",
    ),
    ".m": (
        (
            (
                "Objective-C",
                r"^\s*(?:@(?:interface|implementation|protocol|property|end|import|class)\b|#\s*(?:import|include)\s)",
            ),
            ("MATLAB", r"^\s*(?:%|function\b|end\b|classdef\b|endfunction\b|##? )"),
            ("Wolfram Language", r"\(\*|:=|^\s*\w+\["),
        ),
        "MATLAB",
    ),
    ".pl": (
        (
            ("Raku", r"^\s*use\s+v6\b"),
            (
                "Perl",
                r"^\s*(?:use\s+(?:strict|warnings|v?5|lib|\w+::)|package\s+[\w:]+;|my\s+[$@%(]|sub\s+\w+|require\s)",
            ),
            ("Prolog", r"^[^#\n]*:-|^[a-z]\w*\([^()\n]*\)\.\s*$"),
        ),
        "Perl",
    ),
    ".pm": ((("Raku", r"^\s*use\s+v6\b|^\s*unit\s+(?:module|class)\b"),), "Perl"),
    ".t": ((("Raku", r"^\s*use\s+v6\b"),), "Perl"),
    ".ts": ((("XML", r"\A\s*<(?:\?xml|!DOCTYPE TS|TS\b)"),), "TypeScript"),
    ".tsx": ((("XML", r"\A\s*<\?xml"),), "TSX"),
    ".rs": ((("XML", r"\A\s*<\?xml"),), "Rust"),
    ".typ": ((("XML", _XML),), "Typst"),
    ".workflow": ((("XML", _XML),), "HCL"),
    ".mojo": ((("XML", _XML),), "Mojo"),
    ".pluginspec": ((("XML", _XML),), "Ruby"),
    ".ncl": ((("XML", _XML),), "Text"),
    ".sch": ((("XML", _XML),), "Scheme"),
    ".mm": ((("XML", _XML),), "Objective-C++"),
    ".inc": (
        (
            ("PHP", r"<\?(?:php|=)"),
            ("HTML", r"\A\s*<(?:!DOCTYPE|html|head|body|div|p|table|span|a|ul)\b"),
            ("BitBake", r"^(?:inherit\s|require\s|SRC_URI|DEPENDS|RDEPENDS)"),
            ("Pascal", r"(?i)^\s*(?:\{\$\w+|procedure\s+\w|end[.;]|(?:const|var|type)\s*$)"),
            (
                "SQL",
                r"(?i)^\s*(?:create\s+(?:table|view|function|index)|insert\s+into|select\s|drop\s+table)\b",
            ),
            ("Assembly", r"(?i)^\s*(?:mov\w?\s+[^\s,]+,|%(?:define|macro)\s|\.globl\s|section\s+\.)"),
            ("C++", r"^\s*#\s*(?:include|define|ifdef|ifndef|if|undef)\b|[;{}]\s*$|^\s*\w+\([^)]*\)\s*$"),
        ),
        None,
    ),
    ".cls": (
        (
            ("TeX", r"\\(?:NeedsTeXFormat|ProvidesClass|ProvidesExplClass|DeclareOption|newcommand|def\\)"),
            ("Visual Basic 6.0", r"^\s*Persistable\s*="),
            ("VBA", r"^(?:VERSION\s+1\.0\s+CLASS|Attribute\s+VB_Name)"),
            ("Apex", r"(?i)\b(?:class|interface|enum)\s+\w+[^;\n]*\{"),
        ),
        None,
    ),
    ".pro": (
        (
            ("QMake", r"^\s*(?:TEMPLATE|SOURCES|HEADERS|QT|CONFIG|TARGET|SUBDIRS|DEPENDPATH)\s*[-+*]?="),
            ("Prolog", r"^[^\[#\n]*:-"),
            ("IDL", r"(?i)^\s*(?:function|pro|compile_opt)\s+\w"),
            ("INI", r"^last_client=|^\[[^\]\n]+\]\s*$"),
        ),
        None,
    ),
    ".v": (
        (
            (
                "Rocq",
                r"\b(?:Proof|Qed|Defined)\.|^\s*(?:Require|Lemma|Theorem|Definition|Inductive|Fixpoint|Section)\s",
            ),
        ),
        "Verilog",
    ),
    ".d": (
        (
            ("DTrace", r"^\w+:\w*:\w*:\w*|^#pragma\s+D\s|^provider\s"),
            ("Makefile", r"^[^\s#:;(]+(?:\s+[^\s#:;(]+)*\s*:(?:\s+[^\s;]+)*\s*\\?$"),
        ),
        "D",
    ),
    ".fs": (
        (
            ("GLSL", r"^\s*(?:#version|precision\s|uniform\s|varying\s|void\s+main)"),
            ("Forth", r"^: \S"),
        ),
        "F#",
    ),
    ".gs": ((("GLSL", r"^\s*#version"),), "JavaScript"),
    ".frag": ((("JavaScript", r"\(function\b|^\s*(?:var|const|let)\s"),), "GLSL"),
    ".f": ((("Forth", r"^: \S"),), "Fortran"),
    ".for": ((("Forth", r"^: \S"),), "Fortran"),
    ".fr": ((("Forth", r"^(?:: |also |new-device|previous )"),), "Text"),
    ".l": (
        (
            ("Lex", r"^%(?:[%{}]|option\b|x\b|s\b)"),
            ("Common Lisp", r"^\s*\((?:defun|defmacro|defvar|in-package)\s"),
            ("Roff", r"^\.[A-Za-z]{2}(?:\s|$)"),
        ),
        "Lex",
    ),
    ".i": (
        (
            ("SWIG", r"^\s*%(?:module|include|import|template|\{|ignore|typemap)"),
            ("Assembly", r"(?i)^\s*(?:mov\w?|push|pop|jmp|call)\s"),
        ),
        None,
    ),
    ".ml": (
        (
            ("OCaml", r"^\s*(?:let\s|open\s|type\s|module\s)"),
            ("Standard ML", r"^\s*(?:structure|signature|functor|fun|val)\s"),
        ),
        "OCaml",
    ),
    ".nb": ((("Wolfram Language", r"\(\*|\bNotebook\["),), "Text"),
    ".pp": ((("Pascal", r"(?i)^\s*(?:end[.;]|unit\s+\w+;|program\s+\w+|\{\$)"),), "Puppet"),
    ".properties": ((("INI", r"^\["),), "Java Properties"),
    ".re": ((("C++", r"^\s*(?:#\s*(?:include|define|if)|template\s*<|/\*!re2c)"),), "Reason"),
    ".es": ((("Erlang", r"^\s*%%|^-module\(|^main\("),), "JavaScript"),
    ".cl": ((("Common Lisp", r"(?i)^\s*\((?:defun|in-package|defpackage)\s"),), "OpenCL"),
    ".cs": ((("Smalltalk", r"![\w\s]+methodsFor: "),), "C#"),
    ".asc": ((("Public Key", r"^-----BEGIN |^ssh-(?:rsa|dss) "),), "AsciiDoc"),
    ".bas": ((("Visual Basic 6.0", r"^\s*Attribute\s+VB_(?:Ext_KEY|Creatable|Exposed)"),), "VBA"),
    ".frm": ((("INI", r"\ATYPE=VIEW"), ("Visual Basic 6.0", r"^\s*Begin\s+VB\.Form\s")), "VBA"),
    ".vba": ((("Vim script", r"^UseVimball"),), "VBA"),
    ".bb": ((("Clojure", r"\((?:def|defn|ns|let|require)\s"),), "BitBake"),
    ".cake": ((("CoffeeScript", r"^\s*(?:task\s|\w+\s*=\s*require\s|.*->$)"),), "C#"),
    ".cgi": (
        (
            ("Perl", r"^\s*(?:use\s+\w|my\s+[$@%(]|sub\s+\w)"),
            ("Python", r"^\s*(?:import\s+\w|from\s+\w+\s+import|def\s+\w)"),
            ("Shell", r"^\s*(?:echo\s|fi$|done$)"),
        ),
        None,
    ),
    ".fcgi": (
        (
            ("PHP", r"<\?php"),
            ("Perl", r"^\s*(?:use\s+\w|my\s+[$@%(]|sub\s+\w)"),
            ("Python", r"^\s*(?:import\s+\w|from\s+\w+\s+import|def\s+\w)"),
            ("Ruby", r"^\s*require\s+['\"]"),
            ("Lua", r"^\s*local\s"),
        ),
        None,
    ),
    ".spec": (
        (
            (
                "RPM Spec",
                r"^(?:Name|Summary|Version|Release|License)\s*:|^%(?:define|global|prep|build|install|files)\b",
            ),
            ("Python", r"^\w+\s*=\s*(?:Analysis|PYZ|EXE)\(|^\s*(?:import|from)\s+\w"),
            ("Ruby", r"^\s*(?:Gem::|require\s|describe\s)"),
        ),
        "RPM Spec",
    ),
    ".plt": ((("Prolog", r"^\s*:-"),), "Gnuplot"),
    ".trigger": ((("Apex", r"(?i)^\s*trigger\s+\w+\s+on\s"),), "Shell"),
    ".vhost": ((("Nginx", r"^\s*(?:server\s*\{|listen\s+\S+;)"),), "ApacheConf"),
    ".yy": ((("JSON", r"\A\s*[\[{]"),), "Yacc"),
    ".ms": ((("Roff", r"^\.[A-Za-z]{2}(?:\s|$)"),), "Assembly"),
}
"""For each extension: rules in the order of precedence, and the language if none holds (None: go on)."""

_ROFF = ((("Roff", r"^[.'](?:\\\"|[A-Za-z]{1,3}\b)"),), None)
SHARED |= {f".{section}": _ROFF for section in "123456789"}  # libz.so.1, changelog.2, …


def _content() -> tuple[tuple[str, int, str], ...]:
    text = resources.files("headwater.languages").joinpath("content_rules.tsv").read_text("utf-8")
    rows = [line.split("\t") for line in text.splitlines() if not line.startswith("#")][1:]
    return tuple((language, int(weight), pattern) for language, weight, pattern in rows)


CONTENT = _content()
"""(language, weight, pattern): what speaks for a language when nothing but the content is known."""

MIN_CONTENT = 4
"""The least sum of weights that names a language."""
