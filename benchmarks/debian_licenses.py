"""Ground truth for license detection: files of Debian source packages and what debian/copyright says of them.

    python benchmarks/debian_licenses.py FOLDER OUT.parquet [--download]

Debian's maintainers write, for each file of a package, its license into ``debian/copyright``; in the
machine-readable form (DEP-5, https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/) a program can
read it. FOLDER holds unpacked source packages, one folder each. ``--download`` fills it first with DEV and TEST, by
``apt-get source`` from the ``deb-src`` entries of this machine, and ``dpkg-source``.

A package is in the split ``dev`` or ``test``. From each at most FILES_WITH_NOTICE files that
carry a notice and FILES_WITHOUT that do not are taken, by a hash of the path; and all files named LICENSE, COPYING
and the like. *Carries a notice*: one of the phrases NOTICE stands in the first 4 KiB or the last 2 KiB, comment
marks aside. That test shares no code with the detector.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

DEV = """
    acl attr box2d brotli btrfs-progs bullet busybox cairo coreutils curl dnsmasq e2fsprogs eigen3 expat
    fdupes fftw3 fish flac fontconfig freetype gdk-pixbuf giflib git glfw3 glib2.0 gnuplot
    golang-github-spf13-cobra golang-golang-x-net graphicsmagick graphviz grep gsl guava-libraries gzip
    haproxy harfbuzz haskell-aeson htop hunspell jansson jetty9 jinja2 jq jquery junit4 lame lapack leveldb
    libarchive libcommons-lang3-java libdbi-perl libevent libgcrypt20 libjpeg-turbo libmojolicious-perl
    libmoose-perl libpng1.6 libsodium libuv1 libvorbis libwebp libwww-perl libxml2 libyaml libzip libzstd
    lighttpd lua5.4 lxml lz4 mbedtls memcached mercurial meson mpv nettle nginx ninja-build node-express
    ocaml-zarith openblas openjpeg2 openssh opus pam pango1.0 perltidy php-monolog pillow poppler protobuf
    python-cryptography python-django r-cran-ggplot2 rapidjson redis rsync rsyslog ruby-nokogiri rust-libc
    rust-serde sane-backends screen sed shadow snappy sqlite3 sudo tar tcl8.6 tiff tk8.6 tmux unbound
    util-linux vim wget x264 xfsprogs xz-utils yaml-cpp zlib zsh
""".split()  # noqa: SIM905 (a hundred lines else)
TEST = """
    bash-completion libssh2 libxslt p11-kit libusb-1.0 libinput wayland alsa-lib avahi dbus iproute2
    iptables strace elfutils gawk bison flex mutt irssi weechat tor openvpn knot libsndfile speex dav1d
    libvpx libnl3 node-semver node-ws pytest python-aiohttp python-tornado gunicorn python-werkzeug
    python-urllib3 python-docutils pygments mako pyparsing libdatetime-perl libplack-perl libxml-parser-perl
    libjson-perl libcommons-io-java jackson-core libxstream-java ant ruby-rspec-core ruby-json
    golang-github-gorilla-mux golang-yaml.v2 haskell-text rust-regex rust-rand r-cran-dplyr phpunit postfix
    subversion cups libtasn1-6 libgd2 proj geos sox audacious mpd ncmpcpp ocaml-dune lxcfs libsass
    nodejs-mocha swi-prolog cppunit libreadline libtommath tinyxml2 pugixml fmtlib spdlog catch2
    libsigc++-2.0
