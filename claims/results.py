"""Files and text output for a tested claim."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from claims.claim import Claim, Measurement, Verdict
from runkit import format_table, save_csv, save_json
from runkit.content import RunHead

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["describe_verdict", "summary_table", "write_result"]


def write_result(
    claim: Claim,
    measurement: Measurement,
    verdict: Verdict,
    figure: "Figure",
    folder: Path,
    *,
    run: RunHead,
    formats: Sequence[str],
    caption: bool = True,
) -> None:
    """Write `<name>.csv` (the rows), `<name>.json` (rows, verdict and provenance) and the picture.

    Args:
        run: Head of the JSON file.
        formats: File formats of the picture.
        caption: Whether to write below the picture how it was made.
    """
    from runkit.figure_text import add_caption
    from runkit.figures import save_figure

    stem = folder / claim.name
    save_csv(folder / f"{claim.name}.csv", measurement.rows)
    save_json(
        folder / f"{claim.name}.json",
        {
            **run,
            "claim": asdict(claim),
            "config": dict(measurement.settings),
            "weights": [dict(record) for record in measurement.weights],
            "results": {
                "holds": verdict.holds,
                "ours": verdict.ours,
                "findings": dict(verdict.findings),
                "rows": list(measurement.rows),
            },
        },
    )
    if caption:
        add_caption(figure, _caption(claim, measurement, verdict, run))
    save_figure(figure, stem, formats, description=run["command"])


def _caption(claim: Claim, measurement: Measurement, verdict: Verdict, run: RunHead) -> str:
    """The caption of a claim's picture."""
    from runkit.figure_text import software_words

    labels = list(dict.fromkeys(str(record["label"]) for record in measurement.weights if record.get("label")))
    more = f"; and {len(labels) - 8} more" if len(labels) > 8 else ""
    weights = f"Weights: {'; '.join(label.removeprefix('weights ') for label in labels[:8])}{more}." if labels else ""
    settings = [
        f"{name.replace('_', ' ')}: {value}"
        for name, value in measurement.settings.items()
        if isinstance(value, int | float | str) and not isinstance(value, bool) and 0 < len(str(value)) < 40
    ]
    first = f"{claim.name} ({claim.source}): {verdict.word}. {'; '.join(settings)}"
    return "\n".join(filter(None, [first, weights, software_words(run)]))


def describe_verdict(claim: Claim, verdict: Verdict, folder: Path) -> str:
    """Text with the paper's figure, ours, and whether the direction holds."""
    ours = verdict.ours.replace("; ", "\n         ")
    return "\n".join(
        [
            f"{claim.name}: {claim.statement}",
            f"  paper: {claim.paper} ({claim.source})",
            f"  ours:  {ours}",
            f"  {verdict.word}; criterion: {claim.criterion}",
            f"  limits: {claim.limits}",
            f"  rows and picture: {folder / claim.name}.csv, .json, .png",
            "",
        ]
    )


def summary_table(tested: Sequence[tuple[Claim, Verdict]]) -> str:
    """Table with one line for each claim."""
    return format_table(["claim", "direction"], [[claim.name, verdict.word] for claim, verdict in tested])
