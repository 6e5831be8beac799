"""The training section of the report: loss by source, evaluations, and spikes with their documents."""

from __future__ import annotations

import importlib.util
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pytest

from headwater.report.charts import line_chart, lines_chart
from headwater.report.html import render
from headwater.report.training import training_details
from headwater.training.run_log import SCHEMAS

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def sample() -> ModuleType:
    path = Path(__file__).with_name("sample_lake.py")
    spec = importlib.util.spec_from_file_location("sample_lake_training", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def log_training(lake: Any, *, spikes: int = 12) -> None:
    """The sample's run of 40 steps, gone back behind at 30 by a second attempt, as a trainer logs it."""
    own = {"run_id": "run-1"}
    gone = {"table": "dev.sequences", "version": 1, "digest": "d", "started_at": datetime.now(UTC)}
    runs = [{**own, **gone, "attempt": 0, "start_step": 0}, {**own, **gone, "attempt": 1, "start_step": 30}]
    sources = [
        {**own, "attempt": attempt, "step": step, "source": source, "tokens": tokens, "loss": loss}
        for attempt, steps in ((0, range(1, 41)), (1, range(31, 36)))
        for step in steps
        for source, tokens, loss in (("stdlib", 300, 9.0 - step / 10), (HOSTILE, 100, 5.0), ("once", 0, None))
    ]
    evaluation = {**own, "attempt": 0, "table": "dev.held_out", "version": 2, "digest": "d" * 32,
                  "tokens": 500, "bytes": 1_000, "loss": 3.5, "bits_per_byte": 2.5247}  # fmt: skip
    document = {"doc_id": "cd" * 16, "source": HOSTILE, "sequence_index": 3, "start": 0, "tokens": 64,
                "loss": 11.5}  # fmt: skip
    spike = {**own, "attempt": 0, "loss": 12.0, "expected": 6.5, "first_sequence": 8, "count": 4}
    rows: dict[str, list[dict[str, Any]]] = {
        "training_runs": runs,
        "training_sources": sources,
        "evaluations": [{**evaluation, "step": 20}, {**evaluation, "step": 38, "loss": 99.0}],
        "loss_spikes": [
            {**spike, "step": 5 + i, "documents": [document] if i else []} for i in range(spikes)
        ],
    }
    for name, found in rows.items():
        lake.write(name, pa.Table.from_pylist(found, SCHEMAS[name]), mode="append")


def test_the_page_shows_sources_evaluations_and_spikes(sample: Any, tmp_path: Path) -> None:
    lake = sample.build_sample(tmp_path / "lake", sample.make_documents(15))
    log_training(lake)
    page = render(lake, table="python_textbook")
    assert HOSTILE not in page and "&lt;img src=x onerror=alert(1)&gt;" in page
    assert "<h3>By source</h3>" in page and 'class="curve c1"' in page
    assert "Training loss by source" in page
    assert "2.5247" in page and "99.0000" not in page  # a later attempt went back behind step 38
    assert "The last 10 of 12." in page and "cdcdcdcdcdcd" in page and "loss 11.500 over 64 tokens" in page
    details = training_details(lake, "run-1")
    first, second, none = details.sources
    assert (first.source, first.tokens, second.tokens) == ("stdlib", 35 * 300, 3_500)
    assert first.first == pytest.approx(9.0 - 0.25) and first.last == pytest.approx(9.0 - 3.35)
    assert (none.source, none.tokens, none.first, none.points) == ("once", 0, None, ())
    assert details.num_tokens == 35 * 400


def test_a_run_that_logged_none_of_it_shows_none_of_it(sample: Any, tmp_path: Path) -> None:
    lake = sample.build_sample(tmp_path / "lake", sample.make_documents(15))
    page = render(lake, table="python_textbook")
    assert "Loss of run" in page
    for part in ("By source", "Evaluations", "Loss spikes"):
        assert part not in page


def test_one_line_is_the_chart_it_was() -> None:
    points = [(1.0, 5.0), (2.0, 4.0)]
    one = line_chart(points, title="T", x_label="step")
    assert one.count("<path") == 1 and 'class="curve"' in one and "from 5.000 at 1 to 4.000 at 2" in one
    two = lines_chart([("a", points), ("b", [(1.0, 9.0), (3.0, 1.0)]), ("c", [])], title="T", x_label="step")
    assert two.count("<path") == 2 and "b from 9.000 at 1 to 1.000 at 3" in two
    assert lines_chart([("a", [(1.0, 5.0)])], title="T", x_label="step") == ""
