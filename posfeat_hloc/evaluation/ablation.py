"""What the ablations of both papers have in common: sequences, features, a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from posfeat_hloc.evaluation.hpatches import extract_sequences, measure_features
from posfeat_hloc.evaluation.mma import MmaResult
from posfeat_hloc.evaluation.options import HPatchesOptions
from posfeat_hloc.evaluation.sequences import SequenceSet
from posfeat_hloc.evaluation.tables import Table
from posfeat_hloc.extractors.choice import FeatureChoice


@dataclass(frozen=True)
class Ablation:
    """What was measured.

    Attributes:
        table: written as CSV and LaTeX.
        files: their names, for the reader.
        notes: what the numbers mean.
    """

    table: Table
    files: str
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Comparison:
    """On what, and how.

    Attributes:
        dataset: folder of sequences.
        output: folder of results.
        options: features, matcher and keypoints.
        progress: whether bars are drawn.
    """

    dataset: Path
    output: Path
    options: HPatchesOptions = field(default_factory=HPatchesOptions)
    progress: bool = False

    def extract(self, choices: Sequence[FeatureChoice], found: SequenceSet) -> dict[str, Path]:
        """See :func:`posfeat_hloc.evaluation.hpatches.extract_sequences`."""
        return extract_sequences(self.dataset, choices, found, self.output, self.options.device, self.progress)

    def measure(self, choices: Sequence[FeatureChoice], found: SequenceSet) -> dict[str, MmaResult]:
        """See :func:`posfeat_hloc.evaluation.hpatches.measure_features`."""
        options = self.options
        return measure_features(self.dataset, choices, found, self.output, options, options.matcher, self.progress)

    def finish(self, table: Table, stem: str, notes: Sequence[str], more: str = "") -> Ablation:
        """Write the table."""
        self.output.mkdir(parents=True, exist_ok=True)
        table.write(self.output, stem)
        return Ablation(table, f"{stem}.csv {stem}.tex{more}", list(notes))
