"""Pictures of receptive fields, drawn from result files."""
