"""The command line: `outfitgan <verb>`, a file a family of verbs.

Verbs import what they need when they are called, so that `outfitgan --help` answers at once.
"""
