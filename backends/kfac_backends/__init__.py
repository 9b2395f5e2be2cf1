"""Array libraries for `kfac_core`: the one place where a framework is imported."""
