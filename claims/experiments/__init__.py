"""The experiments behind the claims, and the modules that several of them share."""
