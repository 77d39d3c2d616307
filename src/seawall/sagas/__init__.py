"""Sagas: work across services that is completed, or undone."""
