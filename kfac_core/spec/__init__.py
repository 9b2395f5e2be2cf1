"""Specs: the options that factors and blocks share, and signatures of their states."""

from kfac_core.spec.base import InverseDType, Spec

__all__ = ["InverseDType", "Spec"]
