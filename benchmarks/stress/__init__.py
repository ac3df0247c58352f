"""Harm done for real: kills, damaged files, faulty configurations, hostile requests; what is lost is counted."""
