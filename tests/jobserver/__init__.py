"""A scriptable job server: its own process, its own durable ledger, the witness.

The orchestrator under test never is its own only witness: what really happened is
counted from the server's ledger file. What it serves is the job server of
``orchestrator.testing``; here it gets its process and its ledger. The modules::

    ledger      the durable, append-only record
    client      a small keep-alive HTTP client; an honest transport
    connectors  one connector per service class
    witness     questions to a ledger file: duplicates, orphans, deletes
    launch      start and stop a server process
"""
