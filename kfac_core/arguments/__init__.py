"""Checks of what users give: arrays, numbers, powers, sizes, options and keys."""
