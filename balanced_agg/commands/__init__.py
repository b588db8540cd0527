"""The command `balanced-agg`: what a person calls. Nothing here is loaded by verl."""
