"""Verbs whose checks of forms are done once, and not at every call."""

from kfac_core.recording import backend as backend
from kfac_core.recording.verb import PreparedVerb, prepared

__all__ = ["PreparedVerb", "prepared"]