""".split()  # noqa: SIM905 (a hundred lines else)
"""The patterns were written while looking at files of DEV, and at none of TEST. Packages without a DEP-5 record, or not
in the archive, are passed over."""
FILES_WITH_NOTICE, FILES_WITHOUT = 60, 10
MAX_BYTES = 1 << 20
HEAD, TAIL = 4_096, 2_048
NOTICE = re.compile(
    rb"licen[cs]ed (?:under|as|to|with)\b|(?:under|of|by|under an?) (?:the )?(?:\S+ ){0,8}(?:licen[cs]es?|l?gpl)\b|"
    rb"redistribution and use|redistribute it|redistributions of|permission (?:is hereby|to use|is granted|notice)|"
    rb"in(?:to)? the public domain|100% public domain|^public domain|spdx license identifier|same terms as|"
    rb"this (?:software|program|library|file|code|work) is (?:free|distributed|released|provided|part of)|"
    rb"see (?:the )?(?:file |included |accompanying )?(?:copying|licen[cs]e)",
    re.IGNORECASE,
)
_MARKS = re.compile(rb"[\s*#/;|\"\\-]+")
LICENSE_FILE = re.compile(r"(?:^|/)(?:licen[cs]e|copying|copyright|unlicense)[^/]{0,24}$", re.IGNORECASE)
_BINARY = re.compile(
    r"\.(?:png|jpe?g|gif|ico|pdf|gz|xz|bz2|zip|jar|woff2?|ttf|otf|mo|po|pot|wav|flac|ogg|mp3|"
    r"svg|bin|class|patch|diff|tiff?|webp|bmp|jp2|j2k|eps|ps)$",
    re.IGNORECASE,
)

_BOILERPLATE = re.compile(
    r"(?:^|/)(?:ltmain\.sh|missing|install-sh|config\.(?:sub|guess|rpath)|depcomp|compile|configure|aclocal\.m4|"
    r"test-driver|mkinstalldirs|ylwrap|ar-lib|Makefile(?:\.in)+|[^/]*\.m4)$"
)
"""What autotools put into a package: with licenses of its own, which a catch-all paragraph does not state."""

_EXACT = {
    "expat": "MIT",
    "mit": "MIT",
    "x11": "X11",
    "isc": "ISC",
    "zlib": "Zlib",
    "libpng": "Libpng",
    "apache-2.0": "Apache-2.0",
    "apache-2": "Apache-2.0",
    "artistic": "Artistic-1.0-Perl",
    "artistic-1": "Artistic-1.0-Perl",
    "artistic-2.0": "Artistic-2.0",
    "artistic-2": "Artistic-2.0",
    "perl": "GPL-1.0-or-later OR Artistic-1.0-Perl",
    "mpl-1.1": "MPL-1.1",
    "mpl-2.0": "MPL-2.0",
    "mpl-2": "MPL-2.0",
    "epl-1.0": "EPL-1.0",
    "epl-1": "EPL-1.0",
    "epl-2.0": "EPL-2.0",
    "cddl-1.0": "CDDL-1.0",
    "cddl": "CDDL-1.0",
    "cc0": "CC0-1.0",
    "cc0-1.0": "CC0-1.0",
    "cc0-1": "CC0-1.0",
    "public-domain": "LicenseRef-Public-Domain",
    "pd": "LicenseRef-Public-Domain",
    "unlicense": "Unlicense",
    "boost-1.0": "BSL-1.0",
    "boost-1": "BSL-1.0",
    "bsl-1.0": "BSL-1.0",
    "bsl-1": "BSL-1.0",
    "bsl": "BSL-1.0",
    "fsfap": "FSFAP",
    "fsful": "FSFUL",
    "fsfullr": "FSFULLR",
    "0bsd": "0BSD",
    "mit-0": "MIT-0",
    "hpnd": "HPND",
    "ntp": "NTP",
    "psf": "PSF-2.0",
    "psf-2": "PSF-2.0",
    "python": "Python-2.0",
    "tcl": "TCL",
    "ftl": "FTL",
    "freetype": "FTL",
    "curl": "curl",
    "ruby": "Ruby",
    "openssl": "OpenSSL",
    "wtfpl": "WTFPL",
    "bsd": "LicenseRef-BSD-unspecified",
    "postgresql": "PostgreSQL",
    "unicode": "Unicode-DFS-2016",
    "ofl-1.1": "OFL-1.1",
    "old-mit": "HPND",
    "permissive": "LicenseRef-Permissive",
    "all-permissive": "FSFAP",
    "vim": "Vim",
}
_GNU = re.compile(r"(?P<kind>[al]?gpl|gfdl|fdl)-?v?(?P<number>[123](?:\.[0-9])?)?(?:\.0)?(?P<later>\+?)")


def spdx_of(name: str) -> str | None:
    """The SPDX expression of a DEP-5 short name, or None where the name is the package's own."""
    text = re.sub(r"\s+", " ", name.strip().lower())
    text = re.sub(r",? and/or ", " or ", text)
    for joint, operator in (
        (r",? or ", " OR "),
        (r",? and |, ", " AND "),
        (r" \| ", " OR "),
        (r" & ", " AND "),
    ):
        parts = [part for part in re.split(joint, text) if part]
        if len(parts) > 1:
            named = [spdx_of(part) for part in parts]
            return operator.join(f"({n})" if " " in n else n for n in named if n) if all(named) else None
    text = re.sub(r"[ -]with[ -].*| ?\(.*\)$|[~].*", "", text)
    if text in _EXACT:
        return _EXACT[text]
    match = _GNU.match(text)
    if match:
        kind = {"fdl": "GFDL"}.get(match["kind"], match["kind"].upper())
        number = match["number"] or "1"
        number = number if "." in number else f"{number}.{'1' if kind == 'GFDL' else '0'}"
        return f"{kind}-{number}-{'or-later' if match['later'] or not match['number'] else 'only'}"
    for prefix, spdx in (
        ("bsd-2-clause", "BSD-2-Clause"),
        ("bsd-3-clause", "BSD-3-Clause"),
        ("bsd-4-clause", "BSD-4-Clause"),
        ("bsd-2", "BSD-2-Clause"),
        ("bsd-3", "BSD-3-Clause"),
        ("bsd-4", "BSD-4-Clause"),
        ("bsd-1-clause", "BSD-1-Clause"),
        ("expat-", "MIT"),
        ("mit-", "LicenseRef-Permissive"),
        ("mit/x11", "MIT"),
        ("isc-", "ISC"),
        ("hpnd-", "HPND"),
        ("public-domain-", "LicenseRef-Public-Domain"),
        ("bsd-", "LicenseRef-BSD-unspecified"),
        ("cc-by-sa-", text.upper()),
        ("cc-by-nc", "CC-BY-NC-3.0"),
        ("cc-by-", text.upper()),
        ("apache-2.0-", "Apache-2.0"),
        ("unicode-", "Unicode-DFS-2016"),
    ):
        if text.startswith(prefix):
            return re.sub(r"^(CC-BY(?:-SA)?-)([1-4])$", r"\1\2.0", spdx)
    return None


