"""The uses of parameters that are layers: products, convolutions, lookups, scales."""
