"""What intervals of both tools and of the claims have in common."""

__all__ = ["normal_quantile"]


def normal_quantile(confidence: float = 0.95) -> float:
    """Half the width of a two-sided interval of a normal variable, in standard deviations: 1.96 at 95%."""
    from scipy import stats

    return float(stats.norm.ppf(1 - (1 - confidence) / 2))
