"""Faults put into fxprune on purpose, to see that verification finds them."""
