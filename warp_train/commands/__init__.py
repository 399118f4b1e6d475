"""The commands: `parsers` declares them, and a module of each name here executes it."""
