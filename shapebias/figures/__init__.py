"""Pictures of shape bias, drawn from result files."""
