"""Where segments compute: the port that the driver sees, and behind it processes, threads and Dask clusters.

``_port`` is the port and what all runners share, ``_messages`` what driver and workers say to each other.
``_local`` keeps a warm process for each slot (``_child_process``; ``_child`` runs in it), ``_threads`` runs
trials in this process, ``_dask`` on a cluster, whose workers run ``_dask_worker``.
"""
