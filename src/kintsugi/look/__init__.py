"""Looking at runs and recipes: report, show, diagnose, doctor.

May import the trainer and every room below it.
"""
