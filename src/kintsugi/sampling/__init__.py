"""Sampling: asks and their player, what surrounds an algorithm, and the engines that answer.

May import records, plugins, prompts, config, files, verifiers, tasks and models.
"""
