"""Whether a large-kernel network or a ResNet of similar cost looks farther, with trained and with random weights."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from claims.claim import Experiment, Measurement, Options, Row, Verdict, rows_of
from claims.experiments.fields import SIZE_OF_TRAINED, area_at_half, mass_area_at_half, measure_fields
from erf.results.files import ErfResult
from replknet.zoo import resolve_weights

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["EXPERIMENT"]

NETWORKS = ("replknet31n.imagenette", "resnet18n.imagenette")
NUM_IMAGES = 20
SEEDS = 3
MEASURES = {
    "mass_area_ratio_50": (mass_area_at_half, "50% of the map itself"),
    "area_ratio_50": (area_at_half, "50% of log10(score + 1) / max"),
}


def _measure(options: Options) -> Measurement:
    for name in NETWORKS:
        resolve_weights(name, "pretrained")  # never substitute random weights for trained ones
    seeds = options.seeds or SEEDS
    rows: list[Row] = []
    records = []
    for weights, seed in [("pretrained", 0), *(("random", seed) for seed in range(seeds))]:
        pair = measure_fields(
            options, "training", NETWORKS, weights, size=SIZE_OF_TRAINED, num_images=NUM_IMAGES, seed=seed
        )
        rows += _difference_rows(*pair, seed=seed)
        records += [result.provenance["weights"] for result in pair]
    return Measurement(rows, {"networks": NETWORKS, "seeds": seeds}, records)


def _difference_rows(large: ErfResult, small: ErfResult, *, seed: int) -> list[Row]:
    """Both networks' values of each measure, and their paired difference with its interval over images."""
    rows: list[Row] = []
    for measure, (value_of, _) in MEASURES.items():
        ours, theirs = value_of(large), value_of(small)
        low, high = (ours - theirs).interval()
        rows.append(
            {
                "weights": "random" if large.random_weights else "trained",
                "seed": seed if large.random_weights else None,
                "measure": measure,
                "replknet": float(ours.estimate),
                "resnet": float(theirs.estimate),
                "difference": float(ours.estimate - theirs.estimate),
                "low": float(low),
                "high": float(high),
                "images": large.num_images,
            }
        )
    return rows


def _judge(rows: Sequence[Row]) -> Verdict:
    """Decide by both measures; if they disagree, the claim is undecided.

    They may disagree because the published ratio depends on the scale of the gradients, which training changes.
    """
    words = {True: "the order flips", False: "the order does not flip", None: "not decided"}
    flips, parts = {}, []
    for measure, (_, title) in MEASURES.items():
        chosen = rows_of(rows, measure=measure)
        flips[measure] = _flips(chosen)
        parts.append(f"{title}: {', '.join(map(_in_words, chosen))} ({words[flips[measure]]})")
    answers = set(flips.values())
    holds = answers.pop() if len(answers) == 1 else None
    return Verdict(holds, "area, RepLKNet against ResNet; " + "; ".join(parts), {"order_flips": flips})


def _flips(rows: Sequence[Row]) -> bool | None:
    """Whether the first network looks farther if trained, but less far for every draw of weights; None if undecided."""
    trained, random = rows_of(rows, weights="trained"), rows_of(rows, weights="random")
    if all(row["low"] > 0 for row in trained) and all(row["high"] < 0 for row in random):
        return True
    if all(row["high"] < 0 for row in trained) or any(row["low"] > 0 for row in random):
        return False
    return None


def _in_words(row: Row) -> str:
    seed = "" if row["seed"] is None else f" {row['seed']}"
    return f"{row['weights']}{seed} {row['replknet']:.1%} against {row['resnet']:.1%}"


def _draw(rows: Sequence[Row]) -> "Figure":
    from matplotlib.lines import Line2D

    from runkit.figures import COLOURS, new_figure

    colours = COLOURS[:2]
    with new_figure(6.4, 2.8) as figure:
        axes = figure.subplots(1, len(MEASURES))
        for ax, (measure, (_, title)) in zip(axes, MEASURES.items(), strict=True):
            for row in rows_of(rows, measure=measure):
                filled = {"markerfacecolor": "white"} if row["weights"] == "random" else {}
                ax.plot([row["weights"]], [row["replknet"]], "o", color=colours[0], **filled)
                ax.plot([row["weights"]], [row["resnet"]], "s", color=colours[1], **filled)
                if row["weights"] == "trained":
                    points = [100 * row[key] for key in ("difference", "low", "high")]
                    interval = "difference {:.1f} points\n95% interval [{:.1f}, {:.1f}]".format(*points)
                    middle = (row["replknet"] * row["resnet"]) ** 0.5
                    ax.annotate(interval, (row["weights"], middle), xytext=(8, 0), textcoords="offset points",
                                fontsize=6.5, va="center")  # fmt: skip
            ax.set(yscale="log", title=title, ylabel="area ratio", xlim=(-0.4, 1.4))
            seeds = len(rows_of(rows, measure=measure, weights="random"))
            ax.set_xticks([0, 1], ["trained", f"RANDOM WEIGHTS\n({seeds} seeds)"])
            ax.yaxis.set_major_formatter("{x:.0%}")
            ax.yaxis.set_minor_formatter("{x:.0%}")
        handles = [Line2D([], [], linestyle="", marker=m, color=c) for m, c in zip("os", colours, strict=True)]
        axes[0].legend(handles, [name.partition(".")[0] for name in NETWORKS])
    return figure


EXPERIMENT = Experiment(_measure, _judge, _draw)
