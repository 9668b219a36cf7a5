"""A scriptable job server: its own process, its own durable ledger, the witness.

The orchestrator under test never is its own only witness: what really happened is
counted from the server's ledger file. The modules::

    vocabulary  what a job and a scripted fault are
    ledger      the durable, append-only record
    service     the service classes I, T, L, N: pure job logic
    server      HTTP in front of it, and the faults of the wire
    client      a small keep-alive HTTP client; an honest transport
    connectors  one connector per service class
    witness     questions to a ledger file: duplicates, orphans, deletes
    launch      start and stop a server process
"""
