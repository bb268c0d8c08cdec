"""A run: its directory, tables, checkpoints, metrics and evaluations, and what is handed on of it.

May import assembly and every room below it.
"""
