"""What would be kept under another rule or threshold, computed from stored signals alone."""

from headwater.what_if.question import Amount, RuleEffect, Sample, SourceChange, WhatIf, what_if

__all__ = ["Amount", "RuleEffect", "Sample", "SourceChange", "WhatIf", "what_if"]
