"""Bridges to other trainers. Each imports its own optional dependency; nothing else imports a bridge."""
