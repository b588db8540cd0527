"""Several nodes: a Ray cluster with token authentication, and runs as jobs of it.

auth_token.py   the file that holds the token, and that no one else may read
node.py         `balanced-agg node`: the head or a worker, in the foreground
submit.py       `balanced-agg submit`: train a recipe on a cluster
ray_job.py      a job of Ray that ends with its submitter, and whose actors are gone then
"""
