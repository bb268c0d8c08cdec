"""Mending: repairs of failed rollouts, their audit, and the seam between the two. Loads no torch.

May import sampling and what that may.
"""
