"""Which documents a training step saw, and which steps and checkpoints saw a document (contract C6).

Every answer joins three records: the run's log (each step's ``first_sequence`` and ``count``), the
``sequences`` version that the step's attempt read, and ``exposures``. A resumed run is a new attempt: steps
and checkpoints that a later attempt went back behind do not count, for no weights came of them.
"""

from headwater.trace.checkpoint import CheckpointTrace, trace_checkpoint
from headwater.trace.document import DocumentTrace, RunExposure, trace_document
from headwater.trace.documents import DocumentsTrace, RunExposures, trace_documents
from headwater.trace.runs import live_rows, runs_of
from headwater.trace.step import StepTrace, sequence_documents, step_documents, trace_step
from headwater.trace.text import TextTrace, trace_text

__all__ = [
    "CheckpointTrace",
    "DocumentTrace",
    "DocumentsTrace",
    "RunExposure",
    "RunExposures",
    "StepTrace",
    "TextTrace",
    "live_rows",
    "runs_of",
    "sequence_documents",
    "step_documents",
    "trace_checkpoint",
    "trace_document",
    "trace_documents",
    "trace_step",
    "trace_text",
]
