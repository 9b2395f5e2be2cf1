"""Rows of a batch: the uses they come from, their weights, and how much they count."""
