"""The commands, a module for each kind. Nothing below this package parses arguments."""
