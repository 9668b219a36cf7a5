"""Every promise is a test that is red when its mechanism is switched off: shown here.

``mechanisms`` is the table, ``switches`` says how each is switched off, ``plugin`` lets
pytest run with one off, ``python -m tests.unplugged`` runs them all.
"""
