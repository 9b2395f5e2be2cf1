"""The block of a parameter that unlike layers share."""
