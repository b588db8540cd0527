"""Many nodes: a Ray cluster that lets in nobody without its token, and runs as jobs of it.

auth_token.py   the file that holds the token, and no one else may read
node.py         the head or a worker in the foreground (scripts/ray_cluster.sh)
submit.py       train a recipe on a cluster (scripts/submit.sh)
ray_job.py      a job of Ray that ends with its submitter, and leaves no actor behind
"""
