"""Mending: repairs of failed rollouts, their audit, and the seam between the two. No torch.

May import sampling and what that may.
"""
