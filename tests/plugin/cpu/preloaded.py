"""Imported by the fork server of tests/plugin/cpu/test_fork_server.py: tells in which process it was imported."""

import os

IMPORTED_IN = os.getpid()
