"""The section on reliance of the page over a results folder, from its files alone."""

import re
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest

from htmlreport import main
from runkit import UserError, describe_run
from shapebias.answers.suppressed import SuppressedAnswers, save_answers
from shapebias.figures.reliance_page import describe_reliance
from shapebias.measures.reliance import Draws, compare_reliance, measure_reliance
from shapebias.results.reliance import RelianceFolder, describe_comparison, write_comparison
from shapebias.stimuli.suppressions import choose_variants

VARIANTS = choose_variants(["all"])


def write_results(output: Path, *, labelled: bool) -> RelianceFolder:
    """Write the results of two networks, one random and no better than chance, and their comparison."""
    rng = np.random.default_rng(0)
    folder, labels = RelianceFolder.of(output), np.arange(40) % 10
    folder.root.mkdir(parents=True)
    answers = []
    for name, right in (("net.tag", 0.7), ("untrained", 0.0)):
        first = np.where(rng.random((len(VARIANTS), 40)) < right, labels, rng.integers(0, 10, (len(VARIANTS), 40)))
        if not right:
            first[0] = (labels + 1) % 10
        answers.append(
            SuppressedAnswers(
                name=name,
                label=name if right else f"{name}, RANDOM WEIGHTS (seed 0)",
                outputs=10,
                variants=tuple(variant.label for variant in VARIANTS),
                images=tuple(f"{i}.png" for i in range(40)),
                labels=labels if labelled else None,
                top_outputs=first[..., None].astype(np.int32),
                top_probabilities=np.ones((*first.shape, 1), np.float32),
                label_probability=np.ones(first.shape, np.float32) if labelled else None,
                provenance={"config": {"weights": {"model": name}, "images": {"number": 40}}},
            )
        )
        save_answers(answers[-1], folder.probabilities_of(name))
    draws = Draws.of(40, resamples=50)
    head = describe_run(program="shapebias.reliance", arguments=[], started=datetime.now(timezone.utc), seconds=0)
    write_comparison(
        [measure_reliance(one, VARIANTS, draws=draws) for one in answers],
        compare_reliance(answers, VARIANTS, draws=draws),
        folder,
        describe_comparison(answers, [folder.probabilities_of(one.name) for one in answers], head, []),
    )
    return folder


@pytest.mark.parametrize("labelled", [True, False])
def test_the_section(tmp_path, labelled):
    write_results(tmp_path, labelled=labelled)
    assert main([str(tmp_path)]) == 0
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert re.findall(r"<h2 [^>]*>([^<]+)</h2>", page) == ["Reliance on shape, texture and colour", "This page"]
    for link in set(re.findall(r'href="([^"#][^"]*)"', page)):
        assert (tmp_path / link).is_file(), link
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    bars = [one for one in ids if re.search(r"-bar-(shape|texture|colour)$", one)]
    assert len(bars) == (3 if labelled else 6)  # a network at chance has no reliance, but its answers change
    said = re.findall(r"<title>net\.tag\n(reliance on \w+): -?\d\.\d{3} \[", page)
    assert said == ["reliance on shape", "reliance on texture", "reliance on colour"]
    assert ("relative accuracy" in page) == labelled
    assert 'class="badge">RANDOM WEIGHTS (seed 0)' in page
    assert len(page) < 2_000_000


def test_a_damaged_comparison_is_named(tmp_path):
    path = write_results(tmp_path, labelled=True).comparison
    path.write_text('{"results": {"networks": []}}', encoding="utf-8")
    with pytest.raises(
        UserError, match=r"reliance\.json is not a comparison of shapebias\.reliance: it has no 'differ"
    ):
        describe_reliance(path, tmp_path / "report.html")