def stanzas(copyright_file: Path) -> list[tuple[re.Pattern[str], str, str]] | None:
    """(files, patterns, license) of each Files paragraph, in order; None for a file that is not DEP-5."""
    text = copyright_file.read_text(encoding="utf-8", errors="replace")
    if "copyright-format" not in text[:2_000] and "dep5" not in text[:2_000].lower():
        return None
    found = []
    for paragraph in re.split(r"\n\s*\n(?=\S)", text):
        fields: dict[str, str] = {}
        for match in re.finditer(r"^([A-Za-z-]+):(.*(?:\n[ \t].*)*)", paragraph, re.MULTILINE):
            fields.setdefault(match[1].lower(), match[2])
        if "files" not in fields or "license" not in fields:
            continue
        patterns = fields["files"].split()
        name = fields["license"].strip().split("\n")[0].strip()
        found.append((re.compile("|".join(_glob(p) for p in patterns)), " ".join(patterns), name))
    return found


def _glob(pattern: str) -> str:
    pattern = pattern.removeprefix("./")
    body = "".join(".*" if c == "*" else "." if c == "?" else re.escape(c) for c in pattern)
    return f"(?:{body})$"


def rows_of(package: Path) -> Iterator[dict[str, object]]:
    """The sampled files of one unpacked package."""
    known = stanzas(package / "debian" / "copyright") if (package / "debian" / "copyright").exists() else None
    if not known:
        return
    names = [
        str(path.relative_to(package))
        for path in package.rglob("*")
        if path.is_file() and not path.is_symlink() and not _BINARY.search(path.name)
    ]
    names = [n for n in names if not n.startswith(("debian/", ".pc/", ".git/"))]
    names.sort(key=lambda name: xxhash.xxh3_64_intdigest(name.encode(errors="surrogateescape")))
    split = "dev" if package.name in DEV else "test"
    taken = {True: 0, False: 0}
    quota = {True: FILES_WITH_NOTICE, False: FILES_WITHOUT}
    for name in names[:6_000]:
        if taken[True] >= quota[True] and taken[False] >= quota[False] and not LICENSE_FILE.search(name):
            continue
        stanza = next((s for s in reversed(known) if s[0].match(name)), None)
        path = package / name
        if stanza is not None and stanza[1].startswith("*") and _BOILERPLATE.search(name):
            continue
        if stanza is None or not 0 < path.stat().st_size <= MAX_BYTES:
            continue
        data = path.read_bytes()
        if b"\0" in data[:8_192]:
            continue
        ends = (_MARKS.sub(b" ", data[:HEAD]).strip(), _MARKS.sub(b" ", data[-TAIL:]).strip())
        carries = any(NOTICE.search(end) for end in ends)
        sampled = taken[carries] < quota[carries]
        is_license_file = bool(LICENSE_FILE.search(name))
        if not sampled and not is_license_file:
            continue
        taken[carries] += sampled
        yield {
            "package": package.name,
            "split": split,
            "path": name,
            "text": data.decode("utf-8", errors="replace"),
            "carries_notice": carries,
            "sampled": sampled,
            "is_license_file": is_license_file,
            "files": stanza[1] if len(stanza[1]) < 200 else stanza[1][:200],
            "license": stanza[2],
            "spdx": spdx_of(stanza[2]),
        }


def download(folder: Path) -> None:
    """``apt-get source`` and ``dpkg-source`` of PACKAGES."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (*DEV, *TEST):
        if (folder / name).exists():
            continue
        subprocess.run(["apt-get", "-qq", "source", "--download-only", name], cwd=folder, check=False)
        for dsc in sorted(folder.glob(f"{name}_*.dsc")):
            command = ["dpkg-source", "--no-check", "-q", "-x", dsc.name, name]
            subprocess.run(command, cwd=folder, check=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--download", action="store_true")
    args = parser.parse_args()
    if args.download:
        download(args.folder)
    rows = [row for p in sorted(args.folder.iterdir()) if p.is_dir() for row in rows_of(p)]
    table = pa.Table.from_pylist(rows)
    pq.write_table(table, args.out, compression="zstd")
    packages = len(set(table["package"].to_pylist()))
    sys.stdout.write(
        f"{table.num_rows:,} files of {packages} packages, {table['text'].nbytes / 1e6:.0f} MB\n"
    )


if __name__ == "__main__":
    main()
