"""Write the comparison of systems: comparison.json and their DET curves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from xvectors.evaluation.score_files import SystemComparison
from xvectors.files import write_text
from xvectors.report.error_plots import det_plot
from xvectors.report.outputs import interval_to_dict


def write_comparison(comparison: SystemComparison, folder: Path) -> None:
    """Write comparison.json and det.png into `folder`."""
    written = json.dumps(comparison_to_dict(comparison), indent=2, allow_nan=False)
    write_text(folder / "comparison.json", written + "\n")
    det_plot(comparison.curves, folder / "det.png", title="The same trials, systems compared")


def comparison_to_dict(comparison: SystemComparison) -> dict[str, Any]:
    """The content of comparison.json."""
    return {
        "measures": {key: {"name": one.name, "unit": one.unit} for key, one in comparison.definitions.items()},
        "systems": comparison.values,
        "num_target_trials": comparison.num_target,
        "num_nontarget_trials": comparison.num_nontarget,
        "num_speakers": comparison.num_speakers,
        "speakers": comparison.speakers_source,
        "notes": list(comparison.notes),
        "differences": {
            name: {
                key: {
                    "difference": row.difference.value,
                    "interval": interval_to_dict(row.difference),
                    "p_value": row.p_value,
                }
                for key, row in rows.items()
            }
            for name, rows in comparison.differences.items()
        },
    }
