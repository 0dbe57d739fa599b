"""The import lane: slots over all replicas, batches that become files, imports that a crash does not repeat.

``slots`` and ``recovery`` are the rules, ``batching`` collects rows, ``files`` makes files of them, ``dispatcher``
carries imports from their create to their end, ``way`` is what the lane holds of all this, ``seams`` what it is given.
"""
