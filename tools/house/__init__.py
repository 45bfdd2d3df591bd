"""Measures the code of a package against the bars of its house rules, and holds the tables of what may import what."""
