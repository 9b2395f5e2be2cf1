"""The whole gradient of each case, for every kind of layer where it is known."""
