"""Blocks of embeddings."""
