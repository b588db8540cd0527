"""Several nodes: a Ray cluster with token authentication (auth_token.py, node.py), and runs as its jobs (submit.py)."""
