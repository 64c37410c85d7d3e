"""A key once: its name, type, default, meaning and check stand in one place.

Each file declares a group of keys (:mod:`rllib_sea.settings.declaration`); what a group's method
takes, what is refused and the tables of docs/configuration.md follow from it.
"""
