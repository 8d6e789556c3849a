"""Gaussian processes for Bayesian optimisation, on plain arrays in the unit cube."""

from __future__ import annotations
