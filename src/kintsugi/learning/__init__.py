"""Learning: rows to losses and optimizer steps.

May import sampling and what that may.
"""
