"""What work that takes long leaves behind and shows meanwhile. These need NumPy at most; bars need tqdm.

=================  ===================================================================
file               what is in it
=================  ===================================================================
``lock.py``        locks between processes
``replace.py``     files that are there as a whole or not at all
``journal.py``     a file of JSON lines that grows, and outlives a kill at any moment
``progress.py``    bars, on terminals and in notebooks
``meter.py``       what calls cost
=================  ===================================================================
"""
