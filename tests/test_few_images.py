"""The note on intervals from few images: when it appears, and that every table and result shows it."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from example_results import make_erf_result

from erf.results import tables
from runkit.intervals import FEW, note_on_few
from shapebias.answers.observers import Observer, make_trials
from shapebias.answers.suppressed import SuppressedAnswers
from shapebias.measures.reliance import Draws, Reliance, measure_reliance
from shapebias.results.comparison import compare, show_table
from shapebias.results.files import FEW_DECISIONS, describe_interval
from shapebias.results.reliance import show_reliance
from shapebias.stimuli.experiments import CUE_CONFLICT
from shapebias.stimuli.suppressions import choose_variants

UNRELIABLE = "images are unreliable: use at least 10 images."


def make_reliance(images: int, suppress: Sequence[str] = ("colour",)) -> Reliance:
    variants, labels = choose_variants(suppress), np.arange(images) % 4
    answers = SuppressedAnswers(
        name="net",
        label="net",
        outputs=4,
        variants=tuple(variant.label for variant in variants),
        images=tuple(f"{i}.png" for i in range(images)),
        labels=labels,
        top_outputs=np.tile(labels, (len(variants), 1))[..., None].astype(np.int32),
        top_probabilities=np.ones((len(variants), images, 1), np.float32),
        label_probability=np.ones((len(variants), images), np.float32),
        provenance={},
    )
    return measure_reliance(answers, variants, draws=Draws.of(images, resamples=20))


def answering(images: int, decisions: int | None = None) -> Observer:
    """A network that answers by shape and by texture in turn, and names neither after this number of decisions."""
    names = [f"cat{i}-dog{i}.png" for i in range(1, images + 1)]
    decisions = images if decisions is None else decisions
    answers = ["cat", "dog"] * (decisions // 2) + ["bear"] * (images - decisions)
    trials: pd.DataFrame = make_trials("net", names, answers)
    return Observer("net", trials)


@pytest.mark.parametrize(
    ("counts", "start"),
    [
        ([FEW], ""),
        ([1], ""),  # has no interval
        ([50, 1, FEW], ""),
        ([3, 50], "Intervals from 3 images"),
        ([4, 2, 3], "Intervals from 2 to 4 images"),
    ],
)
def test_only_few_images_have_a_note(counts, start):
    note = note_on_few(counts)
    assert note.startswith(start)
    assert bool(note) == bool(start)


def test_receptive_fields_of_few_images(tmp_path):
    few = [make_erf_result(name, sigma, images=3) for name, sigma in (("one", 6), ("other", 8))]
    many = make_erf_result("many", 8, images=FEW)
    assert f"Intervals from 3 {UNRELIABLE}" in tables.text_table(few)
    assert "unreliable" not in tables.text_table([many])
    assert UNRELIABLE in few[0].measured["interval"]["note"]
    assert UNRELIABLE in tables.summary(few[0])["note"]
    assert UNRELIABLE in few[0].measured._repr_html_()
    assert "note" not in tables.summary(many)
    assert "note" not in many.measured["interval"]
    tables.write_tables(few, tmp_path / "comparison")
    assert f"% Intervals from 3 {UNRELIABLE}" in (tmp_path / "comparison.tex").read_text(encoding="utf-8")


def test_shape_bias_of_few_images():
    few, many = compare([answering(4)]), compare([answering(FEW_DECISIONS)])
    assert f"Intervals from 4 {UNRELIABLE}" in show_table(few, CUE_CONFLICT)
    assert "Accuracy: images that are named by the category of their shape" in show_table(few, CUE_CONFLICT)
    assert UNRELIABLE in describe_interval(few.networks)["note"]
    assert "unreliable" not in show_table(many, CUE_CONFLICT)
    assert "note" not in describe_interval(many.networks)


def test_shape_bias_of_few_decisions():
    few, none = compare([answering(40, decisions=4)]), compare([answering(40, decisions=0)])
    note = "Shape bias from fewer than 30 decisions by shape or texture: net (4)."
    assert few.networks[0].decisions == 4
    assert note in show_table(few, CUE_CONFLICT)
    assert describe_interval(few.networks)["note"] == note
    other = "40 images instead of the published 1,280: not comparable with published numbers."
    assert other in show_table(none, CUE_CONFLICT)
    assert other not in show_table(compare([answering(1280)]), CUE_CONFLICT)
    assert "decisions" not in show_table(none, CUE_CONFLICT)


def test_reliance_of_few_images():
    assert f"Intervals from 4 {UNRELIABLE}" in show_reliance([make_reliance(4)])
    assert "unreliable" not in show_reliance([make_reliance(FEW)])


def test_reliance_by_a_part_of_the_suppressions_says_so():
    shown = show_reliance([make_reliance(FEW, ["shape", "gaussian-blur"])])
    assert "reliance on colour" not in shown
    assert "Reliance on texture is the mean over gaussian-blur: not comparable with that over the usual" in shown
    assert "not comparable" not in show_reliance([make_reliance(FEW, ["all"])])
