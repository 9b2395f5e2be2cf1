"""Blocks that see the whole gradient of each case, in every layer that has one."""
