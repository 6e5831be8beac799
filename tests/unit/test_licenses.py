"""Declarations -> SPDX expressions -> tiers, and that nothing uncertain is called certain."""

from importlib import metadata

import pyarrow as pa
import pytest

from headwater.errors import BadInput
from headwater.ingest.installed import declared_license
from headwater.licenses import MAX_DECLARED_CHARS, TIERS, conclude, load_policy, normalize, shorten, tier

POLICY = load_policy()

MIT_TEXT = """Copyright (c) 2020 Somebody

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND."""


@pytest.mark.parametrize(
    ("declared", "spdx", "expected_tier"),
    [
        ("MIT", "MIT", "silver"),
        ("mit license", "MIT", "silver"),
        ("The MIT License", "MIT", "silver"),
        ("License :: OSI Approved :: MIT License", "MIT", "silver"),
        ("Apache 2.0", "Apache-2.0", "silver"),
        ("Apache License, Version 2.0", "Apache-2.0", "silver"),
        ("License :: OSI Approved :: Apache Software License", "LicenseRef-Apache-unspecified", "bronze"),
        ("BSD", "LicenseRef-BSD-unspecified", "bronze"),
        ("3-Clause BSD License", "BSD-3-Clause", "bronze"),
        ("ISC License (ISCL)", "ISC", "silver"),
        ("PSF", "LicenseRef-PSF-unspecified", "bronze"),
        ("PSF-2.0", "PSF-2.0", "bronze"),
        ("MPL-2.0", "MPL-2.0", "weak-copyleft"),
        ("License :: OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)", "MPL-2.0", "weak-copyleft"),
        ("GPL", "LicenseRef-GPL-unspecified", "copyleft"),
        ("GPLv3+", "GPL-3.0-or-later", "copyleft"),
        ("GNU General Public License v2 or later (GPLv2+)", "GPL-2.0-or-later", "copyleft"),
        ("GNU Lesser General Public License v3 (LGPLv3)", "LGPL-3.0-only", "weak-copyleft"),
        ("GNU AGPLv3", "AGPL-3.0-only", "network-copyleft"),
        ("MIT or Apache 2.0", "MIT OR Apache-2.0", "silver"),
        ("BSD, MIT", "LicenseRef-BSD-unspecified AND MIT", "bronze"),
        ("Public Domain", "LicenseRef-Public-Domain", "lead"),
        ("Proprietary", "LicenseRef-Proprietary", "restricted"),
        (MIT_TEXT, "MIT", "silver"),
        ("Dual License", None, "unknown"),
        ("see LICENSE file", None, "unknown"),
        ("MIT AND", None, "unknown"),
        (") (", None, "unknown"),
        ("License :: OSI Approved", None, "unknown"),
        ("LicenseRef-Whatever", "LicenseRef-Whatever", "unknown"),
        (MIT_TEXT + "\n\n" + "Portions are under other terms. " * 60, None, "unknown"),
        ("", None, "unknown"),
        (None, None, "unknown"),
    ],
)
def test_declaration_to_expression_and_tier(declared, spdx, expected_tier):
    assert normalize(declared) == spdx
    assert tier(spdx, POLICY) == expected_tier


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("MIT OR GPL-3.0-only", "silver"),
        ("MIT AND GPL-3.0-only", "copyleft"),
        ("(MIT OR GPL-3.0-only) AND BSD-3-Clause", "bronze"),
        ("MIT OR GPL-3.0-only AND AGPL-3.0-only", "silver"),
        ("Apache-2.0 WITH LLVM-exception", "silver"),
        ("GPL-2.0-only WITH Classpath-exception-2.0", "weak-copyleft"),
        ("MIT AND LicenseRef-Whatever", "unknown"),
        ("MIT OR LicenseRef-Whatever", "silver"),
        ("(MIT", "unknown"),
        ("MIT)", "unknown"),
        ("MIT WITH", "unknown"),
    ],
)
def test_tier_of_an_expression(expression, expected):
    assert tier(expression, POLICY) == expected


def test_classifiers_mean_and_and_an_exact_one_replaces_its_family():
    both = "License :: OSI Approved :: BSD License; License :: OSI Approved :: MIT License"
    assert normalize(both) == "LicenseRef-BSD-unspecified AND MIT"
    gnu = "License :: OSI Approved :: GNU General Public License (GPL); "
    gnu += "License :: OSI Approved :: GNU General Public License v2 or later (GPLv2+)"
    assert normalize(gnu) == "GPL-2.0-or-later"
    assert normalize("License :: OSI Approved :: MIT License; License :: Freely Distributable") is None


def test_a_long_text_is_cut_and_its_length_still_counts():
    text = "Apache License\n Version 2.0, January 2004\n" + "x " * 5_600
    assert normalize(shorten(text)) == "Apache-2.0"
    assert len(shorten(text)) < MAX_DECLARED_CHARS + 40
    assert normalize(shorten(text + "MIT License " * 500)) is None


def test_conclude_works_on_distinct_values_and_keeps_order_and_nulls():
    declared = pa.chunked_array([["MIT", None, "MIT"], ["Dual License"]])
    result = conclude(declared)
    assert result.to_pylist() == [
        {"spdx": "MIT", "tier": "silver"},
        {"spdx": None, "tier": "unknown"},
        {"spdx": "MIT", "tier": "silver"},
        {"spdx": None, "tier": "unknown"},
    ]
    assert len(conclude(pa.chunked_array([], pa.string()))) == 0


def test_the_policy_is_checked(tmp_path):
    assert set(POLICY.values()) <= set(TIERS)
    bad = tmp_path / "policy.csv"
    bad.write_text("spdx_id,tier\nMIT,platinum\n")
    with pytest.raises(BadInput, match="platinum"):
        load_policy(bad)
    with pytest.raises(BadInput, match="cannot read"):
        load_policy(tmp_path / "none.csv")


def test_most_installed_distributions_have_a_known_tier():
    declared = pa.array([declared_license(d.metadata) for d in metadata.distributions()], pa.string())
    tiers = conclude(declared).field("tier").to_pylist()
    known = sum(t != "unknown" for t in tiers)
    assert known / len(tiers) > 0.8
