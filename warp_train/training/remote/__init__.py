"""Runs elsewhere: copied there while they train (`checkpoint.push_to`), and fetched to resume."""
